"""Sparse starts: how many weights stay, where, how large, and what is left."""

import math
import re

import keras
import numpy as np
import pytest
from keras import layers
from test_kernels import WITH_KERNELS, build, spelled

from keras_bregman import density, sparsify
from keras_bregman.kernels import kernels

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

METHODS = ("bernoulli", "kernel", "balanced")

# layers large enough for statistics: how to create them, input shape
LARGE = {
    "dense": (lambda: layers.Dense(300), (400,)),
    "conv": (lambda: layers.Conv2D(96, 3), (9, 9, 64)),
    "transpose": (lambda: layers.Conv2DTranspose(96, 3), (9, 9, 64)),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(5, depth_multiplier=8),
        (9, 9, 400),
    ),
    "attention": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 8, 64)),
        (3, 96),
    ),
}
# by hand: inputs of one unit, units that one input feeds
FANS = {
    "dense": (400, 300),
    "conv": (9 * 64, 9 * 96),
    "transpose": (9 * 64, 9 * 96),
    "depthwise": (25, 25 * 8),
    "attention": (96, 8 * 64),
}


def arrays(model):
    return {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}


def large(name):
    create, shape = LARGE[name]
    model = keras.Sequential([keras.Input(shape), create()])
    (kernel,) = kernels(model)
    return model, kernel


def dense(seed=None, **arguments):
    """The kernel of a small model after `sparsify`."""
    model = keras.Sequential([keras.Input((30,)), layers.Dense(20)])
    sparsify(model, 0.3, seed=seed, **arguments)
    return keras.ops.convert_to_numpy(model.layers[0].kernel)


@pytest.mark.parametrize("share", [0.03, 0.4])
@pytest.mark.parametrize("name", LARGE)
def test_density_within_sampling_error(name, share):
    model, kernel = large(name)
    size = math.prod(kernel.variable.shape)
    space = {"conv": 9, "transpose": 9, "depthwise": 25}.get(name, 1)
    for method, together in ("bernoulli", 1), ("kernel", space):
        sparsify(model, share, method, seed=1)
        sigma = math.sqrt(share * (1 - share) / (size / together))
        assert abs(density(model) - share) < 5 * sigma


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_masks_and_what_is_left_alone(name):
    model, axes = build(name)
    before = arrays(model)
    for method in METHODS:
        sparsify(model, 0.3, method, seed=2)
        after = arrays(model)
        fan_in = {}
        for path, letters in axes.items():
            on = after[path] != 0
            layout = spelled(on.shape, letters)
            shares = on.mean(axis=layout.over("unit"))
            if method == "balanced":
                k = max(1, round(0.3 * layout.fan_in))
                np.testing.assert_allclose(
                    shares, k / layout.fan_in, rtol=1e-12
                )
            if method == "kernel":
                space = tuple(a for a, s in enumerate(letters) if s == "s")
                np.testing.assert_array_equal(
                    on.any(axis=space), on.all(axis=space)
                )
            # the last kernel of a layer is the one before its bias
            fan_in[path.rpartition("/")[0]] = layout.fan_in
        for path, value in after.items():
            scope, _, end = path.rpartition("/")
            if path in axes:
                continue
            if end == "bias" and f"{scope}/recurrent_kernel" not in after:
                assert (value >= 0).all()
                assert 0 < value.max() <= 1 / math.sqrt(fan_in[scope])
            else:
                np.testing.assert_array_equal(value, before[path])


@pytest.mark.parametrize("share", [1e-6, 0.05, 0.301, 1])
def test_balanced_gives_every_unit_as_much(share):
    model, kernel = large("conv")
    sparsify(model, share, "balanced", seed=3)
    on = keras.ops.convert_to_numpy(kernel.variable) != 0
    k = {1e-6: 1, 0.05: 29, 0.301: 173, 1: 576}[share]
    np.testing.assert_array_equal(on.sum(axis=(0, 1, 2)), k)
    # and places them evenly over what a unit sees
    counts = on.sum(axis=3).ravel()
    sigma = math.sqrt(96 * (k / 576) * (1 - k / 576))
    assert abs(counts - 96 * k / 576).max() <= 6 * sigma + 1


@pytest.mark.parametrize("variance", ["he", "glorot"])
@pytest.mark.parametrize("name", LARGE)
def test_variance_of_what_stays(name, variance):
    model, kernel = large(name)
    fan_in, fan_out = FANS[name]
    alpha = 2 / fan_in if variance == "he" else 2 / (fan_in + fan_out)
    for method in METHODS:
        sparsify(model, 0.1, method, seed=4, variance=variance, scale=1.5)
        weights = keras.ops.convert_to_numpy(kernel.variable)
        weights = weights[weights != 0].astype("float64")
        share = round(0.1 * fan_in) / fan_in if method == "balanced" else 0.1
        expected = 1.5**2 * alpha / share
        sigma = expected * math.sqrt(2 / weights.size)
        assert abs(np.mean(weights**2) - expected) < 5 * sigma
        assert abs(np.mean(weights)) < 5 * math.sqrt(expected / weights.size)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_units_keep_the_variance_of_their_input(method, share):
    generator = np.random.default_rng(0)
    for layer, shape in (
        (layers.Dense(4000), (1, 60)),
        (layers.Conv2D(4000, 3), (1, 3, 3, 6)),
    ):
        x = generator.normal(size=shape).astype("float32")
        model = keras.Sequential([keras.Input(shape[1:]), layer])
        sparsify(model, share, method, seed=5, bias_scale=None)
        squares = keras.ops.convert_to_numpy(model(x)).astype("float64") ** 2
        sigma = squares.std() / math.sqrt(squares.size)
        # E y^2 = 2 / fan_in |x|^2, as of a dense He start
        assert abs(squares.mean() - 2 * np.mean(x**2)) < 5 * sigma


def test_scale_is_a_factor():
    np.testing.assert_allclose(dense(1, scale=2.0), 2 * dense(1), rtol=1e-6)


@pytest.mark.parametrize("bias_scale", [0.0, 0.5, 1.0])
def test_biases_are_uniform(bias_scale):
    model = keras.Sequential([keras.Input((16,)), layers.Dense(4000)])
    sparsify(model, 0.5, seed=6, bias_scale=bias_scale)
    bias = keras.ops.convert_to_numpy(model.layers[0].bias)
    high = bias_scale / 4
    assert (bias >= 0).all() and (bias <= high).all()
    for share in (0.25, 0.5, 0.75):
        sigma = math.sqrt(share * (1 - share) / bias.size)
        if bias_scale:
            assert abs(np.mean(bias < share * high) - share) < 5 * sigma


def test_biases_can_stay():
    model = keras.Sequential(
        [keras.Input((16,)), layers.Dense(4, bias_initializer="normal")]
    )
    before = keras.ops.convert_to_numpy(model.layers[0].bias)
    sparsify(model, 0.5, bias_scale=None)
    after = keras.ops.convert_to_numpy(model.layers[0].bias)
    np.testing.assert_array_equal(after, before)


def test_normalization_and_embeddings_stay():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Embedding(9, 4),
            layers.BatchNormalization(),
            layers.LayerNormalization(),
            layers.PReLU(),
            layers.Dense(3),
        ]
    )
    before = arrays(model)
    sparsify(model, 0.2)
    changed = [
        path
        for path, value in arrays(model).items()
        if (value != before[path]).any()
    ]
    assert changed == ["sequential/dense/kernel", "sequential/dense/bias"]


@pytest.mark.parametrize("method", METHODS)
def test_repeatable(method):
    first = dense(7, method=method)
    np.testing.assert_array_equal(dense(7, method=method), first)
    assert ((dense(8, method=method) != 0) != (first != 0)).any()
    keras.utils.set_random_seed(1)
    first, second = dense(method=method), dense(method=method)
    assert (first != second).any()
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(dense(method=method), first)


def test_the_same_on_every_backend():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    sparsify(model, 0.5, seed=0)
    kernel, bias = model.get_weights()
    expected = [[0, -0.2526, -1.4387, -0.8455], [0] * 4, [0, 0, 0, 0.4059]]
    np.testing.assert_allclose(kernel, expected, rtol=0, atol=6e-5)
    expected = [0.3553, 0.2215, 0.5757, 0.5663]
    np.testing.assert_allclose(bias, expected, rtol=0, atol=6e-5)


@pytest.mark.parametrize("method", ("bernoulli", "kernel", "balanced"))
def test_a_kernel_without_entries(method):
    inputs = keras.Input((4,)), keras.Input((0,))
    hidden = [keras.layers.Dense(8)(x) for x in inputs]
    model = keras.Model(inputs, keras.layers.add(hidden))
    sparsify(model, 0.5, method, seed=0)
    assert 0 < density(model) < 1


def test_draws_anew_whatever_was_there():
    model, _ = large("dense")
    sparsify(model, 0.1, seed=1)
    first = arrays(model)
    sparsify(model, 0.9, seed=2)
    sparsify(model, 0.1, seed=1)
    for path, value in arrays(model).items():
        np.testing.assert_array_equal(value, first[path])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_weights(dtype):
    keras.config.set_floatx(dtype)
    model = keras.Sequential([keras.Input((30,)), layers.Dense(20)])
    sparsify(model, 0.2, "balanced", seed=1)
    kernel = model.layers[0].kernel
    assert keras.backend.standardize_dtype(kernel.dtype) == dtype
    assert density(model) == 0.2


class Block(keras.Model):
    """Holds a layer, a functional model and the layer's second use."""

    def __init__(self):
        super().__init__()
        inputs = keras.Input((6,))
        self.first = layers.Dense(6, name="first")
        self.inner = keras.Sequential([inputs, layers.Dense(6, name="second")])

    def call(self, x):
        return self.first(self.inner(self.first(x)))


def nested():
    block = Block()
    block(np.ones((1, 6), "float32"))
    return block


def functional():
    first = layers.Dense(6, name="first")
    inputs = keras.Input((6,))
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, name="second")]
    )
    return keras.Model(inputs, first(inner(first(inputs))))


def flat():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, name="first"),
            layers.Dense(6, name="second"),
        ]
    )


@pytest.mark.parametrize("create", [nested, functional])
def test_nested_and_shared_layers_are_drawn_once(create):
    model, plain = create(), flat()
    for each in (model, plain):
        sparsify(each, 0.4, seed=9)
    for name in ("first/kernel", "first/bias", "second/kernel", "second/bias"):
        ours, theirs = (
            [v for path, v in arrays(each).items() if path.endswith(name)]
            for each in (model, plain)
        )
        assert len(ours) == 1
        np.testing.assert_array_equal(ours, theirs)


def test_densities_by_expression():
    model = keras.Sequential(
        [
            keras.Input((200,)),
            *(layers.Dense(200, name=name) for name in ("a1", "a2", "b", "c")),
        ]
    )
    before = arrays(model)
    sparsify(model, {"a1": 0.5, "/a": 0.1, "b/kernel$": 0.02}, seed=1)
    after = arrays(model)
    for name, share in {"a1": 0.5, "a2": 0.1, "b": 0.02}.items():
        on = np.mean(after[f"sequential/{name}/kernel"] != 0)
        assert abs(on - share) < 5 * math.sqrt(share * (1 - share) / 40000)
    for path in ("sequential/c/kernel", "sequential/c/bias"):
        np.testing.assert_array_equal(after[path], before[path])


def test_a_bias_goes_with_the_kernel_that_feeds_its_units():
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.SeparableConv2D(3, 2)]
    )
    path = model.layers[0].bias.path
    before = arrays(model)[path]
    sparsify(model, {"depthwise_kernel": 0.5}, seed=1)
    np.testing.assert_array_equal(arrays(model)[path], before)
    sparsify(model, {"pointwise_kernel": 0.5}, seed=1)
    assert (arrays(model)[path] > 0).all()


def bad(name, *values):
    return [(name, value, repr(value)) for value in values]


@pytest.mark.parametrize(
    "name, value, shown",
    [
        *bad("density", 0, -0.1, 1.01, math.nan, math.inf, "0.1", None),
        ("density", {"kernel": 2.0}, "2.0"),
        ("density", {"dense": 0.1, "conv": 0.1}, "'conv'"),
        ("density", {"dense": 0.1, "dense/kernel": 0.1}, "'dense/kernel'"),
        ("density", {"(": 0.1}, "'('"),
        ("density", {7: 0.1}, "7"),
        *bad("method", "random", None),
        *bad("variance", "lecun", None),
        *bad("scale", 0, -1.0, math.nan, math.inf, "big", None),
        *bad("bias_scale", -1.0, math.nan, math.inf, "small"),
    ],
)
def test_bad_arguments_change_nothing(name, value, shown):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    before = arrays(model)
    with pytest.raises(ValueError, match=f"`{name}`") as error:
        sparsify(model, **{"density": 0.5, name: value})
    assert shown in str(error.value)
    for path, array in arrays(model).items():
        np.testing.assert_array_equal(array, before[path])


def test_models_that_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"Build it first.*model\.build\("):
        sparsify(keras.Sequential([layers.Dense(3)]), 0.1)
    model = keras.Sequential([keras.Input((8,)), layers.Embedding(9, 3)])
    with pytest.raises(ValueError, match=re.escape("embedding/embeddings")):
        sparsify(model, 0.1)


def test_quantized_kernels_are_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.quantize("int8")
    with pytest.raises(ValueError, match=r"`model` has a kernel of integers"):
        sparsify(model, 0.1)


def test_frozen_layers_stay_as_they_are():
    base = keras.Sequential([keras.Input((6,)), layers.Dense(5)], name="base")
    base.trainable = False
    model = keras.Sequential([keras.Input((6,)), base, layers.Dense(3)])
    before = arrays(base)
    sparsify(model, 0.3, seed=0)
    for path, value in arrays(base).items():
        np.testing.assert_array_equal(value, before[path])
    assert (keras.ops.convert_to_numpy(model.layers[-1].kernel) == 0).any()
    for chosen, expression in ((model, {"base": 0.3}), (base, 0.3)):
        with pytest.raises(ValueError, match="kernel which is trained"):
            sparsify(chosen, expression)
