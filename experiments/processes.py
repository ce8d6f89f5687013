"""Processes that train: side by side, watched and killed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from experiments import results
from experiments.errors import Trouble

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


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def cluster(workers: int) -> list[dict[str, str]]:
    """By which processes of this machine find each other to train together.

    Args:
        workers: Number of processes.

    Returns:
        For each the variables of its environment: those of
        `keras.distribution.initialize` (JAX), of TensorFlow and of torch.
    """
    ports = free_ports(workers)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return [
        {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(workers),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": rank},
                }
            ),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(ports[0]),
            "WORLD_SIZE": str(workers),
            "RANK": str(rank),
        }
        for rank in range(workers)
    ]


def run_together(
    commands: Sequence[Sequence[str]],
    variables: Sequence[dict[str, str]],
    seconds: float,
) -> None:
    """Runs processes to their end, none of which outlives this call.

    Args:
        commands: One for each process.
        variables: What each finds in its environment besides ours.
        seconds: How long they may take.

    Raises:
        Trouble: If one failed or time was up, with what all of them
            printed.
    """
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(children())
        outputs = [
            stack.enter_context(tempfile.TemporaryFile("w+")) for _ in commands
        ]
        try:
            for command, ours, output in zip(
                commands, variables, outputs, strict=True
            ):
                running.append(
                    subprocess.Popen(
                        command,
                        env={**environment(), **ours},
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
            codes = _codes(running, seconds)
        finally:
            # asked to end in good order, some would wait for the others
            for process in running:
                process.kill()
        if any(code != 0 for code in codes):
            told = [
                f"process {rank} {_ending(code)}:\n{_read(output)}"
                for rank, (code, output) in enumerate(
                    zip(codes, outputs, strict=True)
                )
            ]
            raise Trouble(
                "Processes that work together failed, or took longer than "
                f"{seconds:g} s.\n" + "\n".join(told)
            )


def _codes(running, seconds):
    """Exit codes when all have ended, one has failed, or time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        codes = [process.poll() for process in running]
        if None not in codes:
            return codes
        if any(codes):
            time.sleep(1)  # for what the others have to say
            break
        time.sleep(0.05)
    return [process.poll() for process in running]


def _ending(code):
    return "was still running" if code is None else f"ended with {code}"


def _read(output):
    output.seek(0)
    return output.read()
