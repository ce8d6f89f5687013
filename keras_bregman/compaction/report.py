"""What compaction did, layer by layer."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import keras

from keras_bregman._table import table
from keras_bregman.multiplications import flops_of


class Size(NamedTuple):
    """What a layer holds and does.

    Attributes:
        parameters: Number of weights.
        flops: Multiplications and additions that its kernels take for one
            example, two a weight and position.
        bytes: Of its weights.
    """

    parameters: int
    flops: int
    bytes: int

    @classmethod
    def of(cls, layer, calls, seen: set[int]) -> Size:
        """A layer's, of the weights that no layer before it has.

        Args:
            layer: A built layer.
            calls: All of its calls.
            seen: By `id`, the weights of the layers before it; its own are
                added.
        """
        own = [w for w in layer.weights if id(w) not in seen]
        seen.update(map(id, own))
        sizes = [math.prod(w.shape) for w in own]
        return cls(
            sum(sizes),
            flops_of(layer, calls),
            sum(_itemsize(w) * n for w, n in zip(own, sizes, strict=True)),
        )

    def __add__(self, other):
        return Size(*(a + b for a, b in zip(self, other, strict=True)))


class Row(NamedTuple):
    """One layer, or operation of `keras.ops`.

    Attributes:
        name: Its path in the model.
        kind: Its class.
        before: Its size in the model.
        after: Its size in the compacted one.
        note: Why it was left whole, if it was.
    """

    name: str
    kind: str
    before: Size
    after: Size
    note: str


class CompactionReport:
    """What `compact` did; prints as a table.

    Attributes:
        rows: One `Row` per layer that has weights or was left whole, and per
            operation of `keras.ops` that leaves whole what it reads.
        before: The model's `Size`.
        after: The compacted model's.
    """

    def __init__(self, rows: list[Row]):
        none = Size(0, 0, 0)
        self.before = sum((row.before for row in rows), none)
        self.after = sum((row.after for row in rows), none)
        self.rows = [r for r in rows if r.before.parameters or r.note]

    def __str__(self):
        total = Row("total", "", self.before, self.after, "")
        return table(
            ("layer", "kind", "parameters", "FLOPs", "bytes", "left whole"),
            [
                (
                    row.name,
                    row.kind,
                    *(
                        f"{old:,} -> {new:,}" if old != new else f"{old:,}"
                        for old, new in zip(row.before, row.after, strict=True)
                    ),
                    row.note or "-",
                )
                for row in [*self.rows, total]
            ],
        )


def _itemsize(weight):
    dtype = keras.backend.standardize_dtype(weight.dtype)
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1
