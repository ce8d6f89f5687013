"""How many weights each kernel keeps, as shared out or as asked for by path.

And which of its weights are the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_bregman._checks import (
    check,
    check_choice,
    check_expression,
    check_number,
)
from keras_bregman._paths import first_matching
from keras_bregman.kernels import Kernel

DISTRIBUTIONS = ("uniform", "erdos-renyi")


def allocate(
    shapes: Sequence[tuple[int, ...]], total: int, distribution: str
) -> list[int]:
    """Shares a number of non-zero entries out among kernels.

    Every kernel gets at least 1 and at most all of its entries. So the sum may
    differ from `total`: by rounding, and if there are more kernels than that.

    Args:
        shapes: The kernels' shapes.
        total: Number of entries to share out.
        distribution: `"uniform"`, the same density for all; or
            `"erdos-renyi"`, densities proportional to sum(shape) /
            prod(shape), as far as they stay under 1.

    Returns:
        For each kernel how many of its entries may be on.

    Raises:
        ValueError: If `distribution` is neither.

    Reference: Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making
    All Tickets Winners", ICML 2020, for convolutions; Mocanu et al., "Scalable
    Training of Artificial Neural Networks with Adaptive Sparse Connectivity",
    Nature Communications 9, 2018, for dense layers.
    """
    check_choice("distribution", distribution, DISTRIBUTIONS)
    sizes = [math.prod(shape) for shape in shapes]
    if distribution == "uniform":
        wanted = [float(size) for size in sizes]
    else:
        wanted = [float(sum(shape)) for shape in shapes]
    full: set[int] = set()
    while True:
        free = [i for i in range(len(sizes)) if i not in full]
        left = total - sum(sizes[i] for i in full)
        weight = sum(wanted[i] for i in free)
        factor = max(0.0, left) / weight if free else 0.0
        over = {i for i in free if factor * wanted[i] > sizes[i]}
        if not over:
            break
        full |= over
    return [
        size if i in full else min(size, max(1, round(factor * wanted[i])))
        for i, size in enumerate(sizes)
    ]


def largest(
    arrays: Sequence[np.ndarray], total: int, distribution: str = "global"
) -> list[np.ndarray]:
    """Where the entries of largest magnitude are, of equal ones some.

    Args:
        arrays: The kernels' values.
        total: How many entries, 1 or greater.
        distribution: `"global"`, those of all arrays together; or as of
            `allocate`, those of each.

    Returns:
        For each array a mask of its shape.
    """
    if distribution != "global":
        shares = allocate([a.shape for a in arrays], total, distribution)
        pairs = zip(arrays, shares, strict=True)
        return [_largest(a.ravel(), n).reshape(a.shape) for a, n in pairs]
    flat = [_comparable(array).ravel() for array in arrays]
    bounds = np.cumsum([array.size for array in arrays])[:-1]
    parts = np.split(_largest(np.concatenate(flat), total), bounds)
    return [p.reshape(a.shape) for p, a in zip(parts, arrays, strict=True)]


def largest_in_blocks(
    array: np.ndarray, axes: Sequence[int], n: int, m: int
) -> np.ndarray:
    """Where the n entries of largest magnitude are in every block of m.

    Args:
        array: A kernel's values.
        axes: Along which the blocks follow one another, the last the fastest;
            the product of their lengths is a multiple of `m`.
        n: How many entries of a block, in [1, m].
        m: How many entries a block has.

    Returns:
        A mask of the array's shape.
    """
    front = range(len(axes))
    moved = np.moveaxis(np.abs(_comparable(array)), axes, front)
    length = math.prod(moved.shape[: len(axes)])
    others = math.prod(moved.shape[len(axes) :])
    blocks = moved.reshape(length // m, m, others)
    mask = np.zeros(blocks.shape, bool)
    places = np.argpartition(-blocks, n - 1, axis=1)[:, :n]
    np.put_along_axis(mask, places, True, axis=1)
    return np.moveaxis(mask.reshape(moved.shape), front, axes)


def _comparable(array):
    """In float32 what is shorter: NumPy has no dtype for two kinds of half."""
    return array.astype("float32") if array.dtype.itemsize < 4 else array


def _largest(values, n):
    mask = np.zeros(values.size, bool)
    mask[np.argpartition(-np.abs(values), min(n, values.size) - 1)[:n]] = True
    return mask


def check_share(value: Any) -> float:
    """A share of the weights; raises ValueError unless it is one."""
    return check_number("density", value, "(0, 1]")


def densities(
    density: Any,
    found: Sequence[Kernel],
    checked: Callable[[Any], Any] = check_share,
) -> list[tuple[Kernel, Any]]:
    """Pairs of a kernel that is trained and the share that stays of it.

    Args:
        density: A share for all, or a dict from regular expressions to shares.
        found: A model's kernels.
        checked: Makes of a share what is given back.

    Raises:
        ValueError: For a share out of range, an expression that takes no
            kernel which is trained, or a kernel of integers.
    """
    given = density if isinstance(density, Mapping) else {"": density}
    check("density", density, bool(given), "a share, or one by expression")
    by_expression = {
        check_expression("density", expression): checked(share)
        for expression, share in given.items()
    }
    chosen, taken = [], set()
    matching = first_matching(by_expression, [k.path for k in found])
    for kernel, expression in zip(found, matching, strict=True):
        if expression is None:
            continue
        dtype = keras.backend.standardize_dtype(kernel.variable.dtype)
        if "float" not in dtype:
            raise ValueError(
                f"`model` has a kernel of integers, '{kernel.path}' of "
                f"{dtype}, as `quantize` makes them. Train sparse first, and "
                "quantize what is trained."
            )
        if kernel.variable.trainable:
            chosen.append((kernel, by_expression[expression]))
            taken.add(expression)
    for expression in by_expression:
        if expression not in taken:
            trained = [k.path for k in found if k.variable.trainable]
            raise ValueError(
                "`density` has an expression that takes no kernel which is "
                f"trained: {expression!r}. Those that are trained are {trained}"
            )
    return chosen
