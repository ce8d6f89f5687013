"""What the autopsy looks at inside a network at its start and early steps."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import keras_bregman as kb
from experiments import building
from experiments.data import Dataset
from experiments.evaluation import evaluate
from experiments.recipes import Recipe
from experiments.results import finite
from experiments.stream import batches
from keras_bregman.kernels import kernels


def layers(
    model: keras.Model, x: np.ndarray, y: np.ndarray
) -> list[dict[str, Any]]:
    """Looks at every kernel of a model before its first step.

    Args:
        model: A compiled model at its start, not changed.
        x: One batch of images.
        y: Their labels.

    Returns:
        For each kernel in order: `path`; `gradient_norm`, the l2 norm of the
        loss' gradient in training mode, and `gradient_max`, its largest
        entry, both `None` where they overflow; `dead_units`, the share of the
        layer's output units that are the same for all images of the batch
        after the activation, and pass nothing on.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    # with tau = 1 a step of plain gradient descent subtracts the gradient
    copy.compile(keras.optimizers.SGD(1.0), model.loss)
    before = [_array(k.variable).astype("float64") for k in kernels(copy)]
    copy.train_on_batch(x, y)
    gradients = [
        start - _array(k.variable)
        for start, k in zip(before, kernels(copy), strict=True)
    ]
    owners = [k.layer.name for k in kernels(model) if k.layer is not None]
    outputs = _activations(model, owners, x)
    return [
        {
            "path": kernel.path,
            "gradient_norm": finite(float(np.linalg.norm(gradient))),
            "gradient_max": finite(np.abs(gradient).max()),
            "dead_units": float((np.ptp(_by_unit(output), axis=0) == 0).mean()),
        }
        for kernel, gradient, output in zip(
            kernels(model), gradients, outputs, strict=True
        )
    ]


def steps(
    recipe: Recipe, seed: int, dataset: Dataset
) -> list[dict[str, float | None]]:
    """Trains anew and looks at the network after `recipe.probe_steps`.

    Returns:
        For each of the steps: `step`, and then, on the validation split,
        `loss` and `accuracy`, and `density`.
    """
    model = building.model_of(recipe, dataset, seed)
    stream = batches(
        *recipe.training_data(dataset),
        recipe.batch_size,
        seed,
        recipe.augment,
    )
    found, done = [], 0
    for step in recipe.probe_steps:
        # not fit, which reads batches ahead that the next call would miss
        for _ in range(step - done):
            model.train_on_batch(*next(stream))
        done = step
        figures = evaluate(model, dataset.x_val, dataset.y_val)
        found.append(
            {
                "step": step,
                "loss": finite(figures["loss"]),
                "accuracy": figures["accuracy"],
                "density": kb.density(model),
            }
        )
    return found


def _activations(model, names, x):
    """What follows each named layer: its output behind norm and ReLU."""
    tensors = {}
    for name in names:
        layer = model.get_layer(name)
        for follower in (f"{name}_bn", f"{name}_relu"):
            if any(other.name == follower for other in model.layers):
                layer = model.get_layer(follower)
        tensors[name] = layer.output
    # batch statistics, as in the first step
    outputs = keras.Model(model.input, tensors)(x, training=True)
    return [_array(outputs[name]) for name in names]


def _by_unit(output):
    return output.reshape(-1, output.shape[-1])


def _array(variable):
    return keras.ops.convert_to_numpy(variable)
