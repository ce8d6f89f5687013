"""What `model.fit` makes of a network: examples a second, time lost waiting."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from experiments import building
from experiments.data import Dataset, noise
from experiments.recipes import Recipe
from experiments.stream import batches


class Network(NamedTuple):
    """One network to time.

    Attributes:
        title: Its name in the table.
        recipe: How Adam trains it; the others share all but the optimizer.
        steps: Steps in one measurement.
    """

    title: str
    recipe: Recipe
    steps: int


NETWORKS = (
    Network("perceptron", Recipe("", "mlp", "mnist", "Adam", 1e-3), 400),
    Network(
        "ConvNet", Recipe("", "convnet", "fashion_mnist", "Adam", 1e-3), 20
    ),
    Network(
        "ResNet-18, width 1/4",
        Recipe(
            "", "resnet18", "cifar10", "Adam", 1e-3, width=0.25, augment=True
        ),
        8,
    ),
)
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "LinBreg": {"optimizer": "LinBreg", "learning_rate": 0.1, "lam": 0.1},
    "LinBreg momentum": {
        "optimizer": "LinBreg",
        "learning_rate": 0.1,
        "lam": 0.1,
        "momentum": 0.9,
    },
    "AdaBreg": {"optimizer": "AdaBreg", "lam": 0.1},
}


def measure(
    repeats: int, networks: tuple[Network, ...] = NETWORKS
) -> list[dict[str, Any]]:
    """Times every optimizer on every network, all in turn.

    What else a machine does only ever adds to a time, and may last as long as
    several measurements: the fastest of each is compared.

    Args:
        repeats: Measurements of every optimizer.
        networks: What to train.

    Returns:
        One dict per network and optimizer: `network`, `optimizer`, examples
        per second (`rate`), its `ratio` to Adam's, and `waiting`, the share of
        the time that goes when one prepared batch is repeated. Only of
        networks `trained_here`.
    """
    return [
        row
        for network in trained_here(networks)
        for row in _measure(network, repeats)
    ]


def trained_here(networks: Sequence[Network]) -> list[Network]:
    """The networks worth timing: on JAX without a GPU the perceptron only."""
    return [
        network
        for network in networks
        if network.recipe.model == "mlp" or not _slow_convolutions()
    ]


def _slow_convolutions() -> bool:
    """JAX on a CPU: a convolution takes five times TensorFlow's time."""
    if keras.config.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


def _measure(network, repeats):
    steps, batch_size = network.steps, network.recipe.batch_size
    dataset = noise(network.recipe.data, 20 * batch_size)
    models = {
        name: building.model_of(
            network.recipe.changed(**changes), dataset, seed=0
        )
        for name, changes in OPTIMIZERS.items()
    }
    sources = {
        "stream": _stream(network, dataset),
        "same": _same(network, dataset),
    }
    times: dict[tuple[str, str], list[float]] = {}
    for repeat in range(repeats + 1):
        for (name, model), (kind, source) in itertools.product(
            models.items(), sources.items()
        ):
            # the first round compiles
            took = _fit(model, source, steps if repeat else 2)
            if repeat:
                times.setdefault((name, kind), []).append(took)
    seconds = {key: min(values) for key, values in times.items()}
    return [
        {
            "network": network.title,
            "optimizer": name,
            "rate": steps * batch_size / seconds[name, "stream"],
            "ratio": seconds["Adam", "stream"] / seconds[name, "stream"],
            "waiting": max(
                0.0, 1 - seconds[name, "same"] / seconds[name, "stream"]
            ),
        }
        for name in OPTIMIZERS
    ]


def _stream(network, dataset: Dataset):
    recipe = network.recipe
    return batches(
        dataset.x_train,
        dataset.y_train,
        recipe.batch_size,
        seed=0,
        augment=recipe.augment,
    )


def _same(network, dataset: Dataset):
    n = network.recipe.batch_size
    # a generator, as the stream is: Keras takes no other iterator
    while True:
        yield dataset.x_train[:n], dataset.y_train[:n]


def _fit(model: keras.Model, source, steps: int) -> float:
    start = time.perf_counter()
    model.fit(source, steps_per_epoch=steps, shuffle=False, verbose=0)
    return time.perf_counter() - start
