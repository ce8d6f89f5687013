"""What stands beside `TargetDensity` in a `fit`, and spoils it, is named."""

import keras
import numpy as np
import pytest
from helpers import fed, heard, unwarned

import keras_bregman as kb
from experiments.data import load
from keras_bregman.callbacks import (
    PlateauDecay,
    PreciseBatchNorm,
    TargetDensity,
)

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def fitted(callbacks, momentum=None, epochs=4):
    """A small network after training, and its history."""
    keras.utils.set_random_seed(0)
    dataset = load("digits")
    layers = [keras.Input(dataset.inputs.shape), keras.layers.Flatten()]
    for units in (32, 16):
        layers.append(keras.layers.Dense(units))
        if momentum is not None:
            norm = keras.layers.BatchNormalization(momentum=momentum)
            layers.append(norm)
        layers.append(keras.layers.ReLU())
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kb.AdaBreg(0.003, 0.01), loss, metrics=["accuracy"])
    history = model.fit(
        **fed(dataset.x_train[:640], dataset.y_train[:640], 32),
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )
    return model, history.history


def inputs():
    return load("digits").x_train[:640]


def test_two_densities():
    with pytest.raises(ValueError, match="takes one TargetDensity"):
        fitted([TargetDensity(0.1), TargetDensity(0.2)])


LATE = r"momentum 0\.99, and in the 40 steps.*`callbacks\.PreciseBatchNorm`"


def test_averages_that_come_late():
    """The warning is right, and so is the remedy."""
    with pytest.warns(UserWarning, match=LATE):
        model, history = fitted([TargetDensity(0.1)], momentum=0.99)
    dataset = load("digits")
    test = dataset.x_train[:640], dataset.y_train[:640]
    _, late = model.evaluate(*test, verbose=0)
    with unwarned():
        model, history = fitted(
            [TargetDensity(0.1), PreciseBatchNorm(inputs())], momentum=0.99
        )
    _, precise = model.evaluate(*test, verbose=0)
    assert late < 0.5 < history["accuracy"][-1] - 0.1 < precise


@pytest.mark.parametrize(
    ("threshold", "momentum"), (("hard", 0.99), ("soft", 0.9), ("soft", None))
)
def test_averages_in_time(threshold, momentum):
    with unwarned():
        fitted([TargetDensity(0.1, threshold=threshold)], momentum)


def plateaus(patience):
    """Callbacks for which no epoch is good enough."""
    return (
        keras.callbacks.ReduceLROnPlateau("loss", 0.1, patience, min_delta=1e3),
        PlateauDecay("loss", factor=0.1, patience=patience, threshold=0.99),
    )


@pytest.mark.parametrize("which", (0, 1))
def test_a_ramp_that_looks_like_a_plateau(which):
    callback = plateaus(0)[which]
    callbacks = [callback, TargetDensity(0.1)]
    told = f"{type(callback).__name__} has taken the learning rate from 0.003"
    with heard() as caught:
        _, history = fitted(callbacks, epochs=8)
    assert sum(told in text for text in caught) == 1
    assert min(history["learning_rate"]) < 0.0004


@pytest.mark.parametrize("which", (0, 1))
def test_a_plateau_that_waits(which):
    with unwarned():
        callbacks = [plateaus(20)[which], TargetDensity(0.1)]
        _, history = fitted(callbacks)
    np.testing.assert_allclose(history["learning_rate"], 0.003, rtol=1e-6)
