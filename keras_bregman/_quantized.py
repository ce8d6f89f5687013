"""Layers that Keras has quantized or given LoRA."""

from __future__ import annotations

from typing import Any

from keras_bregman._keras import sublayers
from keras_bregman._layers import ATTENTION_LAYERS

# modes of Keras' quantization
_PACKED = ("int4", "gptq", "awq")


def is_packed(layer) -> bool:
    """Whether a layer is quantized so that entries of its kernel share bytes.

    Its `kernel` then is not the variable, and 0 need not be stored as 0.
    """
    return getattr(layer, "quantization_mode", None) in _PACKED


def refuse_packed(layer) -> None:
    """Raises ValueError for a layer whose zeros cannot be counted."""
    if is_packed(layer):
        raise ValueError(
            f"The zeros of layer '{layer.name}' cannot be counted: it is "
            f"quantized to {layer.quantization_mode!r}, where weights share "
            "bytes. Count, draw or sparsify the model before it is quantized, "
            "or quantize it to 'int8'."
        )


def multiplied_by(layer, kernel) -> Any:
    """What a layer multiplies by, a variable or a tensor.

    The kernel, but for a layer that makes another of it: with LoRA, whose
    product is added, or in somebody's own property `kernel`.
    """
    is_made = getattr(layer, "_kernel", None) is kernel
    # to what is quantized Keras adds after the multiplication
    if is_made and not getattr(layer, "quantization_mode", None):
        return layer.kernel
    return kernel


def is_reparameterized(layer) -> bool:
    """Whether a layer or a part of it is quantized, or has LoRA."""
    return any(
        getattr(part, "quantization_mode", None)
        or getattr(part, "lora_enabled", False)
        for part in sublayers(layer)
    )


def is_told_by_config(layer) -> bool:
    """Whether Keras makes the same weights of a layer's `get_config`.

    Not in float8, where it has them in another order, and not of attention
    whose parts were quantized or given LoRA.
    """
    if isinstance(layer, ATTENTION_LAYERS):
        return not is_reparameterized(layer)
    return getattr(layer, "quantization_mode", None) != "float8"
