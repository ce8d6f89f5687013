"""How many weights each kernel may keep."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras_bregman._checks import check_choice

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
