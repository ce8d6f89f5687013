"""The main job: five optimizers from the same 1 % of the weights."""

from __future__ import annotations

import pathlib
import statistics
import tempfile
from typing import Any

import keras

import keras_bregman as kb
from experiments import results, zoo
from experiments.archive import Row, name_of
from experiments.data import Dataset, load
from experiments.progress import Progress, duration, say
from experiments.recipes import Recipe
from experiments.reporting import by_epoch
from experiments.reporting.figures import render
from experiments.reporting.tables import settings
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


def recipes_of(data: str, epochs: int | None = None) -> list[Recipe]:
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
    epochs: int | None = None,
) -> None:
    """Trains every recipe and prints, draws and saves what came of it.

    Args:
        data: Name of a dataset of `experiments.data`.
        seeds: One run of every recipe for each; by default three on digits,
            whose 300 test images say little about one run, else one.
        out: Folder for result files and the figure.
        epochs: Instead of the dataset's own number.
    """
    dataset = load(data)
    if seeds is None:
        seeds = [0, 1, 2] if data == "digits" else [0]
    print(
        f"{data}: {len(dataset.x_train):,} images to train on, "
        f"{len(dataset.x_val):,} to validate, {len(dataset.x_test):,} to test"
    )
    rows = [
        Row("demo", data, recipe, tuple(seeds), {}, {})
        for recipe in recipes_of(data, epochs)
    ]
    best = None
    for seed in seeds:
        for row in rows:
            model, result = _train(row.recipe, seed, dataset)
            file = out / f"{row.recipe.slug}-seed{seed}.json"
            results.save(result, file)
            row.results[seed], row.files[seed] = result, name_of(file)
            # chosen on validation data: the test figures stay a clean report
            score = max(result["history"]["val_accuracy"])
            if row.recipe.is_bregman and (best is None or score > best[0]):
                best = score, model
    print("\n" + describe(rows))
    results.write(out / "figure.png", draw(rows))
    print(f"\nFigure: {out / 'figure.png'}")
    assert best is not None
    save_best(best[1], dataset, zoo.FOLDER / f"demo-{data}")


def _train(
    recipe: Recipe, seed: int, dataset: Dataset
) -> tuple[keras.Model, dict[str, Any]]:
    """Trains a run in one go and says what it reached."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = pathlib.Path(folder, "checkpoint.npz")
        model, result = train(
            recipe, seed, dataset, checkpoint, progress=Progress()
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
    """Writes a model's weights, exports it from TensorFlow and says so."""
    file = path.with_suffix(".kbs")
    path.parent.mkdir(parents=True, exist_ok=True)
    kb.save_sparse(model, file)
    print(
        f"Sparse file: {file}, {file.stat().st_size:,} bytes for "
        f"{model.count_params():,} parameters"
    )
    if keras.config.backend() != "tensorflow":
        print(f"SavedModel: keras-bregman export {file} {path}")
        return
    difference = kb.export(model, path, samples=dataset.x_test)
    print(
        f"SavedModel: {path}, loaded back in a fresh process: the same "
        f"predictions on {len(dataset.x_test):,} test images (largest "
        f"difference {difference:.1e})"
    )


def describe(rows: list[Row]) -> str:
    """The table of test accuracy and density, mean and spread over seeds."""
    return table(
        ("optimizer", "tau", "lambda", "test in %", "density in %", "time"),
        [
            (
                *settings(row),
                row.cell("test_accuracy"),
                row.cell("density"),
                duration(
                    statistics.mean(r["seconds"] for r in row.results.values())
                ),
            )
            for row in rows
        ],
    )


def draw(rows: list[Row]) -> bytes:
    """Validation accuracy and density by epoch, as PNG."""
    images, _ = render(
        lambda: by_epoch.draw(rows, ("val_accuracy", "density"), True),
        f"{rows[0].recipe.data}: from the same 1 % of the weights",
    )
    return images["png"]
