"""How an optimizer makes a step: of tensors, joined, or on a frozen support."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, ClassVar

import keras
from keras import ops

from keras_bregman._checks import check_flag
from keras_bregman._finite import check_finite
from keras_bregman._fusion import (
    Part,
    densify,
    fuse,
    step_jointly,
    vectors,
)
from keras_bregman._paths import path_of
from keras_bregman._support import Support
from keras_bregman.choice import Regularized, Shrink


@dataclasses.dataclass(frozen=True)
class _Member:
    """What an optimizer keeps for one variable.

    Attributes:
        entry: What it keeps if it regularizes the variable.
        state: Its slots, the dual variable first if there is one.
        updates: By whether the support is frozen, the step as a function of
            tensors, see `_make_update`.
    """

    entry: Regularized | None
    state: list[keras.Variable]
    updates: dict[bool, Any]


class SteppingOptimizer(keras.optimizers.Optimizer):
    """Takes the step of every variable that its subclass has chosen for it.

    A subclass names its slots by `slot_names` and gives `direction` and `move`,
    which map tensors to tensors entry by entry: variables that move alike may
    come joined to one vector.

    Attributes:
        keeps_dual: Whether regularized variables have a dual variable.
        support: Whether it is frozen, and in which steps.
    """

    keeps_dual: ClassVar[bool] = True

    def __init__(self, learning_rate, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.support = Support(self)
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

    def _make_members(self, variables, names, shrinks):
        """Creates what is kept for each variable, and its step.

        Args:
            variables: Those that are trained.
            names: For each its path, numbered where paths repeat.
            shrinks: For each how it is shrunk, or None.
        """
        members = []
        made: dict[Shrink | None, dict[bool, Any]] = {}  # of those alike
        for variable, name, shrink in zip(
            variables, names, shrinks, strict=True
        ):
            slots, entry = self.slot_names(), None
            lam: Any = None
            if shrink is not None:
                lam = self._add_lambda(variable, shrink.regularizer.lam)
                if self.keeps_dual:
                    slots = ("dual", *slots)
            if getattr(variable, "overwrite_with_gradient", False):
                slots = ()  # float8's scales, by Keras, in files without them
            state = [self._add_slot(variable, slot) for slot in slots]
            if shrink is not None:
                entry = Regularized(name, variable, self, shrink, lam, state)
            if shrink not in made:
                made[shrink] = self._make_updates(shrink)
            members.append(_Member(entry, state, made[shrink]))
        self._members = members
        kinds = list(map(_kind, variables, shrinks))
        if type(self).update_step is not SteppingOptimizer.update_step:
            kinds = [None] * len(kinds)  # somebody's own takes one at a time
        self._vectors = vectors(variables, kinds)

    def _make_updates(self, shrink):
        """The step, free and on a frozen support, as cheap as may be."""
        if shrink is None:
            update = fuse(self._make_update(None, False), compiled=False)
            return {False: update, True: update}
        return {
            frozen: fuse(self._make_update(shrink, frozen))
            for frozen in (False, True)
        }

    def _add_lambda(self, variable, lam):
        return self.add_variable(
            shape=(),
            initializer=Exactly(lam),
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
        self.support.note_step()
        grads = [densify(g) for g in grads]
        if not self.support.is_frozen:
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
                member = self._members[slices[0].owner]
                update = member.updates[self.support.is_frozen]
                step_jointly(update, slices, parts, scalars)
        return tuple(map(list, zip(*alone, strict=True))) or ([], [])

    def update_step(self, gradient, variable, learning_rate):
        member = self._members[self._get_variable_index(variable)]
        inputs = [variable, gradient, learning_rate, self.iterations]
        if member.entry is not None:
            inputs.append(member.entry.lam)
        update = member.updates[self.support.is_frozen]
        theta, *new_slots = update(*map(_value, (*inputs, *member.state)))
        for slot, value in zip(member.state, new_slots, strict=True):
            self.assign(slot, value)
        self.assign(variable, ops.cast(theta, variable.dtype))

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
        self.support.freeze(check_flag("frozen", frozen))

    @property
    def support_is_frozen(self) -> bool:
        """Whether `freeze_support` was called; see `step_is_stale`."""
        return self.support.is_frozen

    @property
    def step_is_stale(self) -> bool:
        """Whether steps go on that were compiled before `freeze_support`.

        Of a function that is compiled for both, by `support_is_frozen` as an
        argument, none are.
        """
        return self.support.is_stale

    def _update_model_variables_moving_average(self, trainable_variables):
        averages = self._model_variables_moving_average
        for variable, average in zip(
            trainable_variables, averages, strict=True
        ):
            if average is not None:
                average.assign(_healed(average, variable))
        super()._update_model_variables_moving_average(trainable_variables)
        for variable, average, member in zip(
            trainable_variables, averages, self._members, strict=True
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
        if keras.config.backend() == "jax" and sys.exc_info()[0]:
            return
        check_finite(var_list)
        self.support.warn_if_stale()


class Exactly(keras.initializers.Initializer):
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
