"""The list of callbacks that one of them is in."""

from __future__ import annotations

import inspect

import keras


def list_that_calls() -> keras.callbacks.CallbackList | None:
    """The list that calls the caller's `set_model`, by `super()` or not.

    `None` if somebody else calls it.

    Keras tells a callback its model but not its list. Where it stands there
    settles what it sees: the logs that those before it wrote, and weights that
    those behind it may still change.
    """
    frame = inspect.currentframe()
    frame = frame and frame.f_back
    while frame and frame.f_code.co_name == "set_model":
        found = frame.f_locals.get("self")
        if isinstance(found, keras.callbacks.CallbackList):
            return found
        frame = frame.f_back
    return None


def to_front(
    callbacks: keras.callbacks.CallbackList,
    callback: keras.callbacks.Callback,
    behind: tuple[type, ...] = (),
) -> None:
    """Puts a callback first in its list, or just behind those of some classes.

    The list is another one then: who goes through the former is not disturbed.
    """
    others = [c for c in callbacks.callbacks if c is not callback]
    ahead = [c for c in others if isinstance(c, behind)]
    rest = [c for c in others if not isinstance(c, behind)]
    callbacks.callbacks = [*ahead, callback, *rest]
