"""AdaBreg and LinBreg with what the ablation tries and the library leaves out.

Arguments beyond the library's:

    leak           v <- (1 - leak) v before a step: the dual variable forgets
    cycle          of so many steps one is full, the others move the weights
                   that are on and no others
    coupled_decay  added to the gradient, times the weights; `weight_decay` of
                   every Keras optimizer is the decoupled form

References: the leak is from Aloradi, Roith, Habets, Tenbrinck, "Adaptive
Regularization for Sparsity Control in Bregman-Based Optimizers", 2026; the
cycle from Lunk, Scott, Bungert, "Sparse Training of Neural Networks based on
Multilevel Mirror Descent", 2026.
"""

from __future__ import annotations

from keras import ops

import keras_bregman as kb
from keras_bregman.optimizers import BregmanOptimizer

ARGUMENTS = frozenset(("leak", "cycle", "coupled_decay"))


class _Variant(BregmanOptimizer):
    def __init__(self, *args, leak=0.0, cycle=1, coupled_decay=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.leak = leak
        self.cycle = cycle
        self.coupled_decay = coupled_decay
        self._leak_now = leak

    def move(self, theta, direction, learning_rate, shrink, *dual):
        if shrink is not None and self._leak_now:
            (v,) = dual
            v = theta / self.delta + shrink.project(theta, v)
            direction = direction + self._leak_now * v
        return super().move(theta, direction, learning_rate, shrink, *dual)

    def _make_update(self, shrink, frozen):
        full = super()._make_update(shrink, frozen)
        if shrink is None:
            return full
        on_support = super()._make_update(shrink, True)

        def update(theta, gradient, learning_rate, step, *state):
            gradient = gradient + self.coupled_decay * theta
            arguments = (theta, gradient, learning_rate, step, *state)
            # on a frozen support nothing shrinks
            self._leak_now = 0.0 if frozen else self.leak
            moved = full(*arguments)
            self._leak_now = 0.0
            if self.cycle == 1 or frozen:
                return moved
            is_full = ops.equal(ops.mod(step + 1, self.cycle), 0)
            return tuple(
                ops.where(is_full, new, held)
                for new, held in zip(moved, on_support(*arguments), strict=True)
            )

        return update


class AdaBreg(_Variant, kb.AdaBreg):
    """`keras_bregman.AdaBreg` and the arguments above."""


class LinBreg(_Variant, kb.LinBreg):
    """`keras_bregman.LinBreg` and the arguments above."""
