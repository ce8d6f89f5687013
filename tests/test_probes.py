"""What the autopsy measures, against numpy and against training itself."""

import keras
import numpy as np
import pytest

from experiments import models, probes, training
from experiments.data import load, noise
from experiments.recipes import Recipe
from experiments.stream import steps_per_epoch

pytestmark = pytest.mark.once


def _softmax_regression(dataset):
    model = models.mlp(dataset.inputs, hidden=())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def test_gradients_are_those_of_softmax_regression():
    dataset = noise("digits", 64)
    model = _softmax_regression(dataset)
    before = model.get_weights()
    (layer,) = probes.layers(model, dataset.x_train, dataset.y_train)
    (mean,), (deviation,) = dataset.inputs.mean, dataset.inputs.deviation
    x = (dataset.x_train.reshape(64, -1) / 255 - mean) / deviation
    kernel, bias = (w.astype("float64") for w in before)
    logits = x @ kernel + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(64), dataset.y_train] -= 1
    gradient = x.T @ p / 64
    assert layer["path"] == "logits/kernel"
    assert layer["gradient_norm"] == pytest.approx(
        np.linalg.norm(gradient), rel=1e-4
    )
    assert layer["gradient_max"] == pytest.approx(
        np.abs(gradient).max(), rel=1e-4
    )
    for weight, value in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, value)


def test_units_that_answer_every_image_alike_are_dead():
    dataset = noise("digits", 32)
    model = models.mlp(dataset.inputs, hidden=(8,))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    dense = model.get_layer("dense1")
    kernel, bias = dense.get_weights()
    kernel[:, :3] = 0  # constant, whatever the bias
    bias[3] = -1e6  # never passes the ReLU
    dense.set_weights([kernel, bias])
    hidden, logits = probes.layers(model, dataset.x_train, dataset.y_train)
    assert hidden["dead_units"] == 4 / 8
    assert logits["dead_units"] == 0


def test_steps_are_those_of_a_run(tmp_path):
    dataset = load("digits")
    n = steps_per_epoch(len(dataset.x_train), 128)
    recipe = Recipe(
        "", "mlp", "digits", "LinBreg", 0.1, 0.04, epochs=1, probe_steps=(1, n)
    )
    _, result = training.train(recipe, 3, dataset, tmp_path / "run.npz")
    first, last = result["probes"]["steps"]
    history = result["history"]
    assert (first["step"], last["step"]) == (1, n)
    assert first["density"] < last["density"] == history["density"][0]
    assert last["accuracy"] == pytest.approx(history["val_accuracy"][0])
    assert last["loss"] == pytest.approx(history["val_loss"][0], rel=1e-4)
