"""Networks to be made smaller: units, filters and channels that die."""

from __future__ import annotations

from typing import Any

from experiments.catalog import methods
from experiments.catalog.curves import CONVNET_DENSE, RESNET18_CURVE
from experiments.catalog.experiment import FLOAT32, QUARTER, Experiment
from experiments.recipes import Recipe

# Whole filters and units become 0, but no logit: each class needs its own.
# The strength is small beside the weights, since it slows changes of direction
# within a group.
_UNITS: dict[str, Any] = {
    "groups": {
        "(conv|stem|block|dense).*kernel": {
            "lam": 1.0,
            "groups": "unit",
            "alpha": 0.0,
        },
        "kernel": {"lam": 1.0, "alpha": 1.0},
    },
    "optimizer": "AdaBreg",
    "learning_rate": 3e-3,
    "lam": 1e-3,
    "ramp": 0.3,
    "freeze": 0.5,
    "steering": {"distribution": "uniform"},
}

# For channels of CIFAR's networks, which batch normalization follows.
_CHANNELS: dict[str, Any] = {
    "steering": {"distribution": "uniform", "threshold": "hard"}
}
# Of which each that becomes 0 takes a channel with it; in float32, for CPUs.
_SCALES: dict[str, Any] = {
    **FLOAT32,
    "groups": {"gamma": {"lam": 1.0}},
    "steering": {**_CHANNELS["steering"], "of": "regularized"},
}
_SINGLES = {
    "label": "AdaBreg, 10 % of weights",
    "density": 0.1,
    "lam": 1.0,
    "learning_rate": 3e-3,
}
# In 10 epochs there is time to choose the units, not to change one's mind.
_CHOOSE_EARLY: dict[str, Any] = {"ramp": 0.2, "freeze": 0.8}
# Channels go later, while those that stay learn by the step of the dense twin:
# its tau of 0.1 is 1.0 where momentum takes nine tenths of it.
_IN_SHORT: dict[str, Any] = {
    "learning_rate": 1.0,
    "momentum": 0.9,
    "ramp": 0.6,
    "freeze": 0.3,
}
_CIFAR_DENSE = RESNET18_CURVE[0].changed(label="Adam")
_VGG16_DENSE = _CIFAR_DENSE.changed(model="vgg16", epochs=50)


def _compact(
    base: Recipe,
    units: tuple[float, ...],
    widths: tuple[float, ...],
    singles: dict[str, Any],
    rates: tuple[float, ...] = (),
    **changes: Any,
) -> tuple[Recipe, ...]:
    """A dense network, narrower ones, and sparse ones to be compacted.

    Args:
        base: The dense one.
        units: Densities at which whole units are left.
        widths: Of narrower dense ones, as shares of its own.
        singles: Changes for one of which single weights are left.
        rates: Further learning rates for the dense ones.
        **changes: To those of which units are left.
    """
    narrow = [
        base.changed(label=f"Adam, width {w:g}", width=w * base.width)
        for w in widths
    ]
    faster = (
        dense.changed(label=f"{dense.label}, tau {rate:g}", learning_rate=rate)
        for rate in rates
        for dense in (base, *narrow)
    )
    whole = (
        base.changed(
            label=f"AdaBreg, {100 * d:g} % of units",
            density=d,
            **{**_UNITS, **changes},
        )
        for d in units
    )
    single = base.changed(optimizer="AdaBreg", **singles)
    return (base, *narrow, *faster, *whole, single)


def _compact_by_linbreg(
    base: Recipe,
    density: float,
    scales: dict[str, Any],
    **changes: Any,
) -> tuple[Recipe, ...]:
    """With the decay that CIFAR-10 asks for, and so its dense twin.

    By groups of weights, whose gradients batch normalization blows up where
    they are 0, and by its scales, to which that does not happen.

    Args:
        base: The dense one.
        density: Of units and of channels.
        scales: Changes to the one by scales.
        **changes: To both.
    """
    return (
        base.changed(label="SGD", learning_rate=0.1, **methods.DECAYED_SGD),
        *(
            methods.CIFAR_LINBREG.at(base, density).changed(
                label=f"LinBreg, {100 * density:g} % of {what}",
                lam=_UNITS["lam"],
                **{**_CHANNELS, **changes, **further},
            )
            for what, further in (
                ("units", {"groups": _UNITS["groups"]}),
                ("channels", {**_SCALES, **scales}),
            )
        ),
    )


EXPERIMENTS = (
    Experiment(
        "compact-convnet",
        "ConvNet on Fashion-MNIST, to be compacted",
        "compact-convnet",
        _compact(
            CONVNET_DENSE.changed(label="Adam", epochs=40),
            (0.5, 0.35, 0.25),
            (0.5, 0.35, 0.25),
            {
                "label": "AdaBreg, 2.3 % of weights",
                "density": 0.023,
                "lam": 1.0,
            },
        ),
        (0,),
        {"epochs": 2},
    ),
    *(
        Experiment(
            f"compact-{model}",
            f"{title}, width 1/4, on CIFAR-10, to be compacted",
            f"compact-{model}",
            (
                *_compact(
                    _CIFAR_DENSE.changed(model=model, **QUARTER),
                    units,
                    units,
                    _SINGLES,
                    # in 10 epochs dense networks, too, learn more at the
                    # rate of the sparse ones
                    rates=(3e-3,),
                    **_CHOOSE_EARLY,
                    **_CHANNELS,
                ),
                *_compact_by_linbreg(
                    _CIFAR_DENSE.changed(model=model, **QUARTER),
                    0.45,
                    _IN_SHORT,
                    **_CHOOSE_EARLY,
                ),
            ),
            (0,),
            {"epochs": 2},
        )
        for model, title, units in (
            ("vgg16", "VGG-16", (0.7, 0.5)),
            ("resnet18", "ResNet-18", (0.5,)),
        )
    ),
    Experiment(
        "compact-vgg16-full",
        "VGG-16, full width, on CIFAR-10, to be compacted",
        "compact-vgg16-full",
        (
            *_compact(_VGG16_DENSE, (0.45,), (0.5,), _SINGLES, **_CHANNELS),
            *_compact_by_linbreg(_VGG16_DENSE, 0.45, {}, freeze=0.5),
        ),
        (0,),
        {"width": 0.25, "epochs": 2},
    ),
)
