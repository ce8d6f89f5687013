"""Work that is killed at moments nobody has chosen, and goes on: `soak`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
import signal
import tempfile
import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any

from experiments import provenance, results
from experiments.catalog import EXPERIMENTS
from experiments.errors import Trouble
from experiments.jobs import Job, plan
from experiments.progress import say
from experiments.watching import changes_of, started, wait_for
from keras_bregman._table import table

# a recipe of the catalog in which everything happens that a resumed run must
# not miss: momentum, augmentation, a learning rate that falls
_EXPERIMENT = EXPERIMENTS["figure5-8"]
RECIPE = next(r for r in _EXPERIMENT.recipes if r.momentum)
SMALL = {
    "data": "digits",
    "lam": 0.02,
    "start": 0.2,
    "width": 0.1,
    "augment": True,
    "batch_size": 60,
    "examples": 256,
    "patience": 1,
    "threshold": 0.5,
}
_EPOCHS = 150
_TRIALS = 10
_START = 15.0  # seconds, by which most of the processes are at work
_HUNG = 600.0  # seconds


@dataclasses.dataclass(frozen=True)
class Work:
    """What is killed, and goes on by the same command.

    Attributes:
        command: From the folder of the work to the command.
        progress: The file in it that is replaced when a step is done.
        step: Seconds that a step takes, about.
        victims: By name, from the command's process to the number of the one
            to kill, `None` while it is not there.
        finished: From the folder to what is finished, by name, as it is.
        outcome: From the folder to what no kill may change, by name.
    """

    command: Callable[[pathlib.Path], list[str]]
    progress: str
    step: float
    victims: dict[str, Callable[[Popen], int | None]]
    finished: Callable[[pathlib.Path], dict[str, Any]]
    outcome: Callable[[pathlib.Path], dict[str, Any]]


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
    for work in _works():
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


def _works():
    return _run_work(), _search_work()


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


# --- a run -----------------------------------------------------------------


def run_command(folder: pathlib.Path, seeds=(0,), **changes) -> list[str]:
    """The command that trains a small recipe of the catalog."""
    return [
        "run",
        _EXPERIMENT.name,
        f"--only={RECIPE.label}",
        *("--seeds", *map(str, seeds)),
        *(f"--set={k}={v}" for k, v in {**SMALL, **changes}.items()),
        f"--out={folder}",
        f"--checkpoints={folder / 'kept'}",
    ]


def run_job(folder: pathlib.Path, **changes) -> Job:
    """Its run with seed 0."""
    (job,) = plan(
        [_EXPERIMENT],
        "full",
        seeds=[0],
        only=[RECIPE.label],
        changes={**SMALL, **changes},
        out=folder,
        checkpoints=folder / "kept",
        networks=folder / "networks",
    )
    return job


def outcome(result: dict[str, Any]) -> dict[str, Any]:
    """What of a run's result no kill may change."""
    names = ("recipe", "seed", "best_epoch", "test", "history", "probes")
    return {name: result[name] for name in names}


def _run_work():
    def outcome_in(folder):
        job = run_job(folder, epochs=_EPOCHS)
        weights = job.network.read_bytes()
        return {**outcome(results.read(job.result)), "weights": weights}

    here = pathlib.Path()
    return Work(
        lambda folder: run_command(folder, epochs=_EPOCHS),
        str(run_job(here).checkpoint),
        0.1,
        {"a run": lambda process: process.pid},
        lambda folder: {},  # its epochs are in its history
        outcome_in,
    )


# --- a search --------------------------------------------------------------


def _search_work():
    small = [
        *("--data=digits", "--width=0.1", "--epochs=2", "--examples=256"),
        *("--tuner=random", "--workers=2", f"--trials={_TRIALS}"),
    ]
    return Work(
        lambda folder: ["search", *small, f"--out={folder}"],
        "trials/oracle.json",
        2.0,
        {
            "the chief of a search": _member("chief"),
            "a worker of a search": _member("worker0"),
        },
        _finished_trials,
        lambda folder: {
            f"trial {point['trial_id']}": point
            for point in results.read(folder / "search.json")["trials"]
        },
    )


def _member(name):
    """Finds a process of a search by its number, on Linux."""
    mark = f"KERASTUNER_TUNER_ID={name}".encode()

    def find(process):
        proc = pathlib.Path("/proc")
        pid = str(process.pid)
        try:
            children = (proc / pid / "task" / pid / "children").read_text()
            for child in children.split():
                given = (proc / child / "environ").read_bytes()
                if mark in given.split(b"\0"):
                    return int(child)
        except (FileNotFoundError, ProcessLookupError):  # it is gone
            pass
        return None

    return find


def _finished_trials(folder):
    """Which file each is in: one that is written anew is another."""
    return {
        f"trial {path.parent.name.removeprefix('trial_')}": (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
        )
        for path in folder.glob("trials/trial_*/trial.json")
        if '"status": "COMPLETED"' in path.read_text()
    }
