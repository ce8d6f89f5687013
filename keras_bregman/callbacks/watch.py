"""Warnings when a sparse training goes wrong in a way that is known."""

from __future__ import annotations

import warnings

import keras
import numpy as np

from keras_bregman import sparsity
from keras_bregman._numbers import number
from keras_bregman.callbacks.wrappers import inner_optimizers, regularized

_EARLY = (1, 10)  # steps after which a jump of the density is looked for
_PATIENCE = 100  # steps that a first weight may take
_SPARSE, _FULL = 0.5, 0.9


class SparsityWatch(keras.callbacks.Callback):
    """Warns when training goes wrong, and names the remedy.

    Each once in a `fit`, as a `UserWarning`:

    everything on   A network that started below 50 % has more than 90 % of
                    its weights on after 1 or 10 steps.
    nothing on      A network that started below 50 % has switched on nothing
                    by the end of the first epoch after 100 steps.
    dead layers     All weights of a kernel are 0 at the end of an epoch:
                    nothing passes it, and it gets no gradient.

    What becomes of not finite weights is up to `SparsityLogger` and
    `TargetDensity`, which raise.
    """

    def on_train_begin(self, logs=None):
        self._steps = 0
        self._warned: set[str] = set()
        counts = sparsity.count(self.model)
        self._begun_at = sparsity.total(counts).density
        self._before = self._on(counts)
        self._is_judged = False

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self._steps in _EARLY and self._begun_at < _SPARSE:
            now = sparsity.density(self.model)
            if now > _FULL:
                self._say_everything(now)

    def on_epoch_end(self, epoch, logs=None):
        counts = sparsity.count(self.model)
        if self._steps >= _PATIENCE and not self._is_judged:
            self._is_judged = True
            found, now = regularized(self.model), self._on(counts)
            still = all(now[path] <= self._before[path] for path in now)
            if found and still and self._begun_at < _SPARSE:
                self._say_nothing(found)
        dead = [c.path for c in counts if not c.nonzero]
        if dead:
            self._say_dead(dead)

    def _on(self, counts):
        return {c.path: c.nonzero for c in counts}

    def _say_everything(self, now):
        self._warn(
            "everything on",
            f"{now:.0%} of the weights are on after {self._steps} steps, of "
            f"{self._begun_at:.0%} at the start: the learning rate "
            f"({self._rates()}) is too large against lambda "
            f"({self._lambdas()}). Lower `learning_rate`, 0.001 is usual for "
            "AdaBreg, or raise lambda; or ask for a density with "
            "`callbacks.TargetDensity`.",
        )

    def _say_nothing(self, found):
        reached = max(_share_of_threshold(entry) for entry in found)
        self._warn(
            "nothing on",
            f"No weight was switched on in {self._steps} steps; the dual "
            f"variables have come to at most {reached:.0%} of the threshold "
            f"lambda ({self._lambdas()}). Lower lambda, raise `learning_rate` "
            f"({self._rates()}), or start with more weights by "
            "`keras_bregman.sparsify`; or ask for a density with "
            "`callbacks.TargetDensity`.",
        )

    def _say_dead(self, dead):
        self._warn(
            "dead layers",
            f"All weights of {', '.join(dead)} are 0: nothing passes, and no "
            "gradient comes back. Start with "
            "`keras_bregman.sparsify(model, method='balanced')`, give these "
            "kernels a smaller strength by a dict as `regularizer`, or ask for "
            "a density with `callbacks.TargetDensity(..., "
            "distribution='uniform')`.",
        )

    def _warn(self, cause, text):
        if cause not in self._warned:
            self._warned.add(cause)
            warnings.warn(text, UserWarning, stacklevel=2)

    def _rates(self):
        optimizers = inner_optimizers(self.model.optimizer)
        return ", ".join(f"{number(o.learning_rate):g}" for o in optimizers)

    def _lambdas(self):
        lambdas = {number(entry.lam) for entry in regularized(self.model)}
        return ", ".join(f"{lam:g}" for lam in sorted(lambdas)) or "none"


def _share_of_threshold(entry):
    """How far the most eager of the weights that are off has come."""
    if entry.dual is None or not number(entry.lam):
        return 0.0
    dual = keras.ops.convert_to_tensor(entry.dual)
    critical = keras.ops.convert_to_numpy(entry.shrink.critical(dual))
    off = keras.ops.convert_to_numpy(entry.variable) == 0
    return float(np.max(critical, where=off, initial=0.0)) / number(entry.lam)
