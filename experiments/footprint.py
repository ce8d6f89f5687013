"""What a training has to multiply and to hold."""

from __future__ import annotations

import math

import keras

import keras_bregman as kb


class FlopsLogger(keras.callbacks.Callback):
    """Writes `flops` without zeros into the logs, as a share of all."""

    def on_train_begin(self, logs=None):
        self._all = kb.flops(self.model)

    def on_epoch_end(self, epoch, logs=None):
        logs["flops"] = kb.flops(self.model, zeros=False) / self._all


def floats(model: keras.Model) -> dict[str, int]:
    """Numbers that a training holds: `weights` and `optimizer`."""
    return {
        "weights": model.count_params(),
        "optimizer": sum(math.prod(v.shape) for v in model.optimizer.variables),
    }
