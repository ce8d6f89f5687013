"""What processes that train side by side need of each other."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

CAN_LOCK = importlib.util.find_spec("fcntl") is not None


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[bool]:
    """Whether a lock file is ours, for as long as the context lasts.

    Where files cannot be locked it always is.
    """
    if not CAN_LOCK:
        yield True
        return
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def environment() -> dict[str, str]:
    """The environment of several processes on one GPU."""
    return {
        # none may take all of its memory
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def children() -> Iterator[list[subprocess.Popen]]:
    """A list for processes, none of which outlives the context.

    Not even where this process is told to end.
    """
    started: list[subprocess.Popen] = []
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield started
    finally:
        for process in started:
            process.terminate()  # nothing, where it has ended
        for process in started:
            process.wait()
        signal.signal(signal.SIGTERM, before)
