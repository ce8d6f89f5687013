"""What is said while runs are trained, in a terminal or a log file."""

from __future__ import annotations

import sys
import time


def say(line: str) -> None:
    """Prints a line, in a terminal over what `Progress` left there."""
    start = "\r\033[K" if sys.stdout.isatty() else ""
    print(start + line, flush=True)


class Progress:
    """Shows every line in a terminal, over the last; else two a minute.

    Args:
        prefix: What every line begins with.
    """

    def __init__(self, prefix: str = ""):
        self._prefix = prefix
        self._last = time.time()

    def __call__(self, line: str) -> None:
        if sys.stdout.isatty():
            print(f"\r\033[K{self._prefix}{line}", end="", flush=True)
        elif time.time() - self._last > 30:
            self._last = time.time()
            print(self._prefix + line, flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
