"""Warnings that every training of a process may give."""

from __future__ import annotations

import sys
import warnings


def warn(text: str) -> None:
    """Warns, even if a former `fit` did so.

    Python by itself shows a text once a line of code, so that what was not
    mended by the next `fit` would look as if it were.
    """
    caller = sys._getframe(1)
    warnings.warn_explicit(
        text,
        UserWarning,
        caller.f_code.co_filename,
        caller.f_lineno,
        caller.f_globals["__name__"],
        registry={},
    )
