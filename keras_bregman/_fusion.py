"""Makes an elementwise update cheap, each backend in its own way.

TensorFlow's plain graph, which `model.fit` uses on a CPU, runs one kernel per
operation; a step of some fifteen operations would take three times as long as
Keras' SGD. Compiled on its own by XLA it takes less time than SGD. On JAX `fit`
compiles the whole step anyway. On torch operations run one by one. Keras' part
of a call takes longer than what it does to a small variable, so that the bare
operations are recorded, and variables that move alike are joined to one vector;
what it does to a large one is slow where each result goes through main memory,
so that it comes in pieces that a processor's cache holds.
"""

from __future__ import annotations

import math
import platform
import threading
from typing import Any, NamedTuple

import keras

# entries of joined variables at most: on a CPU those whose arithmetic takes no
# longer than the calls, elsewhere few enough that copies stay small
_JOINED_ON_CPU, _JOINED = 2**16, 2**22
# of a piece, so that it and what is computed from it stay in a core's cache
_CUT = 2**17
# of one function; joined variables come in any length if gradients come and go
_RECORDINGS = 256
# torch's tracer patches its modules for all threads
_ONE_RECORDS = threading.Lock()


class Slice(NamedTuple):
    """Part of a vector: entries of a variable, counted as if it were flat.

    Attributes:
        owner: Number of the variable.
        start: Its first entry.
        stop: Behind its last entry.
    """

    owner: int
    start: int
    stop: int


def fuse(function, compiled=True):
    """`function` made cheap, where the backend gains from it.

    Args:
        function: From tensors to a tuple of tensors.
        compiled: Whether TensorFlow may compile it, which takes a second. It
            is not worth it for what nobody regularizes, biases mostly.
    """
    backend = keras.config.backend()
    if backend == "torch":
        return _recorded(function)
    if backend != "tensorflow" or not compiled:
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


def _recorded(function):
    """`function` as the operations of torch that it comes to.

    Recorded once for all tensors of the same shapes, dtypes and devices.
    """
    import torch

    recordings: dict = {}

    @torch.no_grad()
    def replay(*tensors):
        # what else looks like a tensor has its own ways
        if torch.compiler.is_compiling() or not all(map(_is_plain, tensors)):
            return function(*tensors)
        key = tuple((t.shape, t.dtype, t.device) for t in tensors)
        if key not in recordings:
            if len(recordings) == _RECORDINGS:
                return function(*tensors)
            recordings[key] = _record(function, tensors)
        return recordings[key](*tensors)

    return replay


def _record(function, tensors):
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    with _ONE_RECORDS:
        recorded = make_fx(function)(*tensors)
    _shorten(recorded.graph)
    # tensors come one by one and go in a tuple, with nothing to take apart
    recorded.graph.set_codegen(torch.fx.graph.CodeGen())
    recorded.recompile()
    return recorded.forward


def _shorten(graph):
    """Leaves passes over memory out: x times 1, and a y before x + a y."""
    import torch

    add, mul, div = (
        getattr(torch.ops.aten, name).Tensor for name in ("add", "mul", "div")
    )
    for node in graph.nodes:
        if node.target in (mul, div) and _is_factor(node.args[1], 1.0):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target is add and not node.kwargs:
            for x, product in (node.args, node.args[::-1]):
                if (
                    getattr(product, "target", None) is mul
                    and len(product.users) == 1
                    and _is_factor(product.args[1])
                ):
                    y, factor = product.args
                    node.args, node.kwargs = (x, y), {"alpha": factor}
                    graph.erase_node(product)
                    break


def _is_factor(value, only=None):
    return isinstance(value, float) and only in (None, value)


def _is_plain(tensor):
    import torch

    return type(tensor) in (torch.Tensor, torch.nn.Parameter)


def vectors(variables, kinds) -> list[list[Slice]]:
    """The vectors that variables are joined to or cut into, where that pays.

    Args:
        variables: Keras variables.
        kinds: For each a hashable; those of one kind may be joined. None for
            one that stays as it is.

    Returns:
        Of each vector its slices.
    """
    if keras.config.backend() != "torch":
        return []
    found: list[list[Slice]] = []
    latest: dict = {}  # the present vector, and what it has room for
    for index, (variable, kind) in enumerate(
        zip(variables, kinds, strict=True)
    ):
        tensor, size = variable.value, math.prod(variable.shape)
        # others, which may be spread over devices, are not for us to cut
        plain = _is_plain(tensor) and tensor.is_contiguous()
        if kind is None or not plain:
            continue
        on_cpu = tensor.device.type == "cpu"
        most = _JOINED_ON_CPU if on_cpu else _JOINED
        if size <= most:
            vector, room = latest.get((kind, tensor.device), ([], 0))
            if size > room:
                vector, room = [], most
                found.append(vector)
            vector.append(Slice(index, 0, size))
            latest[kind, tensor.device] = vector, room - size
        elif on_cpu:
            length = math.ceil(size / math.ceil(size / _CUT))
            found += (
                [Slice(index, start, min(start + length, size))]
                for start in range(0, size, length)
            )
    return found


class Part(NamedTuple):
    """What a variable brings into a joint step, tensors of torch.

    Attributes:
        weight: Its value.
        gradient: Its gradient.
        lam: Its strength, a scalar, if it is regularized.
        state: Its slots.
    """

    weight: Any
    gradient: Any
    lam: Any
    state: list[Any]


def step_jointly(update, slices, parts, scalars) -> None:
    """One step of all slices of a vector, written to weights and slots.

    Args:
        update: The step as a function of tensors, that of all their owners.
        slices: The vector.
        parts: By the number of a variable, what it brings.
        scalars: The learning rate and the number of steps.
    """
    owners = [parts[s.owner] for s in slices]
    pairs = list(zip(owners, slices, strict=True))
    weights = [_cut(owner.weight, s) for owner, s in pairs]
    gradients = [_cut(owner.gradient, s) for owner, s in pairs]
    slots = [
        [_cut(slot, s) for slot, s in zip(each, slices, strict=True)]
        for each in zip(*(owner.state for owner in owners), strict=True)
    ]
    lams = [owner.lam for owner in owners if owner.lam is not None]
    theta, *new_slots = update(
        _join(weights),
        _join(gradients),
        *scalars,
        *([_repeated(lams, slices)] if lams else []),
        *map(_join, slots),
    )
    for slot, value in zip(slots, new_slots, strict=True):
        _spread(value, slot)
    _spread(theta, weights)


def _cut(tensor, part: Slice):
    """A slice of a torch tensor: writing to it writes to the tensor."""
    flat, size = tensor.detach().view(-1), part.stop - part.start
    return flat if len(flat) == size else flat.narrow(0, part.start, size)


def _join(parts):
    """Vectors of torch as one."""
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _repeated(scalars, slices):
    """A scalar for each slice, in all its entries; one if all are alike."""
    import torch

    # whoever reads from a GPU waits for it
    is_cheap = scalars[0].device.type == "cpu"
    if len(scalars) == 1 or (
        is_cheap and len({s.item() for s in scalars}) == 1
    ):
        return scalars[0]
    return torch.cat(
        [
            scalar.expand(s.stop - s.start)
            for scalar, s in zip(scalars, slices, strict=True)
        ]
    )


def _spread(vector, parts) -> None:
    """Writes to the parts what `_join` made of them."""
    import torch

    if len(parts) == 1:
        parts[0].copy_(vector)
    else:
        sizes = [len(part) for part in parts]
        torch._foreach_copy_(parts, vector.split(sizes))
