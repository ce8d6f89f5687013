"""How many multiplications and additions a model makes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_bregman._checks import check_flag
from keras_bregman._graph import Call, check_graph, is_graph, layers_of
from keras_bregman._keras import sublayers
from keras_bregman._layers import ATTENTION_LAYERS, TRANSPOSED_LAYERS
from keras_bregman._quantized import is_packed, multiplied_by, refuse_packed
from keras_bregman.kernels import einsum_axes, is_kernel


def flops(model: keras.Model, *, zeros: bool = True) -> int:
    """Multiplications and additions by kernels for one example.

    Two a kernel entry and position where the kernel is used: of an image, a
    sequence, or another axis that it does not run over. Biases, normalization,
    activations, and the products of activations within attention do not
    count. An axis of unknown length counts as 1. Of a custom layer that holds
    other layers only the output is known: their kernels count once a position
    of it.

    Args:
        model: A built functional or Sequential model.
        zeros: Whether entries that are 0 count, as they do for all who
            multiply with them: of what the layer multiplies by, with LoRA the
            sum.

    Raises:
        ValueError: If the model is something else; without zeros, for a layer
            quantized so that its entries share bytes.
    """
    check_graph(model)
    return 2 * _multiplications_of_graph(model, check_flag("zeros", zeros))


def flops_of(layer: keras.layers.Layer, calls: Sequence[Call]) -> int:
    """`flops` of one layer, in all of its calls, zeros included."""
    return 2 * _multiplications_in(layer, calls, True)


def _multiplications_of_graph(model, zeros, inputs=None):
    layers = layers_of(model, inputs=inputs).values()
    return sum(_multiplications_in(*entry, zeros) for entry in layers)


def _multiplications_in(layer, calls, zeros):
    return sum(
        _multiplications(
            layer,
            [tensor.shape for tensor in _arguments(layer, call)],
            call.output.shape,
            zeros,
        )
        for call in calls
    )


def _multiplications(layer, inputs, output, zeros):
    """Multiplications of a call, from the shapes that go in and come out."""
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = [shape[:1] + shape[2:] for shape in inputs]
        if is_graph(layer.layer):
            given = [keras.KerasTensor(shape) for shape in inner]
            once = _multiplications_of_graph(layer.layer, zeros, given)
        else:
            shape = output[:1] + output[2:]
            once = _multiplications(layer.layer, inner, shape, zeros)
        return _length(inputs[0]) * once
    if isinstance(layer, keras.layers.Bidirectional):
        both = (layer.forward_layer, layer.backward_layer)
        return sum(
            _multiplications(part, inputs, output, zeros) for part in both
        )
    if isinstance(layer, keras.layers.SpectralNormalization):
        return _multiplications(layer.layer, inputs, output, zeros)
    owners = {
        id(getattr(part, "_kernel", None)): part for part in sublayers(layer)
    }
    return sum(
        _positions(layer, weight, inputs, output)
        * _size(owners.get(id(weight), layer), weight, zeros)
        for weight in layer.weights
        if is_kernel(weight.path)
    )


def _positions(layer, weight, inputs, output):
    """How often a kernel is used in a call."""
    if isinstance(layer, ATTENTION_LAYERS):
        # positions of query, value and key
        read = {"value": 1, "key": 2}.get(weight.path.split("/")[-2], 0)
        return _product(inputs[read][1:-1])
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum_positions(layer, inputs[0])
    first = getattr(layer, "data_format", "") == "channels_first"
    if isinstance(layer, keras.layers.RNN):
        # a convolution at every step; or one use
        rank = len(weight.shape) - 2
        end = len(output) - (not first)
        return _length(inputs[0]) * _product(output[end - rank : end])
    # a transposed convolution uses its kernel where it reads
    shape = inputs[0] if isinstance(layer, TRANSPOSED_LAYERS) else output
    return _product(shape[2:] if first else shape[1:-1])


def _einsum_positions(layer, shape):
    """The axes that are in the input and not in the kernel, but the batch."""
    given, kernel, _ = einsum_axes(layer)
    # an ellipsis stands for all that the others do not name
    before, dots, after = given.partition("...")
    unnamed = shape[len(before) : len(shape) - len(after)] if dots else ()
    named = [*zip(before, shape, strict=False)]
    if after:
        named += zip(after, shape[-len(after) :], strict=True)
    others = [n for label, n in named[1:] if label not in kernel]
    # without a name of its own, the first of the unnamed is the batch
    return _product([*others, *(unnamed if before else unnamed[1:])])


def _arguments(layer, call):
    """The tensors that a layer reads, attention's by their parts."""
    if not isinstance(layer, ATTENTION_LAYERS):
        return call.inputs
    signature = inspect.signature(layer.call)
    given = signature.bind(*call.args, **call.kwargs).arguments
    key = given.get("key")
    return [
        given["query"],
        given["value"],
        given["value"] if key is None else key,
    ]


def _size(layer, kernel, zeros):
    if zeros:
        return math.prod((layer.kernel if is_packed(layer) else kernel).shape)
    refuse_packed(layer)
    value = keras.ops.convert_to_numpy(multiplied_by(layer, kernel))
    return int(np.count_nonzero(value))


def _length(shape):
    return shape[1] or 1


def _product(axes):
    return math.prod(n or 1 for n in axes)
