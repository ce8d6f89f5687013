"""What a model remembers of a call, and how it forgets it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import keras
import numpy as np

from keras_bregman._keras import sublayers


def states_of(layer) -> list[keras.Variable]:
    """What a stateful recurrent layer remembers; Keras lists it nowhere."""
    if not getattr(layer, "stateful", False):
        return []
    states = keras.tree.flatten(getattr(layer, "states", None) or [])
    return [state for state in states if isinstance(state, keras.Variable)]


def remembered(model) -> list[keras.Variable]:
    """What a call may change; in training mode a kernel too, if normalized."""
    layers = sublayers(model)
    states = [state for layer in layers for state in states_of(layer)]
    return [*model.non_trainable_variables, *states]


@contextlib.contextmanager
def restored(variables: Iterable[keras.Variable]):
    """Gives variables their values back, whatever happens within.

    Yields:
        A pair of each variable and its value, an array.
    """
    # copies, as torch shares the memory
    kept = [(v, np.array(keras.ops.convert_to_numpy(v))) for v in variables]
    try:
        yield kept
    finally:
        for variable, value in kept:
            variable.assign(value)
