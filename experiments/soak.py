"""Work that is killed at moments nobody has chosen, and goes on: `soak`."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import tempfile
import time
from typing import Any

from experiments import provenance, results, works
from experiments.errors import Trouble
from experiments.progress import say
from experiments.watching import changes_of, started, wait_for
from keras_bregman._table import table

_START = 15.0  # seconds, by which most of the processes are at work
_HUNG = 600.0  # seconds


def soak(times: int, seed: int) -> list[dict[str, Any]]:
    """Kills by SIGKILL, lets go on, and compares with what is unbroken.

    Args:
        times: Kills of every victim; work that ends before is begun anew.
        seed: Of the moments.

    Returns:
        One dict per victim: its name (`killed`), the `moments` of the kills in
        seconds after the command, how often the work was done in full
        (`ends`), what differed from the unbroken one (`differences`), what had
        been finished and was done again or lost (`disturbed`), and `seconds`.

    Raises:
        Trouble: If a command fails that was not killed.
    """
    generator = random.Random(seed)
    rows = []
    for work in works.all_works():
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            _work(work, folder, 0, generator)
            expected = work.outcome(folder)
        for victim in work.victims:
            rows.append(_row(work, victim, expected, times, generator))
            say(f"{victim}: killed {len(rows[-1]['moments'])} times")
    return rows


def run(times: int, seed: int, out: pathlib.Path) -> bool:
    """Soaks, prints what came of it and writes it to the result file `out`.

    Returns:
        Whether nothing was lost, repeated or changed.
    """
    provenance.remember_commit()
    rows = soak(times, seed)
    result = {"soak": rows, "seed": seed, **provenance.of_process()}
    print(describe(result))
    results.save(result, out)
    return not any(row["differences"] or row["disturbed"] for row in rows)


def describe(result: dict[str, Any]) -> str:
    """A result as a table."""
    return table(
        ("killed", "times", "ends", "differences", "disturbed", "min"),
        [
            (
                row["killed"],
                len(row["moments"]),
                row["ends"],
                ", ".join(row["differences"]) or "none",
                ", ".join(row["disturbed"]) or "none",
                f"{row['seconds'] / 60:.1f}",
            )
            for row in result["soak"]
        ],
    )


def _row(work, victim, expected, times, generator):
    begun = time.monotonic()
    moments: list[float] = []
    different: set[str] = set()
    disturbed: set[str] = set()
    ends = 0
    while len(moments) < times:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            left = times - len(moments)
            came, touched = _work(work, folder, left, generator, victim)
            found = work.outcome(folder)
        moments += came
        disturbed |= touched
        ends += 1
        different |= {
            key
            for key in expected.keys() | found.keys()
            if expected.get(key) != found.get(key)
        }
    return {
        "killed": victim,
        "moments": moments,
        "ends": ends,
        "differences": sorted(different),
        "disturbed": sorted(disturbed),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _work(work, folder, times, generator, victim=""):
    """Works to the end, killed up to so many times on the way.

    Returns:
        The moments of the kills, and what finished work they disturbed.
    """
    moments: list[float] = []
    finished: dict[str, Any] = {}
    disturbed: set[str] = set()
    while True:
        begun = time.monotonic()
        with started(*work.command(folder)) as process:
            killed = len(moments) < times and _kill(
                work, folder, process, work.victims[victim], generator
            )
            if killed:
                moments.append(round(time.monotonic() - begun, 2))
            output, errors = process.communicate(timeout=_HUNG)
        now = work.finished(folder)
        disturbed |= {k for k, v in finished.items() if now.get(k) != v}
        finished = now
        if process.returncode == 0:
            return moments, disturbed
        if not killed:
            raise Trouble(
                f"a command that nobody killed failed: {process.args!r}\n"
                f"{output}\n{errors}"
            )


def _kill(work, folder, process, victim, generator):
    """Kills at a random moment; whether it came before the end."""
    steps = generator.randint(0, 3)
    far = changes_of(folder / work.progress, steps)
    pause = generator.uniform(0, work.step if steps else _START)

    def is_far():
        return victim(process) is not None and (not steps or far())

    if not wait_for(is_far, process, _HUNG):
        return False
    moment = time.monotonic() + pause
    wait_for(lambda: time.monotonic() >= moment, process, _HUNG)
    pid = victim(process)
    if pid is None or process.poll() is not None:
        return False
    os.kill(pid, signal.SIGKILL)
    return True
