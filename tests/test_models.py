"""The networks: their published sizes, their paths, what they do to images."""

import functools

import keras
import numpy as np
import pytest

from experiments import models
from experiments.data import Inputs

pytestmark = pytest.mark.once

GRAY = Inputs((28, 28, 1), (0.25,), (0.5,))
COLOR = Inputs((32, 32, 3), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
INPUTS = {
    "mlp": GRAY,
    "convnet": GRAY,
    "resnet18": COLOR,
    "vgg13": COLOR,
    "vgg16": COLOR,
}
every_network = pytest.mark.parametrize("name", INPUTS)


def build(name, **options):
    return getattr(models, name)(INPUTS[name], **options)


@functools.cache
def tiny(name):
    """With one unit a layer; built once, since that takes its time."""
    return build(name, width=1e-3)


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        ("mlp", {}, 173_890),
        ("convnet", {}, 236_618),
        ("resnet18", {}, 11_173_962),
        ("vgg13", {}, 9_416_010),
        ("vgg13", {"batch_norm": False}, 9_410_122),
        ("vgg16", {}, 14_728_266),
        ("vgg16", {"batch_norm": False}, 14_719_818),
    ],
)
def test_number_of_parameters(name, options, published):
    assert trainable(build(name, **options)) == published


def test_width_multiplies_the_hidden_widths_only():
    assert trainable(build("mlp", width=0.5)) == (
        (784 + 1) * 100 + (100 + 1) * 40 + (40 + 1) * 10
    )
    # after two 5x5 convolutions and poolings 4x4 positions are left
    assert trainable(build("convnet", width=0.25)) == (
        (25 + 1) * 16 + (25 * 16 + 1) * 16 + (16 * 16 + 1) * 32 + (32 + 1) * 10
    )


@every_network
def test_a_hidden_layer_keeps_a_unit(name):
    kernels = [v for v in tiny(name).trainable_variables if v.name == "kernel"]
    assert {v.shape[-1] for v in kernels} == {1, 10}


@every_network
def test_paths_are_the_same_in_every_build(name):
    first = [v.path for v in tiny(name).variables]
    assert first == [v.path for v in build(name, width=1e-3).variables]
    assert len(set(first)) == len(first)


@every_network
def test_images_are_standardized_inside(name):
    inputs = INPUTS[name]
    model = tiny(name)
    images = np.random.default_rng(0).integers(
        0, 256, (5, *inputs.shape), "uint8"
    )
    standardize = keras.Model(
        model.input, model.get_layer("standardize").output
    )
    expected = (images / 255 - inputs.mean) / inputs.deviation
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(standardize(images)), expected, atol=1e-5
    )
    # and nothing else looks at the images
    readers = [n for n in model.layers if n.input is model.input]
    assert {layer.name for layer in readers} <= {"image", "standardize"}
    assert model.output.shape == (None, 10)


def convolved(x, kernel, strides, padding):
    """A convolution one output at a time, as published: even padding."""
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    n = (x.shape[1] - size) // strides + 1
    out = np.empty((len(x), n, n, kernel.shape[-1]))
    for i in range(n):
        for j in range(n):
            rows = slice(i * strides, i * strides + size)
            columns = slice(j * strides, j * strides + size)
            out[:, i, j] = np.tensordot(x[:, rows, columns], kernel, 3)
    return out


@pytest.mark.parametrize(
    ("first", "last", "strides", "padding"),
    [
        ("stem", "stem", 1, 1),
        ("stage2_block1_conv1_pad", "stage2_block1_conv1", 2, 1),
        ("stage2_block1_shortcut", "stage2_block1_shortcut", 2, 0),
    ],
)
def test_convolutions_pad_evenly(first, last, strides, padding):
    model = tiny("resnet18")
    part = keras.Model(
        model.get_layer(first).input, model.get_layer(last).output
    )
    x = np.random.default_rng(0).normal(size=(2, *part.input.shape[1:]))
    (kernel,) = part.get_weights()
    got = keras.ops.convert_to_numpy(part(x.astype("float32")))
    expected = convolved(x, kernel.astype("float64"), strides, padding)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-5)
