"""Reaching the optimizers behind Keras' wrappers."""

from __future__ import annotations

import keras


def inner_optimizers(optimizer) -> list:
    """The optimizers that hold the state, without Keras' wrappers."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return inner_optimizers(optimizer.inner_optimizer)
    if hasattr(optimizer, "optimizers"):  # keras.optimizers.MultiOptimizer
        return list(optimizer.optimizers)
    return [optimizer]
