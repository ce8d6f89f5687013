"""What `soak` kills: a run and a search, small ones that go on."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from subprocess import Popen
from typing import Any

from experiments import results
from experiments.catalog import EXPERIMENTS
from experiments.jobs import Job, plan

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


def all_works() -> tuple[Work, ...]:
    """A run, and a search by several processes."""
    return run_work(), search_work()


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


def run_work() -> Work:
    """A run of many epochs."""

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


def search_work() -> Work:
    """A search by a chief and two workers."""
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
