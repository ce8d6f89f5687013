"""Who is first at a density: a Bregman optimizer or another method."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from experiments.archive import Archive, Row
from experiments.catalog import CURVES, EXPERIMENTS, Experiment
from experiments.recipes import DENSITY_TOLERANCE
from experiments.reporting.criteria import (
    beyond_chance,
    chance,
    corrected,
    mean,
)
from experiments.reporting.published import RECORDS
from experiments.reporting.tables import (
    Table,
    accuracy,
    by_method,
    densities_of,
    no_run,
    percent,
)

TITLE = "At a glance"
GLANCE = (
    "Test accuracy in percent of full runs, at densities asked for: mean ± "
    "standard deviation of the sample over three seeds, or as many as a cell "
    "says; over ten where all of a method's have run. All are trained by one "
    "recipe. Each side shows the method that is best on validation data, of "
    "those with all their runs if there are any, at no more than 2 % more "
    "weights than asked for. 'Bregman is' compares the two, each line by "
    "itself: level is what seeds alone would make in more than one case of "
    "twenty (Student's t); of missing runs it is not said. 'Tuned there': with "
    "settings that further runs chose at that density. No other method had "
    "such runs, so that they are not compared. Dense: of all dense networks of "
    "these experiments the best on validation data. Published: by others, "
    "next to that density. 50 and 20 % are in the curves."
)
CHANCES = (
    "How sure that is, where both sides have all their runs: points of test "
    "accuracy ahead, and the share p of cases in which seeds alone would make "
    "such a difference (Student's t, two-sided). Corrected is p where so many "
    "lines were looked at (Holm)."
)
_SPARSE = 0.1  # no glance at more weights
_BESIDE = 2.0  # times as many weights at most, or as few, what is published
# by curve and density, a row of another experiment whose settings were chosen
# at that density, which the other methods had no runs for
_TUNED_THERE = {
    ("curve-convnet", 0.1): (
        "decay-convnet",
        "LinBreg at 10 %, decay 0.001, tau 1",
    )
}

CAPTION = (
    "Who is first on test data: the Bregman optimizer and the other method "
    "that are best on validation data, of those with all their runs and at "
    "most 2 % more weights than asked for. Level is what seeds alone would "
    "make in more than one case of twenty (Student's t); of one run each it is "
    f"not said. These are the seeds of the curve: '{TITLE}' has more of some "
    "methods."
)


def by_density(rows: list[Row]) -> Table | None:
    """The best Bregman optimizer and the best other method of a curve.

    Args:
        rows: Of one curve at one scale.

    Returns:
        A column for each density; `None` if there is none at which both kinds
        have run.
    """
    methods = by_method(row for row in rows if row.is_whole)
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
    )


class Best(NamedTuple):
    """The best of either kind on a curve, at a density that ours has run at.

    Attributes:
        curve: The experiment.
        density: The one asked for.
        ours: Bregman optimizer and its row.
        other: Method and its row, `None` before any has run.
    """

    curve: Experiment
    density: float
    ours: tuple[str, Row]
    other: tuple[str, Row] | None


def glance(archive: Archive) -> Table:
    """All curves' full runs at 10 % of the weights and below, in one table.

    A line for each density at which a Bregman optimizer has run.
    """
    lines: list[list[str | None]] = []
    for curve, density, ours, other in _best_of_each(archive):
        dense = _dense(archive, ours[1])
        lines.append(
            [
                curve.network,
                percent(density),
                _named(curve, *ours) + _tuned(archive, curve.name, density),
                _named(curve, *other) if other else None,
                _standing(ours[1], other[1]) if other else "-",
                _of_dense(dense, ours[1]) if dense else None,
                _published(curve.name, density),
            ]
        )
    heads = ("network", "density", "Bregman", "other methods", "Bregman is")
    return Table([("", (*heads, "dense", "published"))], lines, no_run("full"))


def chances(archive: Archive) -> Table | None:
    """How sure the glance's comparisons are; `None` where there is none."""
    lines, each = [], []
    for curve, density, ours, other in _best_of_each(archive):
        if other and ours[1].is_whole and other[1].is_whole:
            p = chance(ours[1], other[1], "test_accuracy")
            if p is not None:
                names = curve.network, percent(density), ours[0], other[0]
                lines.append([*names, _ahead(ours[1], other[1])])
                each.append(p)
    for line, *chances in zip(lines, each, corrected(each), strict=True):
        line += map(_small, chances)
    heads = ("network", "density", "Bregman", "against", "ahead by")
    return (
        Table([("", (*heads, "p", "p, corrected"))], lines) if lines else None
    )


def _small(p):
    return f"{p:.2g}" if p >= 1e-4 else "under 0.0001"


def _best_of_each(archive) -> Iterator[Best]:
    for curve in CURVES:
        rows = archive.rows(curve.name, "full")
        methods = by_method(map(archive.most_seeds, rows))
        for density in densities_of(rows):
            ours = _best(methods, density, True)
            if density <= _SPARSE and ours:
                yield Best(curve, density, ours, _best(methods, density, False))


def _best(methods, density: float, is_bregman: bool):
    """The method of a kind that is best on validation data at a density.

    Of those with all their runs, if there are any.

    Args:
        methods: Rows by method and density, of `tables.by_method`.
        density: The one asked for.
        is_bregman: Which kind.

    Returns:
        Its name and row, `None` where there is none.
    """
    most = 100 * (1 + DENSITY_TOLERANCE) * density
    eligible = [
        (method, found[density])
        for method, found in methods.items()
        if density in found
        and found[density].recipe.is_bregman == is_bregman
        and found[density].results
        # the density met, or a smaller one
        and mean(found[density], "density") <= most
    ]
    return max(
        eligible,
        key=lambda pair: (pair[1].is_whole, mean(pair[1], "val_accuracy")),
        default=None,
    )


def _dense(archive, like):
    """The dense row of a network that is best on validation data, or `None`."""
    network = ("model", "data", "width", "batch_norm", "examples")
    found = [
        row
        for name in EXPERIMENTS
        for row in archive.rows(name, "full")
        if row.results
        and row.recipe.is_dense
        and all(
            getattr(row.recipe, field) == getattr(like.recipe, field)
            for field in network
        )
    ]
    return max(found, key=lambda row: mean(row, "val_accuracy"), default=None)


def _named(experiment, name, row):
    """A method and its accuracy; and its seeds, if more than the curve's."""
    more = len(row.declared) > len(experiment.seeds)
    note = f", {row.runs} seeds" if more else ""
    return f"{name} {accuracy(row, note)}"


def _tuned(archive, name, density):
    """What ours has with settings chosen at that density, if any were."""
    key = _TUNED_THERE.get((name, density))
    row = key and archive.row(*key, "full")
    return f"; tuned there {accuracy(row)}" if row and row.results else ""


def _of_dense(dense, sparse):
    """A dense row's accuracy and optimizer; its epochs, if not the sparse's."""
    note, epochs = f" by {dense.label}", dense.recipe.epochs
    if epochs != sparse.recipe.epochs:
        note += f", {epochs} epochs"
    return accuracy(dense, note)


def _published(name, density):
    """What others print next to that density."""
    found = []
    for who, points in RECORDS.get(name, {}).items():
        at = min(points, key=lambda at: abs(math.log(at / density)))
        if abs(math.log(at / density)) < math.log(_BESIDE):
            digits = max(
                len(f"{x:g}".partition(".")[2]) for x in points.values()
            )
            found.append(f"{points[at]:.{digits}f} at {percent(at)}, {who}")
    return "; ".join(found) or "-"


def _column(our_method, ours, other_method, others):
    return [
        f"{our_method} {ours.cell('test_accuracy')}",
        f"{other_method} {others.cell('test_accuracy')}",
        _ahead(ours, others),
        _standing(ours, others),
    ]


def _ahead(ours, others):
    ahead = mean(ours, "test_accuracy") - mean(others, "test_accuracy")
    return f"{round(ahead, 2) + 0:+.2f}"  # plus 0: no "-0.00"


def _standing(ours, others):
    if not (ours.is_whole and others.is_whole):
        return "-"
    sign = beyond_chance(ours, others, "test_accuracy")
    return {1: "first", 0: "level", -1: "behind", None: "-"}[sign]
