"""By what a claim is judged: bounds, comparisons of rows, and their words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import ttest_ind_from_stats

from experiments.archive import Row

CONFIRMED, PARTLY, REFUTED = "confirmed", "partly", "refuted"

# in percent or points
FAILED = 50.0
DENSE = 50.0
EQUAL = 1.0
NEAR_ACCURACY = 2.0
NEAR_DENSITY = 5.0
TWICE = 2.0
USABLE = 5.0
UNSTABLE = 5.0

RULES = (
    f"A row failed if its accuracy is under {FAILED:g} % (chance is 10 %). It "
    f"is dense if more than {DENSE:g} % of its weights are not 0. Two figures "
    f"are level within {EQUAL:g} point. One network surpasses another if it is "
    "ahead in accuracy or in sparsity and at least level in the other. The "
    f"paper is matched by a test accuracy of at most {NEAR_ACCURACY:g} points "
    f"less, at a density of at most {TWICE:g} times its own and at most "
    f"{NEAR_DENSITY:g} points more. One row is above another, by however much, "
    "if seeds alone would make such a difference in at most one case of twenty "
    "(Student's t, two-sided). With few seeds a small difference is not seen: "
    "that something does not improve is confirmed if nothing says that it "
    f"does. An optimizer works on a network if it loses at most {USABLE:g} "
    "points of test accuracy to the dense reference and ends not dense. "
    "Results are stable if no standard deviation over seeds is above "
    f"{EQUAL:g} point of test accuracy or {NEAR_DENSITY:g} points of density. "
    f"They are unstable from {UNSTABLE:g} points of accuracy on."
)


def leads(one: Row, other: Row) -> list[str]:
    """In what one is ahead, of accuracy and sparsity, if it surpasses other."""
    ahead = {
        "accuracy": mean(one, "val_accuracy") - mean(other, "val_accuracy"),
        "sparsity": mean(other, "density") - mean(one, "density"),
    }
    if min(ahead.values()) < -EQUAL:
        return []
    return [what for what, points in ahead.items() if points > EQUAL]


def beyond_chance(one: Row, other: Row, quantity: str) -> int | None:
    """Sign of a difference, 0 if seeds alone make it in over 1 case of 20.

    `None` where a row has one run, and so no spread.
    """
    p = chance(one, other, quantity)
    if p is None:
        return None
    if p > 1 / 20:
        return 0
    return 1 if mean(one, quantity) > mean(other, quantity) else -1


def chance(one: Row, other: Row, quantity: str) -> float | None:
    """In what share of cases seeds alone make such a difference.

    By Student's t, two-sided. `None` where a row has one run, and so no spread.
    """
    this, that = one.cell(quantity), other.cell(quantity)
    if this.std is None or that.std is None:
        return None
    found = ttest_ind_from_stats(
        *(this.mean, this.std, this.n), *(that.mean, that.std, that.n)
    )
    # no number where all runs of both are alike
    return 1.0 if math.isnan(found.pvalue) else float(found.pvalue)


def corrected(chances: Sequence[float]) -> list[float]:
    """What they are where so many differences were looked at, by Holm."""
    found = [1.0] * len(chances)
    least = 0.0
    by_size = sorted(range(len(chances)), key=chances.__getitem__)
    for done, i in enumerate(by_size):
        least = max(least, min(1.0, (len(chances) - done) * chances[i]))
        found[i] = least
    return found


def by_count(holding: int, of: int) -> str:
    """What a claim is that holds in so many of its cases."""
    if holding == of:
        return CONFIRMED
    return PARTLY if holding else REFUTED


def failed(row: Row) -> bool:
    """Whether a row's test accuracy is that of a failure."""
    return mean(row, "test_accuracy") < FAILED


def mean(row: Row, quantity: str) -> float:
    """Over the seeds, in percent.

    Raises:
        ValueError: If the row has no results.
    """
    found = row.cell(quantity).mean
    if found is None:
        raise ValueError(f"{row.experiment}, {row.label} has no results")
    return found


def gap(one: Row, other: Row) -> str:
    """How much more or less validation accuracy, in words."""
    points = mean(one, "val_accuracy") - mean(other, "val_accuracy")
    return f"{abs(points):.2f} points {'above' if points > 0 else 'below'}"


def density(row: Row) -> str:
    """Density in words."""
    return f"{mean(row, 'density'):.1f} %"


def val(row: Row) -> str:
    """Validation accuracy in words."""
    return f"{mean(row, 'val_accuracy'):.2f} %"


def test(row: Row) -> str:
    """Test accuracy in words."""
    return f"{mean(row, 'test_accuracy'):.1f} %"
