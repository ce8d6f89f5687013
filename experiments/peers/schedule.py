"""What the peers' callbacks share: when, by the share of training."""

from __future__ import annotations

import math

import keras

from experiments.peers.masked import MaskedKernel
from keras_bregman._checks import check


class MaskSchedule(keras.callbacks.Callback):
    """Changes masks every so many steps of `model.fit`.

    The step is counted from `fit`'s epochs, and masks are the optimizer's, so
    that a resumed training goes on as if it had never stopped. The model is
    compiled with an optimizer of `masked`.

    Args:
        density: Share of all kernel entries that the masks hold in the end, a
            float in (0, 1].
        every: Steps between two calls, 1 or greater.

    Raises:
        ValueError: For an argument out of range, here and in the subclasses.
    """

    def __init__(self, density: float, every: int):
        super().__init__()
        check("density", density, 0 < density <= 1, "in (0, 1]")
        check("every", every, every >= 1, "1 or greater")
        self.density = density
        self.every = every
        self._epoch = 0

    def begin(self) -> None:
        """Called before the first step of a training."""

    def remask(self, step: int) -> None:
        """Changes the masks after so many steps."""
        raise NotImplementedError

    def is_due(self, step: int) -> bool:
        """Whether `remask` is called after so many steps."""
        return step % self.every == 0

    @property
    def masked(self) -> list[MaskedKernel]:
        return self.model.optimizer.masked

    @property
    def total_steps(self) -> int:
        return self.params["epochs"] * self.params["steps"]

    @property
    def size(self) -> int:
        """Number of kernel entries."""
        return sum(math.prod(k.variable.shape) for k in self.masked)

    def on_train_begin(self, logs=None):
        self.model.optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if epoch == 0:
            self.begin()

    def on_train_batch_end(self, batch, logs=None):
        step = self._epoch * self.params["steps"] + batch + 1
        if self.is_due(step):
            self.remask(step)
