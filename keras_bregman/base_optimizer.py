"""What the optimizers share: who is regularized how, and the bookkeeping."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras.optimizers.schedules import LearningRateSchedule

from keras_bregman import choice
from keras_bregman._checks import (
    check,
    check_expression,
    check_integer,
    check_number,
    shown,
)
from keras_bregman._paths import numbered, path_of
from keras_bregman._scalars import to_float
from keras_bregman._table import table
from keras_bregman._warning import warn
from keras_bregman.choice import Choice, Regularized, Shrink
from keras_bregman.stepping import Exactly, SteppingOptimizer

_INTERVALS = {
    "weight_decay": "[0, inf)",
    "clipnorm": "(0, inf)",
    "clipvalue": "(0, inf)",
    "global_clipnorm": "(0, inf)",
    "ema_momentum": "[0, 1]",
    "loss_scale_factor": "(0, inf)",
}
# the `initial_density` of an optimizer that no `TargetDensity` has steered
NOT_BEGUN = -1.0
LearningRate: TypeAlias = float | LearningRateSchedule | Callable[[], float]


class ProximalOptimizer(SteppingOptimizer):
    """What the optimizers share: who is regularized how, and the bookkeeping.

    A subclass names its slots by `slot_names` and gives `direction` and `move`,
    see `stepping.SteppingOptimizer`.
    """

    def __init__(
        self, learning_rate: LearningRate, regularizer: Choice, **kwargs: Any
    ):
        if not callable(learning_rate):
            learning_rate = check_number("learning_rate", learning_rate)
        # of which Keras lets pass what would do nothing, or make all NaN
        for name, interval in _INTERVALS.items():
            if kwargs.get(name) is not None:
                check_number(name, kwargs[name], interval)
        name = "gradient_accumulation_steps"
        if kwargs.get(name) is not None:
            check_integer(name, kwargs[name], 2)
        super().__init__(learning_rate, **kwargs)
        self.regularizer = choice.checked(regularizer)
        # which of its expressions took which path
        self._taken: list[tuple[str, str | None]] = []

    def build(self, variables):
        """Chooses each variable's regularizer and creates its slots.

        Args:
            variables: The model's trainable variables.

        Raises:
            ValueError: If an expression of `regularizer` takes no variable, or
                a regularizer does not fit a variable's rank.
        """
        if self.built:
            return
        good = isinstance(variables, (list, tuple)) and all(
            hasattr(v, "shape") and isinstance(getattr(v, "name", None), str)
            for v in variables
        )
        check("variables", variables, good, "a list of variables")
        paths = [path_of(variable) for variable in variables]
        chosen, taken = choice.choose(self.regularizer, variables, self._taken)
        shrinks = [
            None if one is None else Shrink.of(one, variable)
            for one, variable in zip(chosen, variables, strict=True)
        ]
        self._taken = taken
        super().build(variables)
        # for callbacks.TargetDensity, whose memory has to be saved somewhere
        self.initial_density = self.add_variable(
            shape=(), initializer=Exactly(NOT_BEGUN), name="initial_density"
        )
        self._make_members(variables, numbered(paths), shrinks)

    @property
    def lambdas(self) -> dict[str, keras.Variable]:
        """The strength of every regularized variable, by the variable's path.

        In a `Sequential` model that path may begin with the model's name, as
        long as it is not loaded from a file.
        Scalar variables of the optimizer: saved with it, and a value assigned
        in a running `fit` holds from the next step on. A callback has to come
        by `self.model.optimizer`, since on JAX `fit` keeps the variables to
        itself until somebody asks for the model.

        Raises:
            ValueError: If the optimizer is not built.
        """
        return {entry.name: entry.lam for entry in self.regularized()}

    def regularized(self) -> list[Regularized]:
        """Every regularized variable, in the order of the model's.

        Raises:
            ValueError: If the optimizer is not built.
        """
        self._check_built()
        return [m.entry for m in self._members if m.entry is not None]

    def set_lambda(self, lam: float, expression: str = "") -> None:
        """Sets the strength of the regularized variables.

        In a callback, as `self.model.optimizer.set_lambda`; see `lambdas`.

        Args:
            lam: The new strength, a finite float, 0 or greater.
            expression: Regular expression; changes only the variables in
                whose path `re.search` finds it, or in whose name in
                `lambdas`, which has a number behind it where paths repeat. By
                default all.

        Raises:
            ValueError: If the optimizer is not built, `lam` is out of range or
                no regularized variable matches.
        """
        lam = check_number("lam", lam)
        search = re.compile(check_expression("expression", expression)).search
        entries = self.regularized()
        matching = [
            entry.lam
            for entry in entries
            if search(path_of(entry.variable)) or search(entry.name)
        ]
        if not matching:
            raise ValueError(
                "`expression` matches no regularized variable. Received: "
                f"expression={shown(expression)}; regularized are "
                f"{[entry.name for entry in entries]}"
            )
        for variable in matching:
            variable.assign(lam)

    def summary(self, print_fn: Callable[[str], object] = print) -> None:
        """Prints each variable's path, shape, regularizer and strength.

        Args:
            print_fn: Called with the table as one string.

        Raises:
            ValueError: If the optimizer is not built.
        """
        self._check_built()
        rows = []
        for variable, member in zip(
            self._trainable_variables, self._members, strict=True
        ):
            said = "-", "-", "-"
            if (entry := member.entry) is not None:
                said = *entry.shrink.describe(), f"{to_float(entry.lam):g}"
            rows.append((path_of(variable), tuple(variable.shape), *said))
        print_fn(
            table(
                ("variable", "shape", "regularizer", "groups", "lambda"), rows
            )
        )

    def _check_built(self):
        if not self.built:
            raise ValueError(
                f"{type(self).__name__} is not built: it knows its variables "
                "from the first step on. Call "
                "`optimizer.build(model.trainable_variables)` first."
            )

    def load_own_variables(self, store):
        super().load_own_variables(store)
        if not self.built:  # and Keras has warned that nothing is loaded
            return
        # Keras matches state by position alone, so that another optimizer's
        # may end up here; the dual heals itself, these cannot
        if not 0 <= to_float(self.initial_density) <= 1:
            self.initial_density.assign(NOT_BEGUN)
        for entry in self.regularized():
            if not 0 <= to_float(entry.lam) < math.inf:
                warn(
                    f"The state loaded into {type(self).__name__} holds "
                    f"lambda={to_float(entry.lam):g}: it comes from another "
                    f"optimizer. lambda is set back to {entry.given_lam:g}."
                )
                entry.lam.assign(entry.given_lam)

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "regularizer": choice.serialized(self.regularizer),
            "frozen": self.support.is_frozen,
        }
        if self._taken:
            config["taken"] = [list(pair) for pair in self._taken]
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["regularizer"] = choice.deserialized(
            config.get("regularizer"), custom_objects
        )
        frozen = config.pop("frozen", False)
        taken = config.pop("taken", [])
        optimizer = super().from_config(config, custom_objects=custom_objects)
        # before it is built: paths in a loaded model are shorter
        optimizer._taken = [(path, expression) for path, expression in taken]
        optimizer.freeze_support(frozen)
        return optimizer
