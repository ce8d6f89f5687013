"""Reaching the optimizers behind Keras' wrappers."""

from __future__ import annotations

import dataclasses

import keras

from keras_bregman._paths import names_of
from keras_bregman.base_optimizer import ProximalOptimizer
from keras_bregman.choice import Regularized


def inner_optimizers(optimizer) -> list:
    """The optimizers that hold the state, without Keras' wrappers."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return inner_optimizers(optimizer.inner_optimizer)
    if hasattr(optimizer, "optimizers"):  # keras.optimizers.MultiOptimizer
        return list(optimizer.optimizers)
    return [optimizer]


def regularized(model) -> list[Regularized]:
    """The regularized variables of a model's optimizers, as far as built.

    Named as among all weights of the model, of which an optimizer knows those
    that were trained when it was built: some may be gone, as by `quantize`.
    """
    names = names_of(model)
    return [
        dataclasses.replace(entry, name=names[id(entry.variable)])
        for optimizer in inner_optimizers(getattr(model, "optimizer", None))
        if isinstance(optimizer, ProximalOptimizer) and optimizer.built
        for entry in optimizer.regularized()
        if id(entry.variable) in names
    ]
