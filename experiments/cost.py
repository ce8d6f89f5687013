"""What a training has to multiply and to hold."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_bregman.kernels import kernels


def multiplications(model: keras.Model) -> tuple[int, int]:
    """Of one image's forward pass, by weights that are not 0 and by all.

    Args:
        model: A functional model of dense and convolution layers.
    """
    on = size = 0
    for kernel in kernels(model):
        layer = model.get_layer(kernel.path.split("/")[-2])
        # a convolution's kernel is used at every position of its output
        positions = math.prod(layer.output.shape[1:-1])
        # the layer's and not the variable, which a threshold may stand before
        value = keras.ops.convert_to_numpy(layer.kernel)
        on += positions * int(np.count_nonzero(value))
        size += positions * value.size
    return on, size


class CostLogger(keras.callbacks.Callback):
    """Writes `flops` into the logs: `multiplications`, as a share of all."""

    def on_epoch_end(self, epoch, logs=None):
        on, size = multiplications(self.model)
        logs["flops"] = on / size


def floats(model: keras.Model) -> dict[str, int]:
    """Numbers that a training holds: `weights` and `optimizer`."""
    return {
        "weights": sum(math.prod(w.shape) for w in model.weights),
        "optimizer": sum(math.prod(v.shape) for v in model.optimizer.variables),
    }
