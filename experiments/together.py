"""Processes of this machine that train one network together."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence

from experiments.errors import Trouble
from experiments.processes import children, environment, free_ports


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
