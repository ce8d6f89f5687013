"""The main job: five optimizers from the same 1 % of the weights."""

from __future__ import annotations

import json
import pathlib
import statistics
from typing import Any

import keras

from experiments import runs
from experiments.data import Dataset, load
from experiments.runs import Run
from experiments.savedmodel import check_in_fresh_process, export
from keras_bregman._table import table

# Label, optimizer, tau, lambda, momentum. ProxGD pays its penalty at every
# step, so its lambda is on another scale; AdaBreg's tau is Adam's usual one.
_RUNS = (
    ("SGD", "SGD", 0.1, 0.0, 0.0),
    ("ProxGD", "ProxGD", 0.1, 0.001, 0.0),
    ("LinBreg", "LinBreg", 0.1, 0.1, 0.0),
    ("LinBreg momentum", "LinBreg", 0.1, 0.1, 0.9),
    ("AdaBreg", "AdaBreg", 0.001, 0.1, 0.0),
)
# chosen on validation data so that all sparse runs end near 10 % density
_RUNS_DIGITS = (
    ("SGD", "SGD", 0.1, 0.0, 0.0),
    ("ProxGD", "ProxGD", 0.1, 0.001, 0.0),
    ("LinBreg", "LinBreg", 0.1, 0.04, 0.0),
    ("LinBreg momentum", "LinBreg", 0.1, 0.04, 0.9),
    ("AdaBreg", "AdaBreg", 0.003, 0.5, 0.0),
)


def plan(data: str, epochs: int | None = None, seed: int = 0) -> list[Run]:
    """The demo's runs on a dataset: the same start, five optimizers."""
    digits = data == "digits"
    return [
        Run(
            label,
            data,
            optimizer,
            tau,
            lam,
            momentum,
            epochs=epochs or (60 if digits else 40),
            batch_size=32 if digits else 128,
            seed=seed,
        )
        for label, optimizer, tau, lam, momentum in (
            _RUNS_DIGITS if digits else _RUNS
        )
    ]


def demo(
    data: str,
    seeds: list[int] | None,
    out: pathlib.Path,
    saved_models: pathlib.Path,
    epochs: int | None = None,
) -> None:
    """Trains every run and prints, draws and saves what came of it.

    Args:
        data: Name of a dataset of `experiments.data`.
        seeds: One run of every optimizer for each; by default three on
            digits, whose 300 test images say little about one run, else one.
        out: Folder for result files and the figure.
        saved_models: Folder for the best sparse model as a SavedModel.
        epochs: Instead of the dataset's own number.
    """
    dataset = load(data)
    if seeds is None:
        seeds = [0, 1, 2] if data == "digits" else [0]
    print(
        f"{data}: {len(dataset.x_train):,} images to train on, "
        f"{len(dataset.x_val):,} to validate, {len(dataset.x_test):,} to test"
    )
    results, best = [], None
    for seed in seeds:
        for run in plan(data, epochs, seed):
            model, result = runs.train(run, dataset)
            runs.save(result, out / f"{run.slug}.json")
            results.append(result)
            # chosen on validation data: the test figures stay a clean report
            score = result["history"]["val_accuracy"][-1]
            is_bregman = run.optimizer in ("LinBreg", "AdaBreg")
            if is_bregman and (best is None or score > best[0]):
                best = score, run, model
    print("\n" + comparison(results))
    print(f"\nFigure: {draw(results, out / 'figure.png')}")
    assert best is not None
    _, run, model = best
    save_best(model, dataset, saved_models / f"demo-{data}")


def save_best(model, dataset: Dataset, path: pathlib.Path) -> None:
    """Exports a model, checks it in a fresh process and says so."""
    if keras.config.backend() == "torch":
        print(
            "SavedModel: not written, Keras exports it from TensorFlow or JAX"
        )
        return
    images = runs.inputs(dataset, "test")
    export(model, path)
    difference = check_in_fresh_process(model, path, images)
    print(
        f"SavedModel: {path}, loaded back in a fresh process: the same "
        f"predictions on {len(images):,} test images (largest difference "
        f"{difference:.1e})"
    )


def comparison(results: list[dict[str, Any]]) -> str:
    """The table of test accuracy and density, mean and spread over seeds."""
    rows = []
    for label in dict.fromkeys(r["config"]["label"] for r in results):
        mine = [r for r in results if r["config"]["label"] == label]
        config = mine[0]["config"]
        rows.append(
            (
                label,
                f"{config['learning_rate']:g}",
                f"{config['lam']:g}" if config["optimizer"] != "SGD" else "-",
                _percent([r["test"]["accuracy"] for r in mine]),
                _percent([r["test"]["density"] for r in mine]),
                f"{statistics.mean(r['seconds'] for r in mine):.0f} s",
            )
        )
    header = ("optimizer", "tau", "lambda", "test accuracy", "density", "time")
    return table(header, rows)


def _percent(values: list[float]) -> str:
    text = f"{100 * statistics.mean(values):.2f} %"
    if len(values) > 1:
        text += f" ± {100 * statistics.stdev(values):.2f}"
    return text


def draw(results: list[dict[str, Any]], path: pathlib.Path) -> pathlib.Path:
    """Draws validation accuracy and density by epoch, a band over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for label in dict.fromkeys(r["config"]["label"] for r in results):
        mine = [r["history"] for r in results if r["config"]["label"] == label]
        for axis, key in zip(axes, ("val_accuracy", "density"), strict=True):
            curves = 100 * np.array([history[key] for history in mine])
            epochs = np.arange(1, curves.shape[1] + 1)
            (line,) = axis.plot(epochs, curves.mean(axis=0), label=label)
            axis.fill_between(
                epochs,
                curves.min(axis=0),
                curves.max(axis=0),
                color=line.get_color(),
                alpha=0.2,
                linewidth=0,
            )
    last = [r["history"]["val_accuracy"][-1] for r in results]
    axes[0].set_ylim(100 * min(last) - 4, 100.2)
    axes[0].set_ylabel("validation accuracy in %")
    axes[1].set_yscale("log")
    axes[1].set_ylabel("weights that are not 0, in %")
    axes[1].set_yticks([1, 2, 5, 10, 20, 50, 100])
    axes[1].yaxis.set_major_formatter("{x:g}")
    axes[1].minorticks_off()
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def read_results(folder: pathlib.Path) -> list[dict[str, Any]]:
    """All result files of a folder, in the order of the demo's runs."""
    results = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
    order = [label for label, *_ in _RUNS]
    return sorted(results, key=lambda r: order.index(r["config"]["label"]))
