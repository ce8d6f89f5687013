"""Figure 1: the ConvNet's layers, drawn from the model itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from experiments.data import inputs_of
from experiments.errors import Trouble
from experiments.reporting.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    "Conv2D": BLUE,
    "MaxPooling2D": ORANGE,
    "ReLU": GREEN,
    "Dense": RED,
    "Flatten": PURPLE,
}


class Layer(NamedTuple):
    """What Figure 1 says of a layer.

    Attributes:
        name: Its name in the model.
        kind: Its class.
        shape: Of its output, without the batch.
        parameters: How many it has.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def read_layers() -> list[Layer]:
    """The layers of the ConvNet, read from a model that Keras builds.

    Raises:
        Trouble: If Keras or its backend cannot be imported.
    """
    try:
        from experiments import models
    except ImportError as error:
        raise Trouble(
            "Figure 1 is drawn from the model, which needs Keras and the "
            f"backend that KERAS_BACKEND names ({error}). Install one, as "
            "with pip install -e '.[tensorflow]'."
        ) from error
    return [
        Layer(
            layer.name,
            type(layer).__name__,
            tuple(layer.output.shape[1:]),
            layer.count_params(),
        )
        for layer in models.convnet(inputs_of("fashion_mnist")).layers
    ]


def draw(layers: list[Layer]) -> Figure:
    """A row of blocks, as tall as the image and as thick as its channels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.2, 3.5), layout="constrained")
    axis = figure.subplots()
    largest = max(_extent(layer)[0] for layer in layers)
    for i, layer in enumerate(layers):
        height, thickness = _extent(layer)
        _block(axis, i, height / largest, thickness, layer)
        if i:
            axis.annotate(
                "",
                (i - 0.16, 0),
                (i - 0.40, 0),
                arrowprops={"arrowstyle": "->", "color": "#888888", "lw": 0.8},
            )
        _write(axis, i, _caption(layer))
    total = sum(layer.parameters for layer in layers)
    heads = ("layer", "class", "output", f"{total:,} parameters")
    _write(axis, -0.5, heads, "right")
    axis.set_xlim(-1.85, len(layers) - 0.5)
    axis.set_ylim(-1.12, 0.68)
    axis.set_axis_off()
    return figure


def _extent(layer):
    """Height and thickness; a vector is a column as tall as its root."""
    if len(layer.shape) == 1:
        return math.sqrt(layer.shape[0]), 0.05
    height, _, channels = layer.shape
    return height, 0.03 + 0.045 * math.log2(2 * channels) / 2


def _block(axis: Axes, x: int, height: float, thickness: float, layer: Layer):
    """A box seen from the side: front, top and the face of the image."""
    from matplotlib.patches import Polygon

    color = _COLOURS.get(layer.kind, GREY)
    image = len(layer.shape) > 1
    dx, dy = (0.22 * height, 0.16 * height) if image else (0.05, 0.03)
    left, right = x - thickness / 2 - 0.05, x + thickness / 2 - 0.05
    low, high = -height / 2, height / 2
    # each face from two opposite edges, the darker the nearer
    for alpha, (a, b), (c, d) in (
        (0.75, ((left, low), (right, low)), ((right, high), (left, high))),
        (
            0.45,
            ((left, high), (right, high)),
            ((right + dx, high + dy), (left + dx, high + dy)),
        ),
        (
            0.6,
            ((right, low), (right + dx, low + dy)),
            ((right + dx, high + dy), (right, high)),
        ),
    ):
        axis.add_patch(
            Polygon(
                [a, b, c, d],
                facecolor=(color, alpha),
                edgecolor="white",
                linewidth=0.8,
            )
        )


def _caption(layer):
    shape = "\N{MULTIPLICATION SIGN}".join(map(str, layer.shape))
    count = f"{layer.parameters:,}" if layer.parameters else "-"
    return layer.name, layer.kind, shape, count


def _write(axis, x, texts, align="center"):
    styles = ((9, "#222222"), (7, "#666666"), (8, "#222222"), (8, "#222222"))
    for i, (text, (size, color)) in enumerate(zip(texts, styles, strict=True)):
        y = -0.66 - 0.135 * i
        axis.text(x, y, text, size=size, color=color, ha=align, va="center")
