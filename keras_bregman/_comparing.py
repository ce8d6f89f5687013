"""Comparing two forms of a model."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from keras_bregman._checks import check, shown
from keras_bregman._graph import structure
from keras_bregman._keras import readers, sublayers
from keras_bregman._runtimes import words

_EXAMPLES = 2  # at random, where the model does not say how many it takes


def difference(some, others) -> float:
    """The largest between outputs, relative to the largest output or to 1.

    Of integers, which may be classes, the share that differs. Infinite if the
    shapes, words, or what is not a number differ.
    """
    pairs = zip(
        keras.tree.flatten(some), keras.tree.flatten(others), strict=True
    )
    return max((_between(*pair) for pair in pairs), default=0.0)


def random_inputs(model: keras.Model):
    """Arrays in the structure of a functional or Sequential model's input.

    Floats are normal, bytes from 0 to 255 as in images. Other integers, and
    whatever an embedding reads, are below the size of the model's smallest
    embedding, or 0 and 1 without one. Axes of unknown length get 32.
    """
    generator = np.random.default_rng(0)
    arrays = [_random(generator, tensor, model) for tensor in model.inputs]
    return keras.tree.pack_sequence_as(structure(model), arrays)


def as_inputs(model: keras.Model, samples):
    """Arrays of the inputs' dtypes, in their structure.

    Args:
        model: A functional or Sequential model.
        samples: An array or arrays in the structure of its inputs.

    Raises:
        ValueError: If they do not fit.
    """
    try:
        keras.tree.assert_same_structure(structure(model), samples)
        arrays = [
            _array(tensor, given)
            for tensor, given in zip(
                model.inputs, keras.tree.flatten(samples), strict=True
            )
        ]
        lengths = {len(array) for array in arrays}
        fits = len(lengths) == 1 and lengths != {0}
        for tensor, array in zip(model.inputs, arrays, strict=True):
            pairs = zip(tensor.shape[1:], array.shape[1:], strict=True)
            fits &= all(known in (None, n) for known, n in pairs)
            fits &= len(array) % (tensor.shape[0] or 1) == 0
    except (OverflowError, RecursionError, TypeError, ValueError):
        fits = False
    if not fits:
        try:
            given = keras.tree.map_structure(_shape, samples)
        except RecursionError:  # a list within itself
            given = shown(samples)
        wanted = keras.tree.map_structure(lambda t: t.shape, structure(model))
        raise ValueError(
            "`samples` must be one or more examples in the structure of the "
            f"model's inputs, with shapes {wanted}. Received: {given}"
        )
    for array in arrays:
        if array.dtype.kind == "f":
            check("samples", "NaN", not np.isnan(array).any(), "numbers")
    return keras.tree.pack_sequence_as(structure(model), arrays)


def _between(one, other):
    """`difference` of two tensors."""
    if _is_text(one) or _is_text(other):
        same = np.array_equal(*(words(np.asarray(x)) for x in (one, other)))
        return 0.0 if same else math.inf
    dtype = keras.backend.standardize_dtype(one.dtype)
    one, other = (
        ops.convert_to_numpy(ops.cast(x, "float32")) for x in (one, other)
    )
    finite = np.isfinite(one)
    if one.shape != other.shape or (finite != np.isfinite(other)).any():
        return math.inf
    if dtype == "bool" or "int" in dtype:
        return np.count_nonzero(one != other) / max(1, one.size)
    one, other = one[finite], other[finite]
    most = max(1.0, float(np.abs(one).max(initial=0.0)))
    return float(np.abs(one - other).max(initial=0.0)) / most


def _is_text(x):
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "OSU"
    return keras.backend.standardize_dtype(x.dtype) == "string"


def _array(tensor, given):
    array = np.asarray(given)
    if tensor.dtype != "string":
        return array.astype(tensor.dtype)
    return words(array)


def _shape(given):
    return f"shape {given.shape}" if hasattr(given, "shape") else shown(given)


def _random(generator, tensor, model):
    shape = [n or 32 for n in tensor.shape]
    shape[0] = tensor.shape[0] or _EXAMPLES
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    tables = [
        layer
        for layer in sublayers(model)
        if isinstance(layer, keras.layers.Embedding)
    ]
    into = readers(tensor)
    if "int" in dtype or any(table in into for table in tables):
        most = 256 if dtype == "uint8" else 2
        rows = min((table.input_dim for table in tables), default=most)
        return generator.integers(0, rows, shape).astype(dtype)
    if dtype == "bool":
        return generator.random(shape) < 0.5
    if dtype == "string":
        raise ValueError(
            "There are no random inputs for a model that reads strings. Pass "
            "some of its own as `samples`."
        )
    return generator.normal(size=shape).astype("float32")
