"""Searching what makes a model sparse, with keras-tuner.

Needs keras-tuner; nothing else of the package imports this.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

try:
    import keras_tuner
except ImportError as error:
    raise ImportError(
        "keras_bregman.tuning needs keras-tuner, and what that does not "
        "declare: pip install keras-tuner scikit-learn six tensorboard"
    ) from error

from keras_bregman import optimizers
from keras_bregman._checks import (
    PathLike,
    as_number,
    check,
    check_choice,
    check_integer,
    check_number,
)
from keras_bregman._pictures import figure_of, write
from keras_bregman.callbacks import SparsityLogger, TargetDensity
from keras_bregman.callbacks._strengths import TOLERANCE
from keras_bregman.sparse_start import sparsify

Range = float | tuple[float, float]
_LEARNING_RATES = {"AdaBreg": (3e-4, 1e-2), "LinBreg": (0.03, 1.0)}
_LEAST_DENSITY = 1e-4


class SparseHyperModel(keras_tuner.HyperModel):
    """Any model, trained sparse by searched settings.

    For `keras_tuner.RandomSearch`, `BayesianOptimization`, `GridSearch` and
    `Hyperband`, with `objective=SparseHyperModel.objective`:

        hypermodel = tuning.SparseHyperModel(build, density=0.05)
        tuner = keras_tuner.RandomSearch(
            hypermodel, objective=hypermodel.objective, max_trials=20
        )
        tuner.search(x, y, validation_data=(x_val, y_val), epochs=10)
        tuning.front(tuner)

    For a last, longer training of the best settings hp

        model = hypermodel.build(hp)
        model.fit(x, y, epochs=50, callbacks=[callbacks.TargetDensity(0.05)])

    without the callback if `lam` was searched.

    Every setting is a number, or a range (low, high) that is searched on a
    logarithmic scale. The hyperparameters are called `lam`, `learning_rate`,
    `delta` and `start`.

    The objective, `score`, is reckoned at the end of every epoch, the best of
    which counts. With a `density` d it is the accuracy at that density,

        score = accuracy - max(0, log10(density / (1.02 d)))

    (`TargetDensity` keeps within 2 %), and without one, for the front, the
    accuracy less what the weights cost:

        score = accuracy - price log10(density)

    where densities under 0.0001 count as that: a network that died is worth
    no more than a very sparse one.

    A trial's start, order of examples and augmentation follow from `seed`, so
    that it comes out the same whichever worker runs it, and several executions
    of one trial are alike. The optimizer is built with the model, so that a
    trial which Hyperband promotes goes on with its dual variables.

    Args:
        build: From `keras_tuner.HyperParameters` to a built, not compiled
            `keras.Model`. May add hyperparameters of its own, of other names
            than those below.
        optimizer: `"AdaBreg"` or `"LinBreg"`.
        density: The density d asked for, a float in (0, 1], or `None`.
        lam: Strength lambda, greater than 0: a number, or a range (low, high)
            to search. `None` leaves it to `callbacks.TargetDensity`, which
            takes a `density`.
        learning_rate: tau, likewise. `None` is the optimizer's usual range:
            (3e-4, 1e-2) for AdaBreg, (0.03, 1) for LinBreg.
        delta: Elastic net parameter, likewise.
        start: Share of the weights that are on at the start, likewise, in
            (0, 1].
        price: Accuracy that a density ten times smaller is worth, 0 or
            greater; without a `density` only.
        loss: As `Model.compile` takes it.
        metrics: Likewise.
        monitor: The accuracy's name in the logs; larger is better.
        seed: Of every trial, an integer from 0 to 2**32 - 1.

    Raises:
        ValueError: For an argument out of range. In a search, at its first
            epoch, if the logs do not hold `monitor`, and if `build` has a
            hyperparameter by the name of a range.
    """

    objective = keras_tuner.Objective("score", "max")

    def __init__(
        self,
        build: Callable[[keras_tuner.HyperParameters], keras.Model],
        optimizer: str = "AdaBreg",
        *,
        density: float | None = None,
        lam: Range | None = None,
        learning_rate: Range | None = None,
        delta: Range = 1.0,
        start: Range = 1.0,
        price: float = 0.02,
        loss: Any = "sparse_categorical_crossentropy",
        metrics: tuple[Any, ...] = ("accuracy",),
        monitor: str = "val_accuracy",
        seed: int = 0,
    ):
        super().__init__()
        check_choice("optimizer", optimizer, _LEARNING_RATES)
        are_metrics = isinstance(metrics, (list, tuple))
        is_name = isinstance(monitor, str)
        check("build", build, callable(build), "a function that makes a model")
        check("metrics", metrics, are_metrics, "a tuple of metrics")
        check("monitor", monitor, is_name, "a name in the logs")
        if density is not None:
            density = check_number("density", density, "(0, 1]")
        if density is None and lam is None:
            raise ValueError(
                "Give a `density`, or a strength or range `lam`: without "
                "either nothing makes the model sparse."
            )
        self.build_model = build
        self.optimizer = optimizer
        self.density = density
        if learning_rate is None:
            learning_rate = _LEARNING_RATES[optimizer]
        self.ranges = {
            "learning_rate": _checked("learning_rate", learning_rate),
            "delta": _checked("delta", delta),
            "start": _checked("start", start, high=1.0),
        }
        if lam is not None:
            self.ranges["lam"] = _checked("lam", lam)
        self.price = check_number("price", price)
        self.loss = loss
        self.metrics = metrics
        self.monitor = monitor
        self.seed = check_integer("seed", seed, 0)
        is_small = self.seed < 2**32
        check("seed", seed, is_small, "less than 2**32, for numpy")

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The model of a trial, sparse, compiled and with a built optimizer."""
        keras.utils.set_random_seed(self.seed)
        model = self.build_model(hp)
        good = isinstance(model, keras.Model) and model.built
        if not good:  # any other error keras-tuner takes for a bad trial
            raise keras_tuner.errors.FatalValueError(
                "`build` must make a built model: give it a `keras.Input`. "
                f"Received: {model!r}"
            )
        values = {
            name: _ask(hp, name, choice) for name, choice in self.ranges.items()
        }
        start = values.pop("start")
        if start < 1:
            sparsify(model, start, seed=self.seed)
        cls = getattr(optimizers, self.optimizer)
        optimizer = cls(
            values["learning_rate"],
            # relative to which `TargetDensity` sets strengths
            values.get("lam", 1.0),
            delta=values["delta"],
        )
        model.compile(optimizer, self.loss, metrics=list(self.metrics))
        # a file's state is loaded into a built optimizer only; `compile` wraps
        # one to scale the loss of a model in float16
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(self, hp, model, *args, callbacks=(), **kwargs):
        """`model.fit`, with the score in its logs."""
        keras.utils.set_random_seed(self.seed)
        if kwargs.get("validation_freq", 1) != 1:
            raise keras_tuner.errors.FatalValueError(
                "`validation_freq` must be 1: every epoch gets a score. "
                f"Received: validation_freq={kwargs['validation_freq']!r}"
            )
        ours: list[keras.callbacks.Callback] = [_ScoreLogger(self)]
        if self.density is not None and "lam" not in self.ranges:
            ours.append(TargetDensity(self.density))
        return model.fit(*args, callbacks=[*ours, *callbacks], **kwargs)

    def score(self, accuracy: float, density: float) -> float:
        """The objective of an epoch.

        Args:
            accuracy: A finite number, or NaN.
            density: In [0, 1].

        Returns:
            What the tuner makes large: see the class.

        Raises:
            ValueError: For an argument of another kind or out of range.
        """
        good = isinstance(accuracy, numbers.Real) and not (
            abs(accuracy) > sys.float_info.max  # as NaN is not
        )
        check("accuracy", accuracy, good, "a finite number or NaN")
        density = check_number("density", density, "[0, 1]")
        density = max(density, _LEAST_DENSITY)
        if self.density is None:
            return accuracy - self.price * math.log10(density)
        most = (1 + TOLERANCE) * self.density
        return accuracy - max(0.0, math.log10(density / most))


class _ScoreLogger(SparsityLogger):
    def __init__(self, hypermodel):
        super().__init__()
        self._hypermodel = hypermodel

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        name = self._hypermodel.monitor
        if name not in logs:
            # any other error keras-tuner takes for a trial gone wrong
            raise keras_tuner.errors.FatalValueError(
                f"`monitor` {name!r} is not in the logs. They hold "
                f"{', '.join(sorted(logs))}. Give `validation_data` to "
                "`search`, or another `monitor`."
            )
        logs["score"] = self._hypermodel.score(logs[name], logs["density"])


class Point(NamedTuple):
    """A finished trial.

    Attributes:
        density: At its best epoch.
        accuracy: Likewise, the monitored one.
        values: Its hyperparameters.
        trial_id: keras-tuner's name for it.
    """

    density: float
    accuracy: float
    values: dict[str, Any]
    trial_id: str


def trials(tuner: keras_tuner.Tuner) -> list[Point]:
    """All finished trials of a tuner of a `SparseHyperModel`, by density.

    Raises:
        ValueError: If it is a tuner of something else.
    """
    hypermodel: Any = getattr(tuner, "hypermodel", None)
    good = isinstance(hypermodel, SparseHyperModel)
    check("tuner", tuner, good, "one of a `SparseHyperModel`")
    name = hypermodel.monitor
    found = [
        Point(
            _last(trial, "density"),
            _last(trial, name),
            dict(trial.hyperparameters.values),
            trial.trial_id,
        )
        for trial in tuner.oracle.trials.values()
        if trial.status == "COMPLETED"
    ]
    return sorted(found, key=lambda point: (point.density, -point.accuracy))


def front(tuner: keras_tuner.Tuner) -> list[Point]:
    """The trials that no other beats in both density and accuracy.

    Args:
        tuner: Of a `SparseHyperModel`.

    Returns:
        From the sparsest on, each more accurate than those before it.

    Raises:
        ValueError: If it is a tuner of something else.
    """
    best: list[Point] = []
    for point in trials(tuner):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def draw_front(tuner: keras_tuner.Tuner, path: PathLike) -> None:
    """Draws all trials and their front, accuracy over density.

    Args:
        tuner: Of a `SparseHyperModel`, with a finished trial.
        path: The image file; its suffix says which kind (`.png`, `.svg`).

    Raises:
        ValueError: If no trial is finished, or `path` is none of an image.
        OSError: If it cannot be written.
    """
    found = trials(tuner)
    if not found:
        raise ValueError(
            "`tuner` has no finished trial to draw. Run `tuner.search` first."
        )
    best = front(tuner)
    figure = figure_of(6, 4, path)
    axis = figure.subplots()
    axis.plot(
        [100 * p.density for p in found],
        [100 * p.accuracy for p in found],
        "o",
        color="#999999",
        label="trials",
    )
    axis.step(
        [100 * p.density for p in best],
        [100 * p.accuracy for p in best],
        "o-",
        where="post",
        color="#D55E00",
        label="front",
    )
    axis.set_xscale("log")
    axis.set_xlabel("weights that are not 0, in %")
    axis.set_ylabel(f"{tuner.hypermodel.monitor} in %")
    axis.legend()
    write(figure, path)


def _last(trial, name):
    return float(trial.metrics.get_history(name)[-1].mean())


def _checked(name, choice, high=sys.float_info.max):
    """A number or a range, greater than 0."""
    if isinstance(choice, (tuple, list)):
        ends = [as_number(end) for end in choice]
        good = len(ends) == 2 and 0 < ends[0] < ends[1] <= high
    else:
        good = 0 < as_number(choice) <= high
    check(
        name,
        choice,
        good,
        "a number, or a range (low, high) with low < high, greater than 0, at "
        f"most {high:g}",
    )
    return choice


def _ask(hp, name, choice):
    if not isinstance(choice, (tuple, list)):
        return choice
    low, high = choice
    ours = {"min_value": low, "max_value": high, "sampling": "log"}
    for other in hp.space:  # of which keras-tuner would take the first
        if other.name == name and any(
            getattr(other, key, None) != value for key, value in ours.items()
        ):
            raise keras_tuner.errors.FatalValueError(
                f"`build` has a hyperparameter of its own called {name!r}, as "
                f"one of this hypermodel is. Received: {other!r}. Give it "
                f"another name, or give `{name}` a number and not a range."
            )
    return hp.Float(name, **ours)
