"""Functions that treat every entry alike, and their value at a constant."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

_ACTIVATIONS = {
    getattr(keras.activations, name)
    for name in (
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softplus",
        "softsign",
        "sparse_plus",
        "squareplus",
        "tanh",
        "tanh_shrink",
        "threshold",
    )
}
LAYERS: tuple[type, ...] = (
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
)
# at inference
IDENTITIES: tuple[type, ...] = (
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
OPERATIONS = {
    "Absolute",
    "Celu",
    "Elu",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSilu",
    "HardTanh",
    "LeakyRelu",
    "LogSigmoid",
    "Mish",
    "Negative",
    "Relu",
    "Relu6",
    "Selu",
    "Sigmoid",
    "Silu",
    "Softplus",
    "Softsign",
    "Square",
    "Squareplus",
    "Tanh",
}


def is_elementwise(activation) -> bool:
    """Whether an `activation=` treats every entry alike, as softmax does not.

    Of a function of the user's own nobody knows.
    """
    if isinstance(activation, keras.layers.Activation):
        return is_elementwise(activation.activation)
    # somebody's own need not be hashable
    known = any(activation is a for a in _ACTIVATIONS)
    return known or type(activation) in LAYERS


def at_constants(function, values: np.ndarray, dtype) -> np.ndarray:
    """What an elementwise function makes of channels that are constant.

    Args:
        function: Maps tensors to tensors.
        values: Per channel; NaN stays NaN.
        dtype: Of the tensors.
    """
    live = np.isnan(values)
    if live.all():
        return values
    # of few lengths, as JAX compiles anew for each
    given = np.zeros(1 << (len(values) - 1).bit_length())
    given[: len(values)] = np.where(live, 0.0, values)
    made = function(ops.convert_to_tensor(given, dtype))
    found = ops.convert_to_numpy(ops.cast(made, "float32"))
    return np.where(live, np.nan, found[: len(values)].astype(float))
