"""The main job: five optimizers from the same 1 % of the weights."""

from __future__ import annotations

import pathlib
import statistics
import tempfile
from typing import Any

import keras

from experiments import results
from experiments.data import Dataset, load
from experiments.progress import Progress, say
from experiments.recipes import Recipe
from experiments.savedmodel import check_in_fresh_process, export
from experiments.training import train
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


def plan(data: str, epochs: int | None = None) -> list[Recipe]:
    """The demo's recipes for a dataset: the same start, five optimizers."""
    digits = data == "digits"
    return [
        Recipe(
            label,
            "mlp",
            data,
            optimizer,
            tau,
            lam,
            momentum,
            start_scale=0.7,
            epochs=epochs or (60 if digits else 40),
            batch_size=32 if digits else 128,
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
    """Trains every recipe and prints, draws and saves what came of it.

    Args:
        data: Name of a dataset of `experiments.data`.
        seeds: One run of every recipe for each; by default three on digits,
            whose 300 test images say little about one run, else one.
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
    found, best = [], None
    for seed in seeds:
        for recipe in plan(data, epochs):
            model, result = _train(recipe, seed, dataset)
            results.save(result, out / f"{recipe.slug}-seed{seed}.json")
            found.append(result)
            # chosen on validation data: the test figures stay a clean report
            score = max(result["history"]["val_accuracy"])
            is_bregman = recipe.optimizer in ("LinBreg", "AdaBreg")
            if is_bregman and (best is None or score > best[0]):
                best = score, model
    print("\n" + comparison(found))
    print(f"\nFigure: {draw(found, out / 'figure.png')}")
    assert best is not None
    save_best(best[1], dataset, saved_models / f"demo-{data}")


def _train(
    recipe: Recipe, seed: int, dataset: Dataset
) -> tuple[keras.Model, dict[str, Any]]:
    """Trains a run in one go and says what it reached."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = pathlib.Path(folder, "checkpoint.npz")
        model, result = train(
            recipe, seed, dataset, checkpoint, report=Progress()
        )
    history, epoch = result["history"], result["best_epoch"]
    say(
        f"{recipe.label:16}  seed {seed}"
        f"  best epoch {epoch:3}/{recipe.epochs}"
        f"  loss {history['loss'][epoch - 1]:.4f}"
        f"  validation {history['val_accuracy'][epoch - 1]:.2%}"
        f"  density {history['density'][epoch - 1]:7.2%}"
    )
    return model, result


def save_best(model, dataset: Dataset, path: pathlib.Path) -> None:
    """Exports a model, checks it in a fresh process and says so."""
    if keras.config.backend() == "torch":
        print(
            "SavedModel: not written, Keras exports it from TensorFlow or JAX"
        )
        return
    export(model, path)
    difference = check_in_fresh_process(model, path, dataset.x_test)
    print(
        f"SavedModel: {path}, loaded back in a fresh process: the same "
        f"predictions on {len(dataset.x_test):,} test images (largest "
        f"difference {difference:.1e})"
    )


def comparison(results: list[dict[str, Any]]) -> str:
    """The table of test accuracy and density, mean and spread over seeds."""
    rows = []
    for label in dict.fromkeys(r["recipe"]["label"] for r in results):
        mine = [r for r in results if r["recipe"]["label"] == label]
        recipe = mine[0]["recipe"]
        rows.append(
            (
                label,
                f"{recipe['learning_rate']:g}",
                f"{recipe['lam']:g}" if recipe["optimizer"] != "SGD" else "-",
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
    for label in dict.fromkeys(r["recipe"]["label"] for r in results):
        mine = [r["history"] for r in results if r["recipe"]["label"] == label]
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
