"""`python -m experiments search`: a network's settings, by keras-tuner."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from experiments import results
from experiments.data import load

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


# where the threshold and the step of each optimizer are worth a look
_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "AdaBreg": {"learning_rate": (3e-4, 1e-2), "lam": (0.03, 10.0)},
    "LinBreg": {"learning_rate": (0.03, 1.0), "lam": (0.003, 1.0)},
}


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
        ValueError: If the folder holds another search.
        RuntimeError: If workers failed.
    """
    if "KERASTUNER_TUNER_ID" in os.environ:
        _train(_tuner(search, out), search)
        return
    _claim(search, out)
    if workers > 1:
        _side_by_side(workers, arguments)
    tuner = _tuner(search, out)
    if workers == 1:
        _train(tuner, search)
    _conclude(tuner, search, out)


def _claim(search, out):
    """The folder is this search's, from its first call on."""
    file = out / "settings.json"
    settings = dataclasses.asdict(search)
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


def _tuner(search, out):
    import keras
    import keras_tuner

    from experiments import models
    from keras_bregman import tuning

    inputs = load(search.data).inputs
    ranges: dict[str, Any] = dict(_RANGES[search.optimizer])
    if search.density is not None:
        del ranges["lam"]  # `TargetDensity` finds it
    hypermodel = tuning.SparseHyperModel(
        lambda hp: getattr(models, search.model)(inputs, width=search.width),
        search.optimizer,
        search.density,
        delta=(0.3, 3.0),
        start=(0.01, 1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        seed=search.seed,
        **ranges,
    )
    common = {
        "objective": hypermodel.objective,
        "seed": search.seed + 1,  # keras-tuner takes 0 for none
        "directory": str(out),
        "project_name": "trials",
    }
    if search.tuner == "hyperband":
        tuner = keras_tuner.Hyperband(
            hypermodel, max_epochs=search.epochs, **common
        )
    else:
        cls = {
            "random": keras_tuner.RandomSearch,
            "bayesian": keras_tuner.BayesianOptimization,
        }[search.tuner]
        tuner = cls(hypermodel, max_trials=search.trials, **common)
    # a tuner finds its trials again under its own name only, and here chief,
    # worker and single process take turns
    is_worker = os.environ.get("KERASTUNER_TUNER_ID", "chief") != "chief"
    if not is_worker and (out / "trials" / "oracle.json").exists():
        tuner.oracle.reload()
    return tuner


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(name):
        return subprocess.Popen(
            [sys.executable, "-m", "experiments", *arguments],
            env={
                **os.environ,
                "KERASTUNER_TUNER_ID": name,
                "KERASTUNER_ORACLE_IP": "127.0.0.1",
                "KERASTUNER_ORACLE_PORT": str(port),
            },
        )

    processes = [start("chief"), *(start(f"w{i}") for i in range(workers))]
    try:
        codes = [worker.wait() for worker in processes[1:]]
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    if any(codes):
        raise RuntimeError(
            f"{sum(map(bool, codes))} of {workers} workers failed; what they "
            "printed says why. Finished trials are kept, and the same command "
            "goes on."
        )


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
            **results.provenance(),
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
