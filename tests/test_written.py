"""What an earlier version wrote is read, and goes on as it would have.

The files of tests/written come from

    PYTHONPATH=. KERAS_BACKEND=jax python tests/test_written.py

which is for a version that breaks with them on purpose, and says so.
"""

import pathlib

import keras
import numpy as np
import pytest
from helpers import array, assert_same_weights, mlp

import keras_bregman as kb

FOLDER = pathlib.Path(__file__).parent / "written"
OPTIMIZERS = {
    "adabreg": lambda: kb.AdaBreg(0.01, 0.05),
    "linbreg": lambda: kb.LinBreg(0.1, 0.05, momentum=0.9),
}


def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 6)), rng.normal(size=(16, 2))


def _state(model):
    return [*model.weights, *model.optimizer.variables]


def go_on(model, steps):
    for _ in range(steps):
        model.train_on_batch(*batch())


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_model_goes_on_with_its_optimizer(name):
    model = keras.models.load_model(FOLDER / f"{name}.keras")
    assert int(array(model.optimizer.iterations)) == 3
    go_on(model, 2)
    with np.load(FOLDER / f"{name}.npz") as wanted:
        # by their order, as Keras has an optimizer's
        for i, variable in enumerate(_state(model)):
            np.testing.assert_allclose(
                array(variable),
                wanted[f"arr_{i}"],
                rtol=1e-4,
                atol=1e-6,
                err_msg=variable.path,
            )
        assert len(wanted.files) == len(_state(model))


def test_sparse_weights_are_read():
    model = kb.load_sparse(FOLDER / "adabreg.kbs")
    before = keras.models.load_model(FOLDER / "adabreg.keras")
    assert_same_weights(model, before)
    assert kb.density(model) < 1


def write():
    FOLDER.mkdir(exist_ok=True)
    for name, make in OPTIMIZERS.items():
        model = mlp()
        kb.sparsify(model, 0.3, seed=0)
        model.compile(make(), "mse")
        go_on(model, 3)
        model.save(FOLDER / f"{name}.keras")
        if name == "adabreg":
            kb.save_sparse(model, FOLDER / f"{name}.kbs")
        go_on(model, 2)
        np.savez(FOLDER / f"{name}.npz", *map(array, _state(model)))


if __name__ == "__main__":
    write()
