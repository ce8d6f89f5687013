"""Processes that train: side by side, watched and killed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

_ROOT = pathlib.Path(__file__).parent.parent
CAN_LOCK = importlib.util.find_spec("fcntl") is not None


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[bool]:
    """Whether a lock file is ours, for as long as the context lasts.

    And beyond, until those have ended that were given it by
    `Popen(close_fds=False)`. Where files cannot be locked it always is.
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
        os.set_inheritable(file.fileno(), True)
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


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen]:
    """A `python -m experiments`, gone with its children after the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=_ROOT,
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
    what: Callable[[], object], process: subprocess.Popen, seconds: float = 120
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
