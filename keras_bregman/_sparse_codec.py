"""One weight of a sparse file: its entry in the header, and its data.

What both look like says `sparse_file`, which puts the name of the file before
what is found to be wrong with them.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

FLOATS = ("float16", "float32", "float64", "bfloat16")
DTYPES = (
    *FLOATS,
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
)


def encode(weight, values) -> tuple[dict[str, Any], bytes]:
    """A weight's entry in the header, and its data.

    Args:
        weight: A variable.
        values: `"float16"` to round floats, or None.

    Raises:
        ValueError: If it is complex, or too large for float16.
    """
    dtype = keras.backend.standardize_dtype(weight.dtype)
    array = keras.ops.convert_to_numpy(weight)
    if np.iscomplexobj(array):
        raise ValueError(
            f"'{weight.path}' holds complex numbers, which have no place in "
            "this format. Use `model.save`."
        )
    stored = values if values and dtype in FLOATS else dtype
    if stored not in DTYPES:  # what numpy does not have, and few use
        stored = "float32"
    kind = "float32" if stored == "bfloat16" else stored
    with np.errstate(over="ignore"):
        found = np.asarray(array).astype(kind).ravel()
    beyond = ~np.isfinite(found)
    if beyond.any() and np.isfinite(_wide(array)[beyond]).any():
        raise ValueError(
            f"'{weight.path}' holds weights beyond 65504, the largest number "
            "of float16. Leave `values` at its default."
        )
    on = found != 0
    if stored == "bfloat16":
        found = (found.view("uint32") >> 16).astype("uint16")
    indices = np.flatnonzero(on)
    kept = _bytes(found[on])
    encodings = {
        "gaps": _encode_gaps(indices) + kept,
        "bitmap": np.packbits(on).tobytes() + kept,
        "dense": _bytes(found),
    }
    encoding = min(encodings, key=lambda name: len(encodings[name]))
    entry = {
        "path": weight.path,
        "shape": [int(n) for n in weight.shape],
        "dtype": dtype,
        "stored": stored,
        "nonzero": len(indices),
        "encoding": encoding,
    }
    return entry, encodings[encoding]


def _wide(array):
    return np.asarray(array).astype("float64").ravel()


def _bytes(values):
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def checked_entry(entry) -> dict[str, Any]:
    """A header's entry; raises ValueError unless it makes sense."""
    shape, n = entry["shape"], entry["nonzero"]
    numbers = [*shape, n]
    if (
        not all(type(x) is int and x >= 0 for x in numbers)
        or n > math.prod(shape)
        or entry["stored"] not in DTYPES
        or entry["encoding"] not in ("gaps", "bitmap", "dense")
        or not isinstance(entry["path"], str)
        or not isinstance(entry["dtype"], str)
    ):
        raise ValueError(f"entry {entry}")
    return entry


def decode(entry, data) -> tuple[np.ndarray, memoryview]:
    """A weight's array, and the data behind it.

    Raises:
        ValueError: If the data are not what the entry says.
    """
    size, n = math.prod(entry["shape"]), entry["nonzero"]
    is_bfloat16 = entry["stored"] == "bfloat16"
    kind = np.dtype("uint16" if is_bfloat16 else entry["stored"])
    dtype = kind.newbyteorder("<")
    encoding = entry["encoding"]
    where: Any = slice(None)
    taken = 0
    if encoding == "gaps":
        # longer they cannot be, and what is behind them may be large
        where, taken = _decode_gaps(data[: n + size // 255], n)
        if where is None or (n and where[-1] >= size):
            raise ValueError(f"has wrong gaps in '{entry['path']}'")
    elif encoding == "bitmap":
        taken = -(-size // 8)
        bits = np.frombuffer(data[:taken], "uint8")
        where = np.unpackbits(bits, count=size).astype(bool)
        if np.count_nonzero(where) != n:
            raise ValueError(f"has a wrong bitmap in '{entry['path']}'")
    else:
        n = size
    end = taken + n * dtype.itemsize
    if len(data) < end:
        raise ValueError(f"ends within '{entry['path']}'")
    array = np.zeros(size, dtype.newbyteorder("="))
    array[where] = np.frombuffer(data[taken:end], dtype)
    if is_bfloat16:
        array = (array.astype("uint32") << 16).view("float32")
    return array.reshape(entry["shape"]), data[end:]


def _encode_gaps(indices):
    gaps = np.diff(indices, prepend=-1) - 1
    ends = np.cumsum(gaps // 255 + 1) - 1
    found = np.full(ends[-1] + 1 if len(ends) else 0, 255, "uint8")
    found[ends] = gaps % 255
    return found.tobytes()


def _decode_gaps(data, n):
    """The indices of n entries, and how many bytes they took."""
    steps = np.frombuffer(data, "uint8")
    ends = np.flatnonzero(steps != 255)[:n]
    if len(ends) < n:
        return None, 0
    taken = int(ends[-1]) + 1 if n else 0
    return np.cumsum(steps[:taken], dtype="int64")[ends] + np.arange(n), taken
