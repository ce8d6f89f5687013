"""What the optimizers share: who is regularized how, and the bookkeeping."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_bregman import regularizers
from keras_bregman._checks import (
    check,
    check_expression,
    check_flag,
    check_integer,
    check_number,
    shown,
)
from keras_bregman._finite import check_finite
from keras_bregman._fusion import (
    Part,
    densify,
    fuse,
    step_jointly,
    vectors,
)
from keras_bregman._scalars import to_float
from keras_bregman._table import table
from keras_bregman._warning import warn
from keras_bregman.choice import Shrink, choose
from keras_bregman.kernels import numbered, path_of

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


@dataclasses.dataclass(frozen=True, eq=False)
class Regularized:
    """A variable that an optimizer regularizes, and what belongs to it.

    Attributes:
        name: The variable's path, numbered where paths repeat.
        variable: The variable.
        optimizer: The optimizer.
        shrink: Its regularizer and layout.
        lam: The variable that holds its present strength.
        state: Its slots, the dual variable first if there is one.
    """

    name: str
    variable: keras.Variable
    optimizer: Any
    shrink: Shrink
    lam: keras.Variable
    state: list[keras.Variable]

    @property
    def dual(self) -> keras.Variable | None:
        """The dual variable; ProxGD has none."""
        return self.state[0] if self.state else None

    @property
    def given_lam(self) -> float:
        """The regularizer's own strength, with which training began."""
        return self.shrink.regularizer.lam

    def present(self, dtype) -> Shrink:
        """The shrinkage at the present strength."""
        return dataclasses.replace(self.shrink, lam=ops.cast(self.lam, dtype))


@dataclasses.dataclass(frozen=True)
class _Member:
    """What an optimizer keeps for one variable.

    Attributes:
        path: The variable's path.
        entry: What it keeps if it regularizes the variable.
        state: Its slots, the dual variable first if there is one.
        update: The step as a function of tensors, see `_make_update`.
        update_frozen: The same while the support is frozen.
    """

    path: str
    entry: Regularized | None
    state: list[keras.Variable]
    update: Any
    update_frozen: Any


LearningRate: TypeAlias = float | LearningRateSchedule | Callable[[], float]
_Choice = float | regularizers.Regularizer | None
Choice = _Choice | Mapping[str, _Choice]  # whom to regularize, and how


class ProximalOptimizer(keras.optimizers.Optimizer):
    """What the optimizers share: who is regularized how, and the bookkeeping.

    A subclass names its slots by `slot_names` and gives `direction` and `move`,
    which map tensors to tensors entry by entry: variables that move alike may
    come joined to one vector.

    Attributes:
        keeps_dual: Whether regularized variables have a dual variable.
    """

    keeps_dual: ClassVar[bool] = True

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
        super().__init__(learning_rate=learning_rate, **kwargs)
        if isinstance(regularizer, Mapping):
            regularizer = {
                check_expression("regularizer", expression): regularizers.get(
                    choice
                )
                for expression, choice in regularizer.items()
            }
        else:
            regularizer = regularizers.get(regularizer)
        self.regularizer = regularizer
        # which of its expressions took which path
        self._taken: list[tuple[str, str | None]] = []
        self._frozen = False
        # whether it was frozen in what was run or traced, and at last
        self._traced: set[bool] = set()
        self._frozen_in_step: bool | None = None
        self._changed_at: Any = 0
        self._members: list[_Member] = []  # in the order of the variables

    def slot_names(self) -> tuple[str, ...]:
        """Names of the slots that `direction` keeps for every variable."""
        return ()

    def direction(
        self, gradient: Any, learning_rate: Any, step: Any, *slots: Any
    ) -> tuple[Any, list[Any]]:
        """What the method wants to subtract, learning rate included.

        Args:
            gradient: Of one variable, or of several in one vector.
            learning_rate: tau, a scalar tensor.
            step: Number of this step, from 1 on, a scalar tensor.
            *slots: Those of `slot_names`, like the gradient.

        Returns:
            The direction, like the gradient, and a list of the slots' new
            values. All are in the dtype of the slots, float32 at least.
        """
        raise NotImplementedError

    def move(
        self,
        theta: Any,
        direction: Any,
        learning_rate: Any,
        shrink: Shrink | None,
        *dual: Any,
    ) -> tuple[Any, list[Any]]:
        """The step itself.

        Args:
            theta: The weights, in the dtype of the slots.
            direction: What `direction` said.
            learning_rate: tau, a scalar tensor.
            shrink: `prox` and `project` at the present strength; `None` for
                what is not regularized.
            *dual: The dual variable, if the class keeps one and the weights
                are regularized.

        Returns:
            The new weights, and the new dual variable in a list.
        """
        raise NotImplementedError

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
        chosen, taken = choose(self.regularizer, variables, self._taken)
        shrinks = [
            None if choice is None else Shrink.of(choice, variable)
            for choice, variable in zip(chosen, variables, strict=True)
        ]
        self._taken = taken
        super().build(variables)
        # for callbacks.TargetDensity, whose memory has to be saved somewhere
        self.initial_density = self.add_variable(
            shape=(), initializer=_Exactly(NOT_BEGUN), name="initial_density"
        )
        members = []
        made: dict[Shrink | None, Any] = {}  # kernels alike share one
        for variable, path, name, shrink in zip(
            variables, paths, numbered(paths), shrinks, strict=True
        ):
            slots, entry = self.slot_names(), None
            lam: Any = None
            if shrink is not None:
                lam = self._add_lambda(variable, shrink.regularizer.lam)
                if self.keeps_dual:
                    slots = ("dual", *slots)
            state = [self._add_slot(variable, slot) for slot in slots]
            if shrink is not None:
                entry = Regularized(name, variable, self, shrink, lam, state)
            if shrink not in made:
                update = fuse(
                    self._make_update(shrink, False), shrink is not None
                )
                made[shrink] = (
                    (update, update)
                    if shrink is None
                    else (update, fuse(self._make_update(shrink, True)))
                )
            members.append(_Member(path, entry, state, *made[shrink]))
        self._members = members
        kinds = list(map(_kind, variables, shrinks))
        if type(self).update_step is not ProximalOptimizer.update_step:
            kinds = [None] * len(kinds)  # somebody's own takes one at a time
        self._vectors = vectors(variables, kinds)

    def _add_lambda(self, variable, lam):
        return self.add_variable(
            shape=(),
            initializer=_Exactly(lam),
            dtype=_state_dtype(variable),
            name=f"{path_of(variable).replace('/', '_')}_lambda",
        )

    def _add_slot(self, variable, name):
        dtype = _state_dtype(variable)
        if keras.backend.standardize_dtype(variable.dtype) == dtype:
            return self.add_variable_from_reference(variable, name=name)
        # in a slot as coarse as low-precision weights small steps are lost
        return self.add_variable(
            shape=variable.shape,
            dtype=dtype,
            layout=getattr(variable, "_layout", None),
            name=f"{path_of(variable).replace('/', '_')}_{name}",
        )

    def _make_update(self, shrink, frozen):
        """The step of one variable, as a function of tensors.

        It takes the variable, its gradient, the learning rate, the number of
        steps before this one, lambda unless `shrink` is None, and the slots;
        and gives the variable and its slots, in the dtype of the slots.
        """

        def update(*tensors):
            dtype = _state_dtype(tensors[0])
            theta, gradient, learning_rate, step, *state = (
                ops.cast(tensor, dtype) for tensor in tensors
            )
            now = None
            if shrink is not None:
                lam, *state = state
                # below 0, by somebody's assign, there is no such regularizer;
                # without a strength nothing shrinks, and signs may change
                lam = ops.zeros_like(lam) if frozen else ops.relu(lam)
                now = dataclasses.replace(shrink, lam=lam)
            # a NaN or infinite gradient shows in the weights, as with Keras'
            # optimizers; left in a slot it would outlive the weights' repair
            state = [_finite(s) for s in state]
            dual = state[: len(state) - len(self.slot_names())]
            direction, slots = self.direction(
                gradient, learning_rate, step + 1, *state[len(dual) :]
            )
            if frozen:
                off = ops.equal(theta, 0)
                direction = ops.where(off, 0.0, direction)
            moved_to, moved = self.move(
                theta, direction, learning_rate, now, *dual
            )
            if frozen:
                if shrink.regularizer.constrains:  # it would never move again
                    off = ops.equal(moved_to, 0)
                    moved_to = ops.where(off, theta, moved_to)
                moved = [
                    ops.where(off, old, new)
                    for old, new in zip(dual, moved, strict=True)
                ]
            return moved_to, *moved, *slots

        return update

    def apply(self, grads, trainable_variables=None):
        self._frozen_in_step = self._frozen
        self._traced.add(self._frozen)
        grads = [densify(g) for g in grads]
        if not self._frozen:
            super().apply(grads, trainable_variables)
            return
        variables = self._trainable_variables
        if trainable_variables is not None:
            variables = trainable_variables = list(trainable_variables)
            self.build(variables)
        if self.clipnorm or self.global_clipnorm:
            grads = self._on_support(grads, variables)
        # what a layer's constraint puts at 0 would never move again
        held = [
            (variable, variable.constraint(_value(variable)))
            for variable in variables
            if getattr(variable, "constraint", None) is not None
            and self._is_regularized(variable)
        ]
        super().apply(grads, trainable_variables)
        for variable, before in held:
            now = _value(variable)
            variable.assign(ops.where(ops.equal(now, 0), before, now))

    def _on_support(self, grads, variables):
        """Gradients of the weights that can move, which alone are clipped.

        Behind batch normalization the gradient of a dead unit is larger by
        1 / sqrt(epsilon), and the others would be clipped to nothing.
        """
        return [
            ops.where(
                ops.equal(variable, 0), ops.zeros_like(gradient), gradient
            )
            if gradient is not None and self._is_regularized(variable)
            else gradient
            for gradient, variable in zip(grads, variables, strict=True)
        ]

    def _is_regularized(self, variable):
        index = self._trainable_variables_indices.get(self._var_key(variable))
        return index is not None and self._members[index].entry is not None

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        if keras.config.backend() == "torch":
            # where variables are joined, tensors are written in place
            optimizer_variables = [ops.copy(v) for v in optimizer_variables]
            trainable_variables = [ops.copy(v) for v in trainable_variables]
        return super().stateless_apply(
            optimizer_variables, grads, trainable_variables
        )

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if self._vectors:
            grads, trainable_variables = self._joint_steps(
                grads, trainable_variables, learning_rate
            )
        if trainable_variables:
            super()._backend_update_step(
                grads, trainable_variables, learning_rate
            )

    def _joint_steps(self, grads, variables, learning_rate):
        """`update_step` of what comes in vectors; gives back the others."""
        joint = {s.owner for vector in self._vectors for s in vector}
        parts, alone = {}, []
        for gradient, variable in zip(grads, variables, strict=True):
            index = self._get_variable_index(variable)
            # somebody may have changed its memory format since it was built
            if index in joint and variable.value.is_contiguous():
                member = self._members[index]
                parts[index] = Part(
                    variable.value,
                    gradient.contiguous(),
                    member.entry and member.entry.lam.value,
                    [slot.value for slot in member.state],
                )
            else:
                alone.append((gradient, variable))
        scalars = _value(learning_rate), _value(self.iterations)
        for vector in self._vectors:
            slices = [s for s in vector if s.owner in parts]
            if slices:
                update = self._step_of(self._members[slices[0].owner])
                step_jointly(update, slices, parts, scalars)
        return tuple(map(list, zip(*alone, strict=True))) or ([], [])

    def update_step(self, gradient, variable, learning_rate):
        member = self._members[self._get_variable_index(variable)]
        inputs = [variable, gradient, learning_rate, self.iterations]
        if member.entry is not None:
            inputs.append(member.entry.lam)
        theta, *new_slots = self._step_of(member)(
            *map(_value, (*inputs, *member.state))
        )
        for slot, value in zip(member.state, new_slots, strict=True):
            self.assign(slot, value)
        self.assign(variable, ops.cast(theta, variable.dtype))

    def _step_of(self, member):
        """The step of a variable at present."""
        return member.update_frozen if self._frozen else member.update

    @property
    def lambdas(self) -> dict[str, keras.Variable]:
        """The strength of every regularized variable, by the variable's path.

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

    def freeze_support(self, frozen: bool = True) -> None:
        """Holds the regularized weights that are 0 at 0, and lets none go.

        For a loop of one's own, and before a model is compiled; for `fit` call
        `keras_bregman.freeze_support` with the model. While the support is
        frozen the weights on it move by plain SGD or Adam, without any
        shrinkage, and may change sign; the dual variables of the others wait,
        and `clipnorm` and `global_clipnorm` do not count them. It is not a
        variable, as a step that could do either would cost more: a step that
        was compiled before has to be made anew, or `fit` warns when it ends.
        It is saved with the model.

        Args:
            frozen: `False` lets weights be switched on and off again.
        """
        frozen = check_flag("frozen", frozen)
        if frozen != self._frozen:
            # a copy, and no number: to ask a GPU for one takes long
            self._changed_at = ops.copy(ops.convert_to_tensor(self.iterations))
        self._frozen = frozen

    @property
    def support_is_frozen(self) -> bool:
        """Whether `freeze_support` was called; see `step_is_stale`."""
        return self._frozen

    @property
    def step_is_stale(self) -> bool:
        """Whether steps go on that were compiled before `freeze_support`.

        Of a function that is compiled for both, by `support_is_frozen` as an
        argument, none are.
        """
        is_known = not self._traced or self._frozen in self._traced
        return not is_known and self._has_gone_on()

    def is_compiled_for(self, frozen: bool) -> bool:
        """Whether the step that was compiled last, if any, is of that state."""
        return self._frozen_in_step in (None, frozen)

    def forget_steps(self) -> None:
        """To be called when steps that were compiled are made anew."""
        self._traced.clear()
        self._frozen_in_step = None

    def _has_gone_on(self):
        """Whether a step was made since `freeze_support`."""
        return to_float(self.iterations) > to_float(self._changed_at)

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
            rows.append((member.path, tuple(variable.shape), *said))
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

    def _update_model_variables_moving_average(self, trainable_variables):
        if self.use_ema:
            for variable, average in zip(
                trainable_variables,
                self._model_variables_moving_average,
                strict=True,
            ):
                if average is not None:
                    average.assign(_healed(average, variable))
        super()._update_model_variables_moving_average(trainable_variables)
        for variable, average, member in zip(
            trainable_variables,
            self._model_variables_moving_average,
            self._members,
            strict=True,
        ):
            if member.entry is not None and average is not None:
                value = ops.convert_to_tensor(average)
                average.assign(ops.where(ops.equal(variable, 0), 0.0, value))

    def _follow(self, variable, theta):
        """Has a moving average, if any, be on where the weights are put on."""
        if not self.use_ema:
            return
        index = self._get_variable_index(variable)
        average = self._model_variables_moving_average[index]
        value = _healed(average, theta)
        value = ops.where(ops.equal(value, 0), theta, value)
        average.assign(ops.where(ops.equal(theta, 0), 0.0, value))

    def finalize_variable_values(self, var_list):
        super().finalize_variable_values(var_list)
        if self.use_ema and keras.config.backend() == "jax":
            # weights and averages now share buffers, and the next fit would
            # fail to donate them twice
            for variable in var_list:
                variable.assign(ops.copy(ops.convert_to_tensor(variable)))
        # on JAX fit also comes here when it fails, and that error goes first
        fails = keras.config.backend() == "jax" and sys.exc_info()[0]
        if fails:
            return
        check_finite(var_list)
        # `fit` has one step, the last
        if not self.is_compiled_for(self._frozen) and self._has_gone_on():
            warn(
                f"`optimizer.freeze_support({self._frozen})` was called when "
                "the step was compiled, and this training has gone on without "
                "it. Call `keras_bregman.freeze_support` instead, with the "
                "model."
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
                warnings.warn(
                    f"The state loaded into {type(self).__name__} holds "
                    f"lambda={to_float(entry.lam):g}: it comes from another "
                    f"optimizer. lambda is set back to {entry.given_lam:g}.",
                    stacklevel=2,
                )
                entry.lam.assign(entry.given_lam)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        regularizer: Any = self.regularizer
        if isinstance(regularizer, Mapping):
            # pairs, as JSON objects need not keep their order
            regularizer = [[k, serialize(v)] for k, v in regularizer.items()]
        else:
            regularizer = serialize(regularizer)
        config = {
            **super().get_config(),
            "regularizer": regularizer,
            "frozen": self._frozen,
        }
        if self._taken:
            config["taken"] = [list(pair) for pair in self._taken]
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        def deserialize(item):
            return keras.saving.deserialize_keras_object(
                item, custom_objects=custom_objects
            )

        config = dict(config)
        regularizer = config.get("regularizer")
        if isinstance(regularizer, list):
            regularizer = {k: deserialize(v) for k, v in regularizer}
        elif isinstance(regularizer, dict):
            regularizer = deserialize(regularizer)
        config["regularizer"] = regularizer
        frozen = config.pop("frozen", False)
        taken = config.pop("taken", [])
        optimizer = super().from_config(config, custom_objects=custom_objects)
        # before it is built: paths in a loaded model are shorter
        optimizer._taken = [(path, expression) for path, expression in taken]
        optimizer.freeze_support(frozen)
        return optimizer


class _Exactly(keras.initializers.Initializer):
    """A constant that does not pass through float32, as `Constant` does."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        return ops.convert_to_tensor(self.value, dtype=dtype)


def _value(x):
    """A number's, a variable's or a tensor's, as a tensor."""
    x = ops.convert_to_tensor(x)
    return ops.cast(x, x.dtype)  # or TensorFlow leaves a variable one


def _finite(x):
    """`x`, and 0 where it is NaN or infinite."""
    if keras.config.backend() == "torch":
        return ops.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    # where steps are traced, this is a fifth as many operations
    return ops.where(ops.isfinite(x), x, ops.zeros_like(x))


def _healed(average, variable):
    """A moving average, begun anew where a step has made it NaN or infinite."""
    average, variable = map(ops.convert_to_tensor, (average, variable))
    return ops.where(ops.isfinite(average), average, variable)


def _kind(variable, shrink):
    """What variables have in common that may take a step as one vector."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if shrink is None:
        return "free", dtype
    kind = type(shrink.regularizer)
    # not what a subclass of the l1 norm, with a prox of its own, inherits
    if not vars(kind).get("separable"):
        return None
    config = shrink.regularizer.get_config()
    others = {k: v for k, v in config.items() if k != "lam"}
    return kind, repr(sorted(others.items())), dtype


def _state_dtype(variable):
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype
