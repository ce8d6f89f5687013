"""What a user does first; `check_dist.py` runs it where nothing else is.

    python -I smoke.py FILE

trains on random data and writes the compacted model to FILE.
"""

import importlib.metadata
import pathlib
import sys

import keras
import numpy as np

import keras_bregman as kb

PACKAGE = pathlib.Path(kb.__file__).parent


def main(file):
    assert PACKAGE.is_relative_to(sys.prefix), f"not the installed: {PACKAGE}"
    assert importlib.metadata.version("keras-bregman") == kb.__version__
    assert (PACKAGE / "py.typed").exists()

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(256, 16)).astype("float32")
    y = x[:, :2] * x[:, 2:4]
    units = kb.regularizers.GroupLasso(1e-3, "unit")
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(32, "relu", name="hidden"),
            keras.layers.Dense(2, name="out"),
        ]
    )
    model.compile(
        kb.AdaBreg(0.003, regularizer={"hidden/kernel": units}), "mse"
    )
    # 192 of 576: all of "out", and 8 of the units that feed it
    third = kb.callbacks.TargetDensity(192 / 576, ramp=0.5)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[third])
    hidden = np.count_nonzero(model.get_layer("hidden").get_weights()[0])
    assert hidden == 8 * 16, f"{hidden} weights are on"
    outputs = model.predict(x, verbose=0)

    def same(other):
        return np.allclose(other.predict(x, verbose=0), outputs, atol=1e-5)

    saved = file.with_suffix(".keras")
    model.save(saved)
    assert same(keras.models.load_model(saved))
    small = kb.compact(model)
    assert small.get_layer("hidden").units == 8
    kb.save_sparse(small, file)
    assert same(kb.load_sparse(file))
    assert kb.density(small) == 1


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
