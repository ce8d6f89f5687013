"""Many runs: none twice, several side by side, resumed after a kill."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator

from experiments import results
from experiments.catalog import Experiment
from experiments.data import Dataset, DatasetUnavailable, load
from experiments.recipes import Recipe

CHECKPOINTS = results.ROOT / "build" / "checkpoints"


@dataclasses.dataclass(frozen=True)
class Job:
    """One run and its files.

    Attributes:
        experiment: Name of the experiment.
        family: Folder of its results.
        scale: `"full"` or `"small"`.
        recipe: What is trained.
        seed: With which seed.
        result: The result file.
        checkpoint: The checkpoint file, removed when the result is written.
    """

    experiment: str
    family: str
    scale: str
    recipe: Recipe
    seed: int
    result: pathlib.Path
    checkpoint: pathlib.Path

    @property
    def name(self) -> str:
        return f"{self.experiment}  {self.recipe.label}  seed {self.seed}"


def plan(
    experiments: Iterable[Experiment],
    scale: str,
    seeds: list[int] | None = None,
    only: list[str] | None = None,
    changes: dict | None = None,
    out: pathlib.Path = results.RESULTS,
    checkpoints: pathlib.Path = CHECKPOINTS,
) -> list[Job]:
    """The runs of some experiments, seed by seed.

    Args:
        experiments: Whose runs.
        scale: `"full"` or `"small"`.
        seeds: Instead of the experiments' own.
        only: Labels or slugs of the recipes to train; by default all.
        changes: Fields of every recipe to change.
        out: Folder of the result files.
        checkpoints: Folder of the checkpoints.

    Raises:
        ValueError: If `only` names no recipe or a change does not fit.
    """
    jobs: dict[pathlib.Path, Job] = {}
    wanted = {name.lower() for name in only or ()}
    met: set[str] = set()
    known: set[str] = set()
    for experiment in experiments:
        recipes, own_seeds = experiment.at(scale)
        for seed in own_seeds if seeds is None else seeds:
            for recipe in recipes:
                names = {recipe.label.lower(), recipe.slug}
                known.add(recipe.label)
                if wanted and not names & wanted:
                    continue
                met |= names & wanted
                path = (scale, experiment.family, recipe.slug, seed)
                job = Job(
                    experiment.name,
                    experiment.family,
                    scale,
                    recipe.changed(**(changes or {})),
                    seed,
                    results.path_of(out, *path),
                    results.path_of(checkpoints, *path).with_suffix(".npz"),
                )
                jobs.setdefault(job.result, job)
    if wanted - met:
        raise ValueError(
            f"no recipe is called {', '.join(sorted(wanted - met))}; there are "
            f"{', '.join(sorted(known))}"
        )
    return sorted(jobs.values(), key=lambda job: job.seed)


def run(
    jobs: list[Job], deadline: float | None = None, terminal: bool = False
) -> int:
    """Trains what has no result yet, skipping what others are training.

    Any number of processes may do so at once: a run is locked while it is
    trained, and the lock goes with its process.

    Args:
        jobs: The runs, in the order wanted.
        deadline: Time of `time.time()` after which nothing is trained.
        terminal: Whether every epoch is shown, on one line that is rewritten.

    Returns:
        Number of the runs that failed.
    """
    datasets: dict[str, Dataset] = {}
    failed = 0
    for job in jobs:
        if deadline is not None and time.time() > deadline:
            break
        if _is_done(job):
            continue
        with _locked(job.checkpoint) as mine:
            # another process may have finished it a moment ago
            if not mine or _is_done(job):
                continue
            try:
                finished = _train(job, datasets, deadline, terminal)
            except _FAILURES as error:
                failed += 1
                _say(f"{job.name}  failed: {_why(error, job)}")
                continue
        if finished:
            _say(f"{job.name}  {_tally(jobs)}")
    return failed


def run_side_by_side(jobs: list[Job], count: int, arguments: list[str]) -> int:
    """Trains in `count` processes that share the runs and the cores.

    Args:
        jobs: The runs.
        count: Number of processes.
        arguments: The command line that each process repeats.

    Returns:
        Number of the processes in which a run failed.
    """
    cores = sorted(os.sched_getaffinity(0)) if _CAN_PIN else []
    environment = {
        # several on one GPU: none may take all of its memory
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
    }
    _say(f"{_tally(jobs)}; {count} processes: {shlex.join(arguments)}")
    workers = []
    for i in range(count):
        command = [sys.executable, "-m", "experiments", *arguments]
        if len(cores) >= count:
            own = ",".join(map(str, cores[i::count]))
            command += ["--cores", own]
        workers.append(
            subprocess.Popen(
                [*command, "--jobs", "1"],
                env=environment,
                cwd=results.ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    readers = [
        threading.Thread(target=_forward, args=(worker.stdout,))
        for worker in workers
    ]
    for reader in readers:
        reader.start()
    try:
        for worker in workers:
            worker.wait()
    except BaseException:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        raise
    finally:
        for reader in readers:
            reader.join()
    return sum(worker.returncode != 0 for worker in workers)


_CAN_PIN = hasattr(os, "sched_setaffinity")
_FAILURES = (
    OSError,
    DatasetUnavailable,
    FloatingPointError,
    MemoryError,
)


def _is_done(job):
    """Whether there is a result; a damaged one is moved out of the way."""
    try:
        results.read(job.result)
    except FileNotFoundError:
        return False
    except results.DamagedResult as error:
        aside = job.result.with_suffix(".json.damaged")
        with contextlib.suppress(FileNotFoundError):
            job.result.rename(aside)
            _say(f"{error} It is moved to {aside.name} and the run repeated.")
        return False
    return True


def _train(job, datasets, deadline, terminal):
    """Whether a run came to its end in time."""
    from experiments.training import OutOfTime, train

    if job.recipe.data not in datasets:
        datasets[job.recipe.data] = load(job.recipe.data)
    _say(f"{job.name}  begins or resumes")
    try:
        _, result = train(
            job.recipe,
            job.seed,
            datasets[job.recipe.data],
            job.checkpoint,
            deadline,
            _Progress(job, terminal),
        )
    except OutOfTime:
        _say(f"{job.name}  stops in time, goes on at the next call")
        return False
    result = {"family": job.family, "scale": job.scale, **result}
    results.save(result, job.result)
    # only now: before, the checkpoint is all there is
    job.checkpoint.unlink(missing_ok=True)
    test = result["test"]
    _say(
        f"{job.name}  done: test {test['accuracy']:.2%} at "
        f"{test['density']:.2%} density, epoch {result['best_epoch']}"
    )
    return True


class _Progress:
    """A line on every epoch in a terminal, every half minute elsewhere."""

    def __init__(self, job, terminal):
        self.name = job.experiment
        self.terminal = terminal
        self.last = time.time()

    def __call__(self, line):
        text = f"{self.name}  {line}"
        if self.terminal:
            print(f"\r\033[K{text}", end="", flush=True)
        elif time.time() - self.last > 30:
            self.last = time.time()
            print(text, flush=True)


def _say(line):
    start = "\r\033[K" if sys.stdout.isatty() else ""
    print(start + line, flush=True)


def _forward(lines):
    for line in lines:
        print(line, end="", flush=True)


def _tally(jobs):
    """How many runs are done and how long the others take, one by one."""
    seconds: dict[tuple, list[float]] = {}
    left = []
    for job in jobs:
        try:
            took = results.read(job.result)["seconds"]
        except (FileNotFoundError, results.DamagedResult):
            left.append(job)
        else:
            seconds.setdefault(_kind(job), []).append(took)
    text = f"{len(jobs) - len(left)} of {len(jobs)} runs done"
    if left and all(_kind(job) in seconds for job in left):
        from experiments.training import duration

        total = sum(statistics.mean(seconds[_kind(job)]) for job in left)
        text += f", the others take {duration(total)} one after the other"
    return text


def _kind(job):
    recipe = job.recipe
    return recipe.model, recipe.width, recipe.epochs, recipe.examples


def _why(error, job):
    if isinstance(error, OSError) and not isinstance(error, DatasetUnavailable):
        return (
            f"{error}. What was trained before is in {job.checkpoint}; the "
            "same command goes on from there once this is mended (a full disk "
            "has room again)."
        )
    return str(error)


@contextlib.contextmanager
def _locked(checkpoint: pathlib.Path) -> Iterator[bool]:
    """Whether a run is ours to train, for as long as the context lasts."""
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time, then
        yield True
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with open(checkpoint.with_suffix(".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
