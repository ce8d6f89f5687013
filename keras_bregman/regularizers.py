"""Convex regularizers J: value, proximal operator and subdifferential.

All are positively homogeneous, J(tx) = t J(x) for t > 0. Hence the
subdifferential at 0 is one fixed convex set P, and Moreau's identity gives

    prox_{sJ}(x) = x - s proj_P(x / s)

They know nothing of training: `keras_bregman.optimizers` turns them into
optimizers. Strengths are called `lam` throughout, the papers' lambda.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import keras
from keras import ops

from keras_bregman._checks import (
    check,
    check_number,
    check_scalar,
    check_tensor,
    shown,
)
from keras_bregman.kernels import Layout, layout_of

_GROUPS = ("unit", "input", "kernel")


class Regularizer:
    """A convex, positively homogeneous function J of one kernel.

    Subclasses give `value`, `prox`, `project` and `critical`, and with an
    `__init__` of their own `get_config`, by which they are compared. `x` and
    `v` are float tensors or arrays of one kernel's shape; all results are
    tensors of it but `value`, which is a scalar. Dtypes are kept.

    Args:
        lam: Strength lambda, a finite float, 0 or greater. Every method takes
            another one as `lam`, a float or a scalar tensor of `x`'s dtype:
            this is how an optimizer keeps it in a variable. The l1 norms also
            take a tensor of `x`'s shape, with a strength for every entry.

    Attributes:
        min_rank: Axes that a kernel must have at least.
        separable: Whether J is a sum over entries, so that an optimizer may
            bring several kernels as one vector, with a strength for every
            entry. Not inherited: a subclass with a prox of its own says so
            anew.
        constrains: Whether prox_J may be 0 where x is not, even without a
            strength.

    Raises:
        ValueError: If `lam` is out of range; of every method, for an `x`, `v`
            or `lam` of another kind, shape or dtype.
        TypeError: For a subclass with an `__init__` and no `get_config`.
    """

    min_rank = 0
    separable = False
    constrains = False

    def __init__(self, lam: float):
        for cls in type(self).__mro__:
            if "get_config" in vars(cls):
                break
            if "__init__" in vars(cls):
                raise TypeError(
                    f"{cls.__name__} takes arguments of its own and must have "
                    "a `get_config` that gives them by name, with `lam`: "
                    "regularizers are compared and saved by it."
                )
        self.lam = check_number("lam", lam)

    def value(
        self, x: Any, lam: Any = None, layout: Layout | None = None
    ) -> Any:
        """J(x), a scalar."""
        raise NotImplementedError

    def prox(
        self,
        x: Any,
        step: Any = 1.0,
        lam: Any = None,
        layout: Layout | None = None,
    ) -> Any:
        """The proximal operator, argmin_z |z - x|^2 / 2 + step J(z)."""
        raise NotImplementedError

    def project(
        self, x: Any, v: Any, lam: Any = None, layout: Layout | None = None
    ) -> Any:
        """The point of the subdifferential of J at `x` that is nearest `v`."""
        raise NotImplementedError

    def critical(self, x: Any, layout: Layout | None = None) -> Any:
        """For each entry, the lam at and above which it is 0 in prox_J(x)."""
        raise NotImplementedError

    def group_size(self, layout: Layout) -> int:
        """How many entries of a kernel become 0 together, 1 without groups."""
        return 1

    def subgradient(
        self, x: Any, lam: Any = None, layout: Layout | None = None
    ) -> Any:
        """The smallest subgradient of J at `x`, its projection of 0."""
        x = check_tensor("x", x)
        return self.project(x, ops.zeros_like(x), lam, layout)

    def _tensors(self, x, lam):
        """`x` and the strength, checked and as tensors."""
        x = check_tensor("x", x)
        if lam is None:
            lam = self.lam
        elif not self.separable or getattr(lam, "shape", None) != x.shape:
            lam = check_scalar("lam", lam)
        return x, ops.convert_to_tensor(lam, dtype=x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"lam": self.lam}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        arguments = [f"{k}={v!r}" for k, v in self.get_config().items()]
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __eq__(self, other):
        return (
            type(self) is type(other)
            and self.get_config() == other.get_config()
        )

    def __hash__(self):
        return hash(repr(self))


@keras.saving.register_keras_serializable("keras_bregman")
class L1(Regularizer):
    """J(x) = lam sum_i |x_i|, the l1 norm: single weights become 0.

    The prox is soft thresholding, and P is the box [-lam, lam].

    Reference: Tibshirani, "Regression Shrinkage and Selection via the Lasso",
    Journal of the Royal Statistical Society B 58(1), 1996.

    Args:
        lam: Strength lambda, a finite float, 0 or greater.

    Raises:
        ValueError: If it is out of range.
    """

    separable = True

    def value(self, x, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        return ops.sum(lam * ops.abs(x))

    def prox(self, x, step=1.0, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        return _soft_threshold(x, lam * _step(step, x))

    def project(self, x, v, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        v = check_tensor("v", v, like=x)
        return _into_box(x, v, lam)

    def critical(self, x, layout=None):
        return ops.abs(check_tensor("x", x))


@keras.saving.register_keras_serializable("keras_bregman")
class NonNegativeL1(Regularizer):
    """J(x) = lam sum_i x_i for x >= 0, infinite elsewhere.

    Single weights become 0, and none is negative after a step; on a frozen
    support one that would be stays where it is. P is
    (-inf, lam] in every entry. A negative entry lies outside J's domain, where
    no subgradient exists; `project` answers -lam there, the l1 norm's, as the
    authors' code does for weights that were initialized negative.

    Reference: Bungert, Roith, Tenbrinck, Burger, "A Bregman Learning Framework
    for Sparse Neural Networks", JMLR 23(192), 2022.

    Args:
        lam: Strength lambda, a finite float, 0 or greater.

    Raises:
        ValueError: If it is out of range.
    """

    separable = True
    constrains = True

    def value(self, x, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        total = ops.sum(lam * ops.abs(x))
        infinite = ops.convert_to_tensor(math.inf, dtype=x.dtype)
        return ops.where(ops.any(x < 0), infinite, total)

    def prox(self, x, step=1.0, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        return ops.relu(x - lam * _step(step, x))

    def project(self, x, v, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        v = check_tensor("v", v, like=x)
        at_zero = ops.where(v < lam, v, lam)
        return ops.where(x != 0, lam * ops.sign(x), at_zero)

    def critical(self, x, layout=None):
        return ops.relu(check_tensor("x", x))


@keras.saving.register_keras_serializable("keras_bregman")
class GroupLasso(Regularizer):
    """J(x) = lam sum_g sqrt(n_g) |x_g|_2: whole groups of weights become 0.

    n_g is the number of weights in group g. P is the ball of radius
    lam sqrt(n_g) in every group.

    In a Bregman optimizer lambda also slows changes of direction: a step across
    x_g moves it by |x_g| / (|x_g| + delta lam sqrt(n_g)) of what it would
    without. Choose lambda small beside the weights' root mean square (1e-3
    with `callbacks.TargetDensity`, which raises it as needed). Leave the last
    layer out, whose units are the classes.

    Reference: Yuan, Lin, "Model Selection and Estimation in Regression with
    Grouped Variables", Journal of the Royal Statistical Society B 68(1), 2006.

    Args:
        lam: Strength lambda, a finite float, 0 or greater.
        groups: What makes a group: `"unit"`, all weights that feed one output
            unit or filter; `"input"`, all weights that read one input or
            channel; `"kernel"`, the spatial kernel between one input and one
            output channel (a single weight in a dense kernel). Or a tuple of
            the axes along which a group runs, each once; `()` makes every
            weight a group of its own. Name the axes of an `EinsumDense`, of
            depthwise and transposed convolutions without `depthwise` or
            `transpose` in the layer's name, by which an optimizer knows them,
            and of a `Conv1D` that is called `query`, `key`, `value` or
            `attention_output` within another layer, as parts of attention are.

    Raises:
        ValueError: For an argument out of range; on use, for axes that the
            kernel does not have.
    """

    min_rank = 2

    def __init__(self, lam: float, groups: str | tuple[int, ...] = "unit"):
        super().__init__(lam)
        is_name = isinstance(groups, str) and groups in _GROUPS
        are_axes = isinstance(groups, (tuple, list)) and all(
            isinstance(axis, numbers.Integral) for axis in groups
        )
        bound = f"one of {_GROUPS} or a tuple of axes"
        check("groups", groups, is_name or are_axes, bound)
        self.groups = groups if is_name else tuple(map(int, groups))

    def value(self, x, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        axes, weight = self._group(x, layout)
        return lam * weight * ops.sum(_norm(x, axes))

    def prox(self, x, step=1.0, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        axes, weight = self._group(x, layout)
        radius = _step(step, x) * weight * lam
        return _group_threshold(x, axes, radius)

    def project(self, x, v, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        v = check_tensor("v", v, like=x)
        axes, weight = self._group(x, layout)
        radius = weight * lam
        at_zero = _inside(v, _group_threshold(v, axes, radius), axes)
        norm = _norm(x, axes)
        return ops.where(norm > 0, _divide(radius * x, norm), at_zero)

    def critical(self, x, layout=None):
        x = check_tensor("x", x)
        axes, weight = self._group(x, layout)
        # a hair more: rounding must not leave the group on at its own lam
        lam = _norm(x, axes) * ((1 + _hair(x)) / weight)
        return ops.where(x != 0, lam, 0.0)

    def group_size(self, layout: Layout) -> int:
        return layout.size(self.group_axes(layout))

    def group_axes(self, layout: Layout) -> tuple[int, ...]:
        """The axes of a kernel along which one group runs."""
        if isinstance(self.groups, str):
            return layout.over(self.groups)
        rank = len(layout.shape)
        axes = {axis % rank for axis in self.groups if -rank <= axis < rank}
        if len(axes) < len(self.groups):
            raise ValueError(
                "`groups` must name axes of the kernel, each once. "
                f"Received: groups={self.groups} for shape {layout.shape}"
            )
        return tuple(sorted(axes))

    def _group(self, x, layout):
        """Axes inside a group and the square root of a group's size."""
        # TensorFlow broadcasts no more
        few = len(x.shape) <= 8
        check("x", x, few, "a tensor of at most 8 axes")
        layout = layout_of(x.shape) if layout is None else layout
        axes = self.group_axes(layout)
        return axes, math.sqrt(max(1, layout.size(axes)))

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}


@keras.saving.register_keras_serializable("keras_bregman")
class SparseGroupLasso(GroupLasso):
    """Groups become 0, and single weights inside the groups that stay.

        J(x) = lam (alpha sum_i |x_i| + (1 - alpha) sum_g sqrt(n_g) |x_g|_2)

    The prox is soft thresholding followed by the group's. P is the sum of the
    box and the balls; its projection is v - prox_J(v).

    Reference: Simon, Friedman, Hastie, Tibshirani, "A Sparse-Group Lasso",
    Journal of Computational and Graphical Statistics 22(2), 2013.

    Args:
        lam: Strength lambda, a finite float, 0 or greater.
        groups: As in `GroupLasso`.
        alpha: Share of the l1 norm, a float in [0, 1].

    Raises:
        ValueError: As of `GroupLasso`, and for `alpha` out of range.
    """

    def __init__(
        self,
        lam: float,
        groups: str | tuple[int, ...] = "unit",
        alpha: float = 0.5,
    ):
        super().__init__(lam, groups)
        self.alpha = check_number("alpha", alpha, "[0, 1]")

    def value(self, x, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        axes, weight = self._group(x, layout)
        groups = (1 - self.alpha) * weight * ops.sum(_norm(x, axes))
        singles = self.alpha * ops.sum(ops.abs(x))
        return lam * (singles + groups)

    def prox(self, x, step=1.0, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        axes, weight = self._group(x, layout)
        step = _step(step, x) * lam
        x = _soft_threshold(x, step * self.alpha)
        return _group_threshold(x, axes, step * ((1 - self.alpha) * weight))

    def project(self, x, v, lam=None, layout=None):
        x, lam = self._tensors(x, lam)
        v = check_tensor("v", v, like=x)
        axes, weight = self._group(x, layout)
        box = self.alpha * lam
        singles = _into_box(x, v, box)
        radius = (1 - self.alpha) * weight * lam
        norm = _norm(x, axes)
        inside = singles + _divide(radius * x, norm)
        at_zero = _inside(v, self.prox(v, 1.0, lam, layout), axes)
        return ops.where(norm > 0, inside, at_zero)

    def critical(self, x, layout=None):
        x = check_tensor("x", x)
        axes, weight = self._group(x, layout)
        box, ball = self.alpha, (1 - self.alpha) * weight
        if ball == 0:
            return ops.abs(x)
        if box == 0:
            return super().critical(x, layout)
        # lam at which the group goes: the excess over the ball falls with lam
        low = ops.zeros_like(_norm(x, axes))
        high = _norm(x, axes) / ball
        for _ in range(_DIGITS.get(_dtype(x), 23) + 2):
            lam = (low + high) / 2
            stays = _norm(_soft_threshold(x, box * lam), axes) > ball * lam
            low, high = ops.where(stays, lam, low), ops.where(stays, high, lam)
        group = high * (1 + _hair(x))
        single = ops.abs(x) * ((1 + _hair(x)) / box)
        return ops.where(x != 0, ops.where(single < group, single, group), 0.0)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


def get(identifier: Any) -> Regularizer | None:
    """A regularizer from one, a float (`L1` strength) or None.

    Raises:
        ValueError: For anything else.
    """
    if identifier is None or isinstance(identifier, Regularizer):
        return identifier
    if isinstance(identifier, keras.regularizers.Regularizer):
        raise ValueError(
            "`regularizer` must come from `keras_bregman.regularizers`, which "
            "know their proximal operator; a Keras one is a term of the loss "
            "and belongs to a layer. "
            f"Received: regularizer={identifier!r}"
        )
    try:
        return L1(identifier)
    except ValueError:
        raise ValueError(
            "`regularizer` must be a `keras_bregman.regularizers` object, a "
            "finite float of 0 or greater (an l1 strength), None, or a dict "
            "from regular expressions on variable paths to those. "
            f"Received: regularizer={shown(identifier)}"
        ) from None


def _step(step, x):
    step = check_scalar("step", step)
    # Keras casts a float by way of float32 on TensorFlow
    return step if isinstance(step, float) else ops.cast(step, x.dtype)


def _soft_threshold(x, threshold):
    # x - _clip(x) rather than sign(x) max(|x| - t, 0): fewer passes over
    # memory, and exactly 0 wherever |x| <= t
    return x - _clip(x, threshold)


def _clip(x, bound):
    """`x` between -bound and bound, tensors of one dtype."""
    if keras.config.backend() == "torch":
        import torch

        # a third of the time of `torch.clip`; Keras' make float64 float32
        return torch.maximum(torch.minimum(x, bound), -bound)
    return keras.ops.clip(x, -bound, bound)


def _into_box(x, v, bound):
    """bound sign(x), and where that is 0, v clipped to the bound."""
    # not by `where`, which takes several times as long on torch
    far = 6e4 if _dtype(x) == "float16" else 3e38  # next to the largest
    return _clip(v + far * ops.sign(x), bound)


def _divide(x, y):
    """x / y, and something finite where y is 0."""
    return x / ops.where(y == 0, ops.ones_like(y), y)


def _norm(x, axes):
    return ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))


def _group_threshold(x, axes, threshold):
    norm = _norm(x, axes)  # 0 too where all squares are too small for a number
    left = 1 - _divide(threshold, norm)
    return x * ops.where(norm >= threshold, left, ops.zeros_like(left))


def _inside(v, excess, axes):
    """v - excess, v's projection onto P; excess is prox_J(v), 0 inside P.

    From outside, a hair short of the boundary: rounding must not put it
    beyond, where the next prox would switch the group on.
    """
    p = v - excess
    return ops.where(_norm(excess, axes) > 0, (1 - _hair(v)) * p, p)


_DIGITS = {"float64": 52, "float16": 10, "bfloat16": 7}


def _dtype(x):
    return keras.backend.standardize_dtype(x.dtype)


def _hair(x):
    """A relative difference a little larger than rounding makes."""
    return 16 * 2.0 ** -_DIGITS.get(_dtype(x), 23)
