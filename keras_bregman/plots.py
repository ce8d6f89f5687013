"""Pictures of what is left of a model; needs matplotlib.

They are made by the object interface, so that nothing is shown and no display
is needed.
"""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_bregman import sparsity
from keras_bregman._checks import PathLike, check
from keras_bregman._pictures import figure_of, write
from keras_bregman.kernels import kernels

_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
_ON, _OFF = "#D55E00", "#DDDDDD"


def draw_density(model: keras.Model, path: PathLike) -> None:
    """Draws the density of every kernel and of all together, as bars.

    Args:
        model: A built model, of this package or any other.
        path: The image file; its suffix says which kind (`.png`, `.svg`).

    Raises:
        ValueError: If the model is not built or holds no kernel, or `path` is
            none of an image.
        OSError: If it cannot be written.
    """
    counts = sparsity.count(model)
    bars = [*counts, sparsity.total(counts)]
    figure = figure_of(7.2, 0.8 + 0.28 * len(bars), path)
    axis = figure.subplots()
    at = range(len(bars))
    axis.barh(at, [100] * len(bars), color=_OFF)
    axis.barh(at, [100 * c.density for c in bars], color=_ON)
    axis.set_yticks(
        at, [f"{c.name}: {c.density:.2%} of {c.size:,}" for c in bars]
    )
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("weights that are not 0, in %")
    write(figure, path)


def draw_masks(model: keras.Model, path: PathLike) -> None:
    """Draws which entries of every kernel are not 0.

    A column for each output unit, a row for each weight that feeds one.

    Args:
        model: A built model.
        path: The image file; its suffix says which kind (`.png`, `.svg`).

    Raises:
        ValueError: If the model is not built or holds no kernel, or `path` is
            none of an image.
        OSError: If it cannot be written.
    """
    found = kernels(model)
    columns = min(4, len(found))
    rows = math.ceil(len(found) / columns)
    figure = figure_of(2.6 * columns, 2.8 * rows, path)
    from matplotlib.colors import ListedColormap

    colours = ListedColormap([_OFF, _ON])
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for kernel, axis in zip(found, axes, strict=False):
        mask = _by_unit(kernel) != 0
        axis.imshow(
            mask, colours, vmin=0, vmax=1, aspect="auto", interpolation="none"
        )
        title = f"{kernel.name}\n{mask.mean():.2%}"
        axis.set_title(title, fontsize=7, parse_math=False)
        axis.tick_params(labelsize=6)
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    write(figure, path)


def draw_filters(
    model: keras.Model, path: PathLike, layer: str | None = None
) -> None:
    """Draws the filters of a convolution with a 2D kernel, one by one.

    Red is positive, blue negative, grey exactly 0; of a filter with several
    input channels their sum is drawn.

    Args:
        model: A built model.
        path: The image file; its suffix says which kind (`.png`, `.svg`).
        layer: Name of the layer or path of the kernel, by default the first
            convolution.

    Raises:
        ValueError: If there is no convolution or none so called, or `path` is
            none of an image.
        OSError: If it cannot be written.
    """
    found = [
        (kernel, kernel.layer.name)
        for kernel in kernels(model)
        if isinstance(kernel.layer, _CONVOLUTIONS)
        if not kernel.path.endswith("pointwise_kernel")
    ]
    if not found:
        raise ValueError(
            f"`model` '{model.name}' holds no convolution with a 2D kernel. "
            "See `draw_masks` for kernels of any layer."
        )
    # an array would compare entry by entry
    chosen = [
        k
        for k, name in found
        if layer is None or (isinstance(layer, str) and layer in (name, k.name))
    ]
    check(
        "layer",
        layer,
        bool(chosen),
        "a convolution with a 2D kernel, by name or by path, one of "
        f"{[k.name for k, _ in found]}",
    )
    kernel = chosen[0]
    height, width = kernel.layout.shape[:2]
    matrix = _by_unit(kernel)
    filters = matrix.reshape(height, width, -1, matrix.shape[-1])
    off = (filters == 0).all(axis=2)
    summed = np.ma.masked_where(off, filters.sum(axis=2))
    most = float(np.abs(filters.sum(axis=2)).max()) or 1.0
    columns = min(16, matrix.shape[-1])
    rows = math.ceil(matrix.shape[-1] / columns)
    figure = figure_of(max(2.0, 0.5 * columns), 0.5 * rows + 0.4, path)
    import matplotlib

    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad=_OFF)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, axis in enumerate(axes):
        axis.set_axis_off()
        if i < matrix.shape[-1]:
            axis.imshow(summed[..., i], colours, vmin=-most, vmax=most)
    figure.suptitle(kernel.name, fontsize=8, parse_math=False)
    write(figure, path)


def _by_unit(kernel):
    """A kernel as a matrix with a column for each output unit."""
    layout = kernel.layout
    order = (*layout.over("unit"), *layout.outputs)
    return kernel.value.transpose(order).reshape(layout.fan_in, -1)
