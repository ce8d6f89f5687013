"""Trains on one device, on two, or as one of several processes.

    python parallel.py one|data|model|mirrored|processes FOLDER

Run by test_parallel.py, since a process settles its devices once. Leaves its
weights, and as the first of several processes the model, in FOLDER.
"""

import contextlib
import os
import pathlib
import sys

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_bregman as kb
from experiments import parallel

HOW, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
JOINED = HOW == "processes"
RANK = int(os.environ["RANK"]) if JOINED else 0


def make_scope():
    """Where models are made; devices share what is trained in it."""
    distribution = keras.distribution
    if JOINED:
        strategy = parallel.backend().join()
        if strategy is not None:
            return strategy.scope
    elif HOW == "mirrored":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2,
        )
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
    elif HOW == "data":
        devices = distribution.list_devices("cpu")
        distribution.set_distribution(
            distribution.DataParallel(devices=devices)
        )
    elif HOW == "model":
        mesh = distribution.DeviceMesh(
            (1, 2), ("batch", "model"), distribution.list_devices("cpu")
        )
        layouts = distribution.LayoutMap(mesh)
        layouts[".*hidden.*kernel"] = (None, "model")
        layouts[".*hidden.*bias"] = ("model",)
        layouts[".*logits.*kernel"] = ("model", None)
        distribution.set_distribution(
            distribution.ModelParallel(
                layout_map=layouts, batch_dim_name="batch"
            )
        )
    return contextlib.nullcontext


class Stop(keras.callbacks.Callback):
    """As `EarlyStopping` does."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 3


def train(scope, make_optimizer, start, *callbacks, epochs=4):
    keras.utils.set_random_seed(0)
    with scope():
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(128, "relu", name="hidden"),
                keras.layers.Dense(10, name="logits"),
            ]
        )
        kb.sparsify(model, start, seed=0)
        model.compile(
            make_optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    x, y = load_digits(return_X_y=True)
    x, y = (x[:1280] / 16).astype("float32"), y[:1280]
    callbacks = [
        kb.callbacks.SparsityLogger(per_layer=True),
        kb.callbacks.SparsityWatch(),
        *callbacks,
    ]
    settings = {"batch_size": 128, "epochs": epochs, "shuffle": False}
    if JOINED:
        history = parallel.backend().fit(
            model, x, y, callbacks=callbacks, **settings
        )
    else:
        history = model.fit(x, y, verbose=0, callbacks=callbacks, **settings)
    assert history.epoch == [0, 1, 2, 3]
    return model


scope = make_scope()
units = {
    "logits/kernel": 1e-3,
    "kernel": kb.regularizers.GroupLasso(1e-3, "unit"),
}
models = [
    train(
        scope,
        lambda: kb.AdaBreg(0.003, regularizer=0.3),
        0.1,
        Stop(),
        epochs=6,
    ),
    train(
        scope,
        lambda: kb.LinBreg(0.1, regularizer=units, momentum=0.9),
        1.0,
        kb.callbacks.TargetDensity(0.3, distribution="uniform"),
        kb.callbacks.PlateauDecay(patience=0, threshold=0.5),
    ),
]
weights = [weight for model in models for weight in model.get_weights()]
np.savez(FOLDER / f"weights-{RANK}.npz", *weights)
if JOINED:
    parallel.backend().leave()
    if RANK == 0:
        models[-1].save(FOLDER / "model.keras")
        kb.save_sparse(models[-1], FOLDER / "model.kbs")
