"""Weights in a file that holds what is not 0.

The format, version 1, all numbers little-endian:

    8 bytes     b"KBSPARSE"
    4 bytes     version, unsigned
    8 bytes     n, the length of the header, unsigned
    n bytes     header, JSON compressed by zlib
    ...         the weights' data, one after the other
    32 bytes    SHA-256 of all before

The header is a dict with `config`, the architecture as JSON in a string, or
null if it has none, and `weights`: for each its `path`, `shape`, `dtype`, the
`stored` dtype of its values, its number of `nonzero` entries, and its
`encoding`:

    "gaps"    per non-zero entry, in row-major order, the number of zeros since
              the last one: bytes of 255 to add up, and one of less
    "bitmap"  a bit per entry, the first the highest of its byte
    "dense"   nothing

followed by the values, of the non-zero entries or, if dense, of all. The
encoding is the smallest of the three. A value in bfloat16 is the upper half of
the float32 that it is equal to.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib

import keras
import numpy as np

from keras_bregman._checks import PathLike, check, check_path, shown
from keras_bregman._files import write_whole
from keras_bregman._keras import (
    ObjectSharingScope,
    sublayers,
    why_not_loaded,
)
from keras_bregman._paths import own_name
from keras_bregman._quantized import is_told_by_config
from keras_bregman._sparse_codec import (
    DTYPES,
    FLOATS,
    checked_entry,
    decode,
    encode,
)

MAGIC = b"KBSPARSE"
_VERSION = 1
_START = struct.Struct("<8sIQ")
_HASH = 32
_MOST_HEADER = 1 << 28  # against a few bytes that unpack to all memory
_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895e38, "float32": 3.4029e38}


def save_sparse(
    model: keras.Model, path: PathLike, *, values: str | None = None
) -> None:
    """Writes a model's weights without their zeros.

    At 2 % of the weights a file takes 1/35 to 1/40 of the dense ones; it is
    never larger than they, but for its header. The model's architecture is in
    it, if Keras can serialize it; the optimizer's state is not.

    Args:
        model: A built model.
        path: File to write. It is replaced only when the new one is complete.
        values: `"float16"` stores floats in half of the space, but not where
            they are, so that a file is three fifths as large at 2 %; they are
            rounded, those below 6e-8 to 0. By default weights keep their own
            precision and what is loaded is equal.

    Raises:
        ValueError: If the model is not built, has a vocabulary or complex
            weights, `values` is something else, or a weight is too large for
            float16.
        OSError: If the file cannot be written.
    """
    is_name = isinstance(values, str)
    is_known = values is None or (is_name and values == "float16")
    check("values", values, is_known, "None or 'float16'")
    check("model", model, _is_built(model), "a built model")
    target = check_path("path", path)
    for layer in sublayers(model):
        if hasattr(layer, "set_vocabulary"):
            raise ValueError(
                f"Layer '{layer.name}' has a vocabulary, which is no weight "
                "and has no place in this format. Use `model.save`."
            )
    entries, parts = [], []
    for weight in model.weights:
        entry, data = encode(weight, values)
        entries.append(entry)
        parts.append(data)
    header = {"config": _config(model), "weights": entries}
    packed = zlib.compress(json.dumps(header).encode(), 9)
    start = _START.pack(MAGIC, _VERSION, len(packed))
    content = b"".join([start, packed, *parts])
    content += hashlib.sha256(content).digest()
    write_whole(target, content)


def load_sparse(
    path: PathLike, model: keras.Model | None = None
) -> keras.Model:
    """Reads what `save_sparse` wrote.

    Args:
        path: The file.
        model: A built model to set the weights of, of the same architecture;
            names of layers may differ. By default the one in the file, made
            anew and not compiled, in as much memory as it takes. No code is run
            from the file: what is not Keras' own has to be registered, and
            lambdas are refused.

    Returns:
        The model.

    Raises:
        ValueError: If the file is none of this kind, of a newer version,
            truncated or damaged, has no architecture and `model` is not given,
            or does not fit `model`: in a name, a shape, a kind of dtype or
            the boundaries of a `Discretization`, or by a number too large for
            the model's dtype. The model is then as it was.
        OSError: If the file cannot be read.
    """
    check(
        "model",
        model,
        model is None or _is_built(model),
        "a built model, or None for the one in the file",
    )
    given = model
    path = check_path("path", path)
    header, data = _read(path)
    if model is None:
        if header["config"] is None:
            raise ValueError(
                f"'{path}' holds weights only, as its model could not be "
                "serialized. Pass a freshly built one as `model`."
            )
        model = _model(path, header["config"])
    elif header["config"] is not None:
        _check_boundaries(path, model, json.loads(header["config"]))
    weights, entries = model.weights, header["weights"]
    try:
        _check_fits(path, weights, entries)
    except ValueError as error:
        if given is not None:
            raise
        raise ValueError(
            f"{error} That was made of the architecture in the file, which "
            "does not tell all. Pass a freshly built `model`."
        ) from None
    arrays = []
    for entry in entries:
        try:
            array, data = decode(entry, data)
        except ValueError as error:
            raise _damaged(path, error) from None
        arrays.append(array)
    if data:
        raise _damaged(path, "holds more than its header says")
    for weight, array in zip(weights, arrays, strict=True):
        _check_range(path, weight, array)
    for weight, array in zip(weights, arrays, strict=True):
        weight.assign(array)
    for layer in sublayers(model):
        if isinstance(layer, keras.layers.Normalization):  # once adapted
            layer.finalize_state()
    return model


def _is_built(model):
    return isinstance(model, keras.Model) and model.built


def _model(path, config):
    try:
        with ObjectSharingScope():
            model = keras.models.model_from_json(config)
    except Exception as error:
        raise ValueError(
            f"The architecture in '{path}' cannot be made: "
            f"{why_not_loaded(error)}. If it has layers of your own, import "
            "the module that registers them, in a shell by --import MODULE; or "
            "pass a freshly built `model`."
        ) from error
    if not _is_built(model):
        raise _damaged(path, "holds no architecture of a model")
    return model


def _config(model):
    """The architecture as JSON, without losses and metrics, if there is one.

    None for layers that Keras makes other weights of.
    """
    if not all(map(is_told_by_config, sublayers(model))):
        return None
    try:
        with ObjectSharingScope():  # or layers in two places would be two
            config = json.loads(model.to_json())
    except Exception:  # layers of one's own have many ways to fail
        return None
    return json.dumps(_stored(config, {}))


def _stored(config, numbers):
    """What is kept of a config, shared objects numbered in their order."""
    if isinstance(config, list):
        return [_stored(item, numbers) for item in config]
    if not isinstance(config, dict):
        return config
    kept = {
        k: _stored(v, numbers)
        for k, v in config.items()
        if k != "compile_config"
    }
    if (shared := kept.get("shared_object_id")) is not None:  # an address
        kept["shared_object_id"] = numbers.setdefault(shared, len(numbers) + 1)
    return kept


def _read(path):
    """Header and data of a file that is what it says."""
    content = path.read_bytes()
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError(
            f"'{path}' is no file of sparse weights: it does not begin with "
            f"{MAGIC!r}. They are written by `keras_bregman.save_sparse`."
        )
    if len(content) < _START.size + _HASH:
        raise _damaged(path, "is truncated")
    _, version, length = _START.unpack_from(content)
    if version != _VERSION:
        raise ValueError(
            f"'{path}' is of version {version} of the format; this "
            f"keras_bregman reads version {_VERSION}. Install a newer one."
        )
    body, digest = memoryview(content)[:-_HASH], content[-_HASH:]
    if hashlib.sha256(body).digest() != digest:
        raise _damaged(path, "does not match its checksum")
    try:
        unpack = zlib.decompressobj()
        packed = body[_START.size : _START.size + length]
        header = json.loads(unpack.decompress(packed, _MOST_HEADER))
        entries = [checked_entry(entry) for entry in header["weights"]]
        config = header["config"]
        if not isinstance(config, (str, type(None))):
            raise TypeError("config")
    except (
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
        zlib.error,
    ) as error:
        raise _damaged(path, f"has no readable header ({error})") from None
    data = body[_START.size + length :]
    return {"config": config, "weights": entries}, data


def _check_fits(path, weights, entries):
    # before any memory is taken for what a file claims
    for weight, entry in zip(weights, entries, strict=False):
        shape = list(weight.shape)
        fits = own_name(entry["path"]) == own_name(weight.path)
        if entry["shape"] != shape or not fits:
            raise ValueError(
                f"'{path}' does not fit the model: where it has "
                f"'{entry['path']}' of shape {tuple(entry['shape'])}, the "
                f"model has '{weight.path}' of shape {tuple(shape)}."
            )
        dtype = keras.backend.standardize_dtype(weight.dtype)
        if _kind(entry["dtype"]) != _kind(dtype):
            raise ValueError(
                f"'{path}' does not fit the model: where it has "
                f"'{entry['path']}' of dtype {entry['dtype']}, the model has "
                f"'{weight.path}' of dtype {dtype}."
            )
    if len(weights) != len(entries):
        raise ValueError(
            f"'{path}' does not fit the model: it holds {len(entries)} "
            f"weights, the model has {len(weights)}."
        )


def _kind(dtype):
    """Without the number of bits: uint8 and int64 are of one kind."""
    return "float" if "float" in dtype else "int" if "int" in dtype else dtype


def _check_range(path, weight, array):
    """Raises for finite numbers that a weight's dtype cannot hold."""
    dtype = keras.backend.standardize_dtype(weight.dtype)
    if str(array.dtype) == dtype:
        return
    if dtype in FLOATS:
        most = _LARGEST.get(dtype, math.inf)
        least = -most
        array = array[np.isfinite(array)]
    elif dtype in DTYPES:
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        return
    if not array.size:
        return
    # as Python's numbers, which no narrow dtype rounds
    if array.min().item() < least or array.max().item() > most:
        raise ValueError(
            f"'{path}' does not fit the model: it holds numbers that are too "
            f"large for '{weight.path}', which is of dtype {dtype}. Load it "
            "without `model`, or into one of the file's dtype."
        )


def _check_boundaries(path, model, config):
    """Raises ValueError unless each `Discretization` has the file's boundaries.

    They are no weight, and decide as much as one.
    """
    layers = [
        layer
        for layer in sublayers(model)
        if isinstance(layer, keras.layers.Discretization)
    ]
    for layer, wanted in zip(layers, _boundaries(config), strict=False):
        found = layer.get_config()["bin_boundaries"]
        if not np.array_equal(found or [], wanted or []):
            raise ValueError(
                f"'{path}' does not fit the model: layer '{layer.name}' of "
                f"the model has bin_boundaries={shown(found)}, that of the "
                f"file {shown(wanted)}. They are no weight: give them to the "
                "layer, or load without `model`."
            )


def _boundaries(config):
    """The boundaries of every `Discretization` in a config, in order."""
    if isinstance(config, list):
        return [b for item in config for b in _boundaries(item)]
    if not isinstance(config, dict):
        return []
    if config.get("class_name") == "Discretization":
        return [config["config"]["bin_boundaries"]]
    return [b for value in config.values() for b in _boundaries(value)]


def _damaged(path, what):
    return ValueError(
        f"'{path}' {what}: it is damaged. Copy or write it again."
    )
