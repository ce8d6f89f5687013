"""Which piece a layer gets."""

from __future__ import annotations

import keras

from keras_bregman._quantized import is_reparameterized
from keras_bregman.compaction import channelwise, joining, mixing
from keras_bregman.compaction.channels import Classes
from keras_bregman.compaction.elementwise import (
    IDENTITIES,
    LAYERS,
    OPERATIONS,
    is_elementwise,
)
from keras_bregman.compaction.piece import Piece, is_layer, may_mix


def piece_of(layer, classes: Classes, is_shared: bool, is_tied: bool) -> Piece:
    """The piece of a layer or of an operation of `keras.ops`.

    Args:
        layer: The layer or operation.
        classes: Of the whole graph.
        is_shared: Whether the graph calls it more than once.
        is_tied: Whether it has weights that other layers have as well.
    """
    cls = Piece if is_tied else _kind(layer)
    piece = cls(layer, classes, is_shared)
    if cls is Piece:
        piece.note = _why_whole(layer)
    if is_tied:
        piece.note = "shares weights with other layers"
    return piece


def _kind(layer):
    kind = type(layer)
    if not is_layer(layer):
        if not kind.__module__.startswith("keras."):
            return Piece
        if kind.__name__ in OPERATIONS:
            return channelwise.Elementwise
        # keras.ops.average is another thing
        joins = joining.Join.functions.keys() - {"Average"}
        return joining.Join if kind.__name__ in joins else Piece
    if is_reparameterized(layer) or _has_weights(layer):
        return Piece
    if getattr(layer, "noise_shape", None):  # names the channels' number
        return Piece
    if kind is keras.layers.Activation:
        return channelwise.Elementwise if is_elementwise(layer) else Piece
    if kind is keras.layers.MultiHeadAttention:
        return Piece if getattr(layer, "_use_gate", False) else mixing.Attention
    return _KINDS.get(kind, Piece)


def _has_weights(layer):
    """Whether its activation is a layer that was trained."""
    activation = getattr(layer, "activation", None)
    return bool(getattr(activation, "weights", ()))


def _why_whole(layer):
    kind = type(layer).__name__
    if isinstance(layer, keras.layers.InputLayer):
        return ""
    if isinstance(layer, keras.layers.Activation):
        return may_mix(layer.activation)
    is_wrapper = isinstance(layer, keras.layers.Wrapper)
    if "Normalization" in kind and not is_wrapper:
        return "normalizes over channels"
    if is_layer(layer) and is_reparameterized(layer):
        return "quantized, or with LoRA"
    return f"{kind}: not known"


_KINDS: dict[type, type[Piece]] = {
    keras.layers.BatchNormalization: channelwise.BatchNormalization,
    keras.layers.PReLU: channelwise.PReLU,
    keras.layers.Rescaling: channelwise.Rescaling,
    keras.layers.Flatten: channelwise.Flatten,
    keras.layers.Reshape: channelwise.Reshape,
    keras.layers.Dense: mixing.Dense,
    keras.layers.Embedding: mixing.Embedding,
    keras.layers.Concatenate: joining.Concatenate,
    **dict.fromkeys(IDENTITIES, channelwise.Channelwise),
    **dict.fromkeys(LAYERS, channelwise.Elementwise),
    **{
        getattr(keras.layers, name): joining.Join
        for name in joining.Join.functions
    },
    **{
        getattr(keras.layers, f"{name}{n}D"): cls
        for n in (1, 2, 3)
        for name, cls in (
            ("Conv", mixing.Convolution),
            ("DepthwiseConv", channelwise.Depthwise),
            ("SeparableConv", mixing.Separable),
            ("MaxPooling", channelwise.Pooling),
            ("GlobalMaxPooling", channelwise.Pooling),
            ("GlobalAveragePooling", channelwise.Pooling),
            ("AveragePooling", channelwise.Pooling),
            ("UpSampling", channelwise.Pooling),
            ("Cropping", channelwise.Pooling),
            ("ZeroPadding", channelwise.Padding),
        )
        if hasattr(keras.layers, f"{name}{n}D")
    },
    **{
        getattr(keras.layers, f"Conv{n}DTranspose"): mixing.Transposed
        for n in (1, 2, 3)
    },
}  # fmt: skip
