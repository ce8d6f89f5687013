"""Soft threshold reparameterization: every layer learns its threshold."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_bregman.allocation import largest


class _Thresholded(keras.layers.Layer):
    """A layer whose kernel passes through a soft threshold that it learns.

    kernel = sign(w) relu(|w| - sigmoid(s)), with the trainable scalar s.
    """

    _kernel: keras.Variable
    threshold_start: float
    threshold_decay: float

    def build(self, input_shape):
        super().build(input_shape)
        # the paper's decay, of weights and threshold alike; that of s pulls it
        # to 0, which raises the threshold
        decay = keras.regularizers.L2(self.threshold_decay / 2)
        self._kernel.regularizer = decay
        self.threshold = self.add_weight(
            name="threshold",
            shape=(),
            initializer=keras.initializers.Constant(self.threshold_start),
            regularizer=decay,
        )

    @property
    def kernel(self):
        w = ops.convert_to_tensor(self._kernel)
        least = ops.sigmoid(ops.convert_to_tensor(self.threshold))
        return ops.sign(w) * ops.relu(ops.abs(w) - least)


class _Dense(_Thresholded, keras.layers.Dense):
    pass


class _Conv2D(_Thresholded, keras.layers.Conv2D):
    pass


_CLASSES: dict[type, type] = {
    keras.layers.Dense: _Dense,
    keras.layers.Conv2D: _Conv2D,
}


def learn_thresholds(
    model: keras.Model, start: float, decay: float
) -> keras.Model:
    """A copy whose dense and convolution layers learn thresholds.

    Args:
        model: A built functional model, not changed.
        start: s at first; the threshold is sigmoid(s).
        decay: Weight decay of s and of the weights.

    Reference: Kusupati et al., "Soft Threshold Weight Reparameterization for
    Learnable Sparsity", ICML 2020.
    """

    def convert(layer):
        cls = _CLASSES.get(type(layer))
        if cls is None:
            return _remade(layer, type(layer))
        learner = _remade(layer, cls)
        learner.threshold_start = start
        learner.threshold_decay = decay
        return learner

    copy = keras.models.clone_model(model, clone_function=convert)
    by_path = {w.path: w for w in model.weights}
    for weight in copy.weights:
        if weight.path in by_path:
            weight.assign(by_path[weight.path])
    return copy


def fix_thresholds(model: keras.Model, density: float) -> keras.Model:
    """The plain model of one that learned thresholds.

    Where more than `density` of the kernel entries are left, the smallest are
    cut off.
    """
    plain = {cls: base for base, cls in _CLASSES.items()}

    def convert(layer):
        return _remade(layer, plain.get(type(layer), type(layer)))

    copy = keras.models.clone_model(model, clone_function=convert)
    effective = _effective(model)
    by_path = {w.path: ops.convert_to_numpy(w) for w in model.weights}
    by_path |= effective
    size = sum(value.size for value in effective.values())
    # one at least, as of 0 weights nothing is learned
    total = max(1, round(density * size))
    kept = largest(list(effective.values()), total)
    for (path, value), part in zip(effective.items(), kept, strict=True):
        by_path[path] = np.where(part, value, 0)
    for weight in copy.weights:
        weight.assign(by_path[weight.path])
    return copy


def _remade(layer, cls):
    return cls.from_config(layer.get_config())


def _effective(model):
    """By path, the kernels behind their thresholds."""
    return {
        layer._kernel.path: ops.convert_to_numpy(layer.kernel)
        for layer in model.layers
        if isinstance(layer, _Thresholded)
    }
