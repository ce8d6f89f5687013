"""One run from its start, or from its checkpoint, to its result."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import keras

import keras_bregman as kb
from experiments import building, evaluation, footprint, probes, provenance
from experiments.checkpoint import Checkpoint
from experiments.data import Dataset
from experiments.errors import Trouble
from experiments.progress import duration
from experiments.recipes import Recipe
from experiments.results import finite
from experiments.stream import batches
from keras_bregman.callbacks import PlateauDecay


class OutOfTime(Exception):
    """The time allowed is over; the checkpoint holds what was done."""


def train(
    recipe: Recipe,
    seed: int,
    dataset: Dataset,
    checkpoint: pathlib.Path,
    deadline: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[keras.Model, dict[str, Any]]:
    """Trains a run to its end and evaluates it once on the test split.

    The best epoch is chosen on the validation split, the first of equal ones,
    and its weights are what the test split sees. Where the recipe asks for a
    density, only epochs that have it are chosen from.

    Args:
        recipe: What is trained.
        seed: Of the start, the order of examples and the augmentation.
        dataset: The recipe's.
        checkpoint: File that is written after every epoch and resumed from.
        deadline: Time of `time.time()` before which training has to stop, if
            need be unfinished.
        progress: Called with a line on every epoch; by default nothing is said.

    Returns:
        The model with the best epoch's weights and the result: recipe, seed,
        history by epoch, best epoch, validation and test figures of the
        finished network, probes, numbers held, seconds, sessions; commit,
        versions, hardware and command of the last session, and in `earlier`
        those of the others that differ.

    Raises:
        OutOfTime: If the deadline came first.
        Trouble: If the recipe asks for what the package does not take.
        FloatingPointError: If the weights became NaN or infinite.
        OSError: If a checkpoint cannot be written; the former one stays.
    """
    made_with = provenance.of_process()
    try:
        model = building.model_of(recipe, dataset, seed)
        steering = building.callbacks_of(recipe, seed)
    except (TypeError, ValueError) as error:
        raise Trouble(
            f"No training can be made of the recipe {recipe.label!r}: {error}"
        ) from error
    saver = Checkpoint(
        checkpoint,
        {
            **_plain(recipe),
            "seed": seed,
            "backend": keras.config.backend(),
        },
        next((c for c in steering if isinstance(c, PlateauDecay)), None),
        recipe.density,
        made_with=made_with,
    )
    saver.restore(model)
    if saver.epochs_done < recipe.epochs:
        callbacks = [
            kb.callbacks.SparsityLogger(of=_counted(recipe)),
            footprint.FlopsLogger(),
            *steering,
            saver,
            _Watch(recipe, seed, saver, deadline, progress),
        ]
        x, y = recipe.training_data(dataset)
        model.fit(
            batches(
                x,
                y,
                recipe.batch_size,
                seed,
                recipe.augment,
                first_epoch=saver.epochs_done,
            ),
            steps_per_epoch=recipe.steps_per_epoch(dataset),
            epochs=recipe.epochs,
            initial_epoch=saver.epochs_done,
            validation_data=(dataset.x_val, dataset.y_val),
            validation_batch_size=evaluation.BATCH,
            shuffle=False,  # the stream already is
            verbose=0,
            callbacks=callbacks,
        )
    if saver.epochs_done < recipe.epochs:
        raise OutOfTime
    floats = footprint.floats(model)
    saver.restore_best(model)
    model = building.finished(recipe, model)
    return model, _result(recipe, seed, dataset, model, saver, floats)


def _result(
    recipe: Recipe,
    seed: int,
    dataset: Dataset,
    model: keras.Model,
    saver: Checkpoint,
    floats: dict[str, int],
) -> dict[str, Any]:
    """What a result file says of a run and its finished network."""
    return {
        "recipe": _plain(recipe),
        "seed": seed,
        "best_epoch": saver.best_epoch,
        # once more, as a peer's last cut came behind the history's
        "validation": _figures(model, dataset.x_val, dataset.y_val),
        "test": {
            **_figures(model, dataset.x_test, dataset.y_test),
            "density": kb.density(model, of=_counted(recipe)),
        },
        "history": {
            name: [finite(value) for value in values]
            for name, values in saver.history.items()
        },
        "probes": _probed(recipe, seed, dataset),
        "floats": floats,
        "seconds": round(saver.seconds, 1),
        "sessions": saver.sessions,
        **saver.made_with,
        "earlier": saver.earlier,
    }


def _figures(model, x, y):
    """Loss and accuracy on a split."""
    found = evaluation.evaluate(model, x, y)
    return {"loss": finite(found["loss"]), "accuracy": found["accuracy"]}


def _probed(recipe, seed, dataset):
    """The probes, on copies of their own: a resumed run has them too."""
    probed: dict[str, Any] = {}
    if recipe.probe_layers:
        start = building.model_of(recipe, dataset, seed)
        x, y = recipe.training_data(dataset)
        n = recipe.batch_size
        probed["layers"] = probes.layers(start, x[:n], y[:n])
    if recipe.probe_steps:
        probed["steps"] = probes.steps(recipe, seed, dataset)
    return probed


def _counted(recipe):
    """What the density of a run's network is of."""
    return recipe.steering.get("of", "kernels")


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


class _Watch(keras.callbacks.Callback):
    """Says how far a run is, and stops it before its time is over."""

    def __init__(self, recipe, seed, saver, deadline, progress):
        super().__init__()
        self.recipe = recipe
        self.seed = seed
        self.saver = saver
        self.deadline = deadline
        self.progress = progress
        self.durations: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.time()

    def on_epoch_end(self, epoch, logs=None):
        self.durations.append(time.time() - self.begun)
        left = self.recipe.epochs - epoch - 1
        # the first epoch of a session compiles, the last one is typical
        pace = self.durations[-1]
        if self.progress is not None:
            self.progress(
                f"{self.recipe.label}  seed {self.seed}"
                f"  epoch {epoch + 1:3}/{self.recipe.epochs}"
                f"  loss {logs['loss']:.4f}"
                f"  validation {logs['val_accuracy']:.2%}"
                f"  density {logs['density']:.2%}"
                f"  {duration(left * pace)} left"
            )
        if self.deadline is not None and left:
            over = time.time() + 1.1 * max(self.durations) > self.deadline
            self.model.stop_training = over
