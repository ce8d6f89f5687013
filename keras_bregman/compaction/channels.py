"""The channels of a graph's tensors, and which of them stay together."""

from __future__ import annotations

import dataclasses

import numpy as np

_PINNED = 0


@dataclasses.dataclass(frozen=True)
class Channels:
    """What is known of one tensor's channels.

    Attributes:
        axis: The axis that counts them, from the front.
        atoms: Per channel the number of its atom in `Classes`. Channels with
            one atom, in whatever tensors, stay or go together.
        values: Per channel the value that it always has at every position,
            whatever the input; NaN where the input decides.
    """

    axis: int
    atoms: np.ndarray
    values: np.ndarray

    def __len__(self):
        return len(self.atoms)

    @property
    def live(self) -> np.ndarray:
        """Where the input decides."""
        return np.isnan(self.values)

    def replaced(self, values=None, axis=None) -> Channels:
        """The same channels with other values, or on another axis."""
        return Channels(
            self.axis if axis is None else axis,
            self.atoms,
            self.values if values is None else values,
        )

    def picked(self, indices, axis=None) -> Channels:
        """The channels at these indices, of which one may come repeatedly."""
        return Channels(
            self.axis if axis is None else axis,
            self.atoms[indices],
            self.values[indices],
        )


class Classes:
    """Which atoms are tied to each other, and which classes of them stay."""

    def __init__(self):
        self._parents = [_PINNED]
        self._roots = np.zeros(0, int)
        self._kept = np.zeros(0, bool)

    def add(self, n: int) -> np.ndarray:
        """n new atoms, each a class of its own."""
        first = len(self._parents)
        self._parents.extend(range(first, first + n))
        return np.arange(first, first + n)

    def tie(self, some: np.ndarray, others: np.ndarray) -> None:
        """Makes one class of the two of every pair."""
        for a, b in zip(some.tolist(), others.tolist(), strict=True):
            low, high = sorted((self._root(a), self._root(b)))
            self._parents[high] = low

    def pin(self, channels: Channels | None) -> None:
        """Makes channels stay."""
        if channels is not None:
            self.tie(channels.atoms, np.full(len(channels), _PINNED))

    @staticmethod
    def pinned(n: int, axis: int) -> Channels:
        """n channels that stay, and of whose values nothing is known."""
        return Channels(axis, np.full(n, _PINNED), np.full(n, np.nan))

    def settle(self) -> None:
        """Ends tying and begins keeping: at first what is pinned."""
        self._roots = np.array([self._root(a) for a in range(len(self))])
        self._kept = np.zeros(len(self), bool)
        self._kept[_PINNED] = True

    def kept(self, channels: Channels) -> np.ndarray:
        """Per channel whether it stays."""
        return self._kept[self._roots[channels.atoms]]

    def keep(self, channels: Channels, where: np.ndarray) -> bool:
        """Makes channels stay; says whether any did not before."""
        new = where & ~self.kept(channels)
        self._kept[self._roots[channels.atoms[new]]] = True
        return bool(new.any())

    def __len__(self):
        return len(self._parents)

    def _root(self, atom):
        parents = self._parents
        while parents[atom] != atom:
            parents[atom] = parents[parents[atom]]
            atom = parents[atom]
        return atom
