"""What comes out of a training is the same on every backend and precision.

Steps agree in float64 (test_golden.py); after hundreds of them roundings have
grown, and what a user sees may differ within these bounds. The reference is
TensorFlow in float32.
"""

import json
import pathlib

import keras
import numpy as np
import pytest
from helpers import fed
from sklearn.datasets import load_digits

import keras_bregman as kb

# accuracy on 360 images, absolute; density under a lambda, relative
ACCURACY, DENSITY = 0.02, 0.05

REFERENCE = pathlib.Path(__file__).parent / "golden" / "agreement.json"

OPTIMIZERS = {
    "linbreg": lambda: kb.LinBreg(0.1, regularizer=0.1, momentum=0.9),
    "adabreg": lambda: kb.AdaBreg(0.003, regularizer=0.5),
}
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "float64")


def outcome(name, policy):
    """Accuracy and density of a perceptron from 5 % of its weights."""
    keras.mixed_precision.set_global_policy(policy)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, "relu", name="hidden"),
            keras.layers.Dense(10, name="logits"),
            keras.layers.Activation(
                "linear", dtype="float64" if policy == "float64" else "float32"
            ),
        ]
    )
    kb.sparsify(model, 0.05, seed=0)
    model.compile(
        OPTIMIZERS[name](),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # 1437 images in an order of numpy's, the same on every backend
    order = np.random.default_rng(0).permutation(1437)
    model.fit(**fed(x[order], y[order], 32), epochs=10, verbose=0)
    accuracy = model.evaluate(x[1437:], y[1437:], 360, verbose=0)[1]
    return {"accuracy": accuracy, "density": kb.density(model)}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_accuracy_and_density(name, policy, request):
    if policy == "float64":
        request.getfixturevalue("float64")
    found = outcome(name, policy)
    wanted = json.loads(REFERENCE.read_text())[name]
    assert abs(found["accuracy"] - wanted["accuracy"]) <= ACCURACY
    assert found["density"] == pytest.approx(wanted["density"], rel=DENSITY)


if __name__ == "__main__":  # python tests/test_agreement.py writes it
    keras.utils.set_random_seed(0)
    outcomes = {name: outcome(name, "float32") for name in OPTIMIZERS}
    REFERENCE.write_text(json.dumps(outcomes, indent=2) + "\n")
