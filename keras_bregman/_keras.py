"""What the package reaches in Keras without its promise.

What Keras documents is called where it is needed; this is the rest, to be
looked through when a new version comes, and with it what is reached elsewhere:
methods of the optimizer that `stepping` and `base_optimizer` override, the list
of callbacks in `callbacks._list`, `_kernel` of layers with LoRA in `kernels`,
`multiplications` and `_quantized`, parts of attention in `compaction.kinds` and
`compaction.mixing`, of lambdas and lookups in `compaction.remaking`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src.saving.serialization_lib import (
    ObjectSharingScope,
    SafeModeScope,
)

__all__ = ["ObjectSharingScope", "SafeModeScope"]


@contextlib.contextmanager
def without_functions() -> Iterator[None]:
    """Has TensorFlow run or trace into its functions, rather than call them."""
    if keras.config.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def signs_without_bits() -> Iterator[None]:
    """Has `argmax` and `argmin` take no bits apart, which few runtimes can.

    On TensorFlow Keras reads the sign of a zero off its bits, so that -0 is
    less than 0. Between the two the first is then as good as the other.
    """
    from keras.src.backend.tensorflow import numpy

    before = numpy.signbit
    numpy.signbit = lambda x: x < 0
    try:
        yield
    finally:
        numpy.signbit = before


def sublayers(
    layer: keras.layers.Layer, include_self: bool = True
) -> Iterable[keras.layers.Layer]:
    """A layer or model and all within it, at any depth."""
    return layer._flatten_layers(include_self=include_self)


def own_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """A layer's weights without those of the layers within it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def parts_of(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer is made of, without theirs."""
    return layer._flatten_layers(include_self=False, recursive=False)


def producer(tensor) -> Any:
    """The layer or operation that a symbolic tensor comes from, if any."""
    history = getattr(tensor, "_keras_history", None)
    return history and history.operation


def readers(tensor) -> list:
    """The layers and operations that a symbolic input goes into."""
    return [node.operation for node in producer(tensor)._outbound_nodes]


def why_not_loaded(error: Exception) -> str:
    """What Keras says of a model that it cannot load, without the config."""
    innermost = str(error).rpartition("Exception encountered: ")[2]
    return innermost.partition("Full object config")[0].rstrip(". \n")


def has_nodes(model) -> bool:
    """Whether a model keeps a graph of layers, as `nodes_of` gives it."""
    return hasattr(model, "_nodes_by_depth")


def nodes_of(graph) -> list:
    """Every call of a layer in a functional model, from the inputs on."""
    return [
        node
        for depth in sorted(graph._nodes_by_depth, reverse=True)
        for node in graph._nodes_by_depth[depth]
    ]


def graph_of(model):
    """The functional model that holds the graph of a Sequential one."""
    return getattr(model, "_functional", model)


def has_mask(tensor) -> bool:
    """Whether a symbolic tensor carries a mask."""
    return getattr(tensor, "_keras_mask", None) is not None


def seeds_of(layer) -> list[keras.Variable]:
    """The states of a layer's own generators of random numbers."""
    return [generator.state for generator in layer._seed_generators]


def has_schedule(optimizer) -> bool:
    """Whether an optimizer's learning rate is a schedule or a callable."""
    return not isinstance(optimizer._learning_rate, keras.Variable)
