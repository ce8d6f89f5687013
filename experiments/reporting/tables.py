"""The report's tables out of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from experiments.archive import Row
from experiments.catalog.comparison import method_of
from experiments.recipes import DENSITY_TOLERANCE
from experiments.reporting import cost
from experiments.reporting.published import Published, paper_of, report_of

_OURS = ("density", "test_accuracy", "train_accuracy")
_HEADS = ("N_total", "test", "train")
COST = (
    "Accuracies are those on test data; FLOPs are those of the whole training "
    "as a share of a dense one's; memory is numbers held for every weight as "
    "implemented here, where a mask is one."
)


class Table(NamedTuple):
    """A table before it is written.

    Attributes:
        groups: Name and columns of each group of columns, in order.
        rows: The text of every cell, `None` in one without a run.
        missing: What is said there, if there is one.
    """

    groups: list[tuple[str, tuple[str, ...]]]
    rows: list[list[str | None]]
    missing: str = ""


def build(rows: list[Row]) -> Table:
    """Ours, and beside full runs what the report and the paper print."""
    full = rows[0].scale == "full"
    groups = [
        ("", ("optimizer", "tau", "lambda")),
        ("ours", (*_HEADS, "n")),
    ]
    printed = []
    for source, lookup in (("report", report_of), ("paper", paper_of)):
        if full and any(map(lookup, rows)):
            groups.append((source, _HEADS))
            printed.append(lookup)
    return Table(
        groups,
        [
            [
                *settings(row),
                *_measured(row),
                *(text for of in printed for text in _published(of(row))),
            ]
            for row in rows
        ],
        no_run(rows[0].scale),
    )


def by_validation(rows: list[Row], tested: bool = False) -> Table:
    """Rows to choose from: test figures only if what is chosen is known."""
    columns = {
        "val_density": "N_total",
        "val_accuracy": "validation",
        **({"test_accuracy": "test"} if tested else {}),
        "train_accuracy": "train",
    }
    return Table(
        [("", ("recipe", "tau", *columns.values(), "n"))],
        [
            [
                *settings(row)[:2],
                *(
                    str(row.cell(quantity)) if row.results else None
                    for quantity in columns
                ),
                row.runs,
            ]
            for row in rows
        ],
        no_run(rows[0].scale),
    )


def by_density(rows: list[Row]) -> Table:
    """A line for each method, with its test accuracy at every density.

    A density that was missed by more than 2 % of it stands behind its cell.
    The cost is that of the density next to 2 %: multiplications of the whole
    training as a share of a dense one's, and numbers held for every weight.
    """
    methods = by_method(rows)
    densities = densities_of(rows)
    typical = min(densities, key=lambda d: abs(math.log(d / 0.02)))
    return Table(
        [
            ("", ("method",)),
            ("dense", ("100 %",)),
            ("asked for", tuple(map(percent, densities))),
            (f"cost at {percent(typical)}", ("FLOPs", "memory")),
        ],
        [
            [
                method,
                *(_at_density(found.get(d)) for d in (None, *densities)),
                *_cost(found.get(None) or found.get(typical)),
            ]
            for method, found in methods.items()
        ],
        no_run(rows[0].scale),
    )


def densities_of(rows: list[Row]) -> list[float]:
    """What a curve's methods are asked for, the largest first."""
    asked = (row.recipe.density for row in rows)
    return sorted({d for d in asked if d is not None}, reverse=True)


def percent(share: float) -> str:
    """A density as the head of its column."""
    return f"{100 * share:g} %"


def by_method(rows: Iterable[Row]) -> dict[str, dict[float | None, Row]]:
    """A curve's rows by method and density; `None` for the dense ones."""
    found: dict[str, dict[float | None, Row]] = {}
    for row in rows:
        found.setdefault(method_of(row.label), {})[row.recipe.density] = row
    return found


def _at_density(row):
    if row is None:
        return ""
    if not row.results:
        return None
    asked, got = row.recipe.density, row.cell("density").mean
    missed = asked and abs(got / (100 * asked) - 1) > DENSITY_TOLERANCE
    return accuracy(row, f" ({got:.3g} %)" if missed else "")


def accuracy(row: Row, note: str = "") -> str:
    """On test data, and of how many runs if some are missing or it is one."""
    text = f"{row.cell('test_accuracy')}{note}"
    if not row.is_whole:
        return f"{text}, {row.runs}"
    return f"{text}, one seed" if len(row.declared) == 1 else text


def _cost(row):
    """FLOPs and memory, from the first run that says them."""
    for result in row.results.values() if row else ():
        if "floats" in result:
            share = cost.training(row.recipe, result["history"]["flops"])
            held = result["floats"]
            total = (held["weights"] + held["optimizer"]) / held["weights"]
            return f"{100 * share:.0f} %", f"{total:.1f}"
    return "-", "-"


def no_run(scale: str) -> str:
    """What a table says where there is none."""
    return f"no {scale} run yet"


def settings(row: Row) -> tuple[str, str, str]:
    """Its optimizer, tau and lambda."""
    recipe = row.recipe
    # asked for a density, lambda is steered and the recipe's is relative
    has_lambda = recipe.takes_regularizer and recipe.density is None
    return (
        recipe.label,
        f"{recipe.learning_rate:g}",
        f"{recipe.lam:g}" if has_lambda else "-",
    )


def _measured(row):
    if not row.results:
        texts: list[str | None] = [None] * len(_OURS)
    else:
        texts = [str(row.cell(quantity)) for quantity in _OURS]
    return (*texts, row.runs)


def _published(numbers: Published | None):
    if numbers is None:
        return ("-",) * len(_HEADS)
    return tuple(f"{number:.1f}" for number in numbers)
