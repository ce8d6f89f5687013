"""What compaction has of a layer: its piece.

A piece belongs to one layer. It follows the channels through every call of the
layer (`trace`), says which channels of its inputs what is kept of its outputs
needs (`claim`), and makes the smaller layer (`rebuild`, `fill`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_bregman._layers import TRANSPOSED_LAYERS
from keras_bregman.compaction.channels import Channels, Classes
from keras_bregman.compaction.remaking import copy_weights, remade


class TracedCall(NamedTuple):
    """One call of a layer in the graph, and the channels that it is given.

    Attributes:
        args: The positional arguments, flat.
        tensors: The tensors of these, without masks and the like.
        inputs: Per tensor its channels, `None` where it has none.
        outputs: What came of it.
        kwargs: What it is given by name, masks that Keras passes on among it.
    """

    args: list[Any]
    tensors: list[Any]
    inputs: list[Channels | None]
    outputs: list[Any]
    kwargs: dict[str, Any]

    def only_input(self, axis: int | None = None) -> Channels | None:
        """The channels of the one input, on an axis; `None` if not so.

        A tensor all of whose channels stay has them on any axis.
        """
        if len(self.inputs) != 1:
            return None
        (channels,), (tensor,) = self.inputs, self.tensors
        if channels is not None and axis in (None, channels.axis):
            return channels
        is_free = channels is None or (
            channels.live.all() and not channels.atoms.any()
        )
        if not is_free or axis is None or axis >= len(tensor.shape):
            return None
        n = tensor.shape[axis]
        return None if n is None else Classes.pinned(n, axis)


class Piece:
    """A layer that is left whole, and the base of those that are not.

    Args:
        layer: The layer, or an operation of `keras.ops`.
        classes: Of the whole graph.
        is_shared: Whether the graph calls the layer more than once.
    """

    note = ""  # why it is left whole, if so
    holds = False  # for that, channels which might have left without it

    # a call was not what the piece knows: the layer stays whole for all
    is_whole = False
    # what is left may be cut further: one group is an ordinary convolution
    changes_groups = False

    def __init__(self, layer, classes: Classes, is_shared: bool):
        self.layer = layer
        self.classes = classes
        self.is_shared = is_shared

    def trace(self, call: TracedCall) -> list[Channels | None]:
        """The channels of the outputs."""
        for channels in call.inputs:
            self.holds |= channels is not None and bool(channels.atoms.any())
            self.classes.pin(channels)
        return [pinned(t) for t in call.outputs]

    def claim(self) -> bool:
        """Keeps what the outputs need; says whether any of it is new."""
        return False

    def claim_carrier(self) -> bool:
        """Likewise a constant that stands for others; asked for last."""
        return False

    def rebuild(self):
        """A new layer, not built, of the size that stays."""
        if not is_layer(self.layer):
            return self.layer
        return remade(self.layer, self._config)

    def fill(self, layer) -> None:
        """Sets the weights of the new layer, when it is built."""
        if is_layer(layer):
            copy_weights(self.layer, layer)

    def _config(self):
        return self.layer.get_config()


def pinned(tensor) -> Channels | None:
    """Channels of a tensor all of which stay."""
    if len(tensor.shape) < 2 or tensor.shape[-1] is None:
        return None
    return Classes.pinned(tensor.shape[-1], len(tensor.shape) - 1)


def is_layer(thing):
    return isinstance(thing, keras.layers.Layer)


def numpy_of(variable) -> np.ndarray:
    """A weight, in float32 where it is of less precision."""
    value = np.asarray(keras.ops.convert_to_numpy(variable))
    return value.astype("float32") if value.itemsize < 4 else value


def kernel_of(variable):
    """A kernel with its positions as one axis."""
    value = numpy_of(variable)
    return value.reshape(-1, *value.shape[-2:])


def bias_of(layer, n):
    bias = layer.bias
    return np.zeros(n) if bias is None else numpy_of(bias).astype(float)


def data_axis(layer, tensor):
    """The axis of the channels by the layer's data format."""
    if getattr(layer, "data_format", "") == "channels_first":
        return 1
    return len(tensor.shape) - 1


def is_uniform(layer):
    """Whether a constant input makes a constant output, borders included."""
    if isinstance(layer, keras.layers.Dense):
        return True
    alone = all(n == 1 for n in layer.kernel_size)
    if isinstance(layer, TRANSPOSED_LAYERS):
        return alone and all(n == 1 for n in layer.strides)
    return layer.padding == "valid" or alone


def may_mix(activation) -> str:
    """What is noted of an activation that is not known entry by entry."""
    name = getattr(activation, "__name__", type(activation).__name__)
    return f"{name} may mix its outputs"
