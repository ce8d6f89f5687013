"""A training run as data: what is trained, from which start, and how.

It needs no Keras, whose import takes seconds; `building` makes it one.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.data import NAMES, Dataset
from experiments.stream import steps_per_epoch

MODELS = ("mlp", "lenet300", "convnet", "resnet18", "vgg13", "vgg16")
DENSITY_TOLERANCE = 0.02  # `TargetDensity`'s, which needs Keras
LASSO_CUT = 0.75  # of training is over when what the penalty left is cut
_SCHEDULES = ("plateau", "cosine")
_PRECISIONS = ("float32", "mixed_bfloat16")
_METHODS = ("bregman", "pruning", "rigl", "set", "lasso", "thresholds")
_OF_KERAS = ("SGD", "Adam")
_OPTIMIZERS = (*_OF_KERAS, "ProxGD", "LinBreg", "AdaBreg")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained, and how; with a seed it settles a run.

    Attributes:
        label: Name in tables and figures.
        model: `"mlp"`, `"lenet300"`, `"convnet"`, `"resnet18"`, `"vgg13"` or
            `"vgg16"`.
        data: Name of a dataset of `experiments.data`.
        optimizer: `"SGD"`, `"Adam"`, `"ProxGD"`, `"LinBreg"` or `"AdaBreg"`.
        learning_rate: tau at the start.
        lam: Strength lambda of the l1 norm on kernels.
        momentum: Of SGD or LinBreg.
        options: Further arguments of the optimizer, by name, and those of
            `experiments.variants`.
        groups: What becomes 0, instead of single weights of kernels: by
            regular expression on paths the arguments of a `SparseGroupLasso`,
            or of an `L1` if there is none but `lam`, with `lam` as a
            factor on the recipe's. The first that is found counts.
        start: Share of the weights that are not 0 at the start, in (0, 1], or
            a dict from regular expressions on paths to shares, in which the
            first that is found counts.
        start_method: `"bernoulli"`, `"kernel"` or `"balanced"`.
        start_scale: Factor on the standard deviation that keeps the signal's
            variance, He's over the root of the share.
        width: Factor on all hidden widths.
        batch_norm: Whether a VGG has batch normalization; ResNet-18 always
            has, the other networks never.
        augment: Whether images are shifted and mirrored at random.
        epochs: Number of epochs.
        batch_size: Examples per step.
        density: The density asked for, in (0, 1]; `None` leaves lambda as it
            is.
        method: How that density is reached: `"bregman"`, by `TargetDensity`,
            to which `lam` is a relative strength; or, with SGD or Adam, by a
            peer of `experiments.peers`: `"pruning"`, `"rigl"`, `"set"`,
            `"thresholds"`, or `"lasso"`, with ProxGD too, where `lam` is the
            penalty's strength.
        ramp: Share of training on the way to that density, by
            `TargetDensity`.
        freeze: Share of training on the frozen support at its end, likewise.
        steering: Further arguments of the method, by name.
        schedule: `"plateau"`, or `"cosine"`: tau falls to 0 along a half
            period, and `decay`, `patience` and `threshold` mean nothing.
        warmup: Share of training in which tau rises to where the cosine
            begins.
        decay: Factor on tau when the training loss stagnates.
        patience: Epochs without progress that are let pass.
        threshold: Relative change of the loss that counts as progress.
        precision: `"float32"`, or `"mixed_bfloat16"`: layers but the last one
            compute in bfloat16; weights, dual variables and the loss stay
            float32.
        examples: Train on the first so many images only.
        probe_steps: Steps after which loss, accuracy and density are taken as
            well.
        probe_layers: Whether gradient norms and dead units by layer are taken
            before the first step.
    """

    label: str
    model: str
    data: str
    optimizer: str
    learning_rate: float
    lam: float = 0.0
    momentum: float = 0.0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    start: float | dict[str, float] = 0.01
    start_method: str = "bernoulli"
    start_scale: float = 1.0
    width: float = 1.0
    batch_norm: bool = True
    augment: bool = False
    epochs: int = 100
    batch_size: int = 128
    density: float | None = None
    method: str = "bregman"
    ramp: float = 0.5
    freeze: float = 0.25
    steering: dict[str, Any] = dataclasses.field(default_factory=dict)
    schedule: str = "plateau"
    warmup: float = 0.0
    decay: float = 0.5
    patience: int = 5
    threshold: float = 0.01
    precision: str = "float32"
    examples: int | None = None
    probe_steps: tuple[int, ...] = ()
    probe_layers: bool = False

    def __post_init__(self):
        for field in dataclasses.fields(self):
            # from a result file, where JSON has no tuples
            value = _with_tuples(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            if not _fits(value, _HINTS[field.name]):
                raise ValueError(
                    f"`{field.name}` must be of type {field.type}. "
                    f"Received: {value!r}"
                )
        for name, known in (
            ("model", MODELS),
            ("data", NAMES),
            ("optimizer", _OPTIMIZERS),
            ("method", _METHODS),
            ("schedule", _SCHEDULES),
            ("precision", _PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(known)}. "
                    f"Received: {getattr(self, name)!r}"
                )
        for bound, is_within, names in _RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not is_within(value):
                    raise ValueError(
                        f"`{name}` must be {bound}. Received: {value!r}"
                    )
        if self.ramp + self.freeze > 1:
            raise ValueError(
                "`ramp` and `freeze` must be 1 in sum at most, shares of one "
                f"training. Received: {self.ramp!r} and {self.freeze!r}"
            )
        with_peers = [*_OF_KERAS]
        if self.method == "lasso":
            with_peers.append("ProxGD")
        if self.is_peer and (
            self.optimizer not in with_peers or self.density is None
        ):
            raise ValueError(
                f"`method` {self.method!r} takes a `density` and one of "
                f"{', '.join(with_peers)}. Received: "
                f"density={self.density!r}, optimizer={self.optimizer!r}"
            )

    @property
    def is_peer(self) -> bool:
        """Whether another method than ours makes the network sparse."""
        return self.method != "bregman"

    @property
    def is_bregman(self) -> bool:
        """Whether its optimizer moves a dual variable."""
        return self.optimizer in ("LinBreg", "AdaBreg")

    @property
    def is_dense(self) -> bool:
        """Whether nothing makes its weights 0."""
        return self.density is None and not self.takes_regularizer

    @property
    def takes_regularizer(self) -> bool:
        """Whether its optimizer does: all but Keras' own."""
        return self.optimizer not in _OF_KERAS

    @property
    def slug(self) -> str:
        """The label as a file name."""
        kept = (c if c.isalnum() or c in ".-" else " " for c in self.label)
        return "-".join("".join(kept).lower().split())

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """In what a recipe of a result file is another one, in words."""
        # a field younger than the file had its default's effect before
        return differing({**_DEFAULTS, **stored}, dataclasses.asdict(self))

    def changed(self, **changes: Any) -> Recipe:
        """A copy with other values; raises ValueError for no such field."""
        for name in changes:
            if name not in _FIELDS:
                raise ValueError(
                    f"a recipe has no {name!r}; it has {', '.join(_FIELDS)}"
                )
        return dataclasses.replace(self, **changes)

    def training_data(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels, the first `examples` or all there are."""
        n = self.examples
        return dataset.x_train[:n], dataset.y_train[:n]

    def steps_per_epoch(self, dataset: Dataset) -> int:
        images, _ = self.training_data(dataset)
        return steps_per_epoch(len(images), self.batch_size)


def _are_steps(value):
    return all(type(step) is int and step > 0 for step in value) and list(
        value
    ) == sorted(set(value))


def _are_groups(value):
    return all(isinstance(how, dict) and "lam" in how for how in value.values())


# what fields must be, in words, and whether a value is
_RANGES: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    (
        "greater than 0",
        lambda x: x > 0,
        ("epochs", "batch_size", "width", "learning_rate", "examples"),
    ),
    ("0 or greater", lambda x: x >= 0, ("lam", "patience", "threshold")),
    (
        "in (0, 1], a share and not a percentage",
        lambda x: 0 < x <= 1,
        ("density",),
    ),
    (
        "in [0, 1], a share of training",
        lambda x: 0 <= x <= 1,
        ("ramp", "freeze"),
    ),
    ("in [0, 1)", lambda x: 0 <= x < 1, ("momentum", "warmup")),
    ("in (0, 1)", lambda x: 0 < x < 1, ("decay",)),
    ("numbers of steps, the smaller first", _are_steps, ("probe_steps",)),
    (
        "for each expression a dict with `lam` in it",
        _are_groups,
        ("groups",),
    ),
)


def _with_tuples(value):
    if isinstance(value, (list, tuple)):
        return tuple(map(_with_tuples, value))
    if isinstance(value, dict):
        return {k: _with_tuples(v) for k, v in value.items()}
    return value


def _fits(value, hint):
    """Whether a value is of a field's type, as far as its class goes."""
    union = isinstance(hint, types.UnionType)
    hints = typing.get_args(hint) if union else (hint,)
    kinds = {typing.get_origin(h) or h for h in hints}
    # a whole number will do, but True is none
    return type(value) in (kinds | {int} if float in kinds else kinds)


_HINTS = typing.get_type_hints(Recipe)
_FIELDS = tuple(_HINTS)


def differing(stored: dict[str, Any], declared: dict[str, Any]) -> list[str]:
    """In which entries a result file is not what is declared, in words."""
    return [
        f"{name} is {was}, not {now}"
        for name in dict.fromkeys((*declared, *stored))
        # the text, as the order of a start's expressions counts; it has no
        # tuples
        if (was := json.dumps(stored.get(name)))
        != (now := json.dumps(declared.get(name)))
    ]


def parse_change(text: str) -> tuple[str, Any]:
    """`name=value` from a command line, as a field of `Recipe`.

    Raises:
        ValueError: If there is no such field or the value is of another kind.
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or name not in _FIELDS:
        raise ValueError(
            f"{text!r} is not NAME=VALUE with a NAME of {', '.join(_FIELDS)}"
        )
    try:
        parsed = ast.literal_eval(value.strip())
    except (SyntaxError, ValueError):
        parsed = value.strip()  # a bare word is a string
    return name, parsed


# of the fields that have any; the others are in every result file
_DEFAULTS = dataclasses.asdict(Recipe("", "mlp", "mnist", "SGD", 1.0))
