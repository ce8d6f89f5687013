"""Numbers out of variables."""

from __future__ import annotations

import keras


def number(scalar) -> float:
    """The value of a scalar variable or tensor.

    By way of numpy, which a variable that TensorFlow mirrors on several
    devices has and `float` has not.
    """
    return float(keras.ops.convert_to_numpy(scalar))
