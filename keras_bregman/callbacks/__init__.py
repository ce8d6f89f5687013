"""Callbacks for `model.fit`: density on demand, what is logged and watched."""

from keras_bregman.callbacks.batch_norm import PreciseBatchNorm
from keras_bregman.callbacks.board import SparsityBoard
from keras_bregman.callbacks.live_view import LiveView
from keras_bregman.callbacks.plateau_decay import PlateauDecay
from keras_bregman.callbacks.sparsity_logger import SparsityLogger
from keras_bregman.callbacks.target_density import TargetDensity
from keras_bregman.callbacks.watch import SparsityWatch

__all__ = [
    "LiveView",
    "PlateauDecay",
    "PreciseBatchNorm",
    "SparsityBoard",
    "SparsityLogger",
    "SparsityWatch",
    "TargetDensity",
]
