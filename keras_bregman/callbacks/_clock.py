"""How far a training is, as its callbacks are told."""

from __future__ import annotations

from typing import Any


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
        is_end = before < (self._length or 0) <= self._done
        return is_end or self._done // interval > before // interval

    @property
    def steps(self) -> int:
        """Steps of the whole training, 0 if that is not known yet."""
        return self._epochs * (self._length or 0)

    @property
    def position(self) -> float:
        """Share of training that is over, in [0, 1]."""
        length = self._length
        # an epoch of unknown length may be longer than the last
        part = min(1, self._done / length) if length else 0
        return (self.epoch + part) / self._epochs

    @property
    def _length(self):
        """Steps of an epoch, None if nobody knows."""
        return self._given or self._seen
