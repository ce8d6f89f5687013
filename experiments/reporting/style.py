"""How all figures look: colours, axes, legends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.labelcolor": "#222222",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "keras_bregman",  # ids that stay the same
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}
# Okabe and Ito's, which colour-blind readers tell apart
GREY, ORANGE, BLUE, GREEN, RED, PURPLE = (
    "#555555",
    "#E69F00",
    "#0072B2",
    "#009E73",
    "#D55E00",
    "#CC79A7",
)
PERCENTS = (1, 2, 5, 10, 20, 50, 100)


def legend_below(figure: Figure, axis: Axes) -> None:
    """The lines of an axis, in as few rows of equal length as fit."""
    handles, labels = axis.get_legend_handles_labels()
    # about 15 letters an inch, and a line is as long as 9
    room = int(15 * figure.get_figwidth())
    most = max(1, room // (max(map(len, labels)) + 9))
    rows = math.ceil(len(labels) / most)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=math.ceil(len(labels) / rows),
    )


def whole_numbers(axis: Axes) -> None:
    """Ticks of the x axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(
        MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
    )


def log_percent(axis: Axes) -> None:
    """Percent on a logarithmic axis, with ticks a person would choose."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_yticks([p for p in PERCENTS if low <= p <= max(high, 100)])
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_ylim(low, max(high, 110))
