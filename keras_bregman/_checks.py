"""Checks of arguments, one wording for all."""

from __future__ import annotations

import math
import numbers
import os
import pathlib
import re

import keras
import numpy as np

PathLike = str | os.PathLike[str]  # what `check_path` takes
_LONGEST = 300  # characters of a value that a message repeats


def shown(value) -> str:
    """`repr` of anything, shortened."""
    try:
        text = repr(value)
    except Exception:  # a number too long for it, or somebody's own class
        text = f"an object of {type(value)}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def check(name, value, good, bound):
    """Raises ValueError for an argument that is not good.

    Args:
        name: Of the argument.
        value: What was given.
        good: Whether it will do.
        bound: What it must be, as a phrase behind "must be".
    """
    if not good:
        raise ValueError(
            f"`{name}` must be {bound}. Received: {name}={shown(value)}"
        )


def as_number(value):
    """A float, or NaN for what is no number, so that no comparison holds."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        return float(value) if is_number else math.nan
    except OverflowError:
        return math.inf


def check_number(name, value, interval="[0, inf)"):
    """`value` as a float; raises ValueError unless it lies in `interval`."""
    low, high = map(float, interval[1:-1].split(","))
    opens, closes = interval[0] == "(", interval[-1] == ")"
    number = as_number(value)
    above = number > low if opens else number >= low
    below = number < high if closes else number <= high
    bound = f"in {interval}"
    if high == math.inf:
        least = f"greater than {low:g}" if opens else f"{low:g} or greater"
        bound = f"a finite number {least}"
    check(name, value, above and below, bound)
    return number + 0.0  # which has no sign if it is 0


def check_integer(name, value, low):
    """`value` as an int; raises ValueError unless it is `low` or greater."""
    good = isinstance(value, numbers.Integral) and as_number(value) >= low
    check(name, value, good, f"{low} or greater, and an integer")
    return int(value)


def check_flag(name, value):
    """`value` as a bool; raises ValueError unless it is one."""
    good = isinstance(value, (bool, np.bool_))
    check(name, value, good, "True or False")
    return bool(value)


def check_choice(name, value, choices):
    """`value`; raises ValueError unless it is one of the strings `choices`."""
    good = isinstance(value, str) and value in choices
    check(name, value, good, f"one of {tuple(choices)}")
    return value


def check_expression(name, expression):
    """The expression; raises ValueError unless it is a regular one."""
    try:
        if not isinstance(expression, str):  # as bytes may be elsewhere
            raise TypeError("it is no string")
        re.compile(expression)
    except (TypeError, re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"`{name}` chooses variables by regular expressions on their "
            "paths, such as 'conv.*kernel'. "
            f"Received: {shown(expression)} ({error})"
        ) from None
    return expression


def check_path(name, path):
    """`path` as a `pathlib.Path`; raises ValueError unless it can be one."""
    try:
        found = pathlib.Path(path)
        good = b"\0" not in os.fsencode(found)
    except (TypeError, UnicodeEncodeError):
        good = False
    check(name, path, good, "a path, as a string or a `pathlib.Path`")
    return found


def check_model(model):
    """Raises ValueError unless it is a Keras model or layer."""
    good = isinstance(model, keras.layers.Layer)
    check("model", model, good, "a built `keras.Model` or layer")


def check_tensor(name, tensor, like=None):
    """The tensor, of an array or variable too.

    Raises ValueError unless it is one of floats, and like another.
    """
    good = "float" in _dtype(tensor)
    check(name, tensor, good, "a tensor of floats")
    if like is not None:
        bound = f"a tensor of shape {tuple(like.shape)} and {_dtype(like)}"
        same = tuple(tensor.shape) == tuple(like.shape)
        good = same and _dtype(tensor) == _dtype(like)
        check(name, tensor, good, bound)
    return keras.ops.convert_to_tensor(tensor)


def check_scalar(name, value):
    """The value; raises ValueError unless it is a scalar tensor or a number.

    Numbers have to be 0 or greater, and finite.
    """
    if _dtype(value) and len(value.shape) == 0:
        return value
    return check_number(name, value)


def _dtype(tensor):
    """Name of a tensor's or variable's dtype, empty for all else."""
    kinds = (keras.Variable, np.ndarray, np.generic)
    if not isinstance(tensor, kinds) and not keras.ops.is_tensor(tensor):
        return ""
    try:
        return keras.backend.standardize_dtype(tensor.dtype)
    except ValueError:  # numpy has others
        return ""
