"""How far a training is, as its callbacks are told."""

from __future__ import annotations

from typing import Any

_CORRECTIONS = 1000  # of a whole training
_FEWEST = 20  # steps between two


class Clock:
    """Share of a `fit` that is over.

    Args:
        params: Of a callback: how many epochs there are, and how many steps in
            each, None where nobody knows before the first is over.
    """

    def __init__(self, params: dict[str, Any]):
        self._epochs = params["epochs"]
        self._given = params.get("steps")
        self._seen: int | None = None
        self.epoch = self._done = 0

    def begin_epoch(self, epoch: int) -> None:
        """Goes to the first step of an epoch, numbered from 0."""
        self.epoch, self._done = epoch, 0

    def end_steps(self) -> None:
        """Says that the present epoch has no further step."""
        self._seen = self._done

    def passes(self, batch: int, interval: int) -> bool:
        """Goes on to the end of a batch, numbered from 0 in its epoch.

        Several steps may be made in one execution, and but the last be told.

        Returns:
            Whether a multiple of `interval` steps was passed, or the end of
            the epoch.
        """
        before, self._done = self._done, batch + 1
        is_end = before < (self.steps_per_epoch or 0) <= self._done
        return is_end or self._done // interval > before // interval

    @property
    def steps_per_epoch(self) -> int | None:
        return self._given or self._seen

    @property
    def steps(self) -> int:
        """Steps of the whole training, 0 if that is not known yet."""
        return self._epochs * (self.steps_per_epoch or 0)

    @property
    def interval(self) -> int:
        """Steps between two corrections, each a few passes over all weights."""
        return max(_FEWEST, self.steps // _CORRECTIONS)

    @property
    def position(self) -> float:
        """Share of training that is over, in [0, 1]."""
        length = self.steps_per_epoch
        # an epoch of unknown length may be longer than the last
        part = min(1, self._done / length) if length else 0
        return (self.epoch + part) / self._epochs
