"""The density in the logs of `model.fit`."""

from __future__ import annotations

import keras
import numpy as np

from keras_bregman import sparsity
from keras_bregman._checks import check_choice, check_flag
from keras_bregman._scalars import to_float
from keras_bregman._wrappers import regularized
from keras_bregman.callbacks._list import list_that_calls, to_front
from keras_bregman.callbacks.target_density import TargetDensity


class SparsityLogger(keras.callbacks.Callback):
    """Writes the density into the logs of every epoch.

    The figures reach `History`, the progress bar, `CSVLogger`, `TensorBoard`,
    `EarlyStopping` and `ModelCheckpoint` (`monitor="density", mode="min"`),
    wherever this callback stands in the list.

    | key | figure |
    |---|---|
    | `density` | share of all kernel entries that are not 0, in [0, 1] |
    | `dead_units` | share of output units all of whose weights are 0 |

    With `per_layer=True` also

    | key | figure |
    |---|---|
    | `flips` | share of entries switched on or off since the last epoch |
    | `density/PATH`, `dead_units/PATH`, `flips/PATH` | those of one kernel |
    | `lambda/PATH` | its strength, if it is regularized |
    | `dual/PATH` | root mean square of its dual variable, if it has one |

    Args:
        per_layer: Whether to log what each kernel does too.
        of: `"kernels"`, or `"regularized"` for the variables that the model's
            optimizers regularize, kernels or not. Then, and in a model that
            is not built before its first step, flips are counted from the end
            of the first epoch.

    Raises:
        ValueError: If `of` is neither; when training begins, if the model has
            no kernel that can be counted.
        FloatingPointError: At the end of an epoch in which a kernel became
            NaN.
    """

    def __init__(self, *, per_layer: bool = False, of: str = "kernels"):
        super().__init__()
        self.per_layer = check_flag("per_layer", per_layer)
        self.of = check_choice("of", of, sparsity.OF)
        self._before: dict[str, np.ndarray] = {}
        self._has_begun = False

    def set_model(self, model):
        super().set_model(model)
        # callbacks read the logs in the order of the list, so the one that
        # adds to them has to come first, behind what sets the density
        callbacks = list_that_calls()
        if callbacks is not None:
            to_front(callbacks, self, behind=(TargetDensity,))

    def on_train_begin(self, logs=None):
        self._before, self._has_begun = {}, False
        sparsity.check_countable(self.model, self.of)

    def on_epoch_begin(self, epoch, logs=None):
        # not before: when training begins `BackupAndRestore` sets weights
        known = sparsity.is_known(self.model, self.of)
        if not self._has_begun and self.per_layer and known:
            self._before = sparsity.supports(self.model)
        self._has_begun = True

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        counts = sparsity.count(self.model, self.of)
        total = sparsity.total(counts)
        logs["density"] = total.density
        logs["dead_units"] = total.share_dead
        if self.per_layer:
            for entry in counts:
                logs[f"density/{entry.name}"] = entry.density
                logs[f"dead_units/{entry.name}"] = entry.share_dead
            self._log_flips(logs, total.size)
            self._log_strengths(logs)

    def _log_flips(self, logs, size):
        now, flips = sparsity.supports(self.model, self.of), 0
        for path, support in now.items():
            changed = int(np.sum(support != self._before.get(path, support)))
            logs[f"flips/{path}"] = changed / max(1, support.size)
            flips += changed
        logs["flips"] = flips / max(1, size)
        self._before = now

    def _log_strengths(self, logs):
        for entry in regularized(self.model):
            logs[f"lambda/{entry.name}"] = to_float(entry.lam)
            if entry.dual is not None:
                v = keras.ops.convert_to_numpy(entry.dual).astype("float64")
                rms = float(np.sqrt(np.sum(np.square(v)) / max(1, v.size)))
                logs[f"dual/{entry.name}"] = rms
