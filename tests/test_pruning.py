"""Of a trained model the largest weights stay, as many as were asked for."""

import keras
import numpy as np
import pytest
from helpers import array, fed
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_bregman as kb
from experiments.data import load
from experiments.models import mlp
from keras_bregman.allocation import allocate


def perceptron():
    keras.utils.set_random_seed(0)
    dataset = load("digits")
    return mlp(dataset.inputs, dataset.classes, 0.25)


def parts(model):
    return [
        array(w) for w in model.trainable_weights if w.path.endswith("kernel")
    ]


@given(density=st.floats(0.001, 1.0))
@settings(max_examples=20, deadline=None)
def test_the_largest_of_all_stay(density):
    model = perceptron()
    before = np.concatenate([x.ravel() for x in parts(model)])
    kb.prune(model, density)
    after = np.concatenate([x.ravel() for x in parts(model)])
    n = max(1, round(density * before.size))
    assert np.count_nonzero(after) == n
    stay = after != 0
    np.testing.assert_array_equal(after[stay], before[stay])
    largest = np.max(np.abs(before), where=~stay, initial=0.0)
    assert np.abs(before[stay]).min() >= largest


@pytest.mark.parametrize("distribution", ("uniform", "erdos-renyi"))
def test_as_many_of_each_as_are_allocated(distribution):
    model = perceptron()
    sizes = sum(x.size for x in parts(model))
    shapes = [x.shape for x in parts(model)]
    kb.prune(model, 0.3, distribution=distribution)
    found = [np.count_nonzero(x) for x in parts(model)]
    assert found == allocate(shapes, round(0.3 * sizes), distribution)


def test_of_each_kernel_by_its_path():
    model = perceptron()
    first, second, _ = parts(model)
    kb.prune(model, {"dense1": 0.1, "dense2": 0.5})
    now = [np.count_nonzero(x) for x in parts(model)]
    assert now[:2] == [round(0.1 * first.size), round(0.5 * second.size)]
    assert now[2] == parts(model)[2].size


def test_densities_by_path_are_shared_out_by_nobody():
    with pytest.raises(ValueError, match=r"`distribution`.*'uniform'"):
        kb.prune(perceptron(), {"dense1": 0.1}, distribution="uniform")


def test_equal_magnitudes_and_zeros_are_cut_exactly():
    model = perceptron()
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape))
    kb.prune(model, 0.5)
    assert kb.density(model) == pytest.approx(0.5, abs=1e-3)
    kb.prune(model, 0.9)  # no more than there are
    assert kb.density(model) == pytest.approx(0.5, abs=1e-3)


def test_what_is_not_trained_stays():
    model = perceptron()
    model.get_layer("dense1").trainable = False
    before = array(model.get_layer("dense1").kernel)
    kb.prune(model, 0.1)
    np.testing.assert_array_equal(
        array(model.get_layer("dense1").kernel), before
    )
    assert np.count_nonzero(array(model.get_layer("dense2").kernel)) < 100


def test_training_on_keeps_the_pattern_and_mends_the_loss():
    dataset = load("digits")
    model = perceptron()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    data = fed(dataset.x_train[:640], dataset.y_train[:640], 32)
    model.fit(**data, epochs=3, verbose=0)
    kb.prune(model, 0.1)
    x, y = dataset.x_train[:640], dataset.y_train[:640]
    cut = model.evaluate(x, y, verbose=0)
    supports = [p != 0 for p in parts(model)]
    model.compile(kb.AdaBreg(0.003, 1.0), loss)
    model.optimizer.freeze_support()
    model.fit(**data, epochs=3, verbose=0)
    mended = model.evaluate(x, y, verbose=0)
    for before, after in zip(supports, parts(model), strict=True):
        assert not after[~before].any()
    assert mended < 0.7 * cut


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    (
        ({"density": 0.0}, ValueError, "`density`"),
        ({"density": 1.5}, ValueError, "`density`"),
        ({"density": {}}, ValueError, "`density` must be a share, or one"),
        ({"density": {"nowhere": 0.5}}, ValueError, "takes no kernel"),
        (
            {"density": 0.5, "distribution": "even"},
            ValueError,
            "`distribution`",
        ),
    ),
)
def test_bad_arguments_change_nothing(arguments, error, match):
    model = perceptron()
    with pytest.raises(error, match=match):
        kb.prune(model, **arguments)
    assert kb.density(model) == 1


def test_of_nan_none_is_the_largest():
    model = perceptron()
    kernel = model.get_layer("dense2").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(FloatingPointError, match="'dense2/kernel' holds NaN"):
        kb.prune(model, 0.5)
    assert np.all(array(model.get_layer("dense1").kernel) != 0)


def test_kernels_of_two_half_precisions():
    inputs = keras.Input((8,))
    outputs = [
        keras.layers.Dense(3, dtype=dtype)(inputs)
        for dtype in ("bfloat16", "float16", "float32")
    ]
    model = keras.Model(inputs, outputs)
    kb.prune(model, 0.5)
    assert kb.density(model) == 0.5
