"""Pruning by magnitude, at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_bregman._checks import check, check_choice
from keras_bregman._finite import first_not_finite
from keras_bregman.allocation import (
    DISTRIBUTIONS,
    check_share,
    densities,
    largest,
    largest_in_blocks,
)
from keras_bregman.kernels import Kernel, Layout, kernels


def prune(
    model: keras.layers.Layer,
    density: float | str | Mapping[str, float | str],
    *,
    distribution: str = "global",
) -> None:
    """Sets all but the largest weights of a trained model's kernels to 0.

    With theta_(n) the n-th largest magnitude, and n = density * size,

        theta <- theta 1[|theta| >= theta_(n)],

    of equal magnitudes as many as it takes. This costs accuracy, more than
    `callbacks.TargetDensity` in a training does. To win some of it back, train
    on with what is left: `freeze_support` before `fit` keeps the others at 0.
    Biases, normalization, embeddings, and layers with `trainable=False` or LoRA
    stay as they are.

    Args:
        model: A built `keras.Model` or layer, changed in place.
        density: Share of the entries that stay, a float in (0, 1]; at least
            one does. Or a pattern, as `"2:4"`: of every 4 inputs in a row each
            unit keeps the 2 of largest weight; a convolution those of its input
            channels, at each place of its spatial kernel. Kernels whose number
            of inputs is no multiple of 4, and depthwise ones, stay as they are.
            Or a dict from regular expressions to either: each kernel takes the
            first whose expression `re.search` finds in its path, by itself, and
            stays as it is if none does.
        distribution: For a float: `"global"`, the largest of all kernels
            together; `"uniform"`, the same share of each; `"erdos-renyi"`,
            shares proportional to sum(shape) / prod(shape).

    Raises:
        ValueError: If the model is not built, holds no kernel that is trained,
            or one of integers, for an argument out of range, for an
            expression that takes no kernel, or a pattern that does not fit.
        FloatingPointError: If a kernel holds NaN or infinity.

    Reference: Han, Pool, Tran, Dally, "Learning both Weights and Connections
    for Efficient Neural Networks", NeurIPS 2015. For patterns: Mishra et al.,
    "Accelerating Sparse Deep Neural Networks", 2021.
    """
    check_choice("distribution", distribution, ("global", *DISTRIBUTIONS))
    by_kernel = isinstance(density, (str, Mapping))
    if by_kernel and distribution != "global":
        raise ValueError(
            "`distribution` shares one density out, and a dict or a pattern as "
            "`density` says what each kernel keeps: leave it out, or give a "
            "float. "
            f"Received: distribution={distribution!r}, density={density!r}"
        )
    chosen = _chosen(density, kernels(model))
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
            _mask(value, kernel.layout, wanted)
            for value, (kernel, wanted) in zip(values, chosen, strict=True)
        ]
    else:
        size = sum(value.size for value in values)
        masks = largest(values, max(1, round(density * size)), distribution)
    for variable, value, mask in zip(variables, values, masks, strict=True):
        variable.assign(np.where(mask, value, 0))


class _Pattern(NamedTuple):
    """Of every m inputs in a row, a unit reads n."""

    n: int
    m: int

    @staticmethod
    def axes(layout: Layout) -> tuple[int, ...]:
        """The axes that run over the inputs which a unit sums up."""
        return tuple(a for a in layout.inputs if a not in layout.outputs)

    def fits(self, layout: Layout) -> bool:
        return layout.size(self.axes(layout)) % self.m == 0


def _wanted(value: Any) -> float | _Pattern:
    """What a kernel is to keep, a share of it or a pattern."""
    if not isinstance(value, str):
        return check_share(value)
    found = re.fullmatch(r"(\d{1,4}):(\d{1,4})", value)
    n, m = map(int, found.groups()) if found else (0, 0)
    bound = 'in (0, 1], or a pattern as "2:4", the first number the smaller'
    check("density", value, 0 < n < m, bound)
    return _Pattern(n, m)


def _chosen(density, found) -> list[tuple[Kernel, float | _Pattern]]:
    """The kernels that are pruned, and what each is to keep."""
    pairs = densities(density, found, _wanted)
    odd = {
        kernel.name: kernel.layout.shape
        for kernel, wanted in pairs
        if isinstance(wanted, _Pattern) and not wanted.fits(kernel.layout)
    }
    # asked for everywhere, a pattern may fit some kernels only
    if odd and (isinstance(density, Mapping) or len(odd) == len(pairs)):
        raise ValueError(
            "`density` has a pattern that does not fit: the number of inputs "
            f"has to be a multiple of its second number. Received: {density!r} "
            f"for kernels of shapes {odd}"
        )
    return [pair for pair in pairs if pair[0].name not in odd]


def _mask(value, layout, wanted):
    """Which weights of one kernel stay."""
    if isinstance(wanted, _Pattern):
        return largest_in_blocks(value, wanted.axes(layout), *wanted)
    return largest([value], max(1, round(wanted * value.size)))[0]
