"""Processes that train side by side, and go with the one that began them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

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
    begun: list[subprocess.Popen] = []
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield begun
    finally:
        for process in begun:
            process.terminate()  # nothing, where it has ended
        for process in begun:
            process.wait()
        signal.signal(signal.SIGTERM, before)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
