"""One training run: its description, `model.fit`, and its result file."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
import tempfile
import time
from typing import Any

import keras
import numpy as np

import keras_bregman as kb
from experiments.data import Dataset, standardize
from experiments.models import mlp


@dataclasses.dataclass(frozen=True)
class Run:
    """What is trained, and how.

    Attributes:
        label: Name in tables and figures.
        data: Name of a dataset of `experiments.data`.
        optimizer: `"SGD"`, `"ProxGD"`, `"LinBreg"` or `"AdaBreg"`.
        learning_rate: tau, halved by `PlateauDecay`.
        lam: Strength lambda of the l1 norm on kernels.
        momentum: Of LinBreg or SGD.
        start: Share of the weights that are not 0 at the start, in (0, 1].
        scale: Factor on He's standard deviation in the sparse start.
        epochs: Number of epochs.
        batch_size: Examples per step.
        seed: Of the start and of the order of examples.
    """

    label: str
    data: str
    optimizer: str
    learning_rate: float
    lam: float = 0.0
    momentum: float = 0.0
    start: float = 0.01
    scale: float = 0.7
    epochs: int = 40
    batch_size: int = 128
    seed: int = 0

    @property
    def slug(self) -> str:
        """The run's name as a file name."""
        words = "".join(c if c.isalnum() else " " for c in self.label.lower())
        return "-".join([*words.split(), f"seed{self.seed}"])

    def build_optimizer(self) -> keras.optimizers.Optimizer:
        momentum = {"momentum": self.momentum} if self.momentum else {}
        if self.optimizer == "SGD":
            return keras.optimizers.SGD(self.learning_rate, **momentum)
        cls = getattr(kb, self.optimizer)
        return cls(self.learning_rate, self.lam, **momentum)

    def build_model(self, dataset: Dataset) -> keras.Model:
        """The compiled model at its sparse start."""
        keras.utils.set_random_seed(self.seed)
        features = int(dataset.x_train[0].size)
        model = mlp(features, classes=dataset.classes)
        kb.sparsify(model, self.start, seed=self.seed, scale=self.scale)
        model.compile(
            self.build_optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model


def train(run: Run, dataset: Dataset) -> tuple[keras.Model, dict[str, Any]]:
    """Trains a run to its end and evaluates it once on the test split.

    Returns:
        The trained model and the result: configuration, seed, versions,
        hardware, command, history by epoch, test figures, seconds.
    """
    start = time.perf_counter()
    model = run.build_model(dataset)
    history = model.fit(
        inputs(dataset, "train"),
        dataset.y_train,
        validation_data=(inputs(dataset, "val"), dataset.y_val),
        batch_size=run.batch_size,
        epochs=run.epochs,
        verbose=0,
        callbacks=[
            kb.callbacks.SparsityLogger(),
            kb.callbacks.PlateauDecay(),
            Progress(run),
        ],
    )
    test = model.evaluate(
        inputs(dataset, "test"),
        dataset.y_test,
        batch_size=1024,
        verbose=0,
        return_dict=True,
    )
    return model, {
        "config": dataclasses.asdict(run),
        "test": {**test, "density": kb.density(model)},
        "history": history.history,
        "seconds": time.perf_counter() - start,
        **provenance(),
    }


def provenance() -> dict[str, Any]:
    """Versions, hardware and command: what a figure has to be read with."""
    names = ("keras", keras.config.backend(), "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {
        "versions": {
            "python": platform.python_version(),
            "keras_bregman": kb.__version__,
            **versions,
        },
        "hardware": {
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "devices": _devices(),
        },
        "command": shlex.join(["python", "-m", "experiments", *sys.argv[1:]]),
    }


def save(result: dict[str, Any], path: pathlib.Path) -> None:
    """Writes a result file, whole or not at all.

    Raises:
        OSError: If it cannot be written; a file that was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
        os.chmod(name, 0o644)  # mkstemp makes files private
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


class Progress(keras.callbacks.Callback):
    """One line a run: rewritten in a terminal, a few lines elsewhere."""

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        done, terminal = epoch + 1, sys.stdout.isatty()
        last = done == self.run.epochs
        if terminal or last or done % max(1, self.run.epochs // 2) == 0:
            print(
                f"{self.run.label:16}  seed {self.run.seed}"
                f"  epoch {done:3}/{self.run.epochs}"
                f"  loss {logs['loss']:.4f}"
                f"  validation {logs['val_accuracy']:.2%}"
                f"  density {logs['density']:7.2%}",
                end="\r" if terminal and not last else "\n",
                flush=True,
            )


def inputs(dataset: Dataset, split: str) -> np.ndarray:
    """The perceptron's inputs: standardized images as rows, float32.

    Args:
        dataset: Where they come from.
        split: `"train"`, `"val"` or `"test"`.
    """
    images = getattr(dataset, f"x_{split}")
    return standardize(images, dataset.x_train).reshape(len(images), -1)


def _devices() -> list[str]:
    if keras.config.backend() != "torch":
        return [str(d) for d in keras.distribution.list_devices()]
    import torch

    count = torch.cuda.device_count()
    return [torch.cuda.get_device_name(i) for i in range(count)] or ["cpu"]


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
