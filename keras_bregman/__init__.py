"""Sparse training for Keras 3 by choice of optimizer."""

import importlib
from typing import Any

from keras_bregman import callbacks, regularizers
from keras_bregman.compaction import compact
from keras_bregman.exporting import export
from keras_bregman.freezing import freeze_support
from keras_bregman.multiplications import flops
from keras_bregman.optimizers import AdaBreg, LinBreg, ProxGD
from keras_bregman.pruning import prune
from keras_bregman.sparse_file import load_sparse, save_sparse
from keras_bregman.sparse_start import sparsify
from keras_bregman.sparsity import density, summary

__version__ = "0.1.0"

__all__ = [
    "AdaBreg",
    "LinBreg",
    "ProxGD",
    "callbacks",
    "compact",
    "density",
    "export",
    "flops",
    "freeze_support",
    "load_sparse",
    "prune",
    "regularizers",
    "save_sparse",
    "sparsify",
    "summary",
]


def __getattr__(name: str) -> Any:
    if name in ("plots", "tuning"):  # which need packages of their own
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
