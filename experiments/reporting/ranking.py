"""Who is first at a density: a Bregman optimizer or another method."""

from __future__ import annotations

from experiments.reporting.cells import Row
from experiments.reporting.criteria import mean
from experiments.reporting.tables import Table, by_method

CAPTION = (
    "Who is first, of the methods with all their runs and no more weights than "
    "asked for, by 2 % of them at most. Near is within one standard deviation "
    "of the first."
)
_BREGMAN = ("LinBreg", "AdaBreg")


def by_density(rows: list[Row]) -> Table | None:
    """The best Bregman optimizer and the best other method of a curve.

    Args:
        rows: Of one curve at one scale.

    Returns:
        A column for each density; `None` if there is none at which both kinds
        have run.
    """
    columns: dict[float, list[str]] = {}
    for density in _densities(rows):
        ours, others = _best(rows, density)
        if ours and others:
            columns[density] = _column(ours, others)
    if not columns:
        return None
    names = ("Bregman", "others", "ahead by", "Bregman is")
    return Table(
        [("", ("best of",)), ("asked for", tuple(map(_percent, columns)))],
        [
            [name, *cells]
            for name, *cells in zip(names, *columns.values(), strict=True)
        ],
        "-",
    )


def _densities(rows):
    found = {row.recipe.density for row in rows} - {None}
    return sorted(found, reverse=True)


def _best(rows, density):
    """The best row of each kind, `None` where there is none."""
    eligible = [
        found[density]
        for found in by_method(rows).values()
        if density in found and _counts(found[density])
    ]
    return (
        max(
            (r for r in eligible if (r.recipe.optimizer in _BREGMAN) == ours),
            key=lambda row: mean(row, "test_accuracy"),
            default=None,
        )
        for ours in (True, False)
    )


def _counts(row):
    """Whether it has all its runs and met the density, or a smaller one."""
    if len(row.results) < len(row.declared):
        return False
    return mean(row, "density") <= 102 * row.recipe.density


def _column(ours, others):
    ahead = mean(ours, "test_accuracy") - mean(others, "test_accuracy")
    spread = others.cell("test_accuracy").std or 0
    standing = "first" if ahead >= 0 else "near"
    if ahead < -spread:
        standing = "behind"
    return [_named(ours), _named(others), f"{ahead:+.2f}", standing]


def _named(row):
    return f"{row.label.partition(' at ')[0]} {row.cell('test_accuracy')}"


def _percent(density):
    return f"{100 * density:g} %"
