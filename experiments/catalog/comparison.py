"""Ours and its peers in one recipe: a method, its trials and its curve.

`methods` has those that compete.

Every method gets the same network, data, epochs, batches and schedule. On
LeNet-300-100 and the ConvNet each gets the same number of trials too: those of
a grid around its published settings, and on LeNet-300-100 three further rounds
from the best so far, over weight decay, over what may go with it, and over when
weights leave or move, at one density and for one seed. What the validation
split likes best, among those that reach the density by themselves, is what the
curves are trained with. The networks of CIFAR-10 have published settings and
first guesses, and trials to see what those are worth.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.recipes import Recipe

_AT = " at "  # in a label, between the method and its density
_NOTHING: Mapping[Any, Any] = types.MappingProxyType({})


class Round(NamedTuple):
    """Trials from the best so far.

    Attributes:
        tried: What is changed in that, one trial each.
        better: One of those changes, if it is better still.
    """

    tried: tuple[dict[str, Any], ...]
    better: dict[str, Any] | None = None


class Method(NamedTuple):
    """A method, what it is tuned over and what was chosen.

    Attributes:
        label: Its name in tables.
        fixed: Fields of its recipes.
        grid: Values of further fields, all combinations of which are tried.
        chosen: One of those combinations, in the order of `grid`.
        rounds: From there on.
        by_density: What a density asks for beside that, where the method has
            no other way to be told one.
    """

    label: str
    fixed: dict[str, Any]
    grid: Mapping[str, tuple[Any, ...]]
    chosen: tuple[Any, ...]
    rounds: tuple[Round, ...] = ()
    by_density: Mapping[float, dict[str, Any]] = _NOTHING

    def trials(self, base: Recipe, density: float) -> list[Recipe]:
        """All of its trials at a density."""
        first = [
            dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        ]
        tried = [(settings, settings) for settings in first]
        for n, further in enumerate(self.rounds):
            best = self._replace(rounds=self.rounds[:n]).best
            tried += [(changes, best | changes) for changes in further.tried]
        return [
            base.changed(
                label=f"{self.label}: {_words(changes)}",
                density=density,
                **{**self.fixed, **settings},
            )
            for changes, settings in tried
        ]

    @property
    def best(self) -> dict[str, Any]:
        """What its trials have chosen."""
        settings = dict(zip(self.grid, self.chosen, strict=True))
        for further in self.rounds:
            settings |= further.better or {}
        return settings

    def at(self, base: Recipe, density: float) -> Recipe:
        """The recipe of the curve at a density."""
        return base.changed(
            label=f"{self.label}{_AT}{100 * density:g} %",
            density=density,
            **{**self.fixed, **self.best, **self.by_density.get(density, {})},
        )


def method_of(label: str) -> str:
    """A recipe's label without the density asked for."""
    return label.partition(_AT)[0]


def _words(changes):
    said = (f"{name} {_said(value)}" for name, value in changes.items())
    return ", ".join(said) or "unchanged"


def _said(value):
    if isinstance(value, dict):
        return " ".join(f"{k} {v:g}" for k, v in value.items())
    return f"{value:g}"


def trials(
    base: Recipe, methods: tuple[Method, ...], density: float
) -> tuple[Recipe, ...]:
    """All trials of all methods."""
    return tuple(r for method in methods for r in method.trials(base, density))


def curve(
    base: Recipe,
    methods: tuple[Method, ...],
    densities: tuple[float, ...],
) -> tuple[Recipe, ...]:
    """The dense reference, and every method at every density."""
    return (base, *(m.at(base, d) for m in methods for d in densities))
