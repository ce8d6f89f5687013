"""Where unstructured zeros make a network faster on a CPU, and where not.

The same networks with random zeros at several densities, in float32 on one
core: by LiteRT, whose files hold no zeros; and a dense layer in TensorFlow as
a sparse matrix, and condensed: each unit gathers the inputs whose weights are
not 0 and no others.

Reference: condensed layers are those of Lasby, Golubeva, Evci, Nica, Ioannou,
"Dynamic Sparse Training with Structured Sparsity", ICLR 2024.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_bregman as kb
from experiments.benchmarks import inference
from experiments.benchmarks.inference import Call
from keras_bregman.kernels import kernels

DENSITIES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)


def measure(repeats: int) -> list[dict[str, Any]]:
    """Times networks with ever fewer weights.

    Returns:
        One dict for each network, way and density: `network`, `way`,
        `density`, `milliseconds` of a call with one example, `faster`, how
        many times as fast as the dense network in LiteRT or TensorFlow, and
        for LiteRT the file's `bytes`.
    """
    subjects = [
        inference.Subject(name, f"{density:g}", model, _inputs(model), {})
        for name, make in (
            ("1x1 convolutions", mobile),
            ("3x3 convolutions", plain),
            ("dense layers", perceptron),
        )
        for density, model in _sparsified(make)
    ]
    litert = tuple(f for f in inference.FORMATS if f.title == "LiteRT")
    rows = [
        {
            "network": row["network"],
            "way": "LiteRT",
            "density": float(row["variant"]),
            "milliseconds": row["milliseconds"],
            "faster": row["faster_1"],
            "bytes": row["bytes"],
        }
        for row in inference.measure(subjects, repeats, litert)
    ]
    return rows + _dense_layers(repeats)


def mobile() -> keras.Model:
    """Depthwise separable blocks, as in MobileNet.

    At 113x113 a stride of 2 pads both sides alike, which XNNPACK, by which
    LiteRT computes, asks for before it takes its sparse kernels.
    """
    inputs = keras.Input((113, 113, 3))
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(
        inputs
    )
    for filters, strides in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        x = layers.DepthwiseConv2D(
            3, strides=strides, padding="same", activation="relu"
        )(x)
        x = layers.Conv2D(filters, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def plain() -> keras.Model:
    """3x3 convolutions, as in VGG."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (64, 128, 128):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def perceptron() -> keras.Model:
    """Dense layers, 784-1024-1024-10."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(1024, "relu"),
            layers.Dense(1024, "relu"),
            layers.Dense(10),
        ]
    )


def _sparsified(make):
    for density in DENSITIES:
        model = make()
        # what trained networks leave full: the last layer, those that see one
        # or three channels
        inner = {
            kernel.path: density
            for kernel in kernels(model)[:-1]
            if len(kernel.layout.shape) == 2 or kernel.layout.shape[-2] > 3
            if "depthwise" not in kernel.path
        }
        kb.sparsify(model, {**inner, "": 1.0}, seed=0)
        yield density, model


def _inputs(model):
    shape = (64, *model.inputs[0].shape[1:])
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def _dense_layers(repeats):
    """One dense layer, 1024 to 1024, in TensorFlow."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    x = tf.constant(generator.normal(size=(1, 1024)).astype("float32"))
    calls: list[dict[int, Call]] = []
    labels = []
    for density in DENSITIES:
        kernel = generator.normal(size=(1024, 1024)).astype("float32")
        kernel *= generator.random(kernel.shape) < density
        for way, multiply in (
            ("TensorFlow", _whole(kernel)),
            ("TensorFlow, sparse matrix", _as_sparse(kernel)),
            ("TensorFlow, condensed", _condensed(kernel)),
        ):
            function = tf.function(multiply, autograph=False)
            calls.append({1: functools.partial(function, x)})
            labels.append((way, density))
    seconds = inference.fastest(calls, repeats)
    dense = seconds[0][1]
    return [
        {
            "network": "a dense layer",
            "way": way,
            "density": density,
            "milliseconds": 1000 * took[1],
            "faster": dense / took[1],
        }
        for (way, density), took in zip(labels, seconds, strict=True)
    ]


def _whole(kernel):
    import tensorflow as tf

    weights = tf.constant(kernel)
    return lambda x: tf.matmul(x, weights)


def _as_sparse(kernel):
    import tensorflow as tf

    transposed = tf.sparse.from_dense(kernel.T)
    return lambda x: tf.transpose(
        tf.sparse.sparse_dense_matmul(transposed, x, adjoint_b=True)
    )


def _condensed(kernel):
    """Every unit's non-zeros, filled up to those of the largest."""
    import tensorflow as tf

    most = int(np.count_nonzero(kernel, axis=0).max())
    indices = np.argsort(kernel == 0, axis=0, kind="stable")[:most]
    values = tf.constant(np.take_along_axis(kernel, indices, axis=0))
    where = tf.constant(indices.astype("int32"))
    return lambda x: tf.reduce_sum(tf.gather(x, where, axis=1) * values, axis=1)
