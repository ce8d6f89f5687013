"""At which strengths as many weights are on as are wanted."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_bregman._scalars import to_float, to_floats
from keras_bregman.choice import Regularized

TOLERANCE = 0.02  # by which a density may be missed, as a share of it


class Scope(NamedTuple):
    """Variables that share a strength, and how many weights they get."""

    entries: list[Regularized]
    wanted: int

    @property
    def size(self):
        return sum(math.prod(e.variable.shape) for e in self.entries)

    @property
    def has_strengths(self):
        return all(to_float(e.lam) for e in self.entries)

    @property
    def group_size(self):
        """Weights in a group, of the largest ones."""
        return max(e.shrink.group_size for e in self.entries)

    @property
    def tolerance(self):
        """How many weights more or less will do; groups come whole."""
        return max(TOLERANCE * self.wanted, self.group_size - 1)


def nonzero(scopes):
    """Each scope, and how many of its weights are on."""
    found = iter(counts([e.variable for s in scopes for e in s.entries]))
    return [(s, sum(itertools.islice(found, len(s.entries)))) for s in scopes]


def counts(variables):
    """How many entries of each are not 0."""
    values = (ops.convert_to_tensor(v) for v in variables)
    # `count_nonzero` warns on torch 2.13: Keras transposes its scalar
    return to_floats(ops.sum(ops.not_equal(v, 0)) for v in values)


def make_exact(scopes, hard, given):
    """The strengths at which the wanted weights are on.

    Args:
        scopes: What is to be set.
        hard: Whether weights that stay on keep their values.
        given: By the `id` of its variable, each strength that was not set yet;
            what is set here is taken out.
    """
    entries = [entry for scope in scopes for entry in scope.entries]
    critical = [e.optimizer.critical_lambda(e) for e in entries]
    relative = [k / e.given_lam for k, e in zip(critical, entries, strict=True)]
    of_scopes = _largest_off(relative, scopes)
    factors = [
        factor
        for scope, factor in zip(scopes, of_scopes, strict=True)
        for _ in scope.entries
    ]
    # which rounding may have put below the last that is to be off
    lasts = to_floats(
        ops.max(ops.where(r <= factor, k, 0.0))
        for k, r, factor in zip(critical, relative, factors, strict=True)
    )
    for entry, factor, last in zip(entries, factors, lasts, strict=True):
        lam = max(factor * entry.given_lam, last)
        if not math.isfinite(lam):  # a group's norm is, before its weights are
            raise FloatingPointError(
                f"'{entry.name}' has grown so large that no strength would "
                "switch any of it off: training diverges. Lower "
                "`learning_rate` or set `global_clipnorm`."
            )
        # Strengths are given relative to each other. If one has to fall for it,
        # a soft threshold would add the difference, any number, to each weight.
        falls = lam < given.pop(id(entry.lam), 0.0)
        entry.optimizer.rethreshold(entry, lam, hard=hard or falls)


def _largest_off(relative, scopes):
    """By scope the largest strength that switches weights off.

    Ahead of the `wanted` largest. Weights that are alike to the last bit, as
    scales of batch normalization which all begin at 1, would go together: they
    stay on until they differ, unless they are one group, or too few to matter.
    """
    rest = map(ops.ravel, relative)  # those of a scope one after the other
    ranked, ranges = [], []
    for scope in scopes:
        of_scope = list(itertools.islice(rest, len(scope.entries)))
        ranked.append(ops.concatenate(of_scope))
        first = scope.size - scope.wanted - 1  # 0 or more: not all are wanted
        alike = max(scope.group_size, math.ceil(TOLERANCE * scope.wanted))
        ranges.append((first, min(first + alike, scope.size - 1)))
    factors = []
    for values, (low, high) in zip(
        ranked, _order_statistics(ranked, ranges), strict=True
    ):
        factor = low
        if low == high < math.inf:
            factor = to_float(ops.max(ops.where(values < low, values, 0.0)))
        factors.append(factor)
    return factors


def _order_statistics(values, indices):
    """Of each tensor the entries with these two indices, were it sorted."""
    pairs = list(zip(values, indices, strict=True))
    # a GPU has sorted before its memory is copied; a CPU selects in a tenth
    # of the time in which it sorts
    if all(map(_is_on_cpu, values)):
        arrays = ((ops.convert_to_numpy(v), i) for v, i in pairs)
        return [tuple(np.partition(a, i)[list(i)].tolist()) for a, i in arrays]
    ordered = ((ops.sort(v), i) for v, i in pairs)
    flat = iter(to_floats(v[i] for v, both in ordered for i in both))
    return list(zip(flat, flat, strict=True))


def _is_on_cpu(tensor):
    return "cpu" in str(tensor.device).lower()


def feed_back(scope, factor, hard):
    for entry in scope.entries:
        lam = to_float(entry.lam) * min(2.0, max(0.5, factor))
        entry.optimizer.rethreshold(entry, lam, hard=hard)


def let_go(scope):
    """Of what is to be dense: no strength and the same weights, a plain step.

    No other strength would do: it would enlarge those that are on.
    """
    for entry in scope.entries:
        entry.lam.assign(0.0)
