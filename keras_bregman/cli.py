"""`keras-bregman`: what can be done with a file that holds a model."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import os
import pathlib
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import keras
import numpy as np

import keras_bregman as kb
from keras_bregman import exporting, sparse_file, sparsity
from keras_bregman._checks import check_path
from keras_bregman._files import replacing
from keras_bregman._graph import is_graph, structure
from keras_bregman._keras import why_not_loaded
from keras_bregman._table import table

_FORMATS = {suffix: name for name, suffix in exporting.SUFFIXES.items()}
_KERAS = (".keras", ".h5", ".hdf5")  # as it tells its files by their names


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 0 if all went well, 1 with a message if not.

    Args:
        arguments: By default those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    if (
        options.command is _export
        and keras.config.backend() != "tensorflow"
        and importlib.util.find_spec("tensorflow")  # or `export` asks for it
    ):
        # formats are written by TensorFlow, and Keras is imported already
        return subprocess.call(
            [sys.executable, "-m", "keras_bregman", *given],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        )
    try:
        _import(options.modules)
        options.command(options)
    except (
        ArithmeticError,
        ImportError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        said = str(error).replace("`samples`", "`--samples`")  # as named here
        print(f"keras-bregman: {said}", file=sys.stderr)
        return 1
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-bregman",
        description="Looks into model files, and makes them smaller.",
        epilog="FILE is a .keras or .h5 file of Keras, or one of save_sparse.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, command, text, out=None):
        adds = commands.add_parser(name, help=text, description=text)
        adds.add_argument("file", type=pathlib.Path, metavar="FILE")
        if out:
            adds.add_argument("out", type=pathlib.Path, metavar="OUT", help=out)
        adds.add_argument(
            "--import",
            dest="modules",
            action="append",
            default=[],
            metavar="MODULE",
            help="that registers layers of your own, in this folder or "
            "installed; may be given again",
        )
        adds.set_defaults(command=command)
        return adds

    add("inspect", _inspect, "what a file holds")
    add("density", _density, "the density of every kernel")
    compact = add(
        "compact",
        _compact,
        "a smaller model with the same outputs",
        "a .keras or .h5 file, or one of any other name for the format of "
        "save_sparse",
    )
    compact.add_argument(
        "--multiple-of",
        type=int,
        default=1,
        metavar="N",
        help="keep dead channels up to a multiple of N, as runtimes like 8",
    )
    _add_samples(compact, "on which the two models are compared")
    export = add(
        "export",
        _export,
        "a model for another runtime, compared with this one",
        "a .tflite or .onnx file, or else the folder of a SavedModel",
    )
    export.add_argument(
        "--precision",
        choices=exporting.PRECISIONS,
        default="float32",
        help="of the weights in a .tflite file",
    )
    _add_samples(export, "by which int8 is calibrated")
    return parser


def _add_samples(command, purpose):
    command.add_argument(
        "--samples",
        type=pathlib.Path,
        metavar="FILE",
        help=f"a .npy file with a batch of inputs, {purpose}; a .npz file for "
        "a model with several, by their names, or without any in order",
    )


def _import(modules):
    """Imports what registers layers, which Keras does not know otherwise."""
    if modules and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ImportError(
                "`--import` must be a module of this folder or an installed "
                f"one, by its name without .py. Received: {name} ({error})"
            ) from error
        except Exception as error:  # of the user's code
            raise ImportError(
                f"`--import {name}` ends in {type(error).__name__}: {error}"
            ) from error


def _samples(options, model):
    """What `--samples` names, nested as the model's inputs."""
    if options.samples is None:
        return None
    try:
        found = np.load(options.samples, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            return found
        with found:
            arrays = dict(found)
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"'{options.samples}' cannot be read as arrays: {error}. Write it "
            "by `numpy.save` or `numpy.savez`."
        ) from error
    if not is_graph(model):
        return arrays
    nested = structure(model)
    names = [tensor.name for tensor in model.inputs]
    keys = sorted(nested) if isinstance(nested, Mapping) else names
    in_order = [f"arr_{i}" for i in range(len(names))]  # as `savez` calls them
    for order in (keys, names, in_order):
        if sorted(order) == sorted(arrays):
            values = [arrays[name] for name in order]
            return keras.tree.pack_sequence_as(nested, values)
    raise ValueError(
        f"'{options.samples}' holds the arrays {sorted(arrays)}, and the model "
        f"has the inputs {keys}. Write one for each by `numpy.savez`, with "
        "these names or without any."
    )


def _inspect(options):
    model = _load(options.file)
    try:
        total = sparsity.total(sparsity.count(model))
    except ValueError as error:  # as of a model without kernels
        counts = [("zeros", str(error))]
    else:
        counts = [
            ("kernel entries", f"{total.size:,}"),
            ("not 0", f"{total.nonzero:,} ({total.density:.2%})"),
            ("dead units", f"{total.dead_units:,} of {total.units:,}"),
            *_flops(model),
        ]
    size = options.file.stat().st_size
    # a model that is not built has none, and `count_params` raises
    parameters = sum(math.prod(weight.shape) for weight in model.weights)
    rows = [
        ("model", f"{model.name} ({type(model).__name__})"),
        *_ends(model),
        ("layers", len(model.layers)),
        ("parameters", f"{parameters:,}"),
        *counts,
        ("file", f"{size:,} bytes, {size / max(1, parameters):.2f} a weight"),
    ]
    print(table(("", str(options.file)), rows))


def _ends(model):
    if not is_graph(model):
        return []
    ends = ("inputs", model.inputs), ("outputs", model.outputs)
    return [(name, _shapes(tensors)) for name, tensors in ends]


def _flops(model):
    if not is_graph(model):
        return []
    on = kb.flops(model, zeros=False)
    return [("FLOPs", f"{kb.flops(model):,} ({on:,} without zeros)")]


def _density(options):
    kb.summary(_load(options.file))


def _compact(options):
    if options.out.suffix.lower() in _FORMATS:
        raise ValueError(
            f"`compact` writes no {options.out.suffix} file. Write a .keras or "
            ".kbs file, and give that to `export`."
        )
    model = _load(options.file)
    small, report = kb.compact(
        model,
        return_report=True,
        samples=_samples(options, model),
        multiple_of=options.multiple_of,
    )
    before = options.file.stat().st_size  # it may be replaced
    if options.out.suffix in _KERAS:
        with replacing(options.out) as made:
            small.save(made)
    else:
        kb.save_sparse(small, options.out)
    print(report)
    after = options.out.stat().st_size
    print(f"{options.file}: {before:,} bytes -> {options.out}: {after:,} bytes")


def _export(options):
    if options.out.suffix in (*_KERAS, ".kbs"):
        raise ValueError(
            f"`export` writes no {options.out.suffix} file, `compact` does. "
            "Name a .tflite or .onnx file, or a folder."
        )
    kind = _FORMATS.get(options.out.suffix.lower(), "saved_model")
    model = _load(options.file)
    difference = kb.export(
        model,
        options.out,
        kind,
        precision=options.precision,
        samples=_samples(options, model),
    )
    print(
        f"{options.out}: {kind}, {_size(options.out):,} bytes; its outputs "
        f"differ by {difference:.1e} of the largest"
    )


def _load(file):
    """The model in a file of ours or of Keras'."""
    with open(check_path("file", file), "rb") as opened:
        ours = opened.read(8) == sparse_file.MAGIC
    if ours:
        return kb.load_sparse(file)
    try:
        model = keras.models.load_model(file, compile=False)
    # a damaged archive brings up almost anything
    except Exception as error:
        if file.name.endswith(".weights.h5"):
            remedy = "It holds weights alone: load them into the model, save it"
        elif "Could not locate" in str(error):
            remedy = "Name the module that has it, by --import MODULE"
        elif file.suffix not in _KERAS:
            remedy = "Call a .keras or .h5 file so, as Keras goes by the name"
        else:
            remedy = "If it was damaged, copy or write it again"
        raise ValueError(
            f"'{file}' cannot be read as a model: {why_not_loaded(error)}. "
            f"{remedy}."
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"'{file}' holds a {type(model).__name__}, and no model. Put it "
            "into one, and save that."
        )
    return model


def _shapes(tensors):
    shapes = (["?" if n is None else n for n in t.shape] for t in tensors)
    return ", ".join(" x ".join(map(str, shape)) for shape in shapes)


def _size(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file())
