"""Numbers out of scalar variables and tensors."""

from __future__ import annotations

from collections.abc import Iterable

import keras
from keras import ops


def to_float(scalar) -> float:
    """The value of a scalar variable or tensor.

    By way of numpy, which a variable that TensorFlow mirrors on several
    devices has and `float` has not.
    """
    return float(ops.convert_to_numpy(scalar))


def to_floats(scalars: Iterable) -> list:
    """The values of scalars, all at once if they are of one dtype.

    Whoever asks a GPU for one waits for all that it has still to do.
    """
    # TensorFlow stacks no variable of Keras
    scalars = [s.value if isinstance(s, keras.Variable) else s for s in scalars]
    if len({scalar.dtype for scalar in scalars}) == 1:
        return ops.convert_to_numpy(ops.stack(scalars)).tolist()
    return [to_float(scalar) for scalar in scalars]
