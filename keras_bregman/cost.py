"""What a model has to compute."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_bregman._checks import check_all
from keras_bregman._graph import is_graph, layers_of


def flops(model: keras.Model, zeros: bool = True) -> int:
    """Multiplications and additions by kernels for one example.

    Two a kernel entry and position where the kernel is used. Biases,
    normalization, activations, and the products of activations within
    attention do not count. An axis of unknown length counts as 1.

    Args:
        model: A built functional or Sequential model.
        zeros: Whether entries that are 0 count, as they do for all who
            multiply with them.

    Raises:
        ValueError: If the model is something else.
    """
    check_all(
        (
            "model",
            model,
            is_graph(model),
            "a built functional or Sequential model, with a `keras.Input`",
        )
    )
    return sum(
        flops_of(layer, nodes, zeros)
        for layer, nodes in layers_of(model).values()
    )


def flops_of(layer: keras.layers.Layer, nodes: Sequence, zeros=True) -> int:
    """Those of one layer, in all of its calls."""
    kernels = [w for w in layer.weights if w.path.endswith("kernel")]
    sizes = [_size(kernel, zeros) for kernel in kernels]
    return 2 * sum(_positions(layer, node) * sum(sizes) for node in nodes)


def _size(kernel, zeros):
    if zeros:
        return math.prod(kernel.shape)
    return int(np.count_nonzero(keras.ops.convert_to_numpy(kernel)))


def _positions(layer, node):
    """How often a kernel is used in a call."""
    # a kernel is used where it is read, or else where it is written
    reads = isinstance(layer, keras.layers.RNN) or (
        "Transpose" in type(layer).__name__
    )
    shape = (node.input_tensors if reads else node.output_tensors)[0].shape
    first = getattr(layer, "data_format", "") == "channels_first"
    spatial = shape[2:] if first else shape[1:-1]
    return math.prod(n or 1 for n in spatial)
