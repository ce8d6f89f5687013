"""What a training holds and costs, counted by hand beside."""

import keras
import numpy as np
import pytest

from experiments import footprint, models
from experiments.data import Inputs
from experiments.recipes import Recipe
from experiments.reporting import cost

pytestmark = pytest.mark.once

RECIPE = Recipe(
    "", "mlp", "digits", "AdaBreg", 1e-3, epochs=4, density=0.1, freeze=0.25
)
FLOPS = [0.8, 0.4, 0.1, 0.1]


def test_what_a_training_holds():
    model = models.lenet300(Inputs((28, 28, 1), (0.5,), (0.5,)))
    n = 784 * 300 + 300 * 100 + 100 * 10 + 410
    model.compile(keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    # two moments, the step and the learning rate
    assert footprint.floats(model) == {"weights": n, "optimizer": 2 * n + 2}


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        # the pass that makes the weights' gradients, by epoch
        ({}, [1, 1, 1, 0.1]),
        ({"freeze": 0.0}, [1, 1, 1, 1]),
        ({"method": "pruning"}, FLOPS),
        ({"method": "set"}, FLOPS),
        ({"method": "lasso"}, [1, 1, 1, FLOPS[-1]]),
        # whose gradient is 0 where the threshold is shut
        ({"method": "thresholds"}, FLOPS),
        (
            {"method": "rigl", "steering": {"every": 10}},
            [0.9 * f + 0.1 for f in FLOPS],
        ),
    ],
)
def test_the_training_of_a_method(changes, weights):
    optimizer = "SGD" if "method" in changes else "AdaBreg"
    recipe = RECIPE.changed(optimizer=optimizer, **changes)
    expected = np.mean(
        [(2 * f + w) / 3 for f, w in zip(FLOPS, weights, strict=True)]
    )
    assert cost.training(recipe, FLOPS) == pytest.approx(expected)


def test_dense_training_costs_all():
    dense = RECIPE.changed(optimizer="Adam", density=None)
    assert cost.training(dense, [0.99] * 4) == 1
