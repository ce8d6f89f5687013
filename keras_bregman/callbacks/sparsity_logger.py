"""The density in the logs of `model.fit`."""

from __future__ import annotations

import inspect

import keras

from keras_bregman import sparsity


class SparsityLogger(keras.callbacks.Callback):
    """Writes the density into the logs of every epoch.

    The figures reach `History`, the progress bar, `CSVLogger`, `TensorBoard`,
    `EarlyStopping` and `ModelCheckpoint` (`monitor="density", mode="min"`),
    wherever this callback stands in the list.

    | key | figure |
    |---|---|
    | `density` | share of all kernel entries that are not 0, in [0, 1] |
    | `dead_units` | share of output units all of whose weights are 0 |
    | `density/PATH` | density of one kernel, with `per_layer=True` |

    Args:
        per_layer: Whether to log every kernel's density too.

    Raises:
        FloatingPointError: At the end of an epoch in which a kernel became
            NaN.
    """

    def __init__(self, per_layer: bool = False):
        super().__init__()
        self.per_layer = per_layer

    def set_model(self, model):
        super().set_model(model)
        # Callbacks read the logs in the order of the list, so the one that
        # adds to them has to come first. Keras tells a callback its model but
        # not its list; the list is the caller of this method.
        frame = inspect.currentframe()
        caller = (
            frame.f_back.f_locals.get("self")
            if frame and frame.f_back
            else None
        )
        if isinstance(caller, keras.callbacks.CallbackList):
            others = [c for c in caller.callbacks if c is not self]
            caller.callbacks = [self, *others]

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        counts = sparsity.count(self.model)
        total = sparsity.total(counts)
        logs["density"] = total.density
        logs["dead_units"] = total.dead_units / total.units
        if self.per_layer:
            for entry in counts:
                logs[f"density/{entry.path}"] = entry.density
