"""A model as a function of TensorFlow with a signature, and as a SavedModel."""

from __future__ import annotations

import errno
import keyword
import re

import keras

from keras_bregman._graph import structure
from keras_bregman._keras import producer, sublayers
from keras_bregman._state import remembered


def serving_function(model, batch=None):
    """What a model computes, as a `tf.function` with an input signature.

    Args:
        model: A built functional or Sequential model.
        batch: Size of its batches, by default any or the model's own.
    """
    import tensorflow as tf

    names = output_names(model)

    def serve(*tensors):
        given = keras.tree.pack_sequence_as(structure(model), tensors)
        answers = model(given, training=False)
        if not _is_deep(answers):
            return answers
        # which a signature cannot return
        return dict(zip(names, keras.tree.flatten(answers), strict=True))

    specs = [
        tf.TensorSpec(
            (tensor.shape[0] or batch, *tensor.shape[1:]), tensor.dtype, name
        )
        for tensor, name in zip(model.inputs, input_names(model), strict=True)
    ]
    return tf.function(serve, input_signature=specs, autograph=False)


def write_saved_model(model, path, batch=None):
    """Writes a SavedModel: Keras' own export writes every weight twice.

    Raises:
        OSError: If it cannot be written.
    """
    import tensorflow as tf

    module = tf.Module()
    module.serve = serving_function(model, batch)
    variables = [*model.trainable_variables, *remembered(model)]
    module.weights = [variable.value for variable in variables]
    module.tables = [
        layer for layer in sublayers(model) if hasattr(layer, "lookup_table")
    ]
    signatures = {"serving_default": module.serve}
    try:
        tf.saved_model.save(module, str(path), signatures)
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message) from error


def input_names(model) -> list[str]:
    """The inputs' names in a signature, where they are a function's parameters.

    TensorFlow takes names for one that differ in upper and lower case alone.
    """
    names: list[str] = []
    for tensor in model.inputs:
        name = producer(tensor).name
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not re.match("[A-Za-z]", name):
            name = f"input_{name}"
        if keyword.iskeyword(name) or name == "self":
            name += "_"
        while name.lower() in map(str.lower, names):
            name += "_"
        names.append(name)
    return names


def output_names(model) -> list[str]:
    """The outputs' names in a signature: a dictionary's keys, or numbers."""
    outputs = None if isinstance(model, keras.Sequential) else model.output
    if isinstance(outputs, dict):
        found = keras.tree.flatten_with_path(outputs)
        names = ["_".join(map(str, path)) for path, _ in found]
        if len(set(names)) == len(names):
            return names
    return [f"output_{i}" for i in range(len(model.outputs))]


def _is_deep(answers):
    """Whether a list or a dictionary has others in it."""
    parts = answers.values() if isinstance(answers, dict) else answers
    nested = keras.tree.is_nested
    return nested(answers) and any(map(nested, parts))
