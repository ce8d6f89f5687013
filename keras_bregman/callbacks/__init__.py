"""Callbacks for `model.fit`: density on demand, in the logs, plateau decay."""

from keras_bregman.callbacks.plateau_decay import PlateauDecay
from keras_bregman.callbacks.sparsity_logger import SparsityLogger
from keras_bregman.callbacks.target_density import TargetDensity

__all__ = ["PlateauDecay", "SparsityLogger", "TargetDensity"]
