"""What compaction has of a layer: its piece.

A piece belongs to one layer. It follows the channels through every call of the
layer (`trace`), says which channels of its inputs what is kept of its outputs
needs (`claim`), and makes the smaller layer (`rebuild`, `fill`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_bregman.compaction.channels import Channels, Classes


class Call(NamedTuple):
    """One call of a layer in the graph.

    Attributes:
        node: Keras' record of it.
        inputs: Per input tensor its channels, `None` where it has none.
    """

    node: Any
    inputs: list[Channels | None]

    @property
    def outputs(self):
        return self.node.output_tensors

    @property
    def only_input(self) -> Channels | None:
        """The channels of the one input; `None` if there are more."""
        return self.inputs[0] if len(self.inputs) == 1 else None


class Piece:
    """A layer that is left whole, and the base of those that are not.

    Args:
        layer: The layer, or an operation of `keras.ops`.
        classes: Of the whole graph.
        is_shared: Whether the graph calls the layer more than once.
    """

    note = "not known"

    def __init__(self, layer, classes: Classes, is_shared: bool = False):
        self.layer = layer
        self.classes = classes
        self.is_shared = is_shared

    def trace(self, call: Call) -> list[Channels | None]:
        """The channels of the outputs."""
        for channels in call.inputs:
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
        config = self._config()
        activation = getattr(self.layer, "activation", None)
        if "activation" in config and not is_layer(activation):
            config["activation"] = activation  # it may be a lambda
        try:
            return type(self.layer).from_config(config)
        except Exception as error:
            raise ValueError(
                f"Layer '{self.layer.name}' cannot be made a second time: "
                f"{type(self.layer).__name__}.from_config(get_config()) "
                f"fails. Complete its `get_config`. ({error})"
            ) from error

    def fill(self, layer) -> None:
        """Sets the weights of the new layer, when it is built."""
        if is_layer(layer):
            layer.set_weights(self.layer.get_weights())

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
    if "Transpose" in type(layer).__name__:
        return alone and all(n == 1 for n in layer.strides)
    return layer.padding == "valid" or alone


def name_of(activation):
    return getattr(activation, "__name__", type(activation).__name__)
