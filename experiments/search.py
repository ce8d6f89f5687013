"""`python -m experiments search`: a network's settings, by keras-tuner."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

from experiments import provenance, results
from experiments.data import inputs_of, load
from experiments.errors import Trouble
from experiments.processes import (
    children,
    environment,
    free_ports,
    locked,
)

TUNERS = ("random", "bayesian", "hyperband")


@dataclasses.dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
        model: Name of a network of `experiments.models`.
        data: Name of a dataset of `experiments.data`.
        optimizer: `"AdaBreg"` or `"LinBreg"`.
        density: The density asked for; `None` searches lambda for the front
            of accuracy and density.
        tuner: One of `TUNERS`.
        trials: Number of trials; Hyperband reckons its own from `epochs`.
        epochs: Of a trial, Hyperband's longest.
        width: Factor on the network's hidden widths.
        examples: Train on the first so many images only.
        batch_size: Examples per step.
        seed: Of the tuner and of every trial.
    """

    model: str = "lenet300"
    data: str = "mnist"
    optimizer: str = "AdaBreg"
    density: float | None = None
    tuner: str = "bayesian"
    trials: int = 20
    epochs: int = 10
    width: float = 1.0
    examples: int | None = None
    batch_size: int = 128
    seed: int = 0


# where each optimizer's threshold is worth a look
_STRENGTHS = {"AdaBreg": (0.03, 10.0), "LinBreg": (0.003, 1.0)}
_DELTAS = (0.3, 3.0)
_STARTS = (0.01, 1.0)


def run(
    search: Search,
    out: pathlib.Path,
    workers: int = 1,
    arguments: Sequence[str] = (),
) -> None:
    """Searches, or goes on where it was stopped, and says what was found.

    keras-tuner keeps its trials under `out`; `search.json` and `front.png` are
    written at the end. In a process with keras-tuner's variables for
    distributed tuning it only does that process's part.

    Args:
        search: What to do.
        out: A folder of this search alone.
        workers: Processes that train side by side, with a chief of
            keras-tuner's to hand out the trials if there are 2 or more.
        arguments: The command line that they are started with.

    Raises:
        ImportError: Without keras-tuner.
        ValueError: If a setting is out of range or the folder holds another
            search, or a damaged one.
        Trouble: If a worker failed, or another process is at it.
    """
    provenance.remember_commit()
    hypermodel = _hypermodel(search)
    if "KERASTUNER_TUNER_ID" in os.environ:
        _train(_resumed(search, hypermodel, out), search)
        return
    with locked(out / "search.lock") as mine:
        if not mine:
            raise Trouble(f"{out} is being searched by another process.")
        _claim(search, hypermodel, out)
        if workers > 1:
            _side_by_side(workers, arguments)
        tuner = _resumed(search, hypermodel, out)
        if workers == 1:
            _train(tuner, search)
        _conclude(tuner, search, out)


def _hypermodel(search):
    import keras

    from experiments import models
    from keras_bregman import tuning

    inputs = inputs_of(search.data)
    return tuning.SparseHyperModel(
        lambda hp: getattr(models, search.model)(inputs, width=search.width),
        search.optimizer,
        density=search.density,
        # asked for a density, `TargetDensity` finds it
        lam=None if search.density else _STRENGTHS[search.optimizer],
        delta=_DELTAS,
        start=_STARTS,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        seed=search.seed,
    )


def _claim(search, hypermodel, out):
    """The folder is this search's, from its first call on."""
    file = out / "settings.json"
    ranges = {k: _listed(v) for k, v in hypermodel.ranges.items()}
    settings = {**dataclasses.asdict(search), "ranges": ranges}
    if file.exists():
        was = results.read(file)["search"]
        # more trials go on with the same search
        free = {"trials": None}
        if {**was, **free} != {**settings, **free}:
            raise ValueError(
                f"{out} holds a search with other settings: {was}. Give "
                "another folder by --out, or remove this one."
            )
    results.save({"search": settings}, file)


def _listed(choice):
    return list(choice) if isinstance(choice, tuple) else choice


def _resumed(search, hypermodel, out):
    """The tuner, with what it knew when it was stopped."""
    trials = out / "trials"
    try:
        tuner = _tuner(search, hypermodel, out)
        # a tuner finds its trials again under its own name only, and here
        # chief, worker and single process take turns
        is_worker = os.environ.get("KERASTUNER_TUNER_ID", "chief") != "chief"
        if not is_worker and (trials / "oracle.json").exists():
            _reload(tuner.oracle)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        raise ValueError(
            f"A file in {trials} is damaged ({error}). Remove {out}, and the "
            "search begins anew."
        ) from error
    return tuner


def _tuner(search, hypermodel, out):
    import keras_tuner
    from keras_tuner.src.engine.stateful import Stateful

    Stateful.save = _save_whole  # of the tuner, the oracle and its trials
    common = {
        "objective": hypermodel.objective,
        "seed": search.seed + 1,  # keras-tuner takes 0 for none
        "directory": str(out),
        "project_name": "trials",
        # some settings diverge, and that is a finding
        "max_consecutive_failed_trials": 1000,
    }
    if search.tuner == "hyperband":
        return keras_tuner.Hyperband(
            hypermodel, max_epochs=search.epochs, **common
        )
    cls = {
        "random": keras_tuner.RandomSearch,
        "bayesian": keras_tuner.BayesianOptimization,
    }[search.tuner]
    return cls(hypermodel, max_trials=search.trials, **common)


def _save_whole(self, path):
    """Saves as keras-tuner does, but whole: a kill may leave half of its."""
    results.write(pathlib.Path(path), json.dumps(self.get_state()).encode())


def _reload(oracle):
    """Brings back what an oracle knew when it was killed, and no more."""
    oracle.reload()
    # of these it had written the trial, and not yet that there is one: it
    # will draw it again
    for name in oracle.trials.keys() - set(oracle.start_order):
        del oracle.trials[name]
    # to keras-tuner one that has just ended is still under way
    oracle._retry_queue = [
        name
        for name in oracle._retry_queue
        if oracle.trials[name].status not in ("COMPLETED", "FAILED")
    ]


def _train(tuner, search):
    data = load(search.data)
    n = search.examples or len(data.x_train)
    tuner.search(
        data.x_train[:n],
        data.y_train[:n],
        validation_data=(data.x_val, data.y_val),
        epochs=search.epochs,
        batch_size=search.batch_size,
        verbose=0,
    )


def _side_by_side(workers, arguments):
    """A chief and workers, each a process; ends when the workers have."""
    (port,) = free_ports(1)
    with children() as processes:
        for name in ("chief", *(f"worker{i}" for i in range(workers))):
            variables = {
                "KERASTUNER_TUNER_ID": name,
                "KERASTUNER_ORACLE_IP": "127.0.0.1",
                "KERASTUNER_ORACLE_PORT": str(port),
            }
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "experiments", *arguments],
                    env={**environment(), **variables},
                    # the lock: should this process be killed, they go on
                    close_fds=False,
                )
            )
        chief, *crew = processes
        # without one of them the others may wait for ever
        while any(worker.poll() is None for worker in crew):
            time.sleep(0.2)
            failed = [p for p in processes if p.poll()]
            early = chief.poll() is not None and not failed
            if failed or (early and _still_running(crew)):
                raise Trouble(
                    "a process of the search ended before its time; what it "
                    "printed says why. Finished trials are kept, and the same "
                    "command goes on."
                )


def _still_running(crew):
    """Whether workers go on for long after their chief has ended."""
    deadline = time.time() + 30
    while time.time() < deadline:
        if all(worker.poll() is not None for worker in crew):
            return False
        time.sleep(0.2)
    return True


def _conclude(tuner, search, out):
    from keras_bregman import tuning
    from keras_bregman._table import table

    best = tuning.front(tuner)
    points = [point._asdict() for point in tuning.trials(tuner)]
    results.save(
        {
            "search": dataclasses.asdict(search),
            "trials": points,
            "front": [point.trial_id for point in best],
            **provenance.of_process(),
        },
        out / "search.json",
    )
    tuning.draw_front(tuner, out / "front.png")
    names = ("lam", "learning_rate", "delta", "start")
    print(
        table(
            ("density in %", tuner.hypermodel.monitor, *names),
            [
                (
                    f"{100 * p.density:.2f}",
                    f"{100 * p.accuracy:.2f}",
                    *(
                        f"{p.values[n]:.3g}" if n in p.values else "-"
                        for n in names
                    ),
                )
                for p in best
            ],
        )
    )
    print(
        f"{len(points)} trials, of which no other beats these; all are in "
        f"{out / 'search.json'}, drawn in {out / 'front.png'}"
    )
