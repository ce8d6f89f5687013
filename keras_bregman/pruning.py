"""Pruning by magnitude, at once."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from keras_bregman._checks import check_choice
from keras_bregman._finite import first_not_finite
from keras_bregman.allocation import DISTRIBUTIONS, densities, largest
from keras_bregman.kernels import kernels


def prune(
    model: keras.layers.Layer,
    density: float | Mapping[str, float],
    *,
    distribution: str = "global",
) -> None:
    """Sets all but the largest weights of a trained model's kernels to 0.

    With theta_(n) the n-th largest magnitude, and n = density * size,

        theta <- theta 1[|theta| >= theta_(n)],

    of equal magnitudes as many as it takes. This costs accuracy, more than
    `callbacks.TargetDensity` in a training does. To win some of it back, train
    on with what is left: `freeze_support` before `fit` keeps the
    others at 0. Biases, normalization, embeddings, and layers with
    `trainable=False` or LoRA stay as they are.

    Args:
        model: A built `keras.Model` or layer, changed in place.
        density: Share of the entries that stay, a float in (0, 1]; at least
            one does. Or a dict from regular expressions to floats: each kernel
            takes the first whose expression `re.search` finds in its path, by
            itself, and stays as it is if none does.
        distribution: For a float: `"global"`, the largest of all kernels
            together; `"uniform"`, the same share of each; `"erdos-renyi"`,
            shares proportional to sum(shape) / prod(shape).

    Raises:
        ValueError: If the model is not built, holds no kernel that is trained,
            or one of integers, for an argument out of range, or for an
            expression that takes no kernel.
        FloatingPointError: If a kernel holds NaN or infinity.

    Reference: Han, Pool, Tran, Dally, "Learning both Weights and Connections
    for Efficient Neural Networks", NeurIPS 2015.
    """
    check_choice("distribution", distribution, ("global", *DISTRIBUTIONS))
    by_kernel = isinstance(density, Mapping)
    if by_kernel and distribution != "global":
        raise ValueError(
            "`distribution` shares one density out, and a dict as `density` "
            "gives each kernel its own: leave it out, or give a float. "
            f"Received: distribution={distribution!r}, density={density!r}"
        )
    chosen = densities(density, kernels(model))
    variables = [kernel.variable for kernel, _ in chosen]
    bad = first_not_finite(variables)
    if bad is not None:
        raise FloatingPointError(
            f"'{bad.path}' holds NaN or infinity, so that no weight is the "
            "largest. Prune a model whose training did not diverge."
        )
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    if by_kernel:
        masks = [
            mask
            for value, (_, share) in zip(values, chosen, strict=True)
            for mask in largest([value], max(1, round(share * value.size)))
        ]
    else:
        size = sum(value.size for value in values)
        masks = largest(values, max(1, round(density * size)), distribution)
    for variable, value, mask in zip(variables, values, masks, strict=True):
        variable.assign(np.where(mask, value, 0))
