"""LinBreg, AdaBreg and ProxGD as Keras optimizers.

The Bregman optimizers descend in a dual variable v and read the weights off it
through the proximal operator:

    v     <- theta / delta + p - d
    theta <- prox_{delta J}(delta v) = delta prox_J(v)

d is the method's direction, and p a subgradient of J at theta. The slot keeps
v. At each step p is found anew as the projection of v onto the subdifferential
at the weights of that moment. As long as nobody else touches the weights this
is the recursion v <- v - d of the papers. Where somebody did (loaded weights,
a constraint, weight decay, an average, a changed lambda), the pair (theta, v)
is made consistent again instead of the old weights being brought back.

A slot that starts at 0 gives the papers' first dual variable
theta_0 / delta + lam sign(theta_0), so nothing is read while building.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from keras_bregman import regularizers
from keras_bregman._fusion import densify, fuse
from keras_bregman._table import table
from keras_bregman.kernels import Layout, is_kernel, layout_of, path_of

_SHARED_ARGS = """
        regularizer: What makes weights 0. One of `keras_bregman.regularizers`
            or a float, the strength lambda of `L1`: applies to every kernel
            that a Keras layer creates (dense, convolution, depthwise,
            pointwise, recurrent, attention), and not to biases, normalization
            or embeddings. Or a dict from regular expressions to regularizers,
            floats or None: each variable takes the first whose expression
            `re.search` finds in its path (`"conv1/kernel"`), and none if
            none does. `summary()` prints the choice. `None` regularizes
            nothing."""

_BASE_ARGS = """
        **kwargs: What every Keras optimizer takes: `name`, `clipnorm`,
            `clipvalue`, `global_clipnorm`, `weight_decay`, `use_ema`,
            `ema_momentum`, `ema_overwrite_frequency`, `loss_scale_factor`,
            `gradient_accumulation_steps`. Weight decay is decoupled and
            enters the dual variable; a weight that is 0 stays 0 under it.
            The moving average of a regularized weight restarts whenever the
            weight is 0, so that averaged weights are as sparse as the last
            ones.

    Raises:
        ValueError: For an argument out of range. At the first step, for an
            expression that takes no variable or a regularizer that does not
            fit a variable's rank."""

_REFERENCE = """

    Reference:
        Bungert, Roith, Tenbrinck, Burger, "A Bregman Learning Framework for
        Sparse Neural Networks", JMLR 23(192), 2022."""


def _documented(cls):
    """Fills in the parts that the optimizers' docstrings share."""
    if cls.__doc__ is not None:
        for mark, text in (
            ("{regularizer}", _SHARED_ARGS),
            ("{base}", _BASE_ARGS),
            ("{reference}", _REFERENCE),
        ):
            cls.__doc__ = cls.__doc__.replace(f"\n        {mark}", text)
            cls.__doc__ = cls.__doc__.replace(f"\n    {mark}", text)
    return cls


class ProximalOptimizer(keras.optimizers.Optimizer):
    """What the optimizers share: who is regularized how, and the bookkeeping.

    A subclass names its slots and gives `_direction` and `_move`, which map
    tensors to tensors.
    """

    _keeps_dual: ClassVar[bool] = True

    def __init__(self, learning_rate, regularizer, **kwargs):
        if not callable(learning_rate):
            learning_rate = _check_number("learning_rate", learning_rate)
        super().__init__(learning_rate=learning_rate, **kwargs)
        if self.weight_decay is not None:
            _check_number("weight_decay", self.weight_decay)
        if isinstance(regularizer, Mapping):
            regularizer = {
                _check_expression(expression): regularizers.get(choice)
                for expression, choice in regularizer.items()
            }
        else:
            regularizer = regularizers.get(regularizer)
        self.regularizer = regularizer
        self._shrinks: list[_Shrink | None] = []
        self._lambda_variables: list[keras.Variable | None] = []

    def _slot_names(self) -> tuple[str, ...]:
        """Names of the slots that `_direction` keeps for every variable."""
        return ()

    def _direction(self, gradient, learning_rate, step, *slots):
        """What the method wants to subtract, and its slots' new values."""
        raise NotImplementedError

    def _move(self, theta, direction, learning_rate, shrink, *dual):
        """The new weights and, in a list, the new dual variable if any."""
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
        paths = [path_of(variable) for variable in variables]
        shrinks = [
            None if choice is None else _Shrink.of(choice, variable)
            for choice, variable in zip(
                _choose(self.regularizer, paths), variables, strict=True
            )
        ]
        super().build(variables)
        self._paths = paths
        self._shrinks = shrinks
        self._lambda_variables, self._states, self._updates = [], [], []
        made: dict[_Shrink | None, Any] = {}  # kernels alike share one
        for variable, path, shrink in zip(
            variables, paths, shrinks, strict=True
        ):
            names = self._slot_names()
            lam = None
            if shrink is not None:
                lam = self.add_variable(
                    shape=(),
                    initializer=_Exactly(shrink.regularizer.lam),
                    dtype=_state_dtype(variable),
                    name=f"{path.replace('/', '_')}_lambda",
                )
                if self._keeps_dual:
                    names = ("dual", *names)
            self._lambda_variables.append(lam)
            self._states.append([self._add_slot(variable, n) for n in names])
            if shrink not in made:
                update = self._make_update(shrink)
                # small vectors are not worth compiling
                made[shrink] = update if shrink is None else fuse(update)
            self._updates.append(made[shrink])

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

    def _make_update(self, shrink):
        """The step of one variable, as a function of tensors."""

        def update(theta, gradient, learning_rate, step, lam, state):
            # a NaN or infinite gradient shows in the weights, as with Keras'
            # optimizers; left in a slot it would outlive the weights' repair
            state = [
                ops.nan_to_num(s, nan=0.0, posinf=0.0, neginf=0.0)
                for s in state
            ]
            dual = state[: len(state) - len(self._slot_names())]
            direction, slots = self._direction(
                gradient, learning_rate, step, *state[len(dual) :]
            )
            now = shrink and dataclasses.replace(shrink, lam=lam)
            theta, dual = self._move(
                theta, direction, learning_rate, now, *dual
            )
            return theta, [*dual, *slots]

        return update

    def apply(self, grads, trainable_variables=None):
        super().apply([densify(g) for g in grads], trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        state = self._states[index]
        lam = self._lambda_variables[index]
        dtype = _state_dtype(variable)
        theta, new_state = self._updates[index](
            ops.cast(variable, dtype),
            ops.cast(gradient, dtype),
            ops.cast(learning_rate, dtype),
            ops.cast(self.iterations + 1, dtype),
            None if lam is None else ops.cast(lam, dtype),
            [ops.cast(slot, dtype) for slot in state],
        )
        for slot, value in zip(state, new_state, strict=True):
            self.assign(slot, value)
        self.assign(variable, ops.cast(theta, variable.dtype))

    @property
    def lambdas(self) -> dict[str, keras.Variable]:
        """The strength of every regularized variable, by the variable's path.

        Scalar variables of the optimizer: saved with it, and a value assigned
        in a running `fit` holds from the next step on.

        Raises:
            ValueError: If the optimizer is not built.
        """
        self._check_built("lambdas")
        found: dict[str, keras.Variable] = {}
        for path, lam in zip(self._paths, self._lambda_variables, strict=True):
            if lam is not None:
                # nested models may repeat a path
                twins = sum(p.partition("#")[0] == path for p in found)
                found[f"{path}#{twins + 1}" if twins else path] = lam
        return found

    def set_lambda(self, lam: float, expression: str = "") -> None:
        """Sets the strength of the regularized variables.

        Args:
            lam: The new strength, a finite float, 0 or greater.
            expression: Regular expression; changes only the variables in
                whose path `re.search` finds it. By default all.

        Raises:
            ValueError: If the optimizer is not built, `lam` is out of range or
                no regularized variable matches.
        """
        lam = regularizers.check_strength("lam", lam)
        search = re.compile(_check_expression(expression)).search
        lambdas = self.lambdas
        matching = [v for path, v in lambdas.items() if search(path)]
        if not matching:
            raise ValueError(
                "`expression` matches no regularized variable. Received: "
                f"expression={expression!r}; regularized are {list(lambdas)}"
            )
        for variable in matching:
            variable.assign(lam)

    def summary(self, print_fn=print) -> None:
        """Prints each variable's path, shape, regularizer and strength.

        Args:
            print_fn: Called with the table as one string.

        Raises:
            ValueError: If the optimizer is not built.
        """
        self._check_built("summary()")
        rows = []
        for variable, path, shrink, lam in zip(
            self._trainable_variables,
            self._paths,
            self._shrinks,
            self._lambda_variables,
            strict=True,
        ):
            rows.append(
                (
                    path,
                    tuple(variable.shape),
                    *(shrink.describe() if shrink else ("-", "-")),
                    "-" if lam is None else f"{float(lam):g}",
                )
            )
        print_fn(
            table(
                ("variable", "shape", "regularizer", "groups", "lambda"), rows
            )
        )

    def _check_built(self, what):
        if not self.built:
            raise ValueError(
                f"`{what}` of {type(self).__name__} exists once the optimizer "
                "knows its variables. Call "
                "`optimizer.build(model.trainable_variables)` first."
            )

    def _update_model_variables_moving_average(self, trainable_variables):
        super()._update_model_variables_moving_average(trainable_variables)
        for variable, average, shrink in zip(
            trainable_variables,
            self._model_variables_moving_average,
            self._shrinks,
            strict=True,
        ):
            if shrink is not None and average is not None:
                value = ops.convert_to_tensor(average)
                average.assign(ops.where(ops.equal(variable, 0), 0.0, value))

    def finalize_variable_values(self, var_list):
        super().finalize_variable_values(var_list)
        if self.use_ema and keras.config.backend() == "jax":
            # weights and averages now share buffers, and the next fit would
            # fail to donate them twice
            for variable in var_list:
                variable.assign(ops.copy(ops.convert_to_tensor(variable)))
        # on JAX fit also comes here when it fails, and that error goes first
        if sys.exc_info()[0] is None:
            check_finite(var_list)

    def load_own_variables(self, store):
        super().load_own_variables(store)
        # Keras matches state by position alone, so that another optimizer's
        # may end up here; the dual heals itself, a strength cannot
        for shrink, lam in zip(
            self._shrinks, self._lambda_variables, strict=True
        ):
            if shrink is None or lam is None:
                continue
            if not 0 <= float(lam) < math.inf:
                warnings.warn(
                    f"The state loaded into {type(self).__name__} holds "
                    f"lambda={float(lam):g}: it comes from another optimizer. "
                    f"lambda is set back to {shrink.regularizer.lam:g}.",
                    stacklevel=2,
                )
                lam.assign(shrink.regularizer.lam)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        regularizer = self.regularizer
        if isinstance(regularizer, Mapping):
            # pairs, as JSON objects need not keep their order
            regularizer = [[k, serialize(v)] for k, v in regularizer.items()]
        else:
            regularizer = serialize(regularizer)
        return {**super().get_config(), "regularizer": regularizer}

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
        return super().from_config(config, custom_objects=custom_objects)


class _Bregman(ProximalOptimizer):
    """Mirror descent: the direction is subtracted from the dual variable."""

    def __init__(self, learning_rate, regularizer, delta, **kwargs):
        super().__init__(learning_rate, regularizer, **kwargs)
        self.delta = _check_number("delta", delta, open_low=True)

    def _move(self, theta, direction, learning_rate, shrink, *dual):
        if shrink is None:
            return theta - self.delta * direction, []
        (v,) = dual
        p = shrink.project(theta, v)
        v = theta / self.delta + p - direction
        return self.delta * shrink.prox(v), [v]

    def get_config(self):
        return {**super().get_config(), "delta": self.delta}


@keras.saving.register_keras_serializable("keras_bregman")
@_documented
class LinBreg(_Bregman):
    """Linearized Bregman iterations: SGD in the dual variable.

    Weights that start at 0 stay 0 until their accumulated gradient exceeds
    lambda. Started sparse (`keras_bregman.sparsify`), a network switches on
    only the weights that the data asks for, and needs no pruning. Without a
    regularizer this is SGD with learning rate `delta * learning_rate`.

        v     <- v - tau g
        theta <- prox_{delta J}(delta v)

    With momentum, in the authors' convention:

        m <- momentum m + (1 - momentum) tau g
        v <- v - m

    and with `nesterov` the step is momentum m + (1 - momentum) tau g, taken
    with the new m.

    Args:
        learning_rate: tau, a float of 0 or greater, a
            `keras.optimizers.schedules.LearningRateSchedule` or a callable.
        {regularizer}
        delta: Elastic net parameter, a float greater than 0; J is replaced by
            J + |theta|^2 / (2 delta).
        momentum: A float in [0, 1).
        nesterov: Whether to look ahead along the momentum.
        {base}
    {reference}
    """

    def __init__(
        self,
        learning_rate=0.1,
        regularizer=None,
        delta=1.0,
        momentum=0.0,
        nesterov=False,
        name="linbreg",
        **kwargs,
    ):
        super().__init__(learning_rate, regularizer, delta, name=name, **kwargs)
        self.momentum = _check_number("momentum", momentum, high=1.0)
        if nesterov and not momentum:
            raise ValueError(
                "`nesterov=True` needs a `momentum` greater than 0. "
                f"Received: momentum={momentum!r}"
            )
        self.nesterov = bool(nesterov)

    def _slot_names(self):
        return ("momentum",) if self.momentum else ()

    def _direction(self, gradient, learning_rate, step, *slots):
        move = learning_rate * gradient
        if not slots:
            return move, []
        (m,) = slots
        move = (1 - self.momentum) * move
        m = self.momentum * m + move
        return (self.momentum * m + move if self.nesterov else m), [m]

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
        }


@keras.saving.register_keras_serializable("keras_bregman")
@_documented
class AdaBreg(_Bregman):
    """Adam in the dual variable.

        m <- beta_1 m + (1 - beta_1) g
        s <- beta_2 s + (1 - beta_2) g^2
        v <- v - tau (m / (1 - beta_1^t)) / (sqrt(s / (1 - beta_2^t)) + epsilon)
        theta <- prox_{delta J}(delta v)

    A step moves every entry of v by about tau whatever the gradient's size, so
    tau has to be small against lambda: with both at 0.1 the first two steps
    switch on nearly every weight. Without a regularizer this is Adam (Keras'
    own adds `epsilon` before the bias correction of s, this one after it, as
    Adam's paper does).

    Args:
        learning_rate: tau, a float of 0 or greater, a
            `keras.optimizers.schedules.LearningRateSchedule` or a callable.
        {regularizer}
        delta: Elastic net parameter, a float greater than 0; J is replaced by
            J + |theta|^2 / (2 delta).
        beta_1: Decay of the first moment, a float in [0, 1).
        beta_2: Decay of the second moment, a float in [0, 1).
        epsilon: Added to the root of the second moment, a float greater
            than 0. Gradients much smaller than it move little.
        {base}
    {reference}
    """

    def __init__(
        self,
        learning_rate=0.001,
        regularizer=None,
        delta=1.0,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        name="adabreg",
        **kwargs,
    ):
        super().__init__(learning_rate, regularizer, delta, name=name, **kwargs)
        self.beta_1 = _check_number("beta_1", beta_1, high=1.0)
        self.beta_2 = _check_number("beta_2", beta_2, high=1.0)
        self.epsilon = _check_number("epsilon", epsilon, open_low=True)

    def _slot_names(self):
        return ("first_moment", "second_moment")

    def _direction(self, gradient, learning_rate, step, *slots):
        m, s = slots
        m = self.beta_1 * m + (1 - self.beta_1) * gradient
        s = self.beta_2 * s + (1 - self.beta_2) * ops.square(gradient)
        # scalars first: one division and one root per weight
        alpha = learning_rate / _one_minus_power(self.beta_1, step)
        correction = ops.rsqrt(_one_minus_power(self.beta_2, step))
        root = correction * ops.sqrt(s) + self.epsilon
        return alpha * m / root, [m, s]

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("keras_bregman")
@_documented
class ProxGD(ProximalOptimizer):
    """Proximal gradient descent, the classic method for a penalized loss.

        theta <- prox_{tau J}(theta - tau g)

    It minimizes loss + J, shrinks every weight by tau lambda at each step, and
    is here to compare with: started dense it becomes sparse slowly, where the
    Bregman optimizers start sparse and grow. It has no dual variable.

    Args:
        learning_rate: tau, a float of 0 or greater, a
            `keras.optimizers.schedules.LearningRateSchedule` or a callable.
        {regularizer}
        {base}
    {reference}
    """

    _keeps_dual = False

    def __init__(
        self, learning_rate=0.1, regularizer=None, name="proxgd", **kwargs
    ):
        super().__init__(learning_rate, regularizer, name=name, **kwargs)

    def _direction(self, gradient, learning_rate, step, *slots):
        return learning_rate * gradient, []

    def _move(self, theta, direction, learning_rate, shrink, *dual):
        theta = theta - direction
        if shrink is not None:
            theta = shrink.prox(theta, learning_rate)
        return theta, []


@dataclasses.dataclass(frozen=True)
class _Shrink:
    """One variable's regularizer, with its layout and its present strength."""

    regularizer: regularizers.Regularizer
    layout: Layout
    lam: Any = None

    @classmethod
    def of(cls, regularizer, variable):
        path, shape = path_of(variable), tuple(variable.shape)
        if len(shape) < regularizer.min_rank:
            raise ValueError(
                f"`regularizer` {regularizer!r} needs a kernel of rank "
                f"{regularizer.min_rank} or more, and the expression that "
                f"chose it also finds '{path}' of shape {shape}. Make the "
                "expression narrower, for example 'conv.*kernel'."
            )
        shrink = cls(regularizer, layout_of(shape, path))
        shrink.describe()  # raises for axes that the kernel does not have
        return shrink

    def prox(self, x, step=1.0):
        return self.regularizer.prox(x, step, self.lam, self.layout)

    def project(self, x, v):
        return self.regularizer.project(x, v, self.lam, self.layout)

    def describe(self):
        """Name of the regularizer and its groups, number x size."""
        groups = "-"
        if isinstance(self.regularizer, regularizers.GroupLasso):
            size = self.layout.size(self.regularizer.group_axes(self.layout))
            groups = f"{math.prod(self.layout.shape) // size} x {size}"
        return type(self.regularizer).__name__, groups


class _Exactly(keras.initializers.Initializer):
    """A constant that does not pass through float32, as `Constant` does."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        return ops.convert_to_tensor(self.value, dtype=dtype)


def check_finite(variables) -> None:
    """Raises FloatingPointError, naming the first variable not finite.

    Args:
        variables: `keras.Variable`s.
    """
    for variable in variables:
        value = ops.convert_to_tensor(variable)
        if not bool(ops.all(ops.isfinite(value))):
            raise FloatingPointError(
                f"'{path_of(variable)}' holds NaN or infinite weights, from a "
                "loss or gradient that was not finite. Check the data for "
                "NaN, lower `learning_rate` or set `global_clipnorm`; then "
                "load finite weights and go on: the optimizer's state heals "
                "itself at the next step."
            )


def _one_minus_power(beta, step):
    """1 - beta^step; the plain form loses 4 digits in float32 at step 1."""
    if beta == 0:
        return ops.ones_like(step)
    return -ops.expm1(step * math.log(beta))


def _state_dtype(variable):
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _choose(regularizer, paths):
    """The regularizer of each path."""
    if not isinstance(regularizer, Mapping):
        return [regularizer if is_kernel(path) else None for path in paths]
    taken = [
        next((e for e in regularizer if re.search(e, path)), None)
        for path in paths
    ]
    for expression in regularizer:
        if expression not in taken:
            raise ValueError(
                "`regularizer` has an expression that takes no variable: "
                f"{expression!r} is found in no path, or earlier expressions "
                f"took all that it matches. The paths are {paths}"
            )
    return [None if e is None else regularizer[e] for e in taken]


def _check_expression(expression):
    try:
        re.compile(expression)
    except (TypeError, re.error) as error:
        raise ValueError(
            "Variables are chosen by regular expressions on their paths, such "
            f"as 'conv.*kernel'. Received: {expression!r} ({error})"
        ) from None
    return expression


def _check_number(name, value, low=0.0, high=math.inf, open_low=False):
    """`value` as a float; raises ValueError unless it lies in the interval."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    above = number > low if open_low else number >= low
    if not (math.isfinite(number) and above and number < high):
        bound = f"greater than {low:g}" if open_low else f"{low:g} or greater"
        if high < math.inf:
            bound += f" and less than {high:g}"
        raise ValueError(
            f"`{name}` must be a finite number {bound}. "
            f"Received: {name}={value!r}"
        )
    return number
