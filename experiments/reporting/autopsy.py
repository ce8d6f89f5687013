"""Figures of the autopsy: AdaBreg's first steps, the starts of a VGG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.archive import Row
from experiments.recipes import Recipe
from experiments.reporting.by_epoch import band, label_axis
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
    from matplotlib.figure import Figure

_STEP_LOOKS = ((PURPLE, "v"), (ORANGE, "s"), (GREEN, "^"), (BLUE, "D"))
_STARTS = {
    "bernoulli": ("single weights (Bernoulli)", BLUE, "-"),
    "kernel": ("whole kernels", ORANGE, (0, (5, 1.6))),
    "balanced": ("balanced", GREEN, "-"),
    "dense": ("dense convolutions", GREY, (0, (1.2, 1.2))),
}
_BY_LAYER = {
    "gradient_norm": "gradient norm at step 1\n(gap: 0 or overflow)",
    "dead_units": "dead units before step 1, in %",
}
_BY_EPOCH = ("density", "loss")


def draw_steps(rows: Sequence[Row]) -> Figure:
    """Density after the first steps, and accuracy, over tau."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = sorted(
        (row for row in rows if _steps_of(row)),
        key=lambda row: row.recipe.learning_rate,
    )
    taus = [row.recipe.learning_rate for row in rows]
    for name, look, density, accuracy in _moments(rows):
        _spread(left, taus, density, look, name)
        _spread(right, taus, accuracy, look, name)
    log_percent(left)
    left.set_ylabel("weights that are not 0, in %")
    right.set_ylabel("validation accuracy in %")
    right.set_ylim(0, 101)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_xlabel("tau")
    legend_below(figure, right)
    return figure


def _moments(rows):
    """Name, look, and by row and seed density and accuracy of each line."""
    for i, found in enumerate(_steps_of(rows[0])[0]):
        step = found["step"]
        yield (
            f"after {step:,} step{'s' if step > 1 else ''}",
            _STEP_LOOKS[i % len(_STEP_LOOKS)],
            *(
                [[steps[i][key] for steps in _steps_of(row)] for row in rows]
                for key in ("density", "accuracy")
            ),
        )
    yield (
        f"after {rows[0].recipe.epochs} epochs",
        (RED, "o"),
        *(
            [[curve[-1] for curve in row.histories(key)] for row in rows]
            for key in ("density", "val_accuracy")
        ),
    )


def _steps_of(row):
    return [r["probes"].get("steps") or [] for r in row.results.values()]


def _spread(axis, places, values, look, label):
    """A line through the means, with the range of the seeds around it."""
    import numpy as np

    color, marker = look

    percent = [100 * np.array(of_seeds, float) for of_seeds in values]
    axis.plot(
        places,
        [p.mean() for p in percent],
        color=color,
        label=label,
        marker=marker,
        markersize=4.5,
    )
    axis.fill_between(
        places,
        [p.min() for p in percent],
        [p.max() for p in percent],
        color=color,
        alpha=0.18,
        linewidth=0,
    )


def draw_starts(rows: Sequence[Row]) -> Figure:
    """Gradients, dead units, density and loss of a network's starts.

    One column with batch normalization and one without.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 10.2), layout="constrained")
    panels = figure.subplots(4, 2, sharey="row")
    for column, norm in enumerate((True, False)):
        axes = panels[:, column]
        name = "with" if norm else "without"
        axes[0].set_title(f"{name} batch normalization")
        for row in rows:
            if row.recipe.batch_norm == norm and row.results:
                _draw_start(axes, row)
        for axis in axes[:2]:
            axis.set_xlabel("layer, from the image on")
            whole_numbers(axis)
        for axis, key in zip(axes[2:], _BY_EPOCH, strict=True):
            label_axis(axis, key)
    for axis, text in zip(panels[:2, 0], _BY_LAYER.values(), strict=True):
        axis.set_ylabel(text)
    for axis in panels[2:, 1]:
        axis.set_ylabel("")  # the left column says it
    panels[0, 0].set_yscale("log", nonpositive="mask")
    panels[1, 0].set_ylim(-3, 103)
    log_percent(panels[2, 0])
    legend_below(figure, panels[0, 0])
    return figure


def _draw_start(axes, row):
    """A start's four curves; the probes see the first seed."""
    import numpy as np

    label, color, dashes = _STARTS[_start_of(row.recipe)]
    look = {"color": color, "linestyle": dashes, "label": label}
    layers = next(iter(row.results.values()))["probes"].get("layers") or []
    for axis, key in zip(axes[:2], _BY_LAYER, strict=True):
        values = np.array([layer[key] for layer in layers], float)
        if key == "dead_units":
            values = 100 * values
        places = range(1, len(layers) + 1)
        axis.plot(places, values, marker="o", markersize=3, **look)
    for axis, key in zip(axes[2:], _BY_EPOCH, strict=True):
        band(axis, row, key, **look)


def _start_of(recipe: Recipe) -> str:
    # only a start by paths leaves the convolutions dense
    return "dense" if isinstance(recipe.start, dict) else recipe.start_method
