"""Plateau decay of the learning rate by the authors' rule."""

from __future__ import annotations

import math

import keras

from keras_bregman._checks import (
    check,
    check_choice,
    check_integer,
    check_number,
)
from keras_bregman._keras import has_schedule
from keras_bregman._scalars import to_float
from keras_bregman._warning import warn
from keras_bregman._wrappers import inner_optimizers


class PlateauDecay(keras.callbacks.Callback):
    """Multiplies the learning rate when a figure stagnates: the authors' rule.

    An epoch is good if its figure is below (1 - threshold) times the best so
    far; above (1 + threshold) times it with `mode="max"`. When the number of
    bad epochs in a row exceeds `patience`, the learning rate is multiplied by
    `factor` and counting starts again.

    This is PyTorch's `ReduceLROnPlateau` with a relative threshold, by which
    Bungert et al., "A Bregman Learning Framework for Sparse Neural Networks",
    JMLR 23(192), 2022, train.
    `keras.callbacks.ReduceLROnPlateau` differs twice: its threshold is
    absolute, and it acts when the bad epochs reach the patience.

    The count goes on when `fit` is called again with an `initial_epoch`; it
    starts anew at epoch 0. For a `fit` that goes on in another process, save
    the attributes `best` and `bad_epochs` and set them again before. The
    learning rate appears in the logs as `learning_rate`. With a figure of
    validation, epochs without one, as by `validation_freq`, do not count.

    Args:
        monitor: Name of the figure in the logs.
        factor: What the learning rate is multiplied by, in (0, 1).
        patience: Bad epochs in a row that are let pass, 0 or greater.
        threshold: Relative change that counts as progress, in [0, 1).
        mode: `"min"` if less is better, `"max"` if more is.
        min_lr: The learning rate is never set below this, a finite float of 0
            or greater.
        verbose: 0, or 1 to print a line at each reduction.

    Raises:
        ValueError: For an argument out of range; when `fit` begins, for an
            optimizer whose learning rate is a schedule; at the end of an
            epoch, for a figure that is not in the logs.
    """

    def __init__(
        self,
        monitor: str = "loss",
        *,
        factor: float = 0.5,
        patience: int = 5,
        threshold: float = 0.01,
        mode: str = "min",
        min_lr: float = 0.0,
        verbose: int = 0,
    ):
        super().__init__()
        good = isinstance(monitor, str)
        check("monitor", monitor, good, "a name in the logs")
        self.monitor = monitor
        self.factor = check_number("factor", factor, "(0, 1)")
        self.patience = check_integer("patience", patience, 0)
        self.threshold = check_number("threshold", threshold, "[0, 1)")
        self.mode = check_choice("mode", mode, ("min", "max"))
        self.min_lr = check_number("min_lr", min_lr)
        good = isinstance(verbose, int) and verbose in (0, 1)
        check("verbose", verbose, good, "0 or 1")
        self.verbose = verbose
        self._warned = False
        self._restart()

    def _restart(self):
        self.best = math.inf if self.mode == "min" else -math.inf
        self.bad_epochs = 0

    def on_train_begin(self, logs=None):
        self._warned = False
        for optimizer in inner_optimizers(self.model.optimizer):
            if has_schedule(optimizer):
                raise ValueError(
                    "PlateauDecay needs an optimizer whose `learning_rate` is "
                    f"a float; that of {type(optimizer).__name__} is a "
                    "schedule, which nothing else can change. Use one or the "
                    "other."
                )

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:
            self._restart()

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        if self._is_due(logs):
            if self._is_better(float(logs[self.monitor])):
                self.best = float(logs[self.monitor])
                self.bad_epochs = 0
            else:
                self.bad_epochs += 1
        optimizers = inner_optimizers(self.model.optimizer)
        if self.bad_epochs > self.patience:
            self.bad_epochs = 0
            for optimizer in optimizers:
                rate = to_float(optimizer.learning_rate)
                new = max(rate * self.factor, self.min_lr)
                if new < rate:
                    optimizer.learning_rate = new
                    if self.verbose:
                        print(f"\nEpoch {epoch + 1}: learning rate {new:g}")
        logs["learning_rate"] = to_float(optimizers[0].learning_rate)

    def _is_due(self, logs):
        """Whether the logs hold the figure, as they do after validation."""
        if self.monitor in logs:
            return True
        if self.monitor.startswith("val_") and not any(
            name.startswith("val_") for name in logs
        ):
            if not self._warned:
                self._warned = True
                warn(
                    f"PlateauDecay waits for {self.monitor!r}: an epoch ended "
                    "without validation, and does not count. Give `fit` "
                    "`validation_data`, if it has none."
                )
            return False
        raise ValueError(
            "`monitor` names a figure that is not in the logs. Received: "
            f"monitor={self.monitor!r}; the logs hold {sorted(logs)}"
        )

    def _is_better(self, value):
        if self.mode == "min":
            return value < self.best * (1 - self.threshold)
        return value > self.best * (1 + self.threshold)
