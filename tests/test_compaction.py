"""Compaction: smaller, with the same outputs."""

import importlib
import inspect
import re
from functools import partial

import keras
import numpy as np
import pytest
from helpers import BACKEND, array, assert_weights, tied, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import keras_bregman as kb
from keras_bregman._comparing import difference
from keras_bregman.compaction import elementwise

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

# JAX compiles every operation for every shape, and has seen those of 2
BATCH = 2 if BACKEND == "jax" else 5
EXAMPLES = 6 if BACKEND == "jax" else 25


def outputs(model, inputs):
    made = keras.tree.flatten(model(inputs, training=False))
    return [array(tensor) for tensor in made]


def images(model, batch=BATCH, seed=1):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(batch, *t.shape[1:])).astype("float32")
        for t in model.inputs
    ]


def assert_same(model, small, batch=BATCH):
    x = images(model, batch)
    x = x if len(x) > 1 else x[0]
    for one, other in zip(outputs(model, x), outputs(small, x), strict=True):
        most = max(1.0, np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * most)


def kill(layer, units, name="kernel", axis=-1):
    """Sets the weights of units to 0."""
    value = array(getattr(layer, name))
    index = [slice(None)] * value.ndim
    index[axis] = units
    value[tuple(index)] = 0
    getattr(layer, name).assign(value)


def disturb(model, seed=0):
    """Biases and statistics as after a training, not 0 and 1."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith(("bias", "beta", "moving_mean")):
            weight.assign(0.3 * rng.normal(size=weight.shape))


def chain(*stack, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *stack])


def parameters(model):
    return {layer.name: layer.count_params() for layer in model.layers}


def test_a_units_constant_goes_into_the_next_bias():
    model = chain(
        layers.Dense(5, "sigmoid", name="one"),
        layers.Dense(4, use_bias=False, name="two"),
        shape=(3,),
    )
    one, two = model.layers
    one.bias.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    kill(one, [1, 3])
    small = kb.compact(model)
    assert parameters(small) == {"one": 4 * 3, "two": 3 * 4 + 4}
    said = 1 / (1 + np.exp([-2.0, -4.0]))
    bias = array(small.layers[1].bias)
    np.testing.assert_allclose(bias, said @ array(two.kernel)[[1, 3]], 1e-6)
    assert_same(model, small)


def test_a_unit_that_nobody_reads_leaves_without_a_trace():
    model = chain(
        layers.Dense(5, "relu", name="one"),
        layers.Dense(4, use_bias=False, name="two"),
        shape=(3,),
    )
    kill(model.layers[1], [0, 4], axis=0)
    small = kb.compact(model)
    assert parameters(small) == {"one": 4 * 3, "two": 3 * 4}
    assert_same(model, small)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_border_keeps_one_constant_channel(padding):
    model = chain(
        layers.Conv2D(6, 3, padding=padding, activation="relu", name="one"),
        layers.Conv2D(4, 3, padding=padding, name="two"),
    )
    one = model.layers[0]
    one.bias.assign([0.1, 0.5, -0.5, 0.7, 0.2, 0.3])
    kill(one, [1, 2, 3])
    small = kb.compact(model)
    # of filters 1 and 3; what filter 2 says is 0 in any case
    filters = {"valid": 3, "same": 4}[padding]
    assert parameters(small) == {
        "one": filters * (27 + 1),
        "two": 4 * (filters * 9 + 1),
    }
    assert_same(model, small)


@pytest.mark.skipif(
    "renorm" not in inspect.signature(layers.BatchNormalization).parameters,
    reason="of newer Keras",
)
def test_batch_renormalization_goes_on_from_its_statistics():
    """What fine-tuning computes is the same, too."""
    norm = layers.BatchNormalization(renorm=True, name="norm")
    model = chain(
        layers.Dense(6, name="one"), norm, layers.Dense(2), shape=(4,)
    )
    rng = np.random.default_rng(0)
    for weight in norm.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    before = [array(weight) for weight in norm.weights]
    (x,) = images(model, 20)
    again = array(kb.compact(model)(x, training=True))
    np.testing.assert_allclose(again, array(model(x, training=True)), 1e-4)
    for weight, value in zip(norm.weights, before, strict=True):
        weight.assign(value)
    kill(model.get_layer("one"), [2])
    small = kb.compact(model)
    assert parameters(small)["one"] == 5 * 5
    assert_same(model, small)
    for new, old in zip(small.get_layer("norm").weights, before, strict=True):
        np.testing.assert_array_equal(array(new), np.delete(old, 2))


def test_batch_norm_makes_the_constant():
    model = chain(
        layers.Conv2D(6, 3, use_bias=False, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(3, name="head"),
    )
    disturb(model)
    kill(model.get_layer("conv"), [0, 1])
    kill(model.get_layer("norm"), [5], "gamma")
    small = kb.compact(model)
    assert parameters(small) | {"head": 0} == {
        "conv": 3 * 27,
        "norm": 3 * 4,
        "re_lu": 0,
        "max_pooling2d": 0,
        "flatten": 0,
        "head": 0,
    }
    assert small.get_layer("head").count_params() == 3 * (9 * 3 + 1)
    assert_same(model, small)


def residual(kills):
    """A stream of 6 channels with a branch; `kills` are dead by layer."""
    x = keras.Input((8, 8, 3))
    stream = layers.Conv2D(6, 3, padding="same", name="stem")(x)
    branch = layers.Conv2D(5, 3, padding="same", name="inner")(stream)
    branch = layers.ReLU()(branch)
    branch = layers.Conv2D(6, 3, padding="same", name="outer")(branch)
    stream = layers.Add()([stream, branch])
    pooled = layers.GlobalAveragePooling2D()(stream)
    model = keras.Model(x, layers.Dense(3, name="head")(pooled))
    disturb(model)
    for name, units in kills.items():
        kill(model.get_layer(name), units)
    return model


def test_a_channel_leaves_a_stream_only_if_dead_in_every_branch():
    small = kb.compact(residual({"stem": [0, 1], "outer": [1, 2]}))
    assert small.get_layer("stem").filters == 5
    assert small.get_layer("outer").filters == 5
    small = kb.compact(residual({"inner": [0, 4]}))
    assert small.get_layer("inner").filters == 4  # one for the border
    assert small.get_layer("stem").filters == 6


def test_a_number_is_a_constant_of_every_channel():
    """As in the gates of `keras.applications.MobileNetV3Small`."""
    x = keras.Input((4,))
    y = layers.Dense(6, name="one")(x)
    y = ops.minimum(2 - ops.relu(y + 3.0) * (1 / 6), ops.maximum(y, -1.5))
    model = keras.Model(x, layers.Dense(2, name="two")(y))
    disturb(model)
    kill(model.get_layer("one"), [1, 4])
    small, report = kb.compact(model, return_report=True)
    assert small.get_layer("one").units == 4
    assert not any(row.note for row in report.rows)
    assert_same(model, small)


def test_a_dead_branch_costs_one_channel():
    model = residual({"outer": slice(None)})
    small = kb.compact(model)
    assert small.get_layer("inner").filters == 1
    assert_same(model, small)


def test_groups_leave_as_a_whole():
    model = chain(
        layers.Conv2D(8, 3, name="one"),
        layers.Conv2D(8, 3, groups=4, name="grouped"),
        layers.Conv2D(2, 1, name="two"),
    )
    disturb(model)
    # the second group is dead, of the third one unit
    kill(model.get_layer("grouped"), [2, 3, 4])
    small = kb.compact(model)
    grouped = small.get_layer("grouped")
    assert (grouped.groups, grouped.filters) == (3, 6)
    assert small.get_layer("one").filters == 6
    assert_same(model, small)


BEHIND = {
    # the three dead filters leave, or one of them stays for all, or each
    4: [
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2),
        lambda: layers.Conv2D(5, 3, dilation_rate=2),
        lambda: layers.PReLU(shared_axes=(1, 2)),
        lambda: layers.AveragePooling2D(3, 1, padding="same"),
        lambda: layers.UpSampling2D(2, interpolation="bilinear"),
        lambda: layers.Cropping2D(1),
        lambda: layers.Reshape((36, 7)),
        lambda: layers.Rescaling(2.0, 0.5),
        lambda: layers.SpatialDropout2D(0.5),
    ],
    5: [
        lambda: layers.Conv2DTranspose(5, 3, strides=2),
        lambda: layers.Conv2DTranspose(5, 3, padding="same"),
        lambda: layers.Conv2D(5, 3, dilation_rate=2, padding="same"),
    ],
    7: [
        lambda: layers.DepthwiseConv2D(3, padding="same"),
        lambda: layers.SeparableConv2D(5, 3, padding="same"),
        lambda: layers.ZeroPadding2D(2),
        lambda: layers.PReLU(),
        lambda: layers.LayerNormalization(),
        lambda: layers.Reshape((42, 6)),
        lambda: layers.Permute((3, 1, 2)),
        lambda: layers.Softmax(),
    ],
}


@pytest.mark.parametrize(
    ("layer", "filters"),
    [(make, n) for n, makers in BEHIND.items() for make in makers],
)
def test_whatever_stands_behind_dead_filters(layer, filters):
    middle = layer()
    model = chain(
        layers.Conv2D(7, 3, activation="tanh", name="one"),
        middle,
        layers.Flatten(),
        layers.Dense(3),
    )
    disturb(model)
    for weight in middle.weights:  # PReLU starts at 0
        weight.assign(array(weight) + 0.1)
    kill(model.layers[0], [0, 3, 4])
    small = kb.compact(model)
    assert small.layers[0].filters == filters
    assert_same(model, small)


def test_a_shared_layer_is_cut_for_all_its_calls():
    a, b = keras.Input((6,)), keras.Input((6,))
    first = layers.Dense(8, "relu", name="first")
    norm = layers.BatchNormalization()
    second = layers.Dense(6, "tanh", name="second")
    u = second(norm(first(a)))
    v = second(norm(first(second(norm(first(b))))))
    joined = layers.Concatenate()([u, v])
    model = keras.Model([a, b], layers.Dense(3, name="head")(joined))
    disturb(model)
    kill(first, [0, 1])
    kill(first, [2], "bias")
    kill(second, [5], axis=0)
    small = kb.compact(model)
    assert small.get_layer("first").units == 5
    assert_same(model, small)


def test_several_inputs_and_outputs_keep_their_names():
    a = keras.Input((5,), dtype="int32", name="words")
    b = keras.Input((3,), name="numbers")
    table = layers.Embedding(9, 6, name="table")
    inner = keras.Sequential(
        [keras.Input((7,)), layers.Dense(6, "relu"), layers.Dense(4)],
        name="inner",
    )
    x = layers.GlobalAveragePooling1D()(table(a))
    x = layers.Concatenate()([x, layers.Dense(4, name="side")(b)])
    x = layers.Dense(7, "elu", name="join")(x)
    outs = {"one": inner(x), "two": layers.Dense(2)(x)}
    model = keras.Model({"words": a, "numbers": b}, outs)
    disturb(model)
    kill(table, [0, 1], "embeddings")
    kill(model.get_layer("side"), [3])
    kill(inner.layers[0], [0, 5])
    small = kb.compact(model)
    assert small.get_layer("table").output_dim == 4
    assert small.get_layer("side").units == 3
    assert small.get_layer("inner").layers[0].units == 4
    rng = np.random.default_rng(0)
    given = {
        "words": rng.integers(0, 9, (4, 5)).astype("int32"),
        "numbers": rng.normal(size=(4, 3)).astype("float32"),
    }
    before, after = model(given), small(given)
    for name in outs:
        np.testing.assert_allclose(
            array(after[name]), array(before[name]), rtol=0, atol=1e-5
        )


def transformer(width=12, heads=4):
    x = keras.Input((8, 8, 3))
    y = layers.Reshape((16, width))(layers.Conv2D(width, 2, 2)(x))
    for i in range(2):
        z = layers.LayerNormalization()(y)
        attend = layers.MultiHeadAttention(heads, 3, name=f"attend{i}")
        y = y + attend(z, z)
        z = layers.LayerNormalization()(y)
        z = layers.Dense(2 * width, "gelu", name=f"wide{i}")(z)
        y = y + layers.Dense(width)(layers.Dropout(0.1)(z))
    y = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(y))
    return keras.Model(x, layers.Dense(3)(y))


@pytest.mark.once
def test_a_transformer_loses_dead_heads_and_units():
    model = transformer()
    disturb(model)
    kill(model.get_layer("attend0")._value_dense, [0, 2], axis=1)
    kill(model.get_layer("attend1")._output_dense, [3], axis=0)
    kill(model.get_layer("wide1"), [1, 2, 3])
    small = kb.compact(model)
    assert small.get_layer("attend0")._num_heads == 2
    assert small.get_layer("attend1")._num_heads == 3
    assert small.get_layer("wide1").units == 21
    assert_same(model, small)


BLOCKS = {
    "conv": lambda x, n, c: layers.Conv2D(n, 3, padding="same")(x),
    "valid": lambda x, n, c: layers.Conv2D(
        n, 2, strides=1, activation="relu"
    )(x),
    "grouped": lambda x, n, c: layers.Conv2D(
        4 * (n // 4 + 1), 1, groups=c[1], activation="tanh"
    )(x),
    "depthwise": lambda x, n, c: layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=c[0]
    )(x),
    "separable": lambda x, n, c: layers.SeparableConv2D(
        n, 3, padding="same"
    )(x),
    "transposed": lambda x, n, c: layers.Conv2DTranspose(
        n, 3, padding="same", activation="relu"
    )(x),
    "norm": lambda x, n, c: layers.BatchNormalization()(x),
    "relu": lambda x, n, c: layers.ReLU()(x),
    "sigmoid": lambda x, n, c: layers.Activation("sigmoid")(x),
    "pool": lambda x, n, c: layers.MaxPooling2D(2, 1, padding="same")(x),
    "dropout": lambda x, n, c: layers.Dropout(0.5)(x),
    "residual": lambda x, n, c: layers.Add()(
        [x, layers.Conv2D(x.shape[-1], 3, padding="same")(x)]
    ),
    "operator": lambda x, n, c: ops.relu(x) + layers.Conv2D(
        x.shape[-1], 1, activation="relu"
    )(x),
    "excite": lambda x, n, c: layers.Multiply()(
        [
            x,
            layers.Dense(x.shape[-1], "sigmoid")(
                layers.GlobalAveragePooling2D(keepdims=True)(x)
            ),
        ]
    ),
    "concatenate": lambda x, n, c: layers.Concatenate()(
        [x, layers.Conv2D(n, 1, activation="relu")(x)]
    ),
    "spatial": lambda x, n, c: layers.Concatenate(axis=1)([x, x]),
}  # fmt: skip


@st.composite
def graphs(draw):
    """A random functional model with random dead units, and its seed."""
    names = draw(st.lists(st.sampled_from(sorted(BLOCKS)), max_size=6))
    seed = draw(st.integers(0, 2**16))
    share = draw(st.sampled_from([0.2, 0.5, 0.9, 1.0]))
    ends = draw(st.sampled_from(["flat", "pooled", "both"]))
    return names, seed, share, ends


def build(names, seed, share, ends):
    rng = np.random.default_rng(seed)
    x = first = keras.Input((5, 5, 3))
    for name in names:
        groups = rng.choice([g for g in (1, 2, 4) if not x.shape[-1] % g])
        if name == "valid" and x.shape[1] < 3:
            continue
        choice = (int(rng.integers(1, 3)), int(groups))
        x = BLOCKS[name](x, int(rng.integers(2, 7)), choice)
    made = []
    if ends != "flat":
        made.append(layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))
    if ends != "pooled":
        hidden = layers.Dense(5, "relu")(layers.Flatten()(x))
        made.append(layers.Dense(3, "softmax")(hidden))
    model = keras.Model(first, made)
    disturb(model, seed)
    for layer in model.layers:
        for name in ("kernel", "pointwise_kernel", "gamma"):
            if getattr(layer, name, None) is None:
                continue
            shape = getattr(layer, name).shape
            # whole outputs, whole inputs, or single weights
            for axis in range(-min(2, len(shape)), 0):
                dead = rng.random(shape[axis]) < share * rng.random()
                kill(layer, dead, name, axis)
            value = array(getattr(layer, name))
            value[rng.random(value.shape) < share * rng.random()] = 0
            getattr(layer, name).assign(value)
    return model


@pytest.mark.once
@given(graphs())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_graph_keeps_its_outputs_and_is_compact_at_once(graph):
    model = build(*graph)
    before = weights(model)
    small, report = kb.compact(model, return_report=True)
    assert_same(model, small)
    assert report.before.parameters == model.count_params()
    assert report.after.parameters == small.count_params()
    added = sum(
        getattr(layer, "use_bias", True) is False for layer in model.layers
    )
    # a bias may have come where there was none
    assert report.after.flops <= report.before.flops
    assert added or report.after.parameters <= report.before.parameters
    again = kb.compact(small)
    assert parameters(again) == parameters(small)
    assert_weights(model, before)


@pytest.mark.once
@given(graphs(), st.sampled_from([2, 3, 8]))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_graph_is_left_multiples_of_channels(graph, n):
    model = build(*graph)
    small = kb.compact(model, multiple_of=n)
    assert_same(model, small)
    for layer in model.layers:
        before = layer.output.shape[-1]
        after = small.get_layer(layer.name).output.shape[-1]
        assert after % n == 0 or after == before
    least = kb.compact(model)
    assert least.count_params() <= small.count_params() <= model.count_params()
    assert parameters(kb.compact(small, multiple_of=n)) == parameters(small)
    assert parameters(kb.compact(small)) == parameters(least)


def test_dead_channels_fill_up_a_multiple():
    model = chain(
        layers.Conv2D(16, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(12, 3),
        layers.Flatten(),
        layers.Dense(10),
    )
    disturb(model)
    first, second = (model.layers[i] for i in (0, 3))
    # what nobody reads is no cheaper to keep than what is dead, but lives
    kill(first, np.arange(16) < 5)
    kill(second, np.arange(16) >= 14, axis=-2)
    kill(second, np.arange(12) < 11)
    for n, filters in ((1, 9), (4, 12), (8, 16), (7, 14), (10**30, 16)):
        small = kb.compact(model, multiple_of=n)
        assert small.layers[0].filters == filters
        assert_same(model, small)
    # of eight the five dead ones come first: nothing else is computed
    kernel = array(kb.compact(model, multiple_of=14).layers[0].kernel)
    assert (kernel != 0).any((0, 1, 2)).sum() == 9
    for bad in (0, -8, 2.0, "8"):
        with pytest.raises(ValueError, match="`multiple_of` must be 1 or gr"):
            kb.compact(model, multiple_of=bad)


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "share"),
    [
        (keras.applications.MobileNet, 0.65),
        (keras.applications.ResNet50, 0.5),
        (keras.applications.EfficientNetB0, 0.85),
    ],
    ids=["mobilenet", "resnet50", "efficientnet"],
)
def test_keras_own_networks(make, share):
    if BACKEND == "jax" and make is not keras.applications.MobileNet:
        pytest.skip("a matter of time, and of nothing that JAX does otherwise")
    model = make(weights=None, input_shape=(32, 32, 3), classes=10)
    disturb(model)
    rng = np.random.default_rng(0)
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, layers.Conv2D) and layer.filters > 10
    ]
    for layer in convolutions:
        kill(layer, rng.random(layer.filters) < 0.5)
    small, report = kb.compact(model, return_report=True)
    assert_same(model, small)
    # less than half leaves, as streams end only where every branch is dead
    assert report.after.parameters < share * report.before.parameters


def test_a_compact_model_is_saved_loaded_and_trained(tmp_path):
    model = residual({"stem": [0], "outer": [0], "inner": [1, 2, 3]})
    small = kb.compact(model)
    small.save(tmp_path / "small.keras")
    x = images(model)[0]
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(outputs(loaded, x)[0], outputs(small, x)[0])
    small.compile(kb.LinBreg(0.01, regularizer=0.01), "mse")
    before = weights(small)
    history = small.fit(x, np.zeros((len(x), 3)), epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert not np.array_equal(
        weights(small)["stem/kernel"], before["stem/kernel"]
    )


def test_frozen_layers_stay_frozen_and_lambdas_live():
    x = keras.Input((4,))
    y = layers.Dense(5, activation=lambda v: v * v, name="square")(x)
    y = layers.Dense(6, "relu", trainable=False, name="frozen")(y)
    model = keras.Model(x, layers.Dense(2)(y))
    kill(model.get_layer("frozen"), [0])
    small = kb.compact(model)
    assert not small.get_layer("frozen").trainable
    assert small.get_layer("frozen").units == 5
    assert small.get_layer("square").units == 5
    assert_same(model, small)


def test_low_precision_is_compared_by_its_own_rounding():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = chain(
        layers.Conv2D(6, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.Conv2D(6, 3, padding="same"),
    )
    disturb(model)
    kill(model.layers[0], [0, 1])
    small = kb.compact(model)
    assert small.layers[0].filters == 5
    assert small.layers[0].compute_dtype == "bfloat16"
    x = images(model)[0]
    for one, other in zip(outputs(model, x), outputs(small, x), strict=True):
        np.testing.assert_allclose(other, one, atol=0.03 * np.abs(one).max())


def test_the_report_says_what_was_left_whole():
    model = chain(
        layers.Dense(4, name="one"),
        layers.LayerNormalization(name="norm"),
        layers.Dense(2, name="two"),
        shape=(3,),
    )
    kill(model.layers[0], [1])
    small, report = kb.compact(model, return_report=True)
    assert parameters(small) == parameters(model)
    notes = {row.name: row.note for row in report.rows}
    assert notes == {"one": "", "norm": "normalizes over channels", "two": ""}
    assert report.before.flops == 2 * (3 * 4 + 4 * 2)
    assert report.before.bytes == 4 * model.count_params()
    assert "normalizes over channels" in str(report)


OPERATIONS = sorted(elementwise.OPERATIONS - {"Mish"})  # not in `keras.ops`


@pytest.mark.parametrize("kind", OPERATIONS)
def test_operations_are_known_by_the_name_of_what_makes_them(kind):
    snake = re.sub("(?<=[a-z])(?=[A-Z])", "_", kind).lower()
    given = keras.Input((3,))
    x = layers.Dense(6, name="one")(given)
    model = keras.Model(given, layers.Dense(2)(getattr(ops, snake)(x)))
    kill(model.get_layer("one"), [1, 4])
    small = kb.compact(model)
    assert small.get_layer("one").units == 4


def test_the_report_says_which_operation_left_others_whole():
    given = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(given)
    x = layers.Dense(6, name="one")(x)
    x = layers.Dense(2, name="two")(ops.mean(ops.abs(x), axis=1))
    inner = keras.Model(given, x, name="inner")
    model = keras.Model(given, inner(given))
    kill(inner.get_layer("one"), [1])
    small, report = kb.compact(model, return_report=True)
    assert parameters(small) == parameters(model)
    # masks are operations too, and hold nothing
    notes = {row.name: (row.kind, row.note) for row in report.rows if row.note}
    (mean,) = (o.name for o in inner.operations if "mean" in o.name)
    assert notes == {f"inner/{mean}": ("Mean", "Mean: not known")}


def test_the_report_gives_the_reason_and_not_another():
    shape = (4, 4, 3)
    model = chain(
        layers.Conv2D(3, 1),
        layers.DepthwiseConv2D(3, activation="softmax", name="mixes"),
        layers.Rescaling([1.0, 2.0, 3.0], name="scales"),
        layers.PReLU(name="slopes"),
        layers.Reshape((2, 6), name="reshapes"),
        shape=shape,
    )
    dense = layers.Dense(6)
    y = layers.SpectralNormalization(dense, name="bounds")(model.outputs[0])
    model = keras.Model(model.inputs, layers.Dense(6)(y) + np.arange(6.0))
    kill(model.layers[1], [1])
    _, report = kb.compact(model, return_report=True)
    notes = {row.name: row.note for row in report.rows}
    (added,) = (row.note for row in report.rows if row.kind == "Add")
    assert added == "joins channels with numbers of their own"
    assert notes["mixes"] == "softmax may mix its outputs"
    assert notes["scales"] == "scales channels by numbers of their own"
    assert notes["slopes"] == "has slopes by position"
    assert notes["reshapes"] == "reshapes channels"
    assert notes["bounds"] == "SpectralNormalization: not known"


def test_what_cannot_be_compacted_is_named():
    with pytest.raises(ValueError, match="`model` must be a built functional"):
        kb.compact(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="Received: model='net'"):
        kb.compact("net")
    model = chain(layers.Dense(2, name="one"), shape=(3,))
    with pytest.raises(ValueError, match="`return_report` must be True or"):
        kb.compact(model, return_report=8)
    model.layers[0].kernel.assign(np.full((3, 2), np.nan))
    with pytest.raises(FloatingPointError, match="one/kernel"):
        kb.compact(model)


def first_channels():
    """A network of the channels_first layout, which TensorFlow's CPU lacks."""
    layout = {"data_format": "channels_first"}
    return chain(
        layers.Conv2D(7, 3, padding="same", name="one", **layout),
        layers.BatchNormalization(axis=1),
        layers.ReLU(),
        layers.MaxPooling2D(2, **layout),
        layers.DepthwiseConv2D(2, **layout),
        layers.Conv2D(5, 2, name="two", **layout),
        layers.Flatten(**layout),
        layers.Dense(3),
        shape=(3, 8, 8),
    )


@pytest.mark.skipif(BACKEND == "tensorflow", reason="not on its CPU")
def test_channels_may_come_first():
    model = first_channels()
    disturb(model)
    kill(model.get_layer("one"), [0, 3, 4])
    kill(model.get_layer("two"), [1])
    small = kb.compact(model)
    assert small.get_layer("one").filters == 4
    assert small.get_layer("two").filters == 4
    assert_same(model, small)


@pytest.mark.skipif(
    keras.version() < "3.12",
    reason="up to Keras 3.11 Reshape keeps the size of its first call",
)
@pytest.mark.parametrize("flat_first", [True, False])
def test_a_layer_with_an_unfit_call_stays_whole_for_all(flat_first):
    reshape = layers.Reshape((-1, 6), name="reshape")
    flat, image = keras.Input((36,)), keras.Input((8, 8, 3))
    conv = layers.Conv2D(6, 3, name="conv")
    if flat_first:
        u, v = reshape(flat), reshape(conv(image))
    else:
        v, u = reshape(conv(image)), reshape(flat)
    pooled = layers.GlobalAveragePooling1D()
    model = keras.Model(
        [flat, image], layers.Concatenate()([pooled(u), pooled(v)])
    )
    kill(conv, [0, 1])
    small = kb.compact(model)
    assert small.get_layer("conv").filters == 6
    assert_same(model, small)


def test_masks_pass_through():
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, mask_zero=True, name="table"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4, "relu", name="hidden"),
            layers.Dense(2),
        ]
    )
    disturb(model)
    kill(model.get_layer("table"), [0, 1], "embeddings")
    kill(model.get_layer("hidden"), [2])
    small = kb.compact(model)
    assert small.get_layer("table").output_dim == 4
    assert small.get_layer("hidden").units == 3
    x = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 0]], "int32")
    np.testing.assert_allclose(outputs(small, x), outputs(model, x), atol=1e-5)


def test_what_adapt_has_learned_is_kept():
    normal = layers.Normalization()
    normal.adapt(3 + 2 * np.random.default_rng(0).normal(size=(50, 6)))
    dense = layers.Dense(5, "relu", name="cut")
    model = chain(normal, dense, layers.Dense(2), shape=(6,))
    kill(dense, [0, 1])
    small = kb.compact(model)
    assert small.get_layer("cut").units == 3
    assert_same(model, small)


def test_learned_boundaries_are_kept():
    bins = layers.Discretization(num_bins=4)
    rng = np.random.default_rng(0)
    bins.adapt(rng.normal(size=(50, 6)))
    dense = layers.Dense(5, "relu", name="cut")
    code = layers.CategoryEncoding(5, output_mode="multi_hot")
    model = chain(bins, code, dense, layers.Dense(2), shape=(6,))
    kill(dense, [0, 1])
    small = kb.compact(model)
    assert small.get_layer("cut").units == 3
    assert_same(model, small)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("make", "width"),
    (
        (partial(layers.StringLookup, num_oov_indices=2), 2),
        (layers.TextVectorization, 1),
    ),
    ids=("words", "texts"),
)
def test_frequencies_of_words_are_kept(make, width):
    lookup = make(output_mode="tf_idf")
    words = np.array([["a", "b"], ["b", "c"], ["b", "b"]])
    lookup.adapt(words[:, :width])
    model = keras.Sequential(
        [
            keras.Input((width,), dtype="string"),
            lookup,
            layers.Dense(5, "relu", name="cut"),
            layers.Dense(2),
        ]
    )
    kill(model.get_layer("cut"), [0, 1])
    given = np.array([["a", "b"], ["c", "other"]])[:, :width]
    small = kb.compact(model, samples=given)
    assert small.get_layer("cut").units == 3
    assert difference(model(given), small(given)) < 1e-5


def test_recurrent_layers_are_left_whole_and_their_state_alone():
    x = keras.Input((4, 3), batch_size=2)
    y = layers.Dense(6, "tanh", name="read")(x)
    lstm = layers.LSTM(5, stateful=True)
    model = keras.Model(x, layers.Dense(2)(lstm(y)))
    kill(model.get_layer("read"), [1])
    given = np.random.default_rng(0).normal(size=(2, 4, 3))
    model(given)
    before = [array(v).copy() for v in lstm.states]
    assert np.abs(before[0]).max() > 0.01
    small = kb.compact(model)
    assert small.get_layer("read").units == 6
    twin = small.get_layer(lstm.name)
    for now in (lstm.states, twin.states):
        np.testing.assert_array_equal([array(v) for v in now], before)
    assert_same(model, small, batch=2)


@pytest.mark.parametrize("which", (0, 1))
def test_a_small_error_in_any_output_is_found(which, monkeypatch):
    module = importlib.import_module("keras_bregman.compaction.compacting")
    made = module._compacted

    def spoilt(*arguments):
        small, notes = made(*arguments)
        bias = small.get_layer(f"out{which}").bias
        # ten times what is let pass
        bias.assign(array(bias) + 10 * module._tolerance(small))
        return small, notes

    x = keras.Input((4,))
    y = layers.Dense(6, "relu")(x)
    outputs = [layers.Dense(2, name=f"out{i}")(y) for i in (0, 1)]
    model = keras.Model(x, outputs)
    kb.compact(model)
    monkeypatch.setattr(module, "_compacted", spoilt)
    with pytest.raises(RuntimeError, match="outputs differ by"):
        kb.compact(model)


def test_a_compact_model_that_is_wrong_is_not_given_out(monkeypatch):
    lstm = layers.LSTM(5, stateful=True, name="lstm")
    x = keras.Input((4, 3), batch_size=2)
    model = keras.Model(x, layers.Dense(2)(lstm(x)))
    monkeypatch.setattr(
        keras.layers.LSTM, "set_weights", lambda self, values: None
    )
    with pytest.raises(RuntimeError, match="whose outputs differ by"):
        kb.compact(model)


def test_a_compact_model_may_differ_by_rounding(monkeypatch):
    module = importlib.import_module("keras_bregman.compaction.compacting")
    monkeypatch.setattr(module, "_tolerance", lambda model: 0.0)
    first = layers.Dense(200, "relu", name="first")
    second = layers.Dense(64, name="second")
    norm = layers.BatchNormalization(epsilon=1e-6)
    model = chain(first, second, norm, layers.Dense(3), shape=(40,))
    kill(first, list(range(0, 200, 3)))
    # whose constants go into biases, and of digits that are left where all
    # channels have a large mean
    first.bias.assign(np.linspace(0.1, 1.0, 200))
    second.bias.assign(np.full(64, 1e3))
    norm.moving_mean.assign(np.full(64, 1e3))
    norm.moving_variance.assign(np.full(64, 1e-2))
    before = weights(model)
    small = kb.compact(model)
    assert small.get_layer("first").units == 133
    assert_weights(model, before)
    x = np.random.default_rng(1).normal(size=(64, 40))
    given = model(x, training=False)
    rounding = module._of_rounding(model, x, given)
    assert 0 < difference(given, small(x, training=False)) < 8 * rounding
    assert 1e-6 < rounding < 1e-2


def test_an_initializer_may_be_a_function():
    def halves(shape, dtype=None):
        return keras.ops.full(shape, 0.5, dtype)

    keras.saving.register_keras_serializable("ours")(halves)
    dense = layers.Dense(5, "relu", kernel_initializer=halves)
    model = chain(dense, layers.Dense(2), shape=(4,))
    kill(dense, [0, 3])
    small = kb.compact(model)
    assert small.layers[0].units == 3
    assert_same(model, small)


def test_attention_scores_are_of_all_heads():
    x = keras.Input((5, 8))
    attend = layers.MultiHeadAttention(4, 2, name="attend")
    y, scores = attend(x, x, return_attention_scores=True)
    model = keras.Model(x, [y, scores])
    kill(attend._value_dense, [0, 2], axis=1)
    small = kb.compact(model)
    assert small.get_layer("attend")._num_heads == 4
    assert_same(model, small)


@pytest.mark.parametrize("dropout", (0.0, 0.1))
@pytest.mark.parametrize("masks", ("embedding", "argument"))
def test_a_dead_head_speaks_where_a_mask_leaves_nothing(masks, dropout):
    """Where all is masked attention may be 0 instead of summing to 1."""
    words = keras.Input((6,), dtype="int32", name="words")
    attend = layers.MultiHeadAttention(4, 3, dropout=dropout, name="attend")
    if masks == "embedding":
        y = layers.Embedding(1000, 8, mask_zero=True)(words)
        y = attend(y, y)
    else:
        y = layers.Embedding(1000, 8)(words)
        y = attend(y, y, attention_mask=ops.repeat(words[:, None], 6, axis=1))
    model = keras.Model(words, layers.GlobalMaxPooling1D()(y))
    kill(attend._value_dense, [0, 2], axis=1)
    x = np.array([[1, 2, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    for bias, heads in ((0.5, 4), (0.0, 2)):
        attend._value_dense.bias.assign(np.full((4, 3), bias))
        small = kb.compact(model, samples=x)
        assert small.get_layer("attend")._num_heads == heads
        one, other = (m.predict(x, verbose=0) for m in (model, small))
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_a_mask_of_every_head_keeps_all():
    x, mask = keras.Input((5, 8)), keras.Input((4, 5, 5))
    attend = layers.MultiHeadAttention(4, 2, name="attend")
    model = keras.Model([x, mask], attend(x, x, attention_mask=mask))
    kill(attend._value_dense, [0, 2], axis=1)
    assert kb.compact(model).get_layer("attend")._num_heads == 4


def test_initial_values_by_position_are_no_obstacle():
    matrix = np.random.default_rng(0).normal(size=(10, 6))
    matrix[:, 2] = 0
    x = keras.Input((4,))  # floats, as many write it
    y = layers.Embedding(
        10, 6, embeddings_initializer=keras.initializers.Constant(matrix)
    )(x)
    y = layers.GlobalAveragePooling1D()(y)
    small = kb.compact(keras.Model(x, layers.Dense(2)(y)))
    assert small.layers[1].output_dim == 5


def test_lambdas_and_trained_activations_stay_as_they_are():
    x = keras.Input((6,))
    y = layers.Dense(5, activation=layers.PReLU(), name="rectified")(x)
    y = layers.Lambda(lambda v: 2 * v)(y)
    y = layers.Dense(4, "relu", name="cut")(y)
    model = keras.Model(x, layers.Dense(2)(y))
    for weight in model.get_layer("rectified").weights:
        if weight.path.endswith("alpha"):
            weight.assign(np.full(weight.shape, 0.3))
    kill(model.get_layer("cut"), [0])
    small = kb.compact(model)
    assert small.get_layer("cut").units == 3
    assert_same(model, small)


def _rectified(x):
    return ops.relu(x)


@pytest.mark.parametrize(
    "make",
    (
        lambda: layers.Lambda(_rectified),
        lambda: layers.Lambda(lambda x: ops.relu(x)),
        lambda: layers.Lambda(lambda x: ops.relu(x), output_shape=(5,)),
        lambda: layers.Lambda(
            lambda x, power: ops.power(x, power),
            arguments={"power": 2},
            trainable=False,
        ),
    ),
    ids=("named", "unnamed", "with a shape", "with arguments"),
)
def test_a_lambda_has_its_own_function(make):
    """Its globals are those of where it was written."""
    first = layers.Dense(5, name="first")
    cut = layers.Dense(4, "relu", name="cut")
    within = make()
    model = chain(first, within, cut, layers.Dense(2), shape=(6,))
    kill(cut, [0])
    small = kb.compact(model)
    assert small.get_layer("cut").units == 3
    assert small.get_layer(within.name).trainable is within.trainable
    assert_same(model, small)


class Unhashable:
    __hash__ = None

    def get_config(self):
        return {}

    def __call__(self, x):
        return ops.relu(x)


def test_an_activation_need_not_be_hashable():
    model = chain(layers.Dense(5, Unhashable()), layers.Dense(2), shape=(6,))
    assert_same(model, kb.compact(model))


def test_what_its_config_does_not_tell_is_refused():
    dense = chain(layers.Dense(5), layers.Dense(2), shape=(6,))
    dense.quantize("float8")
    x = keras.Input((5, 8))
    attend = layers.MultiHeadAttention(4, 2, name="attend")
    attention = keras.Model(x, attend(x, x))
    attend._query_dense.enable_lora(2)
    for model, name in ((dense, "dense"), (attention, "'attend'")):
        with pytest.raises(ValueError, match=rf"{name}.*'float8', or parts of"):
            kb.compact(model)


@keras.saving.register_keras_serializable("keras_bregman tests")
class Sampling(layers.Layer):
    """As an autoencoder draws, in inference too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(3)

    def call(self, inputs):
        mean, deviation = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.generator)
        return mean + deviation * noise


def test_random_numbers_go_on_from_where_they_are():
    x = keras.Input((6,))
    hidden = layers.Dense(8, "relu", name="hidden")
    y = hidden(x)
    model = keras.Model(x, Sampling()([layers.Dense(3)(y), layers.Dense(3)(y)]))
    kill(hidden, [1, 5])
    model(np.ones((2, 6)))  # it has drawn before
    small = kb.compact(model)
    assert small.get_layer("hidden").units == 6
    for _ in range(2):
        assert_same(model, small)


@keras.saving.register_keras_serializable("keras_bregman tests")
class Noise(layers.Layer):
    """Answers otherwise every time, by random numbers that nobody knows."""

    def call(self, x):
        return x + np.random.random()

    def compute_output_shape(self, shape):
        return shape


def test_what_answers_otherwise_every_time_is_not_compared():
    model = chain(
        layers.Dense(8, "relu", name="hidden"), layers.Dense(3), Noise()
    )
    kill(model.get_layer("hidden"), [1, 5])
    assert kb.compact(model).get_layer("hidden").units == 6


@pytest.mark.parametrize("kind", ("embedding", "wrapper"))
def test_weights_that_layers_share_stay_shared(kind):
    model = tied(kind)
    kill(model.get_layer("own"), [1, 2])
    kill(model.get_layer("own"), [1, 2], "bias")
    small, report = kb.compact(model, return_report=True)
    numbers = [len(m.weights) for m in (model, small)]
    assert numbers[0] == numbers[1]
    assert report.before.parameters == model.count_params()
    assert report.after.parameters == small.count_params()
    notes = [row.note for row in report.rows]
    assert notes.count("shares weights with other layers") == 2
    if kind == "embedding":
        assert small.get_layer("own").units == 6
    (x,) = images(model)
    x = np.abs(10 * x).astype("int32") if kind == "embedding" else x
    for one, other in zip(outputs(model, x), outputs(small, x), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_sharing_that_a_config_does_not_tell_is_refused():
    class Own(layers.Layer):
        def __init__(self, dense=None, **kwargs):
            super().__init__(**kwargs)
            self.dense = dense or layers.Dense(4)

        def call(self, x):
            return self.dense(x)

        def get_config(self):
            return super().get_config()

    x = keras.Input((4,))
    dense = layers.Dense(4, name="first")
    model = keras.Model(x, Own(dense, name="second")(dense(x)))
    with pytest.raises(ValueError, match=r"'first', 'second'.* in common"):
        kb.compact(model)


def test_samples_stand_in_where_random_inputs_do_not_fit():
    x = keras.Input((None, 1))
    y = layers.Conv1D(4, 40, name="conv")(x)
    model = keras.Model(x, layers.GlobalMaxPooling1D()(y))
    with pytest.raises(ValueError, match="Pass some of its own as `samples`"):
        kb.compact(model)
    samples = np.random.default_rng(0).normal(size=(2, 50, 1))
    kb.compact(model, samples=samples.astype("float32"))


class Halved(keras.Model):
    def call(self, inputs):
        return super().call(inputs) / 2


def test_a_model_with_a_call_of_its_own_is_refused_and_left_whole():
    x = keras.Input((3,))
    halved = Halved(x, layers.Dense(4, name="inner")(x))
    with pytest.raises(ValueError, match="without a `call` of its own"):
        kb.compact(halved)


class Forgetful(layers.Layer):
    def __init__(self, factor):
        super().__init__(name="forgetful")
        self.factor = factor

    def call(self, x):
        return self.factor * x


def test_a_layer_without_a_config_is_named():
    model = chain(Forgetful(2.0), layers.Dense(2), shape=(3,))
    with pytest.raises(ValueError, match="'forgetful' cannot be made a second"):
        kb.compact(model)
    rounded = layers.Dense(2, partial(ops.round, decimals=1))
    with pytest.raises(ValueError, match=r"cannot be made.*get_config\(\)"):
        kb.compact(chain(rounded, shape=(3,)))


class Nameless(layers.Layer):
    """Whose config tells nothing of what Keras gives every layer."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight((shape[-1], self.units), name="kernel")

    def call(self, x):
        return x @ self.w

    def get_config(self):
        return {"units": self.units}


def test_names_and_what_is_frozen_stay():
    inputs = keras.Input((5, 6))
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    x = attention(inputs, inputs)
    x = Nameless(4, name="mine")(x)
    inner = keras.Sequential(
        [keras.Input((5, 4)), layers.Dense(4, name="held")], name="inner"
    )
    outer = layers.Dense(3, name="outer")
    model = keras.Model(inputs, outer(inner(x)))
    attention._query_dense.trainable = False
    model.get_layer("mine").trainable = False
    inner.trainable = False
    outer.bias.trainable = False
    kill(outer, [0])
    small, report = kb.compact(model, return_report=True)
    assert {row.name for row in report.rows} >= {"attention", "mine"}
    told = [
        [weight.path.rpartition("/")[2] for weight in each.trainable_weights]
        for each in (model, small)
    ]
    assert told[0] == told[1] and len(told[0]) == 7
    assert not small.get_layer("inner").trainable
    # the whole model too
    model.trainable = False
    small = kb.compact(model)
    assert not small.trainable and small.trainable_weights == []


def test_samples_that_compare_nothing_are_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="`samples` must be numbers"):
        kb.compact(model, samples=np.full((2, 4), np.nan))


def test_a_layer_given_as_it_is_would_be_shared():
    class Holder(layers.Layer):
        def __init__(self, held, **kwargs):
            super().__init__(**kwargs)
            self.held = held

        def call(self, x):
            return self.held(x)

        def get_config(self):
            return {**super().get_config(), "held": self.held}

    inputs = keras.Input((4,))
    held = Holder(layers.Dense(3), name="holder")
    with pytest.raises(ValueError, match="'holder' cannot be made a second"):
        kb.compact(keras.Model(inputs, held(inputs)))
