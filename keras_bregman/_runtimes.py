"""Answers of an exported model, by the format's own runtime.

Run as a script, in a process without Keras and this package, with the names of
the inputs as JSON:

    python _runtimes.py FORMAT FILE NAMES INPUTS.npz OUTPUTS.npz
"""

from __future__ import annotations

import json
import re
import sys

import numpy as np


def saved_model(path, inputs):
    import tensorflow as tf

    served = tf.saved_model.load(path).signatures["serving_default"]
    answers = served(**{k: tf.constant(v) for k, v in inputs.items()})
    return [answers[name].numpy() for name in sorted(answers, key=_natural)]


def litert(path, inputs):
    from ai_edge_litert.interpreter import Interpreter

    answers = Interpreter(path).get_signature_runner()(**inputs)
    return [answers[name] for name in sorted(answers, key=_natural)]


def onnx(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    # in the model's order, by names that the converter may have changed
    return session.run(None, dict(zip(names, inputs.values(), strict=True)))


def _natural(name):
    """So that output_10 comes behind output_9."""
    return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", name)]


if __name__ == "__main__":
    kind, model, names, given, answer = sys.argv[1:]
    with np.load(given) as file:
        arrays = [file[name] for name in file.files]
    run = {"saved_model": saved_model, "litert": litert, "onnx": onnx}[kind]
    found = run(model, dict(zip(json.loads(names), arrays, strict=True)))
    np.savez(answer, *found)
