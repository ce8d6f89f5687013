"""What compaction has of a layer: its piece.

A piece belongs to one layer. It follows the channels through every call of the
layer (`trace`), says which channels of its inputs what is kept of its outputs
needs (`claim`), and makes the smaller layer (`rebuild`, `fill`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_bregman._graph import is_graph
from keras_bregman._keras import (
    ObjectSharingScope,
    SafeModeScope,
    own_weights,
    parts_of,
    seeds_of,
    sublayers,
)
from keras_bregman._layers import TRANSPOSED_LAYERS
from keras_bregman._paths import numbered, own_name
from keras_bregman._quantized import is_told_by_config
from keras_bregman._state import states_of
from keras_bregman.compaction.channels import Channels, Classes


class TracedCall(NamedTuple):
    """One call of a layer in the graph, and the channels that it is given.

    Attributes:
        tensors: The positional arguments, without masks and the like.
        inputs: Per tensor its channels, `None` where it has none.
        outputs: What came of it.
        kwargs: What it is given by name, masks that Keras passes on among it.
    """

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
        if not is_told_by_config(self.layer):
            raise ValueError(
                f"Layer '{self.layer.name}' cannot be made a second time: it "
                "is quantized to 'float8', or parts of it are quantized or "
                "have LoRA, and its `get_config` does not say so. Compact the "
                "model first, and quantize or adapt what comes of it."
            )
        if type(self.layer) is keras.layers.Lambda:
            return _same_lambda(self.layer)
        try:
            config = self._config()
            for name, value in config.items():
                # all weights are set, and values by position no longer fit
                if name.endswith("_initializer") and _holds_array(value):
                    config[name] = "zeros"
            activation = getattr(self.layer, "activation", None)
            if "activation" in config and not is_layer(activation):
                config["activation"] = activation  # it may be a lambda
            # a lambda in it is the user's own, and not from a file
            with SafeModeScope(False):
                made = type(self.layer).from_config(config)
        except Exception as error:
            raise _not_made(self.layer, error) from error
        made.name = self.layer.name  # a config of one's own may not tell it
        return made

    def fill(self, layer) -> None:
        """Sets the weights of the new layer, when it is built."""
        if not is_layer(layer):
            return
        layer.set_weights(self.layer.get_weights())
        parts = zip(sublayers(self.layer), sublayers(layer), strict=True)
        for old, new in parts:
            if hasattr(new, "set_vocabulary"):
                words = old.get_vocabulary(include_special_tokens=False)
                new.set_vocabulary(words, *_frequencies(old, len(words)))
            if isinstance(new, keras.layers.Normalization):  # once adapted
                new.finalize_state()
            states = zip(states_of(new), states_of(old), strict=True)
            draws = zip(seeds_of(new), seeds_of(old), strict=True)
            for state, value in (*states, *draws):
                state.assign(value)

    def _config(self):
        return self.layer.get_config()


def rebuild_tied(layers: list[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Layers that have weights in common, made anew, as Keras' files do it."""
    parts = [part for layer in layers for part in sublayers(layer)]
    known = {type(part).__name__: type(part) for part in parts}

    def each(function, given):
        made = []
        for layer, value in zip(layers, given, strict=True):
            try:
                made.append(function(value))
            except Exception as error:
                raise _not_made(layer, error) from error
        return made

    with ObjectSharingScope():
        configs = each(keras.saving.serialize_keras_object, layers)
    with ObjectSharingScope(), SafeModeScope(False):
        return each(
            lambda c: keras.saving.deserialize_keras_object(c, known), configs
        )


def check_tied(layers, made) -> None:
    """Raises ValueError unless the new ones share what the old ones do."""
    if _count(layers) != _count(made):
        raise ValueError(
            f"Layers {[layer.name for layer in layers]} have weights in "
            "common, and made from their `get_config` each has its own. Have "
            "it give the shared layer by `keras.saving.serialize_keras_object`."
        )


def check_apart(model, small) -> None:
    """Raises ValueError for a layer whose new one has weights of the old."""
    old = {id(weight) for weight in model.weights}
    for layer in small.layers:
        if any(id(weight) in old for weight in layer.weights):
            raise ValueError(
                f"Layer '{layer.name}' cannot be made a second time: its "
                "`get_config` gives a layer within it as it is, so that the "
                "new one would share it. Have it give "
                "`keras.saving.serialize_keras_object` of that."
            )


def keep_frozen(old, new) -> None:
    """Freezes in a layer or model what is frozen in the one it came of."""
    if new.trainable != old.trainable:
        new.trainable = old.trainable
    twins = _by_name(new)
    for name, weight in _by_name(old).items():
        if not weight.trainable and name in twins:
            twins[name].trainable = False
    if is_graph(old):
        pairs = [(layer, new.get_layer(layer.name)) for layer in old.layers]
    else:
        pairs = list(zip(parts_of(old), parts_of(new), strict=True))
    for pair in pairs:
        keep_frozen(*pair)


def _by_name(layer):
    weights = own_weights(layer)
    names = numbered(own_name(weight.path) for weight in weights)
    return dict(zip(names, weights, strict=True))


def _count(layers):
    return len({id(weight) for layer in layers for weight in layer.weights})


def _not_made(layer, error):
    return ValueError(
        f"Layer '{layer.name}' cannot be made a second time: "
        f"{type(layer).__name__}.from_config(get_config()) fails. Complete "
        "its `get_config`, and register what is your own in it by "
        f"`keras.saving.register_keras_serializable`. ({error})"
    )


def pinned(tensor) -> Channels | None:
    """Channels of a tensor all of which stay."""
    if len(tensor.shape) < 2 or tensor.shape[-1] is None:
        return None
    return Classes.pinned(tensor.shape[-1], len(tensor.shape) - 1)


def _same_lambda(layer):
    """With the function itself: by its code it would lose its globals."""
    new = keras.layers.Lambda(
        layer.function,
        layer._output_shape,
        layer.mask,
        layer.arguments,
        name=layer.name,
        dtype=layer.dtype_policy,
    )
    new.trainable = layer.trainable
    return new


def _frequencies(lookup, count):
    """Inverse document frequencies of a lookup's last words, if it has any."""
    lookup = getattr(lookup, "_lookup_layer", lookup)  # TextVectorization's
    if getattr(lookup, "output_mode", None) != "tf_idf":
        return ()
    first = len(lookup.get_vocabulary()) - count  # behind the special tokens
    weights = keras.ops.convert_to_numpy(lookup.idf_weights)
    return (weights[first : first + count],)


def _holds_array(initializer):
    """Whether a config is that of a `Constant` of one value per weight."""
    config = initializer.get("config") if isinstance(initializer, dict) else {}
    if not isinstance(config, dict):  # a function's name
        return False
    return not isinstance(config.get("value", 0), (int, float))


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
