"""Reaching the optimizers behind Keras' wrappers."""

from __future__ import annotations

import keras

from keras_bregman.base_optimizer import ProximalOptimizer, Regularized


def inner_optimizers(optimizer) -> list:
    """The optimizers that hold the state, without Keras' wrappers."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return inner_optimizers(optimizer.inner_optimizer)
    if hasattr(optimizer, "optimizers"):  # keras.optimizers.MultiOptimizer
        return list(optimizer.optimizers)
    return [optimizer]


def regularized(model) -> list[Regularized]:
    """The regularized variables of a model's optimizers, as far as built."""
    return [
        entry
        for optimizer in inner_optimizers(getattr(model, "optimizer", None))
        if isinstance(optimizer, ProximalOptimizer) and optimizer.built
        for entry in optimizer.regularized()
    ]
