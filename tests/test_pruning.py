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
from keras_bregman.kernels import kernels


def perceptron():
    keras.utils.set_random_seed(0)
    dataset = load("digits")
    return mlp(dataset.inputs, 0.25)


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


def transformer():
    """With kernels of all kinds of inputs."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, name="stem")(inputs)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = keras.layers.Conv2DTranspose(4, 2, name="transpose")(x)
    x = keras.layers.Reshape((9, 4))(x)
    x = keras.layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    return keras.Model(inputs, keras.layers.GRU(4, name="gru")(x))


@pytest.mark.parametrize("pattern", ("1:2", "2:4", "1:4", "3:4"))
def test_a_pattern_keeps_the_largest_of_every_few_inputs(pattern):
    n, m = map(int, pattern.split(":"))
    model = transformer()
    before = [(k, array(k.variable)) for k in kernels(model)]
    kb.prune(model, pattern)
    whole = []
    for kernel, old in before:
        new = array(kernel.variable)
        layer, name = kernel.path.split("/", 1)
        if layer in ("stem", "depthwise"):
            np.testing.assert_array_equal(new, old)
            whole.append(layer)
            continue
        # the axis of the inputs first, by hand
        if layer == "transpose":
            old, new = (x.transpose(3, 0, 1, 2) for x in (old, new))
        elif layer == "grouped":
            old, new = (x.transpose(2, 0, 1, 3) for x in (old, new))
        elif name == "attention_output/kernel":
            old, new = (x.reshape(-1, x.shape[-1]) for x in (old, new))
        old, new = (x.reshape(len(x), -1) for x in (old, new))
        for start in range(0, len(old), m):
            for column in range(old.shape[1]):
                was, now = (x[start : start + m, column] for x in (old, new))
                stay = np.argsort(-np.abs(was))[:n]
                expected = np.zeros_like(was)
                expected[stay] = was[stay]
                np.testing.assert_array_equal(now, expected)
    assert whole == ["stem", "depthwise"]


def test_patterns_and_shares_by_path():
    model = perceptron()
    kb.prune(model, {"dense1": "1:4", "dense2": 0.5})
    first, second, last = parts(model)
    blocks = first.reshape(-1, 4, first.shape[1])
    assert np.all(np.count_nonzero(blocks, axis=1) == 1)
    assert np.count_nonzero(second) == round(0.5 * second.size)
    assert np.all(last != 0)


def test_a_pattern_that_fits_nowhere_or_not_where_it_is_asked_for():
    odd = r"multiple of its second number.*'dense1/kernel': \(64, 50\)"
    with pytest.raises(ValueError, match=odd):
        kb.prune(perceptron(), {"dense": "2:7"})
    with pytest.raises(ValueError, match=odd):
        kb.prune(perceptron(), "2:7")


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
        ({"density": "4:2"}, ValueError, "`density` must be in .*'4:2'"),
        ({"density": "0:4"}, ValueError, "`density`"),
        ({"density": "half"}, ValueError, "`density`"),
        ({"density": {"dense1": "2:4:1"}}, ValueError, "`density`"),
        (
            {"density": "2:4", "distribution": "uniform"},
            ValueError,
            "`distribution`.*a pattern",
        ),
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
