"""Test accuracy over density, a line for each method."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.archive import Row
from experiments.reporting.published import RECORDS
from experiments.reporting.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PERCENTS,
    PURPLE,
    RED,
    legend_below,
)
from experiments.reporting.tables import by_method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# by method a colour, and a marker for those who see none
_LOOKS = {
    "AdaBreg": (RED, "o"),
    "LinBreg": (BLUE, "s"),
    "LinBreg momentum": ("#003B66", "D"),
    "Pruning": (GREEN, "^"),
    "RigL": (PURPLE, "v"),
    "SET": ("#56B4E9", "<"),
    "Lasso": (ORANGE, ">"),
    "ProxGD": ("#A0760A", "d"),
    "STR": ("#000000", "h"),
}


def draw(rows: Sequence[Row]) -> Figure:
    """The methods of a curve, its dense reference and published records.

    Points are means over seeds, at the density that was reached; bars are the
    range of the seeds. An arrow names what lies below the frame.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axis = figure.subplots()
    lines = {}
    for method, found in by_method(rows).items():
        present = [row for row in found.values() if row.results]
        if not present:
            continue
        if present[0].recipe.density is None:
            axis.axhline(
                present[0].cell("test_accuracy").mean or 0.0,
                color=GREY,
                linestyle=(0, (5, 1.6)),
                label=f"{method}, dense",
            )
            continue
        present.sort(key=lambda row: row.recipe.density or 1)
        lines[method] = _line(axis, method, present)
    # small networks are not those that others have trained
    is_full = rows[0].scale == "full"
    records = RECORDS.get(rows[0].experiment, {}) if is_full else {}
    markers = itertools.cycle("*PXp")
    for (name, points), marker in zip(records.items(), markers, strict=False):
        axis.plot(
            [100 * density for density in points],
            list(points.values()),
            marker=marker,
            linestyle="none",
            color=GREY,
            markersize=8,
            label=f"{name}, published",
        )
    axis.set_xscale("log")
    axis.set_xticks([0.5, *PERCENTS[:-1]])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_xlabel("weights that are not 0, in %")
    axis.set_ylabel("test accuracy in %")
    if lines:
        _frame(axis, lines, records)
    legend_below(figure, axis)
    return figure


def _line(axis, method, rows):
    """Draws a method, ours thicker; its densities, means and lowest in %."""
    colour, marker = _look(method)
    densities = [row.cell("density").mean for row in rows]
    means = [row.cell("test_accuracy").mean for row in rows]
    seeds = [
        [100 * r["test"]["accuracy"] for r in row.results.values()]
        for row in rows
    ]
    axis.errorbar(
        densities,
        means,
        yerr=[
            [mean - min(s) for mean, s in zip(means, seeds, strict=True)],
            [max(s) - mean for mean, s in zip(means, seeds, strict=True)],
        ],
        color=colour,
        linewidth=1 if rows[0].recipe.is_peer else 2.2,
        zorder=2 if rows[0].recipe.is_peer else 3,
        marker=marker,
        markersize=4.5,
        capsize=2,
        label=method,
    )
    return densities, means, [min(s) for s in seeds]


def _frame(axis, lines, records):
    """From just under the lowest that matters; arrows to what lies below.

    What falls far below the others would hide how they differ.

    Args:
        axis: With all lines and records drawn.
        lines: By method, densities, means and lowest seeds in %.
        records: By name, published accuracies in % by density.
    """
    lowest = [min(means) for _, means, _ in lines.values()]
    bottom = max(lowest) - 6
    published = [min(points.values()) for points in records.values()]
    seeds = [min(low) for *_, low in lines.values()]
    bottom = min([max(min(seeds), bottom), *published]) - 0.5
    axis.set_ylim(bottom=bottom)
    if min(lowest) < bottom:  # room for arrows, where no point is
        top = axis.get_ylim()[1]
        bottom -= 0.1 * (top - bottom)
        axis.set_ylim(bottom=bottom)
    below = [
        (density, mean, method)
        for method, (densities, means, _) in lines.items()
        for density, mean in zip(densities, means, strict=True)
        if mean < bottom
    ]
    for i, (density, mean, method) in enumerate(below):
        beside = [d for d, *_ in below[:i] if 0.9 < d / density < 1.1]
        _point_below(axis, method, density, mean, len(beside))


def _point_below(axis, method, density, mean, number):
    """Names a point in an arrow; those at one density side by side."""
    colour, _ = _look(method)
    axis.annotate(
        f"{mean:.1f}",
        (density, 0),
        (26 * number, 16),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        color=colour,
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        arrowprops={"arrowstyle": "->", "color": colour},
    )


def _look(method):
    """Its colour and marker."""
    return _LOOKS.get(method, (GREY, "o"))
