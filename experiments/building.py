"""What a recipe says, in Keras: the model at its start, and what steers it."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

import keras_bregman as kb
from experiments import models, variants
from experiments.data import Dataset
from experiments.peers import lasso, learned_threshold, masked
from experiments.peers.pruning import MagnitudePruning
from experiments.peers.rewiring import SET, RigL
from experiments.recipes import LASSO_CUT, Recipe
from keras_bregman.regularizers import L1, SparseGroupLasso


def model_of(recipe: Recipe, dataset: Dataset, seed: int) -> keras.Model:
    """The compiled model at its start, settled by the seed."""
    keras.utils.set_random_seed(seed)
    norm = {}
    if recipe.model.startswith("vgg"):
        norm["batch_norm"] = recipe.batch_norm
    with _policy(recipe.precision):
        model = getattr(models, recipe.model)(
            dataset.inputs, recipe.width, **norm
        )
    kb.sparsify(
        model,
        recipe.start,
        recipe.start_method,
        seed=seed,
        scale=recipe.start_scale,
    )
    # proximal gradient descent has the norm in its step instead
    if recipe.method == "lasso" and recipe.optimizer != "ProxGD":
        lasso.penalize(model, recipe.lam)
    if recipe.method == "thresholds":
        model = learned_threshold.learn_thresholds(model, **recipe.steering)
    model.compile(
        optimizer_of(recipe, recipe.epochs * recipe.steps_per_epoch(dataset)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def optimizer_of(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer for a training of so many steps."""
    options = dict(recipe.options)
    if recipe.momentum:
        options["momentum"] = recipe.momentum
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = _cosine(rate, steps, recipe.warmup)
    if recipe.takes_regularizer:
        options.setdefault("regularizer", _regularizer_of(recipe))
    if recipe.is_peer and recipe.method != "thresholds":
        cls = getattr(masked, f"Masked{recipe.optimizer}")
        options["keep_gradients"] = recipe.method == "rigl"
    elif not recipe.takes_regularizer:
        cls = getattr(keras.optimizers, recipe.optimizer)
    elif variants.ARGUMENTS.isdisjoint(options):
        cls = getattr(kb, recipe.optimizer)
    else:
        cls = getattr(variants, recipe.optimizer)
    return cls(rate, **options)


def callbacks_of(
    recipe: Recipe, seed: int = 0
) -> list[keras.callbacks.Callback]:
    """What steers a training: the density, and tau on a plateau."""
    found: list[keras.callbacks.Callback] = []
    # learned thresholds are steered by nobody
    if recipe.density is not None and recipe.method != "thresholds":
        found.append(_steering(recipe, recipe.density, seed))
    if recipe.schedule == "plateau":
        found.append(
            kb.callbacks.PlateauDecay(
                factor=recipe.decay,
                patience=recipe.patience,
                threshold=recipe.threshold,
            )
        )
    return found


def finished(recipe: Recipe, model: keras.Model) -> keras.Model:
    """A trained model as it is used and counted."""
    if recipe.method != "thresholds":
        return model
    assert recipe.density is not None
    plain = learned_threshold.fix_thresholds(model, recipe.density)
    plain.compile(loss=model.loss, metrics=["accuracy"])
    return plain


def _steering(recipe, density, seed):
    further = recipe.steering
    if recipe.method == "pruning":
        return MagnitudePruning(density, **further)
    if recipe.method == "lasso":
        once = {"begin": LASSO_CUT, "end": LASSO_CUT, **further}
        return MagnitudePruning(density, **once)
    if recipe.method == "rigl":
        return RigL(density, seed=seed, **further)
    if recipe.method == "set":
        return SET(density, seed=seed, **further)
    return kb.callbacks.TargetDensity(
        density, ramp=recipe.ramp, freeze=recipe.freeze, **further
    )


def _regularizer_of(recipe):
    if not recipe.groups:
        return recipe.lam
    return {
        path: (L1 if how.keys() == {"lam"} else SparseGroupLasso)(
            **{**how, "lam": how["lam"] * recipe.lam}
        )
        for path, how in recipe.groups.items()
    }


def _cosine(rate, steps, warmup):
    rising = round(warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if rising else rate,
        steps - rising,
        warmup_target=rate if rising else None,
        warmup_steps=rising,
    )


@contextlib.contextmanager
def _policy(name):
    """Layers that are made within compute by this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
