"""Runs an elementwise update in one pass over memory where a backend can.

TensorFlow's plain graph, which `model.fit` uses on a CPU, runs one kernel per
operation; a step of some fifteen operations would take three times as long as
Keras' SGD. Compiled on its own by XLA it takes less time than SGD. On JAX `fit`
compiles the whole step anyway, and on torch operations run one by one.
"""

from __future__ import annotations

import platform

import keras


def fuse(function):
    """`function` of tensors, compiled if the backend gains from it."""
    if keras.config.backend() != "tensorflow":
        return function
    import tensorflow as tf

    # Apple's GPU plugin has no XLA
    if platform.system() == "Darwin" and tf.config.list_physical_devices("GPU"):
        return function
    return tf.function(function, jit_compile=True, autograph=False)


def densify(gradient):
    """A gradient as a dense tensor: rows of an embedding may repeat.

    Keras squares and clips repeated rows one by one, which is not the square
    or the norm of their sum.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(gradient, tf.IndexedSlices):
            return tf.convert_to_tensor(gradient)
    return gradient
