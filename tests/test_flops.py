"""The multiplications of a model, counted by hand beside."""

import keras
import numpy as np
import pytest

import keras_bregman as kb
from experiments import models
from experiments.data import Inputs

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def test_a_convolution_is_used_at_every_position():
    model = models.convnet(Inputs((28, 28, 1), (0.5,), (0.5,)))
    conv1, conv2 = 24 * 24 * 25 * 64, 8 * 8 * 25 * 64 * 64
    dense = 1024 * 128 + 128 * 10
    kernel = model.get_layer("conv2").kernel
    value = np.ones(kernel.shape)
    value[..., :16] = 0
    kernel.assign(value)
    assert kb.flops(model) == 2 * (conv1 + conv2 + dense)
    assert kb.flops(model) - kb.flops(model, zeros=False) == 2 * conv2 // 4


def test_a_transposed_convolution_is_one_by_any_name():
    class Up(keras.layers.Conv2DTranspose):
        pass

    def counted(cls):
        inputs = keras.Input((8, 8, 4))
        up = cls(6, 3, strides=2, padding="same")
        return kb.flops(keras.Model(inputs, up(inputs)))

    assert counted(Up) == counted(keras.layers.Conv2DTranspose)
    assert counted(Up) == 2 * 8 * 8 * 9 * 4 * 6


def test_a_layer_of_one_s_own_computes_where_its_output_is():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(5)

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x)

    x = keras.Input((7, 3))
    model = keras.Model(x, Block()(x))
    assert kb.flops(model) == 2 * 7 * 3 * 5
    kernel = np.ones((3, 5))
    kernel[0] = 0
    model.layers[1].dense.kernel.assign(kernel)
    assert kb.flops(model, zeros=False) == 2 * 7 * 2 * 5


def test_a_layer_computes_in_each_of_its_calls():
    layers = keras.layers
    inputs = keras.Input((9, 4))
    shared = layers.Dense(5)
    inner = keras.Sequential([keras.Input((7, 3)), layers.Conv1D(2, 3)])
    x = layers.Conv1D(3, 3)(inputs)
    x = layers.Concatenate()([inner(x), inner(x)])
    x = layers.Conv1DTranspose(4, 2, strides=2, use_bias=False)(x)
    x = layers.LSTM(6)(x)
    outputs = [shared(x), shared(x)]
    model = keras.Model(inputs, outputs)
    conv, twice, up = 7 * 3 * 4 * 3, 2 * 5 * 3 * 3 * 2, 5 * 2 * 4 * 4
    lstm, dense = 10 * (4 + 6) * 24, 2 * 6 * 5
    assert kb.flops(model) == 2 * (conv + twice + up + lstm + dense)


def _layer(layer, *shapes, **named):
    inputs = [keras.Input(shape) for shape in shapes]
    inputs += list(named.values())
    outputs = layer(*inputs[: len(shapes)], **named)
    return kb.flops(keras.Model(inputs, outputs)) // 2


def test_a_kernel_of_bounded_norm_is_used_as_without():
    layers = keras.layers
    up = layers.Conv2DTranspose(3, 2, strides=2)
    given = 5 * 5 * 4
    assert _layer(up, (5, 5, 4)) == given * 2 * 2 * 3
    bounded = layers.SpectralNormalization(layers.Conv2DTranspose(3, 2, 2))
    assert _layer(bounded, (5, 5, 4)) == given * 2 * 2 * 3


def test_a_sequence_is_read_step_by_step():
    layers = keras.layers
    lstm = 20 * (4 + 6) * 24
    assert _layer(layers.Bidirectional(layers.LSTM(6)), (20, 4)) == 2 * lstm
    many = layers.TimeDistributed(layers.LSTM(6))
    assert _layer(many, (5, 20, 4)) == 5 * lstm
    up = layers.TimeDistributed(layers.Conv2DTranspose(3, 3, strides=2))
    assert _layer(up, (5, 8, 8, 2)) == 5 * 64 * 9 * 6
    inner = keras.Sequential([keras.Input((8, 2)), layers.Conv1D(3, 3)])
    assert _layer(layers.TimeDistributed(inner), (5, 8, 2)) == 5 * 6 * 18
    step = 9 * (3 + 4) * 16
    conv = layers.ConvLSTM2D(4, 3)
    assert _layer(conv, (10, 8, 8, 3)) == 10 * 36 * step
    conv = layers.ConvLSTM2D(
        4, 3, strides=2, padding="same", return_sequences=True
    )
    assert _layer(conv, (10, 8, 8, 3)) == 10 * 16 * step


def test_a_model_within_has_the_axes_that_it_is_given():
    layers = keras.layers
    image = keras.Input((None, None, 3))
    conv = layers.Conv2D(4, 3, padding="same")(image)
    half = layers.Conv2D(4, 3, strides=2, padding="same")(conv)
    both = layers.Add()([half, layers.AveragePooling2D(2)(conv)])
    open_model = keras.Model(image, both)
    assert kb.flops(open_model) == 2 * (108 + 144)

    def wanted(side):
        return side**2 * 108 + (side // 2) ** 2 * 144

    small, large = keras.Input((8, 8, 3)), keras.Input((16, 16, 3))
    deep = keras.Sequential([keras.Input((None, None, 3)), open_model])
    model = keras.Model([small, large], [open_model(small), deep(large)])
    assert kb.flops(model) == 2 * (wanted(8) + wanted(16))
    films = layers.TimeDistributed(open_model)
    assert _layer(films, (5, 8, 8, 3)) == 5 * wanted(8)


def test_a_model_within_is_given_a_dict():
    layers = keras.layers
    words, notes = keras.Input((None, 4)), keras.Input((None, 3))
    read = [layers.Dense(5)(words), layers.Dense(2)(notes)]
    inner = keras.Model({"words": words, "notes": notes}, read)
    given = {"words": keras.Input((10, 4)), "notes": keras.Input((6, 3))}
    for outputs in (inner(given), inner(inputs=given)):
        model = keras.Model(given, outputs)
        assert kb.flops(model) == 2 * (10 * 20 + 6 * 6)


@pytest.mark.once
def test_a_backbone_from_keras_applications():
    net = keras.applications.MobileNetV2
    settings = {"alpha": 0.35, "include_top": False, "weights": None}
    alone = net(input_shape=(64, 64, 3), **settings)
    image = keras.Input((64, 64, 3))
    within = keras.Model(image, net(**settings)(image))
    assert kb.flops(within) == kb.flops(alone) > 2e6


@pytest.mark.once
def test_einsum_and_attention():
    layers = keras.layers
    dense = layers.EinsumDense("abc,cde->abde", (None, 3, 5))
    assert _layer(dense, (20, 4)) == 20 * 4 * 15
    dense = layers.EinsumDense("...c,cd->...d", 6)
    assert _layer(dense, (7, 5, 4)) == 35 * 24
    dense = layers.EinsumDense("abc,bcd->abd", (5, 6))
    assert _layer(dense, (5, 4)) == 5 * 4 * 6
    projection = 8 * 2 * 4
    attention = layers.MultiHeadAttention(2, 4)
    assert _layer(attention, (10, 8), (50, 8)) == (2 * 10 + 2 * 50) * projection
    value, key = keras.Input((50, 8)), keras.Input((50, 8))
    attention = layers.MultiHeadAttention(2, 4)
    made = _layer(attention, (10, 8), value=value, key=key)
    assert made == (2 * 10 + 2 * 50) * projection
    over_images = layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))
    assert _layer(over_images, (6, 7, 8), (6, 7, 8)) == 4 * 42 * projection
    grouped = layers.GroupQueryAttention(4, 4, 2)
    wanted = 2 * 10 * 8 * 16 + 2 * 50 * 8 * 8
    assert _layer(grouped, (10, 8), (50, 8)) == wanted


def test_no_flops_without_a_graph():
    model = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must be a built functional"):
        kb.flops(model)
