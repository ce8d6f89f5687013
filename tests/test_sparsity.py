"""Density is counted exactly, over kernels and nothing else."""

from functools import partial

import keras
import ml_dtypes
import numpy as np
import pytest
from helpers import compiled, train
from keras import layers

import keras_bregman as kb
from keras_bregman import density
from keras_bregman.kernels import kernels
from keras_bregman.sparsity import Count, count, total


def sequential(shape, *stack):
    return keras.Sequential([keras.Input(shape), *stack])


def dense(kernel):
    """A model whose only kernel holds these numbers."""
    kernel = np.asarray(kernel)
    model = sequential(
        (kernel.shape[0],),
        layers.Dense(kernel.shape[1], dtype=str(kernel.dtype), name="dense"),
    )
    model.layers[0].kernel.assign(kernel)
    return model


def float32(numbers):
    return np.array(numbers, "float32")


@pytest.mark.parametrize(
    "number, counts",
    [
        (1.0, True),
        (-1e-7, True),
        (1e-40, True),
        (-1e-45, True),
        (np.inf, True),
        (0.0, False),
        (-0.0, False),
    ],
)
def test_only_zero_is_zero(number, counts):
    model = dense(float32([[number, 0, 1], [0, -0.0, 2]]))
    (only,) = count(model)
    assert (only.nonzero, only.size) == (2 + counts, 6)
    assert (only.dead_units, only.units) == (2 - counts, 3)
    assert density(model) == only.density == (2 + counts) / 6


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_low_precision(dtype):
    smallest = ml_dtypes.finfo(dtype).smallest_subnormal
    kernel = np.array([[smallest, 0, 1], [-0.0, 0, -2]], dtype)
    (only,) = count(dense(kernel))
    assert only == Count("sequential/dense/kernel", (2, 3), 3, 6, 1, 3)


def test_float64(float64):
    (only,) = count(dense(np.array([[1e-300, 0, 1], [0, 5e-324, 0]])))
    assert (only.nonzero, only.dead_units) == (3, 0)


def test_of_one_entry_in_many():
    kernel = np.zeros((3000, 1000), "float32")
    kernel[1234, 567] = 1e-30
    model = dense(kernel)
    assert density(model) == 1 / 3_000_000
    assert count(model)[0].dead_units == 999


def mixed():
    """Convolutions and more, with numbers that can be counted by hand."""
    model = sequential(
        (8, 8, 2),
        layers.Conv2D(3, 2, name="conv"),
        layers.BatchNormalization(),
        layers.PReLU(),
        layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise"),
        layers.LayerNormalization(),
        layers.Flatten(),
        layers.Dense(2, bias_initializer="ones", name="dense"),
    )
    conv = np.zeros((2, 2, 2, 3), "float32")
    conv[0, 1, 1, 0] = conv[1, 1, 0, 0] = 1  # 2 of 24, units 1 and 2 dead
    depthwise = np.ones((2, 2, 3, 2), "float32")
    depthwise[:, :, 1, 0] = 0  # 20 of 24, 1 of 6 units dead
    depthwise[:, 0, 2, 1] = 0  # 18 of 24, none more
    full = np.zeros((216, 2), "float32")
    full[:27, 1] = -1  # 27 of 432, unit 0 dead
    for name, kernel in (
        ("conv", conv),
        ("depthwise", depthwise),
        ("dense", full),
    ):
        model.get_layer(name).kernel.assign(kernel)
    return model


def test_counts_kernels_only():
    assert count(mixed()) == [
        Count("sequential/conv/kernel", (2, 2, 2, 3), 2, 24, 2, 3),
        Count("sequential/depthwise/kernel", (2, 2, 3, 2), 18, 24, 1, 6),
        Count("sequential/dense/kernel", (216, 2), 27, 432, 1, 2),
    ]
    assert total(count(mixed())) == Count("total", (), 47, 480, 4, 11)
    assert density(mixed()) == 47 / 480


def test_embeddings_and_biases_do_not_count():
    model = sequential((5,), layers.Embedding(7, 3), layers.Dense(2))
    embeddings, kernel, bias = model.weights
    embeddings.assign(np.zeros((7, 3)))
    bias.assign(np.zeros(2))
    kernel.assign(np.ones((3, 2)))
    assert density(model) == 1


def test_frozen_layers_count():
    model = mixed()
    model.trainable = False
    assert density(model) == 47 / 480
    model.trainable = True
    model.get_layer("conv").trainable = False
    assert density(model) == 47 / 480


def test_shared_layers_count_once():
    shared = layers.Dense(4, name="shared")
    inner = sequential((4,), shared, layers.Dense(4, name="inner"))
    model = sequential((4,), shared, inner, inner, shared)
    shared.kernel.assign(np.zeros((4, 4)))
    inner.get_layer("inner").kernel.assign(np.eye(4))
    assert density(model) == 4 / 32
    assert len(count(model)) == 2


@pytest.mark.parametrize(
    "layer, shape, kernels, units",
    [
        (layers.Conv2DTranspose(3, 2), (4, 4, 2), 1, 3),
        (layers.SeparableConv1D(3, 2, depth_multiplier=2), (8, 4), 2, 8 + 3),
        (layers.LSTM(3), (8, 4), 2, 12 + 12),
        (layers.Bidirectional(layers.GRU(3)), (8, 4), 4, 4 * 9),
        (layers.EinsumDense("ab,cb->ac", 3), (4,), 1, 3),
    ],
)
def test_units_of_other_layers(layer, shape, kernels, units):
    model = sequential(shape, layer)
    counts = count(model)
    assert len(counts) == kernels
    assert total(counts).units == units
    assert total(counts).dead_units == 0
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    assert total(count(model)).dead_units == units


def test_units_of_attention():
    x = keras.Input((8, 6))
    model = keras.Model(x, layers.MultiHeadAttention(2, 3)(x, x))
    assert [c.units for c in count(model)] == [6, 6, 6, 6]


def test_of_one_layer():
    model = mixed()
    assert density(model.get_layer("dense")) == 27 / 432


@pytest.mark.parametrize("measure", [density, count, kb.summary])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_is_named(measure, dtype):
    model = sequential(
        (2,),
        layers.Dense(2, dtype=dtype, name="good"),
        layers.Dense(2, dtype=dtype, name="bad"),
    )
    model.get_layer("bad").kernel.assign(float32([[1, 0], [np.nan, 0]]))
    with pytest.raises(FloatingPointError, match="'sequential/bad/kernel'"):
        measure(model)


def test_nan_elsewhere_does_not_matter():
    model = dense(np.eye(2, dtype="float32"))
    model.layers[0].bias.assign(float32([np.nan, 0]))
    assert density(model) == 0.5


def test_a_model_of_models_without_a_call():
    class Pair(keras.Model):
        def __init__(self, *parts):
            super().__init__()
            self.one, self.other = parts

    parts = [dense(np.eye(4, 4, dtype="float32")) for _ in range(2)]
    assert density(Pair(*parts)) == 0.25
    with pytest.raises(ValueError, match="Build it first"):
        density(Pair(parts[0], layers.Dense(3)))


@pytest.mark.parametrize("measure", [density, count, kb.summary])
def test_models_that_cannot_be_measured(measure):
    with pytest.raises(ValueError, match=r"Build it first.*model\.build\("):
        measure(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match=r"no kernel.*embedding/embeddings"):
        measure(sequential((8,), layers.Embedding(9, 3)))


@pytest.mark.skipif(
    not hasattr(keras.quantizers, "unpack_int4"), reason="needs int4 in Keras"
)
def test_what_is_quantized():
    def quantized(mode):
        model = dense(np.eye(6, 5, dtype="float32"))
        model.quantize(mode)
        assert kb.flops(model) == 2 * 30
        return model

    model = quantized("int8")
    assert density(model) == 5 / 30
    assert kb.flops(model, zeros=False) == 2 * 5
    model = quantized("int4")  # two weights a byte
    for measure in (density, kb.summary, partial(kb.flops, zeros=False)):
        with pytest.raises(ValueError, match=r"'int4'.*before it is quantized"):
            measure(model)
    words = keras.Input((7,), dtype="int32")
    embedding = layers.Embedding(9, 8)  # which does not count
    x = layers.Flatten()(embedding(words))
    model = keras.Model(words, layers.Dense(4)(x))
    embedding.quantize("int4")
    assert density(model) == 1


def test_what_was_regularized_before_it_was_quantized_is_gone():
    model = compiled(kb.AdaBreg(0.03, 0.05))
    train(model)
    assert 0 < kb.density(model, of="regularized") <= 1
    model.quantize("int8")
    with pytest.raises(ValueError, match="the model was quantized since"):
        kb.density(model, of="regularized")


def test_parts_that_are_quantized():
    x = keras.Input((10, 8))
    attend = layers.MultiHeadAttention(2, 4)
    model = keras.Model(x, attend(x, x))
    before = kb.flops(model)
    for part in (attend._query_dense, attend._output_dense):
        part.quantize("int8")
    assert kb.flops(model) == before
    if hasattr(keras.quantizers, "unpack_int4"):
        attend._key_dense.quantize("int4")
        assert kb.flops(model) == before
        with pytest.raises(ValueError, match="'key' cannot be counted"):
            kb.flops(model, zeros=False)


def test_with_lora_a_kernel_is_what_its_layer_multiplies_by(tmp_path):
    dense = layers.Dense(5)
    einsum = layers.EinsumDense("ab,cb->ac", 4)
    model = sequential((6,), dense, einsum)
    for layer in (dense, einsum):
        layer.kernel.assign(np.eye(*layer.kernel.shape))
    layouts = [kernel.layout for kernel in kernels(model)]
    for layer in (dense, einsum):
        layer.enable_lora(1)
    assert density(model) == 9 / 50  # the product is 0 at first
    dense.lora_kernel_a.assign([[1], [1], [0], [0], [0], [0]])
    dense.lora_kernel_b.assign([[0, 0, 0, 0, 1]])
    assert density(model) == 11 / 50
    assert kb.flops(model, zeros=False) == 2 * 11
    assert [kernel.layout for kernel in kernels(model)] == layouts
    assert [c.dead_units for c in count(model)] == [0, 0]
    model.save(tmp_path / "model.keras")  # where Keras adds it for good
    assert density(keras.models.load_model(tmp_path / "model.keras")) == 11 / 50


def test_what_cannot_be_counted_is_said_before_training():
    model = keras.Sequential([keras.Input((3,)), layers.Activation("relu")])
    model.compile("sgd", "mse")
    epochs = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epochs.append(epoch)
    )
    x = np.zeros((2, 3), "float32")
    for callback in (kb.callbacks.SparsityLogger(), kb.callbacks.LiveView()):
        with pytest.raises(ValueError, match="no kernel"):
            model.fit(x, x, verbose=0, callbacks=[count, callback])
    assert not epochs


TABLE = """\
kernel                         shape  weights  non-zero  density  dead units
---------------------------  -------  -------  --------  -------  ----------
sequential/conv/kernel       2x2x2x3       24         2    8.33%       2 / 3
sequential/depthwise/kernel  2x2x3x2       24        18   75.00%       1 / 6
sequential/dense/kernel        216x2      432        27    6.25%       1 / 2
total                                     480        47    9.79%      4 / 11"""


def test_summary(capsys):
    texts = []
    model = mixed()
    kb.summary(model, print_fn=texts.append)
    assert texts == [TABLE]
    kb.summary(model)
    assert capsys.readouterr().out == TABLE + "\n"


def test_summary_of_large_kernels(capsys):
    kb.summary(dense(np.eye(1200, dtype="float32")))
    last = capsys.readouterr().out.splitlines()[-1]
    assert " ".join(last.split()) == "total 1,440,000 1,200 0.08% 0 / 1,200"
