"""Gradual magnitude pruning, and its one-shot form."""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from experiments.peers import INTERVAL
from experiments.peers.schedule import MaskSchedule
from keras_bregman._checks import check
from keras_bregman.allocation import largest


class MagnitudePruning(MaskSchedule):
    """Keeps the largest weights of all kernels, fewer and fewer of them.

        d(t) = d + (1 - d) (1 - (t - begin) / (end - begin))^3

    from t = `begin` to `end`, after which the weights left are trained on.
    What is pruned stays pruned. With `begin` equal to `end` all is pruned at
    once.

    Args:
        density: The final share d of the kernel entries, a float in (0, 1].
        begin: Share of training before pruning, in [0, 1].
        end: Share of training at which the density is reached, in [0, 1].
        every: Steps between two prunings.

    Reference: Zhu, Gupta, "To prune, or not to prune", 2017.
    """

    def __init__(
        self,
        density: float,
        begin: float = 0.0,
        end: float = 0.75,
        every: int = INTERVAL,
    ):
        super().__init__(density, every)
        check("begin", begin, 0 <= begin <= end, "in [0, `end`]")
        check("end", end, end <= 1, "1 or less")
        self.begin_at = begin
        self.end_at = end

    def wanted(self, step: int) -> float:
        """The density after so many steps."""
        begin = self.begin_at * self.total_steps
        end = self.end_at * self.total_steps
        if step < begin:
            return 1.0
        left = 1 - (step - begin) / (end - begin) if step < end else 0.0
        return self.density + (1 - self.density) * left**3

    def is_due(self, step):
        # the end of the ramp may lie between two multiples of `every`
        last = math.ceil(self.end_at * self.total_steps)
        return super().is_due(step) or step == last

    def remask(self, step):
        total = round(self.wanted(step) * self.size)
        weights = [ops.convert_to_numpy(k.variable) for k in self.masked]
        held = [ops.convert_to_numpy(k.mask) != 0 for k in self.masked]
        if sum(map(np.count_nonzero, held)) <= total:
            return
        parts = largest(weights, total)
        for kernel, part, have in zip(self.masked, parts, held, strict=True):
            kernel.remask(part & have)
