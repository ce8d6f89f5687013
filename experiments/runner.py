"""Many runs: none twice, several side by side, resumed after a kill."""

from __future__ import annotations

import contextlib
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
import traceback

from experiments import results
from experiments.data import Dataset, DatasetUnavailable, load
from experiments.errors import Trouble
from experiments.jobs import Job
from experiments.processes import CAN_LOCK, children, environment, locked
from experiments.progress import Progress, duration, say


def run(jobs: list[Job], deadline: float | None = None) -> int:
    """Trains what has no result yet, skipping what others are training.

    Any number of processes may do so at once: a run is locked while it is
    trained, and the lock goes with its process.

    Args:
        jobs: The runs, in the order wanted.
        deadline: Time of `time.time()` after which nothing is trained.

    Returns:
        Number of the runs that failed.
    """
    datasets: dict[str, Dataset | None] = {}
    skipped = []
    failed = 0
    for job in jobs:
        if deadline is not None and time.time() > deadline:
            break
        try:
            if job.is_done:
                continue
            with locked(job.checkpoint.with_suffix(".lock")) as mine:
                if not mine:
                    skipped.append(job)
                elif not _moved_aside(job):
                    continue  # another process finished it a moment ago
                elif _train(job, datasets, deadline):
                    say(f"{job.name}  {tally(jobs)}")
        # one run's trouble, whatever it is, is not the others'
        except Exception as error:
            failed += 1
            say(f"{job.name}  failed: {_why(error, job)}")
    others = sum(not job.is_done for job in skipped)
    if others:
        say(f"{others} more in the hands of other processes")
    return failed


def run_side_by_side(jobs: list[Job], count: int, arguments: list[str]) -> int:
    """Trains in `count` processes that share the runs and the cores.

    Args:
        jobs: The runs.
        count: Number of processes; one where files cannot be locked.
        arguments: The command line that each process repeats.

    Returns:
        Number of the processes that crashed or in which a run failed.
    """
    if not CAN_LOCK:
        count = 1
    command = [sys.executable, "-m", "experiments", *arguments, "--jobs", "1"]
    say(f"{tally(jobs)}; {count} processes: {shlex.join(arguments)}")
    # or each would download what is not there yet, and lose but one
    wanted = {job.recipe.data for job in jobs if not job.is_done}
    for name in sorted(wanted):
        with contextlib.suppress(DatasetUnavailable):  # which they will say
            load(name)
    readers = []
    with children() as workers:
        for i in range(count):
            worker = subprocess.Popen(
                command, env=environment(), stdout=subprocess.PIPE, text=True
            )
            workers.append(worker)
            _pin(worker.pid, i, count)
            readers.append(threading.Thread(target=_forward, args=(worker,)))
            readers[-1].start()
        for worker in workers:
            worker.wait()
    for reader in readers:
        reader.join()
    for worker in workers:
        if worker.returncode not in (0, 1):
            say(f"process {worker.pid} crashed, status {worker.returncode}")
    say(tally(jobs))
    return sum(worker.returncode != 0 for worker in workers)


def tally(jobs):
    """How many runs are done and how long the others take, one by one."""
    seconds: dict[tuple, list[float]] = {}
    left = []
    for job in jobs:
        try:
            took = job.read()["seconds"]
        except (FileNotFoundError, results.DamagedResult):
            left.append(job)
        else:
            seconds.setdefault(_kind(job), []).append(took)
    text = f"{len(jobs) - len(left)} of {len(jobs)} runs done"
    if left and all(_kind(job) in seconds for job in left):
        total = sum(statistics.mean(seconds[_kind(job)]) for job in left)
        text += f", the others take {duration(total)} one after the other"
    return text


def _kind(job):
    recipe = job.recipe
    return recipe.model, recipe.width, recipe.epochs, recipe.examples


def _moved_aside(job):
    """Makes room for a run's result; False if there is a good one."""
    try:
        job.read()
    except FileNotFoundError:
        return True
    except results.DamagedResult as error:
        aside = results.aside(job.result)
        say(f"{error} It is moved to {aside.name} and the run repeated.")
        if job.network.exists():
            results.aside(job.network)
        return True
    return False


def _train(job, datasets, deadline):
    """Whether a run came to its end in time."""
    import keras_bregman
    from experiments.training import OutOfTime, train

    dataset = _load(job.recipe.data, datasets)
    say(f"{job.name}  begins or resumes")
    try:
        model, result = train(
            job.recipe,
            job.seed,
            dataset,
            job.checkpoint,
            deadline,
            Progress(f"{job.experiment}  "),
        )
    except OutOfTime:
        say(f"{job.name}  stops in time, goes on at the next call")
        return False
    result = {"family": job.family, "scale": job.scale, **result}
    job.network.parent.mkdir(parents=True, exist_ok=True)
    keras_bregman.save_sparse(model, job.network)
    results.save(result, job.result)
    # only now: before, the checkpoint is all there is
    job.checkpoint.unlink(missing_ok=True)
    test = result["test"]
    say(
        f"{job.name}  done: test {test['accuracy']:.2%} at "
        f"{test['density']:.2%} density, epoch {result['best_epoch']}"
    )
    return True


def _load(name, datasets):
    """A dataset, sought once: to find none takes long, and many lines."""
    if name not in datasets:
        datasets[name] = None
        datasets[name] = load(name)
    if datasets[name] is None:
        raise DatasetUnavailable(
            f"Dataset {name!r} is not available, see above."
        )
    return datasets[name]


def _why(error, job):
    if isinstance(error, OSError):
        return (
            f"{error}. What could be saved before is in {job.checkpoint}; the "
            "same command goes on from there once this is mended (a full disk "
            "has room again)."
        )
    if isinstance(error, Trouble | FloatingPointError):
        return str(error)
    return traceback.format_exc()  # unforeseen


def _pin(pid, i, count):
    """Gives a process its share of the cores, if there is one for each."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) >= count:
            os.sched_setaffinity(pid, cores[i::count])


def _forward(worker):
    with worker.stdout as lines:
        for line in lines:
            print(line, end="", flush=True)
