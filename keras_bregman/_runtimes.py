"""Answers of an exported model, by the format's own runtime.

Run as a script, in a process without Keras and this package, with the names of
inputs and outputs as JSON:

    python _runtimes.py FORMAT FILE NAMES INPUTS.npz OUTPUTS.npz
"""

from __future__ import annotations

import json
import sys

import numpy as np


def saved_model(path, inputs):
    import tensorflow as tf

    served = tf.saved_model.load(path).signatures["serving_default"]
    answers = served(**{k: tf.constant(v) for k, v in inputs.items()})
    return {name: answer.numpy() for name, answer in answers.items()}


def litert(path, inputs):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(path).get_signature_runner()(**inputs)


def onnx(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    # in the model's order, by names that the converter may have changed
    answers = session.run(None, dict(zip(names, inputs.values(), strict=True)))
    return dict(enumerate(answers))


if __name__ == "__main__":
    kind, model, names, given, answer = sys.argv[1:]
    with np.load(given) as file:
        arrays = [file[name] for name in file.files]
    run = {"saved_model": saved_model, "litert": litert, "onnx": onnx}[kind]
    inputs, outputs = json.loads(names)
    found = run(model, dict(zip(inputs, arrays, strict=True)))
    order = outputs if set(outputs) == set(found) else list(found)
    np.savez(answer, *(found[name] for name in order))
