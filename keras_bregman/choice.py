"""Which variable an optimizer regularizes, how, and how strongly."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_bregman import regularizers
from keras_bregman._checks import check_expression
from keras_bregman._paths import first_matching, path_of
from keras_bregman._warning import warn
from keras_bregman.kernels import Layout, is_kernel, layout_of
from keras_bregman.regularizers import Regularizer

# what Keras' layers have beside kernels that may have several axes
_NO_MATRIX = re.compile(r"(bias|gamma|beta|alpha|scale)$|embed|lora_|token")
_MANY = 0.1  # of all entries of matrices

_One = float | Regularizer | None
Choice = _One | Mapping[str, _One]  # whom to regularize, and how


@dataclasses.dataclass(frozen=True)
class Shrink:
    """One variable's regularizer, with its layout and its present strength."""

    regularizer: Regularizer
    layout: Layout
    lam: Any = None

    @classmethod
    def of(cls, regularizer, variable):
        """Raises ValueError where the variable lacks the regularizer's axes."""
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

    def critical(self, x):
        return self.regularizer.critical(x, self.layout)

    @property
    def group_size(self):
        """How many weights become 0 together, 1 without groups."""
        return self.regularizer.group_size(self.layout)

    def describe(self):
        """Name of the regularizer and its groups, number x size."""
        groups, size = "-", self.group_size
        if size > 1:
            groups = f"{math.prod(self.layout.shape) // size} x {size}"
        return type(self.regularizer).__name__, groups


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
        """The dual variable as the last step left it, 0 before the first.

        What has changed weights or lambda since is not in it;
        `critical_lambda` reckons with that. ProxGD has none.
        """
        return self.state[0] if self.state else None

    @property
    def given_lam(self) -> float:
        """The regularizer's own strength, with which training began."""
        return self.shrink.regularizer.lam

    def present(self, dtype) -> Shrink:
        """The shrinkage at the present strength."""
        return dataclasses.replace(self.shrink, lam=ops.cast(self.lam, dtype))


def checked(regularizer: Choice) -> Any:
    """A choice with regularizers in the place of floats.

    Raises:
        ValueError: For what is no choice.
    """
    if not isinstance(regularizer, Mapping):
        return regularizers.get(regularizer)
    return {
        check_expression("regularizer", expression): regularizers.get(one)
        for expression, one in regularizer.items()
    }


def serialized(regularizer) -> Any:
    """What `checked` gave, as a config has it."""
    serialize = keras.saving.serialize_keras_object
    if isinstance(regularizer, Mapping):
        # pairs, as JSON objects need not keep their order
        return [[k, serialize(v)] for k, v in regularizer.items()]
    return serialize(regularizer)


def deserialized(config, custom_objects=None) -> Any:
    """The choice of such a config; others, as floats, are left as they are."""

    def deserialize(item):
        return keras.saving.deserialize_keras_object(
            item, custom_objects=custom_objects
        )

    if isinstance(config, list):
        return {k: deserialize(v) for k, v in config}
    return deserialize(config) if isinstance(config, dict) else config


def choose(regularizer, variables, earlier):
    """Who is regularized how.

    Args:
        regularizer: A regularizer for every kernel, None, or a dict from
            regular expressions on paths to regularizers or None.
        variables: Trainable variables.
        earlier: Pairs of a path and the expression that took it, before the
            model was saved: those of the same variables are taken again.

    Returns:
        The regularizer of each variable, or None; and such pairs, for a dict.

    Raises:
        ValueError: If an expression takes no path.
    """
    paths = [path_of(variable) for variable in variables]
    if not isinstance(regularizer, Mapping):
        kernels = [is_kernel(path) for path in paths]
        if regularizer is not None and paths and not any(kernels):
            warn(
                f"`regularizer` {regularizer!r} takes variables whose path "
                "ends in kernel, and there is none: nothing will be sparse. "
                "Name others by regular expressions, as {'lora_kernel': 1.0}. "
                f"The paths are {paths}"
            )
        elif regularizer is not None:
            _warn_of_others(regularizer, variables)
        return [regularizer if it_is else None for it_is in kernels], []
    # from HDF5 Keras builds optimizers without variables, before it loads
    if not paths:
        return [], earlier
    taken = _expressions_of(regularizer, paths, earlier)
    chosen = [None if e is None else regularizer[e] for e in taken]
    return chosen, list(zip(paths, taken, strict=True))


def _expressions_of(regularizer, paths, earlier):
    """The expression that takes each path, or None."""
    again = [expression for _, expression in earlier]
    if _are_of_the_same(paths, [path for path, _ in earlier]) and all(
        expression is None or expression in regularizer for expression in again
    ):
        return again
    taken = first_matching(regularizer, paths)
    for expression in regularizer:
        if expression not in taken:
            raise ValueError(
                "`regularizer` has an expression that takes no variable: "
                f"{expression!r} is found in no path, or earlier expressions "
                f"took all that it matches. The paths are {paths}"
            )
    return taken


def _are_of_the_same(paths, earlier):
    """Whether paths are those of the same variables in a loaded model.

    There Keras leaves out the names of the models that the layers are in.
    """
    return len(paths) == len(earlier) and all(
        f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")
        for one, other in zip(paths, earlier, strict=True)
    )


def _warn_of_others(regularizer, variables):
    """Warns if much of what layers multiply by is not called kernel."""
    sizes = [(path_of(v), math.prod(v.shape)) for v in variables]
    others = [
        (path, size)
        for (path, size), v in zip(sizes, variables, strict=True)
        if sum(n > 1 for n in v.shape) > 1
        and not is_kernel(path)
        and not _NO_MATRIX.search(path.lower())
    ]
    left = sum(size for _, size in others)
    taken = sum(size for path, size in sizes if is_kernel(path))
    if left > _MANY * (left + taken):
        names = [path for path, _ in others]
        warn(
            f"`regularizer` {regularizer!r} takes variables whose path ends in "
            f"kernel, and {left:,} entries of others stay dense, which "
            f"`keras_bregman.density` does not count: {names}. Name them "
            "kernel where the layer adds them; or give a dict as {'kernel': "
            "1.0, 'w$': 1.0}, and take of='regularized' for densities."
        )
