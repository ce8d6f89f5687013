"""Trains on one device or on two, in a process of its own.

    python parallel.py one|data|model|mirrored WEIGHTS.npz

Run by test_parallel.py, since a process settles its devices once.
"""

import contextlib
import sys

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_bregman as kb

HOW, PATH = sys.argv[1:]


def scope():
    """Where the model is made; two devices share what is trained in it."""
    distribution = keras.distribution
    if HOW == "mirrored":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
    if HOW == "data":
        devices = distribution.list_devices("cpu")
        distribution.set_distribution(
            distribution.DataParallel(devices=devices)
        )
    elif HOW == "model":
        mesh = distribution.DeviceMesh(
            (1, 2), ("batch", "model"), distribution.list_devices("cpu")
        )
        layouts = distribution.LayoutMap(mesh)
        layouts[".*dense1.*kernel"] = (None, "model")
        layouts[".*dense1.*bias"] = ("model",)
        layouts[".*dense2.*kernel"] = ("model", None)
        distribution.set_distribution(
            distribution.ModelParallel(
                layout_map=layouts, batch_dim_name="batch"
            )
        )
    return contextlib.nullcontext()


def train(make_optimizer, start, *callbacks):
    keras.utils.set_random_seed(0)
    with scope():
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(128, "relu", name="dense1"),
                keras.layers.Dense(64, "relu", name="dense2"),
                keras.layers.Dense(10, name="logits"),
            ]
        )
        kb.sparsify(model, start, seed=0)
        model.compile(
            make_optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    x, y = load_digits(return_X_y=True)
    x = (x[:1280] / 16).astype("float32")
    logger = kb.callbacks.SparsityLogger(per_layer=True)
    model.fit(
        x,
        y[:1280],
        batch_size=128,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[logger, kb.callbacks.SparsityWatch(), *callbacks],
    )
    return model.get_weights()


if HOW == "mirrored":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
units = {
    "logits/kernel": 1e-3,
    "kernel": kb.regularizers.GroupLasso(1e-3, "unit"),
}
trained = [
    train(lambda: kb.AdaBreg(0.003, regularizer=0.3), 0.1),
    train(
        lambda: kb.LinBreg(0.1, regularizer=units, momentum=0.9),
        1.0,
        kb.callbacks.TargetDensity(0.3),
        kb.callbacks.PlateauDecay(),
    ),
]
np.savez(PATH, *(weight for weights in trained for weight in weights))
