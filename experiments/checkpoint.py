"""Everything a run needs to go on after it was killed, in one file."""

from __future__ import annotations

import json
import os
import pathlib
import time
import warnings
from typing import Any

import keras
import numpy as np

from experiments import results
from experiments.recipes import DENSITY_TOLERANCE, differing
from keras_bregman.callbacks import PlateauDecay

# by which the best epoch is chosen, the first of equal ones
_MONITOR = "val_accuracy"


class Checkpoint(keras.callbacks.Callback):
    """Saves a run after every epoch and keeps its best weights.

    The file holds the weights, the optimizer's state, the best epoch's
    weights, the history and the plateau's count. It replaces the former one in
    a single step, so that a kill at any moment leaves a whole file.

    Keras' `BackupAndRestore` writes two files one after the other and knows
    nothing of other callbacks' counts.

    Args:
        path: The file, `.npz`.
        identity: Settles the run (recipe, seed and backend): a file of another
            run is not resumed.
        plateau: The run's plateau decay, if it has one, whose count is kept.
        density: What the run was asked for, if it was: epochs that are denser
            by more than 2 % of it are not the best, unless all are; then the
            sparsest is.
        made_with: Commit, versions, hardware and command of this session.

    Attributes:
        history: Lists by epoch, by name.
        best_epoch: Number of the best epoch so far, from 1; 0 before any.
        seconds: Training time of all sessions, in seconds.
        sessions: Number of times the run was begun or resumed.
        earlier: What former sessions were made with that this one was not.
    """

    def __init__(
        self,
        path: pathlib.Path,
        identity: dict[str, Any],
        plateau: PlateauDecay | None,
        density: float | None = None,
        made_with: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.path = path
        self.identity = identity
        self.plateau = plateau
        self.density = density
        self.history: dict[str, list[float]] = {}
        self.best_epoch = 0
        self.seconds = 0.0
        self.sessions = 1
        self.made_with = made_with or {}
        self.earlier: list[dict[str, Any]] = []
        self._best: list[np.ndarray] = []
        self._clock = time.perf_counter()

    @property
    def epochs_done(self) -> int:
        return len(self.history.get(_MONITOR, ()))

    def restore(self, model: keras.Model) -> None:
        """Brings a freshly compiled model to where the file left off.

        Warns:
            UserWarning: If the file is damaged or of another run; it is then
                moved aside, and the run begins anew.
        """
        model.optimizer.build(model.trainable_variables)
        if not os.path.exists(self.path):
            return
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                state = json.loads(archive["state"].item())
                differences = differing(state["identity"], self.identity)
                if differences:
                    raise ValueError("; ".join(differences))
                if state.keys() != self._state().keys():
                    raise ValueError("another version has written it")
                current = _read(archive, "now", _variables(model))
                best = _read(archive, "best", model.variables)
        # a damaged archive brings up almost anything
        except Exception as error:
            warnings.warn(
                f"The checkpoint {self.path} is not used, and the run begins "
                f"anew: {type(error).__name__}: {error}. It is moved to "
                f"{results.aside(self.path).name}.",
                stacklevel=2,
            )
            return
        _assign(_variables(model), current)
        self._best = best
        self.history = state["history"]
        self.best_epoch = state["best_epoch"]
        self.seconds = state["seconds"]
        self.sessions = state["sessions"] + 1
        self.earlier = [
            former
            for former in (*state["earlier"], state["made_with"])
            if former != self.made_with
        ]
        if self.plateau is not None:
            self.plateau.best = state["plateau_best"]
            self.plateau.bad_epochs = state["plateau_bad_epochs"]

    def restore_best(self, model: keras.Model) -> None:
        """Gives the model the best epoch's weights."""
        _assign(model.variables, self._best)

    def on_train_begin(self, logs=None):
        self._clock = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        scores = self._scores()
        if len(scores) == 1 or scores[-1] > max(scores[:-1]):
            self.best_epoch = len(scores)
            self._best = [
                keras.ops.convert_to_numpy(v) for v in self.model.variables
            ]
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now
        self._save()

    def _scores(self):
        """By epoch, what the best is chosen by."""
        scores = self.history[_MONITOR]
        if self.density is None:
            return scores
        # too dense a network counts less than any other, the densest least
        most = (1 + DENSITY_TOLERANCE) * self.density
        return [
            score if density <= most else -density
            for score, density in zip(
                scores, self.history["density"], strict=True
            )
        ]

    def _state(self):
        return {
            "identity": self.identity,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "sessions": self.sessions,
            "made_with": self.made_with,
            "earlier": self.earlier,
            "plateau_best": self.plateau and self.plateau.best,
            "plateau_bad_epochs": self.plateau and self.plateau.bad_epochs,
        }

    def _save(self):
        arrays: dict[str, Any] = {"state": np.array(json.dumps(self._state()))}
        for i, variable in enumerate(_variables(self.model)):
            arrays[f"now{i}"] = keras.ops.convert_to_numpy(variable)
        for i, value in enumerate(self._best):
            arrays[f"best{i}"] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        try:
            with open(part, "wb") as file:
                np.savez(file, **arrays)
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def _read(archive, name, variables):
    """The arrays of one kind, if they fit the variables."""
    arrays = [archive[f"{name}{i}"] for i in range(len(variables))]
    for variable, value in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != value.shape:
            raise ValueError(
                f"'{variable.path}' has the shape {tuple(variable.shape)}, "
                f"and not {value.shape}"
            )
    return arrays


def _assign(variables, arrays):
    for variable, value in zip(variables, arrays, strict=True):
        variable.assign(value)
