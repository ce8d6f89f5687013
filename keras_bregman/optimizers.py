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

Who is regularized: a regularizer or a float applies to every kernel that a
Keras layer creates (dense, convolution, depthwise, pointwise, recurrent,
attention), and not to biases, normalization or embeddings. Of a dict from
regular expressions each variable takes the first whose expression `re.search`
finds in its path (`"conv1/kernel"`), and none if none does. `summary()` prints
the choice.

Weight decay is decoupled and enters the dual variable; a weight that is 0 stays
0 under it. The moving average of a regularized weight (`use_ema`) restarts
whenever the weight is 0, so that averaged weights are as sparse as the last
ones.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_bregman._checks import check, check_flag, check_number
from keras_bregman.base_optimizer import LearningRate, ProximalOptimizer
from keras_bregman.choice import Choice, Regularized


class BregmanOptimizer(ProximalOptimizer):
    """Mirror descent: the direction is subtracted from the dual variable.

        v     <- theta / delta + p - d
        theta <- prox_{delta J}(delta v)

    What LinBreg and AdaBreg share, and optimizers of one's own may: they name
    their slots by `slot_names` and give the direction d by `direction`, see
    CONTRIBUTING.md. `callbacks.TargetDensity` steers them all.

    Args:
        learning_rate: tau, as of `LinBreg`.
        regularizer: As of `LinBreg`.
        delta: As of `LinBreg`.
        **kwargs: As of `LinBreg`.

    Raises:
        ValueError: As of `LinBreg`.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        regularizer: Choice,
        *,
        delta: float,
        **kwargs: Any,
    ):
        super().__init__(learning_rate, regularizer, **kwargs)
        self.delta = check_number("delta", delta, "(0, inf)")

    def critical_lambda(self, entry: Regularized) -> Any:
        """For each weight of a variable, the lambda from which on it is 0.

        Read off the dual variable, |v| for `L1`: at strength lambda those
        weights are on whose critical one is larger.

        Args:
            entry: One of `regularized()`.

        Returns:
            A tensor of the variable's shape, in the dtype of its slots.

        Raises:
            ValueError: If `entry` is something else.
        """
        v = self._dual(entry)
        return entry.shrink.critical(v)

    def rethreshold(
        self, entry: Regularized, lam: float, *, hard: bool = False
    ) -> None:
        """Sets a strength and reads the weights anew off the dual variable.

        `set_lambda` keeps every weight that is on, and a larger strength only
        keeps further ones off. This one applies the proximal operator at once:

            theta <- delta prox_J(v)

        so that a larger strength switches weights off, and a smaller one
        switches on those whose dual variable had come far enough.

        Args:
            entry: One of `regularized()`.
            lam: The new strength, a finite float, 0 or greater.
            hard: Whether weights that are on and stay on keep their value;
                they are shrunk otherwise by what the strength rises by.

        Raises:
            ValueError: If `lam` is out of range.
        """
        lam, hard = check_number("lam", lam), check_flag("hard", hard)
        v = self._dual(entry)
        former = ops.cast(entry.variable, v.dtype)
        entry.lam.assign(lam)
        entry.state[0].assign(v)
        theta = self.delta * entry.present(v.dtype).prox(v)
        if hard:
            stays = ops.logical_and(theta != 0, former != 0)
            theta = ops.where(stays, former, theta)
        theta = ops.cast(theta, entry.variable.dtype)
        entry.variable.assign(theta)
        self._follow(entry.variable, theta)

    def _dual(self, entry):
        """The dual variable, consistent with the weights of this moment."""
        good = isinstance(entry, Regularized) and entry.optimizer is self
        check("entry", entry, good, "one of this optimizer's `regularized()`")
        v = ops.convert_to_tensor(entry.state[0])
        theta = ops.cast(entry.variable, v.dtype)
        return theta / self.delta + entry.present(v.dtype).project(theta, v)

    def move(self, theta, direction, learning_rate, shrink, *dual):
        if shrink is None:
            return theta - self.delta * direction, []
        (v,) = dual
        p = shrink.project(theta, v)
        v = theta / self.delta + p - direction
        return self.delta * shrink.prox(v), [v]

    def get_config(self):
        return {**super().get_config(), "delta": self.delta}


@keras.saving.register_keras_serializable("keras_bregman")
class LinBreg(BregmanOptimizer):
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
        regularizer: What makes weights 0: one of `keras_bregman.regularizers`,
            a float (the strength lambda of `L1`), or a dict from regular
            expressions on variable paths to these or None. By default
            nothing; a regularizer or a float is for all kernels, and for no
            bias, normalization or embedding.
        delta: Elastic net parameter, a float greater than 0; J is replaced by
            J + |theta|^2 / (2 delta).
        momentum: A float in [0, 1).
        nesterov: Whether to look ahead along the momentum.
        **kwargs: What every Keras optimizer takes: `name`, `clipnorm`,
            `clipvalue`, `global_clipnorm`, `weight_decay` (decoupled, in the
            dual variable), `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, `loss_scale_factor`,
            `gradient_accumulation_steps`.

    Raises:
        ValueError: For an argument out of range. At the first step, for an
            expression that takes no variable or a regularizer that does not
            fit a variable's rank.

    Reference:
        Bungert, Roith, Tenbrinck, Burger, "A Bregman Learning Framework for
        Sparse Neural Networks", JMLR 23(192), 2022.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.1,
        regularizer: Choice = None,
        *,
        delta: float = 1.0,
        momentum: float = 0.0,
        nesterov: bool = False,
        name: str = "linbreg",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate, regularizer, delta=delta, name=name, **kwargs
        )
        self.momentum = check_number("momentum", momentum, "[0, 1)")
        self.nesterov = check_flag("nesterov", nesterov)
        if self.nesterov and not momentum:
            raise ValueError(
                "`nesterov=True` needs a `momentum` greater than 0. "
                f"Received: momentum={momentum!r}"
            )

    def slot_names(self):
        return ("momentum",) if self.momentum else ()

    def direction(self, gradient, learning_rate, step, *slots):
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
class AdaBreg(BregmanOptimizer):
    """Adam in the dual variable.

        m <- beta_1 m + (1 - beta_1) g
        s <- beta_2 s + (1 - beta_2) g^2
        v <- v - tau (m / (1 - beta_1^t)) / (sqrt(s / (1 - beta_2^t)) + epsilon)
        theta <- prox_{delta J}(delta v)

    A step moves every entry of v by about tau whatever the gradient's size, so
    tau has to be small against lambda: with both at 0.1 most weights of an
    MNIST perceptron are on within ten steps. Without a regularizer this is
    Adam (Keras' own adds `epsilon` before the bias correction of s, this one
    after it, as Adam's paper does).

    Args:
        learning_rate: tau, a float of 0 or greater, a
            `keras.optimizers.schedules.LearningRateSchedule` or a callable.
        regularizer: What makes weights 0: one of `keras_bregman.regularizers`,
            a float (the strength lambda of `L1`), or a dict from regular
            expressions on variable paths to these or None. By default
            nothing; a regularizer or a float is for all kernels, and for no
            bias, normalization or embedding.
        delta: Elastic net parameter, a float greater than 0; J is replaced by
            J + |theta|^2 / (2 delta).
        beta_1: Decay of the first moment, a float in [0, 1).
        beta_2: Decay of the second moment, a float in [0, 1).
        epsilon: Added to the root of the second moment, a float of 1e-30 or
            greater, as less is 0 in float32 when its bias correction is
            taken. Gradients much smaller than it move little.
        **kwargs: What every Keras optimizer takes: `name`, `clipnorm`,
            `clipvalue`, `global_clipnorm`, `weight_decay` (decoupled, in the
            dual variable), `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, `loss_scale_factor`,
            `gradient_accumulation_steps`.

    Raises:
        ValueError: For an argument out of range. At the first step, for an
            expression that takes no variable or a regularizer that does not
            fit a variable's rank.

    Reference:
        Bungert, Roith, Tenbrinck, Burger, "A Bregman Learning Framework for
        Sparse Neural Networks", JMLR 23(192), 2022.
        The moments are those of Kingma, Ba, "Adam: A Method for Stochastic
        Optimization", ICLR 2015.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        regularizer: Choice = None,
        *,
        delta: float = 1.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "adabreg",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate, regularizer, delta=delta, name=name, **kwargs
        )
        self.beta_1 = check_number("beta_1", beta_1, "[0, 1)")
        self.beta_2 = check_number("beta_2", beta_2, "[0, 1)")
        self.epsilon = check_number("epsilon", epsilon, "[1e-30, inf)")

    def slot_names(self):
        return ("first_moment", "second_moment")

    def direction(self, gradient, learning_rate, step, *slots):
        m, s = slots
        m = self.beta_1 * m + (1 - self.beta_1) * gradient
        s = self.beta_2 * s + (1 - self.beta_2) * ops.square(gradient)
        # s with its correction is s / c^2: what is scalar comes together
        c = ops.sqrt(_one_minus_power(self.beta_2, step))
        alpha = learning_rate * c / _one_minus_power(self.beta_1, step)
        return alpha * (m / (ops.sqrt(s) + self.epsilon * c)), [m, s]

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("keras_bregman")
class ProxGD(ProximalOptimizer):
    """Proximal gradient descent, the classic method for a penalized loss.

        theta <- prox_{tau J}(theta - tau g)

    It minimizes loss + J, shrinks every weight by tau lambda at each step, and
    is here to compare with: started dense it becomes sparse slowly, where the
    Bregman optimizers start sparse and grow. It has no dual variable.

    Args:
        learning_rate: tau, a float of 0 or greater, a
            `keras.optimizers.schedules.LearningRateSchedule` or a callable.
        regularizer: What makes weights 0: one of `keras_bregman.regularizers`,
            a float (the strength lambda of `L1`), or a dict from regular
            expressions on variable paths to these or None. By default
            nothing; a regularizer or a float is for all kernels, and for no
            bias, normalization or embedding.
        **kwargs: What every Keras optimizer takes: `name`, `clipnorm`,
            `clipvalue`, `global_clipnorm`, `weight_decay` (decoupled),
            `use_ema`, `ema_momentum`, `ema_overwrite_frequency`,
            `loss_scale_factor`, `gradient_accumulation_steps`.

    Raises:
        ValueError: For an argument out of range. At the first step, for an
            expression that takes no variable or a regularizer that does not
            fit a variable's rank.

    Reference:
        Bungert, Roith, Tenbrinck, Burger, "A Bregman Learning Framework for
        Sparse Neural Networks", JMLR 23(192), 2022.
    """

    keeps_dual = False

    def __init__(
        self,
        learning_rate: LearningRate = 0.1,
        regularizer: Choice = None,
        *,
        name: str = "proxgd",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, regularizer, name=name, **kwargs)

    def direction(self, gradient, learning_rate, step, *slots):
        return learning_rate * gradient, []

    def move(self, theta, direction, learning_rate, shrink, *dual):
        theta = theta - direction
        if shrink is not None:
            theta = shrink.prox(theta, learning_rate)
        return theta, []


def _one_minus_power(beta, step):
    """1 - beta^step; the plain form loses 4 digits in float32 at step 1."""
    if beta == 0:
        return ops.ones_like(step)
    return -ops.expm1(step * math.log(beta))
