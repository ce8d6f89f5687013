"""Random inputs that a model accepts, to compare two of its forms."""

from __future__ import annotations

import keras
import numpy as np


def random_inputs(model: keras.Model, batch: int = 2, seed: int = 0):
    """Arrays in the structure of a functional or Sequential model's input.

    Floats are normal. Integers are below the size of the model's smallest
    embedding, or 0 and 1 without one. Axes of unknown length get 32 in images
    and 8 elsewhere.
    """
    generator = np.random.default_rng(seed)
    arrays = [
        _random(generator, tensor, model, batch) for tensor in model.inputs
    ]
    return keras.tree.pack_sequence_as(structure(model), arrays)


def structure(model: keras.Model):
    """How a functional or Sequential model's inputs are nested."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input


def _random(generator, tensor, model, batch):
    unknown = 32 if len(tensor.shape) > 3 else 8
    shape = [n or unknown for n in tensor.shape]
    shape[0] = tensor.shape[0] or batch
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if "int" in dtype:
        rows = [
            layer.input_dim
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.Embedding)
        ]
        return generator.integers(0, min(rows, default=2), shape).astype(dtype)
    if dtype == "bool":
        return generator.random(shape) < 0.5
    return generator.normal(size=shape).astype("float32")
