"""Pictures of what is left of a model; needs matplotlib.

`pip install 'keras-bregman[plot]'`. They are made by the object interface, so
that nothing is shown and no display is needed.
"""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_bregman import sparsity
from keras_bregman._checks import check_all
from keras_bregman.kernels import kernels

_ON, _OFF = "#D55E00", "#DDDDDD"


def draw_density(model: keras.Model, path) -> None:
    """Draws the density of every kernel and of all together, as bars.

    Args:
        model: A built model, of this package or any other.
        path: The image file; its suffix says which kind (`.png`, `.svg`).

    Raises:
        ValueError: If the model is not built or holds no kernel.
    """
    counts = sparsity.count(model)
    bars = [*counts, sparsity.total(counts)]
    figure = _figure(7.2, 0.8 + 0.28 * len(bars))
    axis = figure.subplots()
    names = [f"{c.path}: {c.density:.2%} of {c.size:,}" for c in bars]
    axis.barh(names, [100] * len(bars), color=_OFF)
    axis.barh(names, [100 * c.density for c in bars], color=_ON)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("weights that are not 0, in %")
    figure.savefig(path, dpi=160)


def draw_masks(model: keras.Model, path) -> None:
    """Draws which entries of every kernel are not 0.

    A column for each output unit, a row for each weight that feeds one.

    Args:
        model: A built model.
        path: The image file; its suffix says which kind (`.png`, `.svg`).

    Raises:
        ValueError: If the model is not built or holds no kernel.
    """
    found = kernels(model)
    colours = _two_colours()
    columns = min(4, len(found))
    rows = math.ceil(len(found) / columns)
    figure = _figure(2.6 * columns, 2.8 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for kernel, axis in zip(found, axes, strict=False):
        mask = _by_unit(kernel) != 0
        axis.imshow(
            mask, colours, vmin=0, vmax=1, aspect="auto", interpolation="none"
        )
        axis.set_title(f"{kernel.path}\n{mask.mean():.2%}", fontsize=7)
        axis.tick_params(labelsize=6)
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=160)


def draw_filters(model: keras.Model, path, layer: str | None = None) -> None:
    """Draws the filters of a convolution with a 2D kernel, one by one.

    Red is positive, blue negative, grey exactly 0; of a filter with several
    input channels their sum is drawn.

    Args:
        model: A built model.
        path: The image file; its suffix says which kind (`.png`, `.svg`).
        layer: Name of the layer, by default the first convolution.

    Raises:
        ValueError: If there is no such convolution.
    """
    convolutions = {
        kernel.layer.name: kernel
        for kernel in kernels(model)
        if kernel.layer is not None and len(kernel.layout.shape) == 4
    }
    name = next(iter(convolutions), None) if layer is None else layer
    check_all(
        (
            "layer",
            layer,
            name in convolutions,
            f"a layer with a 2D kernel, one of {list(convolutions)}",
        )
    )
    import matplotlib

    kernel = convolutions[name]
    height, width = kernel.layout.shape[:2]
    matrix = _by_unit(kernel)
    filters = matrix.reshape(height, width, -1, matrix.shape[-1])
    off = (filters == 0).all(axis=2)
    summed = np.ma.masked_where(off, filters.sum(axis=2))
    most = float(np.abs(filters.sum(axis=2)).max()) or 1.0
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad=_OFF)
    columns = min(16, matrix.shape[-1])
    rows = math.ceil(matrix.shape[-1] / columns)
    figure = _figure(max(2.0, 0.5 * columns), 0.5 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, axis in enumerate(axes):
        axis.set_axis_off()
        if i < matrix.shape[-1]:
            axis.imshow(summed[..., i], colours, vmin=-most, vmax=most)
    figure.suptitle(kernel.path, fontsize=8)
    figure.savefig(path, dpi=160)


def _figure(width, height):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib: pip install 'keras-bregman[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def _by_unit(kernel):
    """A kernel as a matrix with a column for each output unit."""
    value = keras.ops.convert_to_numpy(kernel.variable)
    inside = kernel.layout.over("unit")
    outside = [a for a in range(value.ndim) if a not in inside]
    order = (*inside, *outside)
    size = kernel.layout.fan_in
    return np.transpose(value, order).reshape(size, -1)


def _two_colours():
    from matplotlib.colors import ListedColormap

    return ListedColormap([_OFF, _ON])
