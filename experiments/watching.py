"""A command watched from outside until a moment comes, and killed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from experiments import results


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen]:
    """A `python -m experiments`, gone with its children after the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=results.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(
    what: Callable[[], object], process: subprocess.Popen, seconds: float = 300
) -> bool:
    """Whether something comes true before a process ends.

    Raises:
        TimeoutError: If neither happens within so many seconds.
    """
    end = time.monotonic() + seconds
    while not what():
        if process.poll() is not None:
            return False
        if time.monotonic() > end:
            raise TimeoutError(f"{process.args!r} got nowhere in {seconds:g} s")
        time.sleep(0.002)
    return True


def changes_of(path: pathlib.Path, count: int) -> Callable[[], bool]:
    """Whether a file has been made or replaced so many times since."""
    seen = [_stamp(path)]

    def enough():
        stamp = _stamp(path)
        if stamp != seen[-1]:
            seen.append(stamp)
        return len(seen) > count

    return enough


def _stamp(path):
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
