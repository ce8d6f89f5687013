"""Training the weights that are on, and no others."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import keras

from keras_bregman._checks import check, check_flag
from keras_bregman._wrappers import inner_optimizers
from keras_bregman.base_optimizer import ProximalOptimizer


def freeze_support(model: keras.Model, frozen: bool = True) -> None:
    """Holds the regularized weights that are 0 at 0, and lets none go.

    `fit` trains the weights that are on by plain SGD or Adam, without any
    shrinkage, from now on and in models that are saved and loaded. In a
    callback it holds from the next step on. A training loop of one's own, whose
    step is compiled elsewhere, calls `optimizer.freeze_support` and gives that
    function `optimizer.support_is_frozen` as an argument; so does a
    `train_step` that is compiled for itself, or `fit` warns when it ends.

    Args:
        model: A model that is compiled with LinBreg, AdaBreg or ProxGD.
        frozen: `False` lets weights be switched on and off again.

    Raises:
        ValueError: If `model` is compiled with none of them, or `frozen` is no
            bool.
    """
    frozen = check_flag("frozen", frozen)
    is_model = isinstance(model, keras.Model)
    # one that was never compiled has none
    optimizer = getattr(model, "optimizer", None) if is_model else None
    # a MultiOptimizer may know its parts only then
    if optimizer is not None and model.built and not optimizer.built:
        with _where_it_trains(model):
            optimizer.build(model.trainable_variables)
    optimizers = [
        found
        for found in inner_optimizers(optimizer)
        if isinstance(found, ProximalOptimizer)
    ]
    bound = "compiled with LinBreg, AdaBreg or ProxGD"
    check("model", model, bool(optimizers), bound)
    for each in optimizers:
        each.freeze_support(frozen)
    _make_step_anew(model, optimizers)


def _make_step_anew(model, optimizers):
    for optimizer in optimizers:
        optimizer.support.forget_steps()
    model.make_train_function(force=True)


def _where_it_trains(model):
    """The scope of TensorFlow's distribution strategy, as `fit` enters it."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def freeze_in(
    model: keras.Model, optimizers: Sequence[ProximalOptimizer], frozen: bool
) -> None:
    """`freeze_support` for some of a model's optimizers.

    The step is made anew only where this changes it.
    """
    changed = False
    for optimizer in optimizers:
        support = optimizer.support
        changed |= support.is_frozen != frozen
        changed |= not support.is_compiled_for(frozen)
        optimizer.freeze_support(frozen)
    if changed:  # another step is compiled
        _make_step_anew(model, optimizers)
