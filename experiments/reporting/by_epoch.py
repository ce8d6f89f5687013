"""Figures by epoch, in one style: a line is a mean, a band its seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from experiments.archive import Row
from experiments.catalog import EXPERIMENTS
from experiments.recipes import Recipe
from experiments.reporting.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    legend_below,
    log_percent,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    ("SGD", False): GREY,
    ("SGD", True): GREY,
    ("Adam", False): GREY,
    ("ProxGD", False): ORANGE,
    ("LinBreg", False): BLUE,
    ("LinBreg", True): GREEN,
    ("AdaBreg", False): RED,
}
_SPARE = (PURPLE, BLUE, RED, ORANGE)
_MOST = 4  # lines of one colour, which dashes still tell apart
_DASHES = (
    "-",
    (0, (5, 1.6)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (6, 1.5, 1.2, 1.5, 1.2, 1.5)),
    (0, (10, 3)),
)
_AXIS_LABELS = {
    "accuracy": "training accuracy in %",
    "val_accuracy": "validation accuracy in %",
    "density": "weights that are not 0, in %",
    "loss": "training loss",
}


class Look(NamedTuple):
    """How a recipe is drawn in every figure."""

    color: str
    linestyle: object


def looks(recipes: Iterable[Recipe]) -> dict[str, Look]:
    """A colour for each optimizer, and dashes for its further recipes.

    Where there are many of these, they have a second colour.
    """
    by_color: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        color = _COLOURS[recipe.optimizer, recipe.momentum > 0]
        by_color.setdefault(color, []).append(recipe)
    spare = [color for color in _SPARE if color not in by_color]
    found = {}
    for own, alike in by_color.items():
        for begin in range(0, len(alike), _MOST):
            # momentum is dashed from the first: it mostly hides LinBreg's line
            color, first = own, begin + int(alike[0].momentum > 0)
            if begin and spare:
                color, first = spare.pop(0), 0
            some = alike[begin : begin + _MOST]
            for count, recipe in enumerate(some, first):
                dashes = _DASHES[count % len(_DASHES)]
                found[recipe.label] = Look(color, dashes)
    return found


def draw(
    rows: Sequence[Row], keys: Sequence[str], log_density: bool = False
) -> Figure:
    """One panel for each quantity of the history, one line for each row.

    Args:
        rows: Of one experiment, or of none that the catalog declares; those
            without results are left out.
        keys: Quantities of the history.
        log_density: Whether density has a logarithmic axis.
    """
    from matplotlib.figure import Figure

    width = 6.2 if len(keys) == 1 else 4.6 * len(keys)
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    # of all recipes, so that a line looks alike in every figure of them
    declared = EXPERIMENTS.get(rows[0].experiment)
    styles = looks(
        declared.recipes if declared else [row.recipe for row in rows]
    )
    present = [row for row in rows if row.results]
    for axis, key in zip(panels, keys, strict=True):
        for row in present:
            band(axis, row, key, label=row.label, **styles[row.label]._asdict())
        label_axis(axis, key)
        if key.endswith("accuracy"):
            _frame_accuracy(axis, present, key)
        elif log_density:
            log_percent(axis)
        else:
            axis.set_ylim(bottom=0)
    legend_below(figure, panels[0])
    return figure


def band(axis: Axes, row: Row, key: str, **look) -> None:
    """Mean of a row's runs by epoch, and the range of its seeds."""
    import numpy as np

    factor = 1 if key == "loss" else 100
    curves = factor * np.array(row.histories(key), float)
    epochs = np.arange(1, curves.shape[1] + 1)
    axis.plot(epochs, curves.mean(axis=0), **look)
    axis.fill_between(
        epochs,
        curves.min(axis=0),
        curves.max(axis=0),
        color=look["color"],
        alpha=0.18,
        linewidth=0,
    )


def label_axis(axis: Axes, key: str) -> None:
    """Epochs below, the quantity at the left."""
    axis.set_xlabel("epoch")
    axis.set_ylabel(_AXIS_LABELS[key])
    whole_numbers(axis)
    axis.margins(x=0.01)


def _frame_accuracy(axis, rows, key):
    """From just under where the worst curve ends: starts are not the point."""
    found = list(itertools.chain(*(row.histories(key) for row in rows)))
    lowest = 100 * min(curve[-1] for curve in found)
    highest = 100 * max(max(curve) for curve in found)
    axis.set_ylim(max(0, lowest - 3), min(100.5, highest + 1))
