"""Makes an elementwise update cheap, each backend in its own way.

TensorFlow's plain graph, which `model.fit` uses on a CPU, runs one kernel per
operation; a step of some fifteen operations would take three times as long as
Keras' SGD. Compiled on its own by XLA it takes less time than SGD. On JAX `fit`
compiles the whole step anyway. On torch operations run one by one, and calling
them for each of a network's variables takes longer than what they do: there
variables that move alike are joined to one vector.
"""

from __future__ import annotations

import itertools
import math
import platform

import keras

# entries that are joined at most: on a CPU those whose arithmetic takes no
# longer than the calls, elsewhere few enough that copies stay small
_JOINED_ON_CPU, _JOINED = 2**16, 2**22


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


def bundles(variables, kinds) -> list[int]:
    """Numbers the vectors that variables are joined to, where that pays.

    Args:
        variables: Keras variables.
        kinds: For each a hashable; those of one kind may be joined. None for
            one that stays alone.

    Returns:
        For each variable the number of its vector, from 1; 0 where it stays
        alone.
    """
    if keras.config.backend() != "torch":
        return [0] * len(kinds)
    import torch

    count = itertools.count(1)
    latest: dict = {}  # the present vector's number, what it has room for
    found = []
    for variable, kind in zip(variables, kinds, strict=True):
        tensor, size = variable.value, math.prod(variable.shape)
        most = _JOINED_ON_CPU if tensor.device.type == "cpu" else _JOINED
        # others, which may be spread over devices, are not for us to cut
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
        if kind is None or size > most or not plain:
            found.append(0)
            continue
        number, room = latest.get((kind, tensor.device), (0, 0))
        if size > room:
            number, room = next(count), most
        latest[kind, tensor.device] = number, room - size
        found.append(number)
    return found


def join(tensors, dtype):
    """Torch tensors as one vector."""
    import torch
    from torch._utils import _flatten_dense_tensors

    with torch.no_grad():
        vector = _flatten_dense_tensors(tensors)
    return keras.ops.cast(vector, dtype)


def spread(vector, tensors) -> None:
    """Writes to tensors what `join` made of them."""
    import torch
    from torch._utils import _unflatten_dense_tensors

    with torch.no_grad():
        torch._foreach_copy_(tensors, _unflatten_dense_tensors(vector, tensors))
