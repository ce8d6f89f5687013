"""Models for inference, in formats that other runtimes read."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import keras
import numpy as np

from keras_bregman import _runtimes
from keras_bregman._checks import PathLike, check, check_choice, check_path
from keras_bregman._comparing import as_inputs, difference, random_inputs
from keras_bregman._files import replacing
from keras_bregman._graph import check_graph, structure
from keras_bregman._keras import signs_without_bits, sublayers
from keras_bregman._onnx import onnx_of
from keras_bregman._signature import (
    input_names,
    output_names,
    serving_function,
    write_saved_model,
)
from keras_bregman._state import remembered, restored

# the packages that write a format, and those that read it
_PACKAGES = {
    "saved_model": ("tensorflow",),
    "litert": ("tensorflow", "ai_edge_litert"),
    "onnx": ("tensorflow", "tf2onnx", "onnxruntime"),
}
_WHERE = {
    "saved_model": "a new folder, or one with a SavedModel to replace; for a "
    "file give `format`",
    "litert": "a .tflite file",
    "onnx": "an .onnx file",
}
_HALVES = ("float16", "bfloat16")
_BATCH = 256  # in which samples are compared
SUFFIXES = {"litert": ".tflite", "onnx": ".onnx"}
_TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "int8": 0.5}
PRECISIONS = tuple(_TOLERANCES)


def export(
    model: keras.Model,
    path: PathLike,
    format: str = "saved_model",
    *,
    precision: str = "float32",
    samples: Any = None,
) -> float:
    """Writes a model for inference, and compares what another runtime says.

    What is written holds no optimizer state, and needs neither Keras nor this
    package. It is loaded in a fresh process by the format's own runtime, and
    its outputs are compared with the model's.

    "saved_model"  a folder for TensorFlow and TensorFlow Serving, with the
                   signature `serving_default`
    "litert"       a .tflite file for LiteRT. In float32 its kernels are stored
                   without zeros where that makes the file smaller: with a
                   tenth of the weights it is smaller than in float16 or int8,
                   which keep the zeros. LiteRT fills them in again before it
                   multiplies, but for dense layers of which few are left
    "onnx"         an .onnx file

    A model in mixed precision computes in float32 in a LiteRT or ONNX file,
    and is compared as it is in float32. One with a recurrent layer takes one
    example at a time in a LiteRT file.

    Args:
        model: A built functional or Sequential model, on the TensorFlow
            backend.
        path: File or folder to write. A SavedModel that exists is
            replaced.
        format: `"saved_model"`, `"litert"` or `"onnx"`.
        precision: Of the weights; for `"litert"` also `"float16"`, or
            `"int8"`, activations too, as calibrated by `samples`, but for
            recurrent layers without `unroll=True`.
        samples: Inputs as the model takes them, an array or arrays in the
            structure of its inputs, on all of which the outputs are compared.
            By default two random ones, which int8 does not accept.

    Returns:
        The largest difference between the outputs, relative to the largest
        output or to 1; of integers the share that differs.

    Raises:
        ValueError: For an argument out of range, or another backend.
        ImportError: If a package that the format needs is missing.
        RuntimeError: If the converter or the runtime fails, or its outputs
            differ by more than 1e-4 in float32, 0.02 in half precision and 0.5
            in int8. What was at `path` before stays.
        OSError: If the path cannot be written.
    """
    target = check_path("path", path)
    _check(model, target, format, precision, samples)
    if samples is None:
        samples = random_inputs(model)
    samples = as_inputs(model, samples)
    if precision == "int8":  # infinity brings the converter down
        finite = all(map(_is_finite, keras.tree.flatten(samples)))
        check("samples", "infinity", finite, "finite numbers, for int8")
    with _computing(model, format), replacing(target) as made:
        if format == "saved_model":
            write_saved_model(model, made)
        elif format == "litert":
            made.write_bytes(_litert(model, target, precision, samples))
        else:
            with _converting(target):
                made.write_bytes(onnx_of(serving_function(model)))
        found = _difference(model, made, format, samples)
        _check_same(model, target, precision, found)
    return found


def _check(model, path, format, precision, samples):
    check_choice("format", format, _PACKAGES)
    known = _TOLERANCES if format == "litert" else ("float32",)
    good = isinstance(precision, str) and precision in known
    bound = "'float32', or with format='litert' 'float16' or 'int8'"
    check("precision", precision, good, bound)
    check(
        "samples",
        samples,
        samples is not None or precision != "int8",
        "inputs like those of later use, to calibrate int8",
    )
    check_graph(model)
    rolled = any(map(_is_rolled, sublayers(model)))
    bound = (
        "'float32' or 'float16' for a recurrent layer without `unroll=True`, "
        "whose calibration brings TensorFlow's converter down"
    )
    check("precision", precision, precision != "int8" or not rolled, bound)
    check(
        "model",
        model,
        _knows(format, model),
        f"one with weights in float32 for format='{format}', as the "
        "policies 'float32' and 'mixed_float16' make them, and not "
        "quantized in half precision",
    )
    check("path", path, _suits(path, format), _WHERE[format])
    missing = [p for p in _PACKAGES[format] if not importlib.util.find_spec(p)]
    if missing:
        raise ImportError(
            f"format='{format}' needs {', '.join(missing)}. Install it with "
            f"`pip install {' '.join(missing)}`."
        )
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"format='{format}' is written by TensorFlow, and the backend is "
            f"{keras.config.backend()}. Save the model, and export the file "
            f"by `keras-bregman export FILE {path}`."
        )


def _is_finite(array):
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _is_rolled(layer):
    return isinstance(layer, keras.layers.RNN) and not layer.unroll


def _knows(format, model):
    """Whether a format's runtime computes with the model's weights."""
    if format == "saved_model":
        return True
    dtypes = {keras.backend.standardize_dtype(v.dtype) for v in model.variables}
    strange = {*_HALVES, "float64"} if format == "litert" else {*_HALVES}
    # Arithmetic in half precision can be changed, but for a quantized layer,
    # which has that in its policy.
    modes = [getattr(x, "quantization_mode", None) for x in _in_halves(model)]
    return not (dtypes & strange or any(modes))


def _in_halves(model):
    """The layers that compute in half precision."""
    layers = sublayers(model)
    return [layer for layer in layers if layer.compute_dtype in _HALVES]


@contextlib.contextmanager
def _computing(model, format):
    """Has a model compute as the runtime can: whole precision, no bits."""
    if format == "saved_model":
        yield
        return
    layers = _in_halves(model)
    policies = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = "float32"
        with signs_without_bits():
            yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy


def _suits(path, format):
    suffix = path.suffix.lower()
    if format == "saved_model":  # nothing else of the user's is replaced
        if suffix in SUFFIXES.values():
            return False
        parts = {"saved_model.pb", "fingerprint.pb", "variables", "assets"}
        if not path.is_dir():
            return not path.exists()
        found = {f.name for f in path.iterdir()}
        return not found or "saved_model.pb" in found <= parts
    return suffix == SUFFIXES[format]


@contextlib.contextmanager
def _converting(path):
    """Says in words that a converter fails; each has errors of its own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"'{path}' is not written, as the converter does not know what to "
            f"make of the model: {error}\nA quantized model is exported before "
            "`quantize`, with precision='int8'; for layers without counterpart "
            "take another format."
        ) from error


def _litert(model, path, precision, samples):
    import tensorflow as tf

    kinds = tf.lite.Optimize
    tried = [[kinds.DEFAULT]]
    if precision == "float32":
        # float16 and sparse at once gives NaN in LiteRT 2.3
        tried = [[], [kinds.EXPERIMENTAL_SPARSITY]]
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        saved = pathlib.Path(folder) / "saved"
        # LiteRT has no lists of tensors but of one shape
        layers = sublayers(model)
        recurs = any(isinstance(layer, keras.layers.RNN) for layer in layers)
        write_saved_model(model, saved, 1 if recurs else None)
        for optimizations in tried:
            converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS,
                tf.lite.OpsSet.SELECT_TF_OPS,
            ]
            converter.optimizations = optimizations
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            elif precision == "int8":
                converter.representative_dataset = lambda: _one_by_one(
                    model, samples
                )
            with _converting(path):
                contents.append(converter.convert())
    return min(contents, key=len)


def _one_by_one(model, samples):
    """Single examples by input name, as a SavedModel sorts its inputs by it."""
    arrays = keras.tree.flatten(samples)
    names = input_names(model)
    for i in range(len(arrays[0])):
        yield {
            name: array[i : i + 1]
            for name, array in zip(names, arrays, strict=True)
        }


def _difference(model, path, format, samples):
    """How far the runtime's outputs are from the model's."""
    arrays = keras.tree.flatten(samples)
    # LiteRT files have the batch size 1 unless told otherwise
    batch = model.inputs[0].shape[0] or (1 if format == "litert" else _BATCH)
    names = [input_names(model), output_names(model)]
    theirs = _by_runtime(format, path, names, batch, arrays)
    return difference(_answers(model, arrays, batch), theirs)


def _check_same(model, path, precision, found):
    bound = _TOLERANCES[precision]
    if _in_halves(model):  # then TensorFlow, too, rounds in another order
        bound = max(bound, _TOLERANCES["float16"])
    if not found <= bound:
        raise RuntimeError(
            f"'{path}' is not written, as its outputs differ by {found:.1e} of "
            "the largest from the model's. With int8, give `samples` that are "
            "like those of later use; otherwise please report it."
        )


def _by_runtime(format, path, names, batch, arrays):
    """`_runtimes.answers`, of a process that has nothing but the artifact."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, answers = (f"{folder}/{n}.npz" for n in ("inputs", "answers"))
        np.savez(inputs, *arrays)
        command = [_runtimes.__file__, format, path, json.dumps(names), batch]
        command += [inputs, answers]
        done = subprocess.run(
            [sys.executable, *map(str, command)], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(
                "Nothing is written, as the format's runtime cannot use what "
                f"was made of the model:\n{done.stderr[-2000:]}"
            )
        with np.load(answers) as file:
            return [file[name] for name in file.files]


def _answers(model, arrays, batch):
    """The model's outputs, batch by batch as they fit into memory."""

    def run(some):
        given = keras.tree.pack_sequence_as(structure(model), some)
        answers = keras.tree.flatten(model(given, training=False))
        return [keras.ops.convert_to_numpy(a) for a in answers]

    with restored(remembered(model)):
        return _runtimes.in_batches(run, arrays, batch)
