"""Weights that a training has made NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterable

import keras
from keras import ops

from keras_bregman._paths import path_of
from keras_bregman._scalars import to_floats

REMEDY = (
    "Check the data for NaN, lower `learning_rate` or set `global_clipnorm`"
)


def first_not_finite(variables: Iterable) -> keras.Variable | None:
    """The first variable that holds NaN or infinite numbers."""
    variables = list(variables)
    values = map(ops.convert_to_tensor, variables)
    finite = to_floats(ops.all(ops.isfinite(value)) for value in values)
    bad = (v for v, good in zip(variables, finite, strict=True) if not good)
    return next(bad, None)


def check_finite(variables: Iterable) -> None:
    """Raises FloatingPointError, naming the first variable not finite.

    Args:
        variables: `keras.Variable`s.
    """
    variable = first_not_finite(variables)
    if variable is not None:
        raise FloatingPointError(
            f"'{path_of(variable)}' holds NaN or infinite weights, from a loss "
            f"or gradient that was not finite. {REMEDY}; then load finite "
            "weights and go on: the optimizer's state heals itself at the next "
            "step."
        )
