"""The trials by which every method is tuned, and parts of AdaBreg."""

from __future__ import annotations

from typing import Any

from experiments.catalog import comparison, methods
from experiments.catalog.curves import (
    CONVNET_DENSE,
    LENET,
    LENET_FIRST,
    VGG16_DENSE,
)
from experiments.catalog.experiment import QUARTER_CURVE, Experiment
from experiments.recipes import Recipe


def ablation(base: Recipe, layers: dict[str, int]) -> tuple[Recipe, ...]:
    """AdaBreg at a density with one part changed at a time.

    Args:
        base: AdaBreg asked for a density.
        layers: Fan-in by regular expression on the kernels' paths.
    """
    by_fan_in = {path: 1 / n**0.5 for path, n in layers.items()}
    changes: dict[str, dict[str, Any]] = {
        "as it is": {},
        "epsilon 1e-6": {"options": {"epsilon": 1e-6}},
        "epsilon 1e-4": {"options": {"epsilon": 1e-4}},
        "epsilon 1e-2": {"options": {"epsilon": 1e-2}},
        "weight decay 0.01": {"options": {"weight_decay": 0.01}},
        "weight decay 0.1": {"options": {"weight_decay": 0.1}},
        "coupled decay 1e-5": {"options": {"coupled_decay": 1e-5}},
        "coupled decay 1e-4": {"options": {"coupled_decay": 1e-4}},
        "leak 1e-4": {"options": {"leak": 1e-4}},
        "leak 1e-3": {"options": {"leak": 1e-3}},
        "cycle of 10": {"options": {"cycle": 10}},
        "cycle of 100": {"options": {"cycle": 100}},
        "strength by fan-in": {"options": {"regularizer": by_fan_in}},
        "uniform": {"steering": {"distribution": "uniform"}},
        "Erdos-Renyi": {"steering": {"distribution": "erdos-renyi"}},
        "by feedback": {"steering": {"method": "feedback"}},
        "hard thresholds": {"steering": {"threshold": "hard"}},
        "lambda 0.1": {"lam": 0.1},
        "lambda 0.01": {"lam": 0.01},
        "warm-up": {"warmup": 0.05},
        "plateau": {"schedule": "plateau", "threshold": 0.05},
        "no ramp": {"ramp": 0.0},
        "short ramp": {"ramp": base.ramp / 2},
        "no frozen phase": {"freeze": 0.0},
        "start 10 %": {"start": 0.1},
        "start 1 %": {"start": 0.01},
        "start 10 %, balanced": {"start": 0.1, "start_method": "balanced"},
        "start 1 %, balanced": {"start": 0.01, "start_method": "balanced"},
        "scale of start halved": {"start_scale": 0.5},
        "delta 0.3": {"options": {"delta": 0.3}},
        "delta 3": {"options": {"delta": 3.0}},
        "LinBreg": {"optimizer": "LinBreg", "learning_rate": 0.1},
        "LinBreg momentum": {
            "optimizer": "LinBreg",
            "learning_rate": 0.1,
            "momentum": 0.9,
        },
    }
    return tuple(
        base.changed(label=label, **change) for label, change in changes.items()
    )


_CUT = (
    "STR's N_total and train are those before its cut, its validation is that "
    "of the network behind it."
)

EXPERIMENTS = (
    Experiment(
        "ablation-lenet",
        "LeNet-300-100 at 2 %: what each part of AdaBreg is worth",
        "ablation-lenet300",
        ablation(
            LENET_FIRST[0].at(LENET.changed(epochs=20), methods.SEARCHED_AT),
            {
                "dense1/kernel": 784,
                "dense2/kernel": 300,
                "logits/kernel": 100,
            },
        ),
        (0, 1, 2),
        {"epochs": 5},
        kind="trials",
    ),
    Experiment(
        "search-lenet",
        "LeNet-300-100 at 2 %: every method's trials",
        "search-lenet300",
        comparison.trials(LENET, methods.LENET_METHODS, methods.SEARCHED_AT),
        (0,),
        {"epochs": 5},
        kind="trials",
        note=_CUT,
    ),
    Experiment(
        "search-lenet-5",
        "LeNet-300-100 at 5 %: further trials of every method",
        "search-lenet300-5",
        comparison.trials(
            LENET,
            methods.LENET_METHODS_AGAIN,
            methods.SEARCHED_AGAIN_AT,
        ),
        (0, 1, 2),
        {"epochs": 5},
        kind="trials",
        note=_CUT,
    ),
    *(
        Experiment(
            name,
            f"ConvNet at {100 * density:g} %: the trials of four methods",
            name,
            comparison.trials(
                CONVNET_DENSE.changed(epochs=30),
                methods.CONVNET_METHODS,
                density,
            ),
            (0,),
            {"width": 0.25, "epochs": 5},
            kind="trials",
        )
        for name, density in (
            ("search-convnet", 0.023),
            ("search-convnet-10", 0.1),
        )
    ),
    Experiment(
        "search-vgg16",
        "VGG-16 at 10 %: the trials of four methods",
        "search-vgg16",
        comparison.trials(
            VGG16_DENSE.changed(epochs=30), methods.CIFAR_METHODS, 0.1
        ),
        (0,),
        QUARTER_CURVE,
        kind="trials",
    ),
)
