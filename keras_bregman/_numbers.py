"""Numbers out of variables."""

from __future__ import annotations

from collections.abc import Iterable

from keras import ops


def number(scalar) -> float:
    """The value of a scalar variable or tensor.

    By way of numpy, which a variable that TensorFlow mirrors on several
    devices has and `float` has not.
    """
    return float(ops.convert_to_numpy(scalar))


def numbers(scalars: Iterable) -> list:
    """The values of scalar tensors, all at once if they are of one dtype.

    Whoever asks a GPU for one waits for all that it has still to do.
    """
    scalars = list(scalars)
    if len({scalar.dtype for scalar in scalars}) == 1:
        return ops.convert_to_numpy(ops.stack(scalars)).tolist()
    return [number(scalar) for scalar in scalars]
