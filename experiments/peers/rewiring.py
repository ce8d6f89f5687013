"""Sparse from the start to the end, with connections that move."""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from experiments.peers import INTERVAL
from experiments.peers.masked import MaskedKernel
from experiments.peers.schedule import MaskSchedule
from keras_bregman._checks import check
from keras_bregman.allocation import allocate


class _Rewiring(MaskSchedule):
    """Starts at a random mask, and then drops and grows as many weights.

    Smaller kernels begin denser, by `allocate`'s `"erdos-renyi"`.

    Args:
        density: Share of the kernel entries, in (0, 1], throughout.
        every: Steps between two changes.
        fraction: Share of a kernel's weights that is dropped, in [0, 1].
        end: Share of training after which the mask stays, in [0, 1].
        seed: Of the masks.
    """

    def __init__(
        self,
        density: float,
        every: int = INTERVAL,
        fraction: float = 0.3,
        end: float = 0.75,
        seed: int = 0,
    ):
        super().__init__(density, every)
        check("fraction", fraction, 0 <= fraction <= 1, "in [0, 1]")
        check("end", end, 0 <= end <= 1, "in [0, 1]")
        self.fraction = fraction
        self.end = end
        self.seed = seed

    def begin(self):
        shapes = [tuple(k.variable.shape) for k in self.masked]
        total = round(self.density * self.size)
        shares = allocate(shapes, total, "erdos-renyi")
        rng = self.random(0)
        for kernel, shape, n in zip(self.masked, shapes, shares, strict=True):
            mask = np.zeros(math.prod(shape), bool)
            mask[rng.choice(mask.size, n, replace=False)] = True
            kernel.remask(mask.reshape(shape))

    def random(self, step: int) -> np.random.Generator:
        """Random numbers that a resumed training finds again."""
        return np.random.default_rng((self.seed, step))


class RigL(_Rewiring):
    """Drops the smallest weights and grows where the gradient is largest.

    Every so many steps t, until the share `end` of training, each kernel drops
    the share

        f(t) = fraction / 2 (1 + cos(pi t / t_end))

    of its weights that are smallest in magnitude, and grows as many, from 0,
    at the entries with the largest gradient among all that are now off.

    Reference: Evci et al., "Rigging the Lottery", ICML 2020, algorithm 1.
    """

    def remask(self, step):
        last = self.end * self.total_steps
        if step >= last:
            return
        share = self.fraction / 2 * (1 + math.cos(math.pi * step / last))
        for kernel in self.masked:
            mask, weights = _numpy(kernel)
            n = int(share * np.count_nonzero(mask))
            mask = mask & ~_smallest(np.abs(weights), n, mask)
            gradient = np.abs(ops.convert_to_numpy(kernel.gradient)).ravel()
            mask |= _largest(gradient, n, ~mask)
            kernel.remask(mask.reshape(kernel.variable.shape))


class SET(_Rewiring):
    """Drops the weights closest to 0 and grows others at random.

    Every so many steps each kernel drops a share of its positive weights, the
    smallest, and of its negative ones, the largest, what is still 0, and grows
    as many entries that were off, from 0 (as RigL's authors do when they
    compare with it).

    Reference: Mocanu et al., "Scalable Training of Artificial Neural Networks
    with Adaptive Sparse Connectivity", Nature Communications 9, 2018,
    algorithm 1.
    """

    def remask(self, step):
        if step >= self.end * self.total_steps:
            return
        rng = self.random(step)
        for kernel in self.masked:
            before, weights = _numpy(kernel)
            # as those are that begin at 0 and get no gradient
            dropped = before & (weights == 0)
            for side in (before & (weights > 0), before & (weights < 0)):
                n = int(self.fraction * np.count_nonzero(side))
                dropped |= _smallest(np.abs(weights), n, side)
            off = np.flatnonzero(~before)
            # a kernel that is almost full has no room for as many
            n = min(len(off), int(np.count_nonzero(dropped)))
            grown = rng.choice(off, n, replace=False)
            mask = before & ~_smallest(np.abs(weights), n, dropped)
            mask[grown] = True
            kernel.remask(mask.reshape(kernel.variable.shape))


def _numpy(kernel: MaskedKernel):
    """Mask and weights as vectors."""
    mask = ops.convert_to_numpy(kernel.mask).ravel() != 0
    return mask, ops.convert_to_numpy(kernel.variable).ravel()


def _largest(values: np.ndarray, n: int, among: np.ndarray) -> np.ndarray:
    """Where the n largest of a vector are, of those in the mask `among`."""
    found = np.zeros(values.size, bool)
    if n:
        ranked = np.where(among, values, -np.inf)
        found[np.argpartition(ranked, -n)[-n:]] = True
    return found


def _smallest(values: np.ndarray, n: int, among: np.ndarray) -> np.ndarray:
    """Where the n smallest of a vector are, of those in the mask `among`."""
    return _largest(-values, n, among)
