"""Measuring how sparse a model is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_bregman._checks import check_choice, check_model
from keras_bregman._finite import REMEDY
from keras_bregman._table import table
from keras_bregman._wrappers import regularized
from keras_bregman.kernels import Kernel, kernels

OF = ("kernels", "regularized")


class Count(NamedTuple):
    """The non-zero entries of one kernel.

    Attributes:
        name: The variable's path, numbered where paths repeat.
        shape: Its shape.
        nonzero: Number of entries that are not exactly 0.
        size: Number of entries.
        dead_units: Number of output units all of whose weights are 0.
        units: Number of output units.
    """

    name: str
    shape: tuple[int, ...]
    nonzero: int
    size: int
    dead_units: int
    units: int

    @property
    def density(self) -> float:
        return self.nonzero / max(1, self.size)

    @property
    def share_dead(self) -> float:
        return self.dead_units / max(1, self.units)


def counted(model: keras.layers.Layer, of: str = "kernels") -> list[Kernel]:
    """What a density is the density of.

    Args:
        model: A built `keras.Model` or layer. Frozen kernels count too.
        of: `"kernels"`, all of the model's, or `"regularized"`, the variables
            that its optimizers regularize, kernels or not.

    Raises:
        ValueError: If the model is not built or holds none.
    """
    check_choice("of", of, OF)
    if of == "kernels":
        return kernels(model)
    check_model(model)
    found = [
        Kernel(e.name, e.variable, e.shrink.layout, None)
        for e in regularized(model)
    ]
    if not found:
        raise ValueError(
            f"`model` '{model.name}' has no optimizer that regularizes a "
            "variable, or it is not built yet, or the model was quantized "
            "since. Compile the model with LinBreg, AdaBreg or ProxGD and "
            "train it, or take of='kernels'."
        )
    return found


def is_known(model: keras.layers.Layer, of: str) -> bool:
    """Whether what is counted is there before the first step.

    An optimizer that is not built yet cannot say what it regularizes, and
    TensorFlow builds a model without an input at the first step.
    """
    return of == "kernels" and model.built


def check_countable(model: keras.layers.Layer, of: str) -> None:
    """Raises as `counted` does, before an epoch is lost, if that is known."""
    if is_known(model, of):
        counted(model, of)


def count(model: keras.layers.Layer, of: str = "kernels") -> list[Count]:
    """Counts the non-zero entries of every kernel of a model.

    Args:
        model: A built `keras.Model` or layer. Frozen kernels count too.
        of: `"regularized"` counts the variables that the model's optimizers
            regularize instead, kernels or not.

    Raises:
        ValueError: If the model is not built or holds none.
        FloatingPointError: If one holds NaN.
    """
    counts = []
    for kernel in counted(model, of):
        value = kernel.value
        if np.isnan(value).any():
            raise FloatingPointError(
                f"'{kernel.name}' holds NaN, so that its density means "
                f"nothing; a loss or gradient was not finite. {REMEDY}, and "
                "go on from finite weights."
            )
        on = value != 0
        alive = on.any(axis=kernel.layout.over("unit"))
        counts.append(
            Count(
                kernel.name,
                value.shape,
                int(np.count_nonzero(on)),
                value.size,
                int(alive.size - np.count_nonzero(alive)),
                alive.size,
            )
        )
    return counts


def supports(
    model: keras.layers.Layer, of: str = "kernels"
) -> dict[str, np.ndarray]:
    """By numbered path, which entries of a kernel are not 0."""
    return {kernel.name: kernel.value != 0 for kernel in counted(model, of)}


def density(model: keras.layers.Layer, *, of: str = "kernels") -> float:
    """Share of a model's kernel entries that are not exactly 0, in [0, 1].

    The papers' and the report's N_total: kernels of dense, convolution,
    depthwise, pointwise, recurrent and attention layers count; biases,
    normalization and embeddings do not. A number that is merely tiny is not 0.
    A kernel is what its layer multiplies by: with LoRA, its product included.

    Args:
        model: A built `keras.Model` or layer. Frozen kernels count too.
        of: `"regularized"` counts the variables that the model's optimizers
            regularize instead, embeddings or scales among them.

    Raises:
        ValueError: If the model is not built or holds none.
        FloatingPointError: If one holds NaN.
    """
    return total(count(model, of)).density


def total(counts: list[Count]) -> Count:
    """The sum over kernels, with name `"total"`."""
    return Count(
        "total",
        (),
        sum(c.nonzero for c in counts),
        sum(c.size for c in counts),
        sum(c.dead_units for c in counts),
        sum(c.units for c in counts),
    )


def summary(
    model: keras.layers.Layer,
    *,
    print_fn: Callable[[str], object] = print,
    of: str = "kernels",
) -> None:
    """Prints the density of every kernel of a model and of all together.

    A dead unit is an output unit, filter or channel all of whose weights are 0.

    Args:
        model: A built `keras.Model` or layer.
        print_fn: Called with the table as one string.
        of: As for `density`.

    Raises:
        ValueError: If the model is not built or holds none.
        FloatingPointError: If one holds NaN.
    """
    counts = count(model, of)
    rows = [
        (
            c.name,
            "x".join(map(str, c.shape)),
            f"{c.size:,}",
            f"{c.nonzero:,}",
            f"{c.density:.2%}",
            f"{c.dead_units:,} / {c.units:,}",
        )
        for c in [*counts, total(counts)]
    ]
    print_fn(
        table(
            (
                of.removesuffix("s"),
                "shape",
                "weights",
                "non-zero",
                "density",
                "dead units",
            ),
            rows,
        )
    )
