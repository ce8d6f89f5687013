"""The l1 penalty, the classic that the paper compares with."""

from __future__ import annotations

import keras

from keras_bregman.kernels import kernels


def penalize(model: keras.Model, strength: float) -> None:
    """Adds strength times the l1 norm of all kernels to a model's loss.

    Subgradient steps leave no weight at exactly 0, which takes a threshold at
    the end: `MagnitudePruning` with `begin` equal to `end`.
    """
    for kernel in kernels(model):
        kernel.variable.regularizer = keras.regularizers.L1(strength)
