"""Kernels are found and their axes read, from the layer and from the path.

The axes of an expected layout are spelled with one letter each: `i` runs over
input channels, `o` over output units, `b` over both, `s` over space.
"""

import keras
import numpy as np
import pytest
from keras import layers

from keras_bregman.kernels import Layout, is_kernel, kernels, layout_of

# name: how to create it, input shape, kernels
LAYERS = {
    "Dense": (lambda: layers.Dense(3), (4,), {"kernel": "io"}),
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"),
        (5, 4),
        {"kernel": "io"},
    ),
    "EinsumDense ellipsis": (
        lambda: layers.EinsumDense("...x,xy->...y", 3, bias_axes="y"),
        (5, 4),
        {"kernel": "io"},
    ),
    "EinsumDense out first": (
        lambda: layers.EinsumDense("ab,cb->ac", 3, bias_axes="c"),
        (4,),
        {"kernel": "oi"},
    ),
    "EinsumDense heads": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (5, 4),
        {"kernel": "ioo"},
    ),
    "EinsumDense per position": (
        lambda: layers.EinsumDense("abc,bcd->abd", (5, 3)),
        (5, 4),
        {"kernel": "bio"},
    ),
    "Conv1D": (lambda: layers.Conv1D(3, 2), (8, 4), {"kernel": "sio"}),
    "Conv2D": (lambda: layers.Conv2D(3, 2), (8, 8, 4), {"kernel": "ssio"}),
    "Conv3D": (
        lambda: layers.Conv3D(3, 2),
        (4, 4, 4, 2),
        {"kernel": "sssio"},
    ),
    "Conv1DTranspose": (
        lambda: layers.Conv1DTranspose(3, 2),
        (8, 4),
        {"kernel": "soi"},
    ),
    "Conv2DTranspose": (
        lambda: layers.Conv2DTranspose(3, 2),
        (8, 8, 4),
        {"kernel": "ssoi"},
    ),
    "Conv3DTranspose": (
        lambda: layers.Conv3DTranspose(3, 2),
        (4, 4, 4, 2),
        {"kernel": "sssoi"},
    ),
    "DepthwiseConv1D": (
        lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
        (8, 4),
        {"kernel": "sbo"},
    ),
    "DepthwiseConv2D": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (8, 8, 4),
        {"kernel": "ssbo"},
    ),
    "SeparableConv1D": (
        lambda: layers.SeparableConv1D(3, 2, depth_multiplier=2),
        (8, 4),
        {"depthwise_kernel": "sbo", "pointwise_kernel": "sio"},
    ),
    "SeparableConv2D": (
        lambda: layers.SeparableConv2D(3, 2, depth_multiplier=2),
        (8, 8, 4),
        {"depthwise_kernel": "ssbo", "pointwise_kernel": "ssio"},
    ),
    "SimpleRNN": (
        lambda: layers.SimpleRNN(3),
        (8, 4),
        {"kernel": "io", "recurrent_kernel": "io"},
    ),
    "LSTM": (
        lambda: layers.LSTM(3),
        (8, 4),
        {"kernel": "io", "recurrent_kernel": "io"},
    ),
    "GRU": (
        lambda: layers.GRU(3),
        (8, 4),
        {"kernel": "io", "recurrent_kernel": "io"},
    ),
    "stacked RNN": (
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        (8, 4),
        {
            "lstm_cell/kernel": "io",
            "lstm_cell/recurrent_kernel": "io",
            "gru_cell/kernel": "io",
            "gru_cell/recurrent_kernel": "io",
        },
    ),
    "Bidirectional": (
        lambda: layers.Bidirectional(layers.LSTM(3, name="rnn")),
        (8, 4),
        {
            "forward_rnn/lstm_cell/kernel": "io",
            "forward_rnn/lstm_cell/recurrent_kernel": "io",
            "backward_rnn/lstm_cell/kernel": "io",
            "backward_rnn/lstm_cell/recurrent_kernel": "io",
        },
    ),
    "ConvLSTM2D": (
        lambda: layers.ConvLSTM2D(3, 2),
        (2, 5, 5, 4),
        {"kernel": "ssio", "recurrent_kernel": "ssio"},
    ),
    "MultiHeadAttention": (
        lambda: layers.MultiHeadAttention(2, 3),
        (8, 6),
        {
            "query/kernel": "ioo",
            "key/kernel": "ioo",
            "value/kernel": "ioo",
            "attention_output/kernel": "iio",
        },
    ),
    "GroupQueryAttention": (
        lambda: layers.GroupQueryAttention(3, 4, 2),
        (8, 6),
        {
            "query/kernel": "ioo",
            "key/kernel": "ioo",
            "value/kernel": "ioo",
            "attention_output/kernel": "iio",
        },
    ),
    "TimeDistributed": (
        lambda: layers.TimeDistributed(layers.DepthwiseConv2D(3)),
        (2, 8, 8, 4),
        {"kernel": "ssbo"},
    ),
    "SpectralNormalization": (
        lambda: layers.SpectralNormalization(layers.Conv2DTranspose(3, 2)),
        (8, 8, 4),
        {"kernel": "ssoi"},
    ),
    "Embedding": (lambda: layers.Embedding(9, 3), (8,), {}),
    "BatchNormalization": (layers.BatchNormalization, (8, 4), {}),
    "LayerNormalization": (layers.LayerNormalization, (8, 4), {}),
    "GroupNormalization": (lambda: layers.GroupNormalization(2), (8, 4), {}),
    "PReLU": (layers.PReLU, (8, 4), {}),
}
WITH_KERNELS = [name for name, (*_, expected) in LAYERS.items() if expected]
# the path does not tell how the axes of these are laid out
NEED_LAYER = (
    "EinsumDense out first",
    "EinsumDense heads",
    "EinsumDense per position",
)


def build(name):
    """A model of the one layer, and its weights' expected axes by path."""
    create, shape, expected = LAYERS[name]
    layer = create()
    inputs = keras.Input(shape)
    model = keras.Model(
        inputs,
        layer(inputs, inputs) if "Attention" in name else layer(inputs),
    )
    axes = {}
    for ending, letters in expected.items():
        (path,) = [w.path for w in model.weights if f"/{ending}" in w.path]
        axes[path] = letters
    return model, axes


def spelled(shape, letters):
    assert len(shape) == len(letters)
    return Layout(
        tuple(shape),
        tuple(a for a, letter in enumerate(letters) if letter in "ib"),
        tuple(a for a, letter in enumerate(letters) if letter in "ob"),
    )


@pytest.mark.parametrize("name", LAYERS)
def test_only_kernels_are_kernels(name):
    model, axes = build(name)
    assert model.weights
    assert {w.path for w in model.weights if is_kernel(w.path)} == set(axes)


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_layout_from_the_layer(name):
    model, axes = build(name)
    found = kernels(model)
    assert [k.path for k in found] == list(axes)
    for kernel in found:
        expected = spelled(kernel.variable.shape, axes[kernel.path])
        assert kernel.layout == expected
        assert any(kernel.variable is w for w in kernel.layer.weights)


@pytest.mark.parametrize(
    "name", [n for n in WITH_KERNELS if n not in NEED_LAYER]
)
def test_layout_from_the_path(name):
    model, axes = build(name)
    for weight in model.weights:
        if weight.path in axes:
            expected = spelled(weight.shape, axes[weight.path])
            assert layout_of(weight.shape, weight.path) == expected


@pytest.mark.parametrize(
    "path, shape, letters",
    [
        # keras.applications
        ("conv_dw_1/kernel", (3, 3, 8, 1), "ssbo"),
        ("mobilenet/conv_dw_13/kernel", (3, 3, 8, 1), "ssbo"),
        ("conv_pw_1/kernel", (1, 1, 8, 16), "ssio"),
        ("expanded_conv_depthwise/kernel", (3, 3, 8, 1), "ssbo"),
        ("expanded_conv_project/kernel", (1, 1, 8, 4), "ssio"),
        ("block_1_depthwise/kernel", (3, 3, 8, 1), "ssbo"),
        ("block1a_dwconv/kernel", (3, 3, 8, 1), "ssbo"),
        ("block4a_dwconv2/kernel", (3, 3, 8, 1), "ssbo"),
        ("block1a_project_conv/kernel", (1, 1, 8, 4), "ssio"),
        ("block1_sepconv1/depthwise_kernel", (3, 3, 8, 1), "ssbo"),
        ("block1_sepconv1/pointwise_kernel", (1, 1, 8, 4), "ssio"),
        ("stage_0_block_0_depthwise_conv/kernel", (7, 7, 1, 8), "ssbo"),
        # names of the user's own
        ("dw/kernel", (3, 8, 1), "sbo"),
        ("DWConv/kernel", (3, 3, 8, 1), "ssbo"),
        ("net/decoder_transpose_2/kernel", (2, 2, 4, 8), "ssoi"),
        ("downward/kernel", (3, 3, 8, 4), "ssio"),
        ("hardware_dwell/kernel", (3, 3, 8, 4), "ssio"),
        ("dw/dense/kernel", (8, 4), "io"),
        ("query/kernel", (8, 4), "io"),
        # a convolution: what attention consists of is within it
        ("query/kernel", (1, 8, 4), "sio"),
        ("attention_output/kernel", (3, 8, 4), "sio"),
        # a layer inside a block or model called after what else is in it
        ("depthwise_separable/conv_pw/kernel", (1, 1, 8, 4), "ssio"),
        ("depthwise_separable/conv_dw/kernel", (3, 3, 8, 1), "ssbo"),
        ("block_dw/pointwise/kernel", (1, 1, 8, 4), "ssio"),
        ("transpose_block/conv2d/kernel", (3, 3, 8, 4), "ssio"),
    ],
)
def test_layout_from_names(path, shape, letters):
    assert layout_of(shape, path) == spelled(shape, letters)


@pytest.mark.parametrize(
    "path, shape",
    [
        ("multi_head_attention/query/kernel", (6, 2, 3)),
        ("multi_head_attention/attention_output/kernel", (2, 3, 6)),
        ("separable_conv2d/depthwise_kernel", (3, 3, 4, 2)),
        ("depthwise_conv2d/kernel", (3, 3, 4, 2)),
        ("conv2d_transpose/kernel", (3, 3, 4, 2)),
    ],
)
def test_raw_tensorflow_names_read_alike(path, shape):
    assert is_kernel(f"{path}:0")
    assert layout_of(shape, f"{path}:0") == layout_of(shape, path)


def test_vectors_are_all_output():
    assert layout_of((7,), "bias") == Layout((7,), (), (0,))


@pytest.mark.parametrize(
    "path",
    [
        "dense/bias",
        "kernel/bias",
        "dense/kernel_scale",
        "dense/lora_kernel_a",
        "mykernel",
        "kernel_initializer",
        "adam/dense_kernel_momentum",
    ],
)
def test_no_kernel_by_name(path):
    assert not is_kernel(path)


@pytest.mark.parametrize(
    "shape, letters, fan_in, fan_out",
    [
        ((6, 5), "io", 6, 5),
        ((3, 4, 8), "sio", 12, 24),
        ((3, 3, 4, 8), "ssio", 36, 72),
        ((3, 3, 8, 4), "ssoi", 36, 72),
        ((3, 3, 4, 2), "ssbo", 9, 18),
        ((6, 2, 3), "ioo", 6, 6),
        ((2, 3, 7), "iio", 6, 7),
    ],
)
def test_fans(shape, letters, fan_in, fan_out):
    layout = spelled(shape, letters)
    assert (layout.fan_in, layout.fan_out) == (fan_in, fan_out)


@pytest.mark.parametrize(
    "name", ["Conv2D", "Conv2DTranspose", "DepthwiseConv2D"]
)
def test_fan_in_counts_what_feeds_one_unit(name):
    create, _, _ = LAYERS[name]
    layer = create()
    images = np.ones((1, 12, 12, 4), "float32")
    layer.build(images.shape)
    layer.kernel.assign(np.ones(layer.kernel.shape, "float32"))
    middle = keras.ops.convert_to_numpy(layer(images))[0, 5, 5]
    layout = layout_of(layer.kernel.shape, layer.kernel.path, layer)
    np.testing.assert_array_equal(middle, layout.fan_in)


class Inner(layers.Layer):
    """Keeps its layers in a list and a dict, and a weight of its own."""

    def __init__(self):
        super().__init__()
        self.many = [layers.Dense(3, name="first")]
        self.named = {"a": layers.Conv1DTranspose(3, 2, name="deconv")}

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")
        self.offset = self.add_weight(shape=(3, 2), name="offset")
        self.many[0].build((*shape[:-1], 3))
        self.named["a"].build(shape)

    def call(self, x):
        return self.many[0](x @ self.kernel)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize("create", [Inner, Subclassed])
def test_own_layers_and_models(create):
    model = create()
    model(np.ones((2, 5, 4), "float32"))
    found = {k.path.partition("inner/")[2]: k for k in kernels(model)}
    assert set(found) == {"kernel", "first/kernel", "deconv/kernel"}
    assert found["kernel"].layout == spelled((4, 3), "io")
    # from the layer, its name tells nothing
    assert found["deconv/kernel"].layout == spelled((2, 3, 4), "soi")


def test_nested_and_shared_layers_count_once():
    shared = layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, shared(layers.Dense(4)(shared(inputs))))
    outer = keras.Sequential([keras.Input((4,)), inner, shared, inner])
    found = kernels(outer)
    assert len(found) == 2
    assert sum(k.variable is shared.kernel for k in found) == 1


@pytest.mark.parametrize("freeze", [False, True])
def test_order_is_that_of_the_weights(freeze):
    model = keras.Sequential([layers.Dense(n, name=f"d{n}") for n in (3, 1, 2)])
    model.build((None, 4))
    model.layers[0].trainable = not freeze
    order = [w.path for w in model.weights if is_kernel(w.path)]
    assert [k.path for k in kernels(model)] == order
    assert len(order) == 3


@pytest.mark.parametrize(
    "create", [lambda: keras.Sequential([layers.Dense(3)]), Subclassed]
)
def test_unbuilt_model_says_how_to_build(create):
    model = create()
    with pytest.raises(ValueError, match=r"model\.build\(") as error:
        kernels(model)
    assert model.name in str(error.value)


@pytest.mark.parametrize("name", ("dw", "depthwise", "transpose"))
def test_a_matrix_is_dense_whatever_its_layer_is_called(name):
    layout = layout_of((4, 3), f"{name}/kernel")
    assert (layout.inputs, layout.outputs) == ((0,), (1,))
