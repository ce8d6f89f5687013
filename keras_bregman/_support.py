"""Whether a support is frozen, and whether the steps that go on know it."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_bregman._scalars import to_float
from keras_bregman._warning import warn


class Support:
    """Whether the support of an optimizer's weights is frozen.

    A step that was compiled for one of the two goes on when it is the other.

    Args:
        optimizer: Whose steps are counted.

    Attributes:
        is_frozen: Whether it is to be.
    """

    def __init__(self, optimizer):
        self.is_frozen = False
        self._optimizer = optimizer
        # whether it was frozen in any step that was ever run or traced, and in
        # the last one since steps were made anew, if there was one
        self._traced: set[bool] = set()
        self._latest: bool | None = None
        self._changed_at: Any = 0

    def freeze(self, frozen: bool) -> None:
        """Has it frozen or not, in steps that are made from now on."""
        if frozen != self.is_frozen:
            # a copy, and no number: to ask a GPU for one takes long
            steps = ops.convert_to_tensor(self._optimizer.iterations)
            self._changed_at = ops.copy(steps)
        self.is_frozen = frozen

    def note_step(self) -> None:
        """To be called where a step is run or traced."""
        self._traced.add(self.is_frozen)
        self._latest = self.is_frozen

    def forget_steps(self) -> None:
        """To be called when steps that were compiled are made anew.

        But for a function that somebody has compiled within them.
        """
        self._latest = None

    def is_compiled_for(self, frozen: bool) -> bool:
        """Whether the step that was compiled last, if any, is of that state."""
        return self._latest in (None, frozen)

    @property
    def is_stale(self) -> bool:
        """Whether steps go on of which none was made for the present state."""
        is_known = not self._traced or self.is_frozen in self._traced
        return not is_known and self._has_gone_on()

    def warn_if_stale(self) -> None:
        """To be called when `fit` ends, which has one step, the last."""
        call = f"freeze_support({self.is_frozen})"
        # made anew, and none seen since: what it calls is compiled for itself
        if self._latest is None and self.is_stale:
            warn(
                f"`{call}` was called when a function that applies gradients "
                "was compiled, and this training has gone on without it. Leave "
                "`tf.function` or `jax.jit` out, as `fit` compiles the whole "
                "step, or give the function `optimizer.support_is_frozen` as "
                "an argument, by which it is compiled anew."
            )
        elif not self.is_compiled_for(self.is_frozen) and self._has_gone_on():
            warn(
                f"`optimizer.{call}` was called when the step was compiled, "
                "and this training has gone on without it. Call "
                "`keras_bregman.freeze_support` instead, with the model."
            )

    def _has_gone_on(self):
        """Whether a step was made since it was frozen or released."""
        return to_float(self._optimizer.iterations) > to_float(self._changed_at)
