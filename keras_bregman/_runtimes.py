"""Answers of an exported model, by the format's own runtime.

Run as a script, in a process without Keras and this package, with the names of
inputs and outputs as JSON:

    python _runtimes.py FORMAT FILE NAMES BATCH INPUTS.npz OUTPUTS.npz
"""

from __future__ import annotations

import json
import sys

import numpy as np


def saved_model(path):
    import tensorflow as tf

    served = tf.saved_model.load(path).signatures["serving_default"]

    def run(inputs):
        answers = served(**{k: tf.constant(v) for k, v in inputs.items()})
        return {name: answer.numpy() for name, answer in answers.items()}

    return run


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner()
    return lambda inputs: runner(**inputs)


def onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]

    def run(inputs):
        # in the model's order, by names that the converter may have changed
        given = dict(zip(names, inputs.values(), strict=True))
        return dict(enumerate(session.run(None, given)))

    return run


def answers(format, path, names, batch, arrays):
    """What the artifact answers.

    Args:
        format: Its format.
        path: Its file or folder, a string.
        names: Those of inputs and of outputs, two lists.
        batch: Examples at a time.
        arrays: Inputs, of any number of examples.

    Returns:
        A list of arrays.
    """
    inputs, outputs = names
    load = {"saved_model": saved_model, "litert": litert, "onnx": onnx}
    run = load[format](path)

    def in_order(some):
        found = run(dict(zip(inputs, some, strict=True)))
        order = outputs if set(outputs) == set(found) else found
        return [found[name] for name in order]

    return in_batches(in_order, arrays, batch)


def plain(array):
    """An array as NumPy can save it without pickling."""
    if array.dtype.kind == "V":  # bfloat16, which would be read back as bytes
        return array.astype("float32")
    return words(array) if array.dtype.kind == "O" else array


def words(array):
    """Words as strings, of strings or bytes; raises TypeError for others."""
    found = [w.decode() if isinstance(w, bytes) else w for w in array.flat]
    if not all(isinstance(word, str) for word in found):
        raise TypeError("words")
    # not as objects, which would be pickled
    return np.array(found, dtype=str).reshape(array.shape)


def in_batches(run, arrays, batch):
    """What `run` makes of arrays, some examples at a time.

    Args:
        run: From a list of arrays to a list of arrays.
        arrays: Of any number of examples.
        batch: Examples at a time.
    """
    found = [
        run([array[i : i + batch] for array in arrays])
        for i in range(0, len(arrays[0]), batch)
    ]
    # an output without a batch counts once for each
    return [
        np.concatenate([np.atleast_1d(part) for part in parts])
        for parts in zip(*found, strict=True)
    ]


if __name__ == "__main__":
    format, path, names, batch, given, answer = sys.argv[1:]
    with np.load(given) as file:
        arrays = [file[name] for name in file.files]
    found = answers(format, path, json.loads(names), int(batch), arrays)
    np.savez(answer, *map(plain, found))
