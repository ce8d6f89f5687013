"""Who is first at a density: a Bregman optimizer or another method."""

from __future__ import annotations

from experiments.reporting.cells import Row
from experiments.reporting.criteria import mean
from experiments.reporting.tables import (
    Table,
    by_method,
    densities_of,
    percent,
)

CAPTION = (
    "Who is first, of the methods with all their runs and no more weights than "
    "asked for, by 2 % of them at most. Near is within one standard deviation "
    "of the first."
)


def by_density(rows: list[Row]) -> Table | None:
    """The best Bregman optimizer and the best other method of a curve.

    Args:
        rows: Of one curve at one scale.

    Returns:
        A column for each density; `None` if there is none at which both kinds
        have run.
    """
    methods = by_method(rows)
    columns: dict[float, list[str]] = {}
    for density in densities_of(rows):
        ours = _best(methods, density, True)
        others = _best(methods, density, False)
        if ours and others:
            columns[density] = _column(*ours, *others)
    if not columns:
        return None
    names = ("Bregman", "others", "ahead by", "Bregman is")
    return Table(
        [("", ("best of",)), ("asked for", tuple(map(percent, columns)))],
        [
            [name, *cells]
            for name, *cells in zip(names, *columns.values(), strict=True)
        ],
        "-",
    )


def _best(methods, density, is_bregman):
    """The best method of a kind, and its row; `None` where there is none."""
    eligible = (
        (method, found[density])
        for method, found in methods.items()
        if density in found
        and found[density].recipe.is_bregman == is_bregman
        and _counts(found[density])
    )
    return max(
        eligible, key=lambda pair: mean(pair[1], "test_accuracy"), default=None
    )


def _counts(row):
    """Whether it has all its runs and met the density, or a smaller one."""
    if len(row.results) < len(row.declared):
        return False
    return mean(row, "density") <= 102 * row.recipe.density


def _column(our_method, ours, other_method, others):
    ahead = mean(ours, "test_accuracy") - mean(others, "test_accuracy")
    spread = others.cell("test_accuracy").std or 0
    standing = "first" if ahead >= 0 else "near"
    if ahead < -spread:
        standing = "behind"
    return [
        f"{our_method} {ours.cell('test_accuracy')}",
        f"{other_method} {others.cell('test_accuracy')}",
        f"{ahead:+.2f}",
        standing,
    ]
