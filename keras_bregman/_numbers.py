"""Numbers out of variables."""

from __future__ import annotations

from collections.abc import Iterable

import keras
from keras import ops


def number(scalar) -> float:
    """The value of a scalar variable or tensor.

    By way of numpy, which a variable that TensorFlow mirrors on several
    devices has and `float` has not.
    """
    return float(ops.convert_to_numpy(scalar))


def numbers(scalars: Iterable) -> list:
    """The values of scalars, all at once if they are of one dtype.

    Whoever asks a GPU for one waits for all that it has still to do.
    """
    # TensorFlow stacks no variable of Keras
    scalars = [s.value if isinstance(s, keras.Variable) else s for s in scalars]
    if len({scalar.dtype for scalar in scalars}) == 1:
        return ops.convert_to_numpy(ops.stack(scalars)).tolist()
    return [number(scalar) for scalar in scalars]


def first_not_finite(variables: Iterable) -> keras.Variable | None:
    """The first variable that holds NaN or infinite numbers."""
    variables = list(variables)
    values = map(ops.convert_to_tensor, variables)
    finite = numbers(ops.all(ops.isfinite(value)) for value in values)
    bad = (v for v, good in zip(variables, finite, strict=True) if not good)
    return next(bad, None)
