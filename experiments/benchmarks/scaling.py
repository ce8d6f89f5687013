"""Examples a second by number of processes that train together.

Every process has one core of its own and one thread. They reach each other
over the loopback interface, so that this is what coordination costs, and
networks between machines only add to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import keras

from experiments import building, together
from experiments.benchmarks import fit
from experiments.benchmarks.fit import Network
from experiments.data import noise
from experiments.recipes import Recipe
from experiments.results import ROOT

NETWORKS = tuple(
    network._replace(steps=steps)
    for network, steps in zip(fit.NETWORKS, (100, 4), strict=False)
)
OPTIMIZERS = ("Adam", "AdaBreg")
# by number of processes, what each has of a batch as large as the recipe's
SHARES = {1: (1.0,), 2: (0.5, 1.0)}


def measure(
    repeats: int,
    networks: Sequence[Network] = NETWORKS,
    seconds: float = 600,
) -> list[dict[str, Any]]:
    """Times training by one process and by two.

    One process trains every network by every optimizer in turn, then two do.
    The fastest of several epochs counts, as what else a machine does only ever
    adds to a time.

    Args:
        repeats: Epochs that are timed, each of a network's `steps`.
        networks: What to train.
        seconds: How long one process may take, and then two.

    Returns:
        One dict for each network, optimizer, number of `workers` and `batch`,
        the examples in a step of all workers: these, `network`, `optimizer`,
        examples a second (`rate`) and its `ratio` to one worker's.

    Raises:
        Trouble: If a process failed.
    """
    networks = fit.trained_here(networks)
    rows = [
        {**row, "workers": workers}
        for workers, shares in SHARES.items()
        for row in _run(workers, shares, repeats, networks, seconds)
    ]
    alone = {
        (row["network"], row["optimizer"]): row["rate"]
        for row in rows
        if row["workers"] == 1
    }
    for row in rows:
        row["ratio"] = row["rate"] / alone[row["network"], row["optimizer"]]
    return rows


def _run(workers, shares, repeats, networks, seconds):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "rows.json"
        plan = {
            "out": str(out),
            "repeats": repeats,
            "shares": shares,
            "networks": [
                {**n._asdict(), "recipe": dataclasses.asdict(n.recipe)}
                for n in networks
            ],
        }
        command = [sys.executable, "-m", "experiments.benchmarks.scaling"]
        alone = {
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "OMP_NUM_THREADS": "1",
            "TF_NUM_INTRAOP_THREADS": "1",
        }
        together.run_together(
            [[*command, json.dumps(plan)]] * workers,
            [{**alone, **joined} for joined in together.cluster(workers)],
            seconds,
        )
        return json.loads(out.read_text())


class _Clock(keras.callbacks.Callback):
    """The seconds of every epoch, to the end of its last step."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        keras.ops.convert_to_numpy(self.model.trainable_variables[0])
        self.seconds.append(time.perf_counter() - self._begun)


def _work(plan: dict[str, Any]) -> None:
    """What one of the processes does."""
    from experiments import parallel

    rank = int(os.environ["RANK"])
    workers = int(os.environ["WORLD_SIZE"])
    _keep_to_core(rank)
    backend = parallel.backend()
    strategy = backend.join()
    rows = []
    for entry, optimizer, share in itertools.product(
        plan["networks"], OPTIMIZERS, plan["shares"]
    ):
        recipe = Recipe(**entry["recipe"]).changed(**fit.OPTIMIZERS[optimizer])
        batch = round(share * recipe.batch_size) * workers
        data = noise(recipe.data, entry["steps"] * batch)
        with strategy.scope() if strategy else contextlib.nullcontext():
            model = building.model_of(recipe, data, seed=0)
        clock = _Clock()
        backend.fit(
            model,
            data.x_train,
            data.y_train,
            batch,
            1 + plan["repeats"],  # the first epoch compiles
            [clock],
            shuffle=False,
        )
        rows.append(
            {
                "network": entry["title"],
                "optimizer": optimizer,
                "batch": batch,
                "rate": len(data.x_train) / min(clock.seconds[1:]),
            }
        )
    backend.leave()
    if rank == 0:
        pathlib.Path(plan["out"]).write_text(json.dumps(rows))


def _keep_to_core(rank):
    """A core for each process, where the system lets it choose."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    if keras.config.backend() == "torch":
        import torch

        torch.set_num_threads(1)


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
