"""Sparse training for Keras 3 by choice of optimizer."""

from keras_bregman import callbacks, regularizers
from keras_bregman.compaction import compact
from keras_bregman.cost import flops
from keras_bregman.exporting import export
from keras_bregman.initializers import sparsify
from keras_bregman.optimizers import AdaBreg, LinBreg, ProxGD
from keras_bregman.pruning import prune
from keras_bregman.sparse_file import load_sparse, save_sparse
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
    "load_sparse",
    "prune",
    "regularizers",
    "save_sparse",
    "sparsify",
    "summary",
]
