"""A smaller model with the same outputs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, overload

import keras
import numpy as np

from keras_bregman._checks import check_flag, check_integer
from keras_bregman._comparing import as_inputs, difference, random_inputs
from keras_bregman._finite import first_not_finite
from keras_bregman._graph import check_graph, is_graph, layers_of
from keras_bregman._keras import graph_of, nodes_of, producer, sublayers
from keras_bregman._state import remembered, restored
from keras_bregman.compaction.channels import Channels, Classes
from keras_bregman.compaction.kinds import piece_of
from keras_bregman.compaction.piece import (
    Piece,
    TracedCall,
    is_layer,
    pinned,
)
from keras_bregman.compaction.remaking import (
    check_apart,
    check_tied,
    keep_frozen,
    rebuild_tied,
)
from keras_bregman.compaction.report import CompactionReport, Row, Size

_DRAWS = 3  # of weights that are rounded otherwise


@overload
def compact(
    model: keras.Model,
    *,
    return_report: Literal[False] = False,
    samples: Any = None,
    multiple_of: int = 1,
) -> keras.Model: ...


@overload
def compact(
    model: keras.Model,
    *,
    return_report: Literal[True],
    samples: Any = None,
    multiple_of: int = 1,
) -> tuple[keras.Model, CompactionReport]: ...


def compact(
    model: keras.Model,
    *,
    return_report: bool = False,
    samples: Any = None,
    multiple_of: int = 1,
) -> keras.Model | tuple[keras.Model, CompactionReport]:
    """A new model without the units, filters and channels that are dead.

    A unit is dead if nothing of the input reaches it, all of its weights being
    0, or if nothing reads it. What it says all the same, a constant made of
    biases, is added to the bias of the layers that read it; where a padded
    convolution does, whose border no bias can stand for, one constant channel
    stays in the place of all. A channel of several tensors that are added
    leaves only if it is dead in each.

    Known are dense, convolution (also grouped, depthwise, separable and
    transposed), embedding, pooling, padding, batch normalization, elementwise,
    joining and reshaping layers, the heads of `MultiHeadAttention`, and
    elementwise operations of `keras.ops`. Any other layer is left whole, with
    all channels that it reads and writes, as are layers with weights in common
    (a tied output). A lambda within a wrapper cannot be made a second time, and
    is refused. Models within the model are compacted each on its own; a layer
    that two of them share is not shared in the new one.

    Args:
        model: A built functional or `Sequential` model. It is not changed, and
            shares no variable with the new one.
        return_report: Whether to return what was done as well.
        samples: Inputs to compare the two models on, an array or arrays in the
            structure of the model's inputs. By default random ones.
        multiple_of: Keeps some dead channels where it takes them to make a
            number of channels that this divides, an integer of 1 or greater.
            Several runtimes work on blocks of 8 or 16 channels, and ONNX
            Runtime leaves its fastest convolutions where a number is no
            multiple of a block.

    Returns:
        A functional or Sequential model, with the same names of layers and the
        same of them frozen, not compiled. With `return_report=True` a tuple of
        it and a `CompactionReport`.

    Raises:
        ValueError: If `model` is not a built functional or Sequential model,
            `samples` do not fit it, `multiple_of` is out of range, a layer
            cannot be made from its `get_config`, or the model takes other
            inputs than random ones and `samples` are not given.
        FloatingPointError: If a weight of the model is NaN or infinite.
        RuntimeError: If the outputs of the two in inference mode differ by
            more than 1e-5, relative to the largest or to 1; on a GPU, which
            multiplies in less precision, or in lower precision, by a few
            roundings; and by more than four times what it makes to round the
            weights otherwise, which may be more in a deep network. A model
            that answers otherwise every time is not compared.
    """
    check_graph(model)
    return_report = check_flag("return_report", return_report)
    multiple_of = check_integer("multiple_of", multiple_of, 1)
    if samples is not None:
        samples = as_inputs(model, samples)
    _check_finite(model)
    small, notes = _compacted(model, multiple_of)
    keep_frozen(model, small)
    _check_same(model, small, samples)
    if not return_report:
        return small
    return small, CompactionReport(_rows(model, small, notes))


def _compacted(model, multiple):
    """A compacted copy, and by path each layer's kind and what is noted."""
    graph = graph_of(model)
    tied = _tied(graph)
    pieces = _trace(graph, multiple, tied)
    notes = {}
    made = dict(zip(tied, rebuild_tied(list(tied.values())), strict=True))
    for key, piece in pieces.items():
        layer = piece.layer
        if isinstance(layer, keras.layers.InputLayer):
            made[key] = _input_like(layer)
        elif is_graph(layer):
            made[key], inner = _compacted(layer, multiple)
            notes.update({f"{layer.name}/{k}": v for k, v in inner.items()})
        else:
            # of the operations, masks' among them, only what matters
            if is_layer(layer) or piece.holds:
                notes[layer.name] = type(layer).__name__, piece.note
            if key not in tied:
                made[key] = piece.rebuild()
    if isinstance(model, keras.Sequential):
        # not the graph's: it may hold operations on masks
        (first,) = model.inputs
        layers = [producer(first), *model.layers]
        small = keras.Sequential(
            [made[id(layer)] for layer in layers], name=model.name
        )
    else:
        small = _rebuilt(model, made)
    for key, piece in pieces.items():
        if not is_graph(piece.layer):
            piece.fill(made[key])
    check_apart(model, small)
    check_tied(tied.values(), [made[key] for key in tied])
    if any(piece.changes_groups for piece in pieces.values()):
        return _compacted(small, multiple)
    return small, notes


def _tied(graph):
    """By `id`, the layers with weights that others have as well.

    Not the models among them: each of these is compacted on its own.
    """
    layers = {
        id(node.operation): node.operation
        for node in nodes_of(graph)
        if is_layer(node.operation) and not is_graph(node.operation)
    }
    owners = Counter(id(w) for x in layers.values() for w in x.weights)
    return {
        key: layer
        for key, layer in layers.items()
        if any(owners[id(weight)] > 1 for weight in layer.weights)
    }


def _rebuilt(model, made):
    """The graph of a functional model, of the layers that were made."""
    tensors: dict[int, Any] = {}
    for node in nodes_of(model):
        new = made[id(node.operation)]
        if not node.is_input:
            args, kwargs = node.arguments.fill_in(tensors)
            new = keras.tree.flatten(new(*args, **kwargs))
        else:
            new = [new]
        for old, tensor in zip(node.output_tensors, new, strict=True):
            tensors[id(old)] = tensor
    inputs, outputs = (
        keras.tree.map_structure(lambda tensor: tensors[id(tensor)], ends)
        for ends in (model.input, model.output)
    )
    return keras.Model(inputs, outputs, name=model.name)


def _input_like(layer):
    return keras.Input(
        batch_shape=layer.batch_shape,
        dtype=layer.dtype,
        sparse=layer.sparse,
        name=layer.name,
        optional=layer.optional,
    )


def _trace(graph, multiple, tied):
    """The piece of every layer, when it is settled what stays of it."""
    classes = Classes()
    channels: dict[int, Channels | None] = {
        id(tensor): pinned(tensor) for tensor in graph.inputs
    }
    nodes = nodes_of(graph)
    calls = Counter(id(node.operation) for node in nodes)
    pieces: dict[int, Piece] = {}
    for node in nodes:
        layer = node.operation
        if id(layer) not in pieces:
            shared = calls[id(layer)] > 1
            is_tied = id(layer) in tied
            pieces[id(layer)] = piece_of(layer, classes, shared, is_tied)
        if node.is_input:
            continue
        args = keras.tree.flatten(node.arguments.args)
        tensors = [a for a in args if isinstance(a, keras.KerasTensor)]
        read = {id(t) for t in tensors}
        for tensor in node.input_tensors:
            if id(tensor) not in read:  # a mask, or a name's argument
                classes.pin(channels[id(tensor)])
        inputs = [channels[id(t)] for t in tensors]
        kwargs = node.arguments.kwargs
        call = TracedCall(args, tensors, inputs, node.output_tensors, kwargs)
        outputs = pieces[id(layer)].trace(call)
        for tensor, found in zip(node.output_tensors, outputs, strict=True):
            channels[id(tensor)] = found
    for tensor in graph.outputs:
        classes.pin(channels[id(tensor)])
    counted = [c for c in channels.values() if c is not None]
    _settle(classes, list(pieces.values()), counted, multiple)
    return pieces


def _settle(classes, pieces, tensors, multiple):
    """Keeps what the outputs need, from the last layer to the first."""
    classes.settle()
    backwards = pieces[::-1]
    claims = [
        *(piece.claim_carrier for piece in backwards),
        *(lambda c=c: _keep_one(classes, c) for c in tensors),
        *(lambda c=c: _fill_up(classes, c, multiple) for c in tensors),
    ]
    claimed = True
    while claimed:
        while any([piece.claim() for piece in backwards]):
            pass
        claimed = any(claim() for claim in claims)


def _keep_one(classes, channels):
    """No tensor may be empty; a dead channel takes the least to make."""
    one = np.zeros(len(channels), bool)
    one[np.argmin(channels.live)] = not classes.kept(channels).any()
    return classes.keep(channels, one)


def _fill_up(classes, channels, multiple):
    """Keeps what it takes to a multiple; dead channels, if there are any."""
    kept = classes.kept(channels)
    order = np.argsort(kept * 2 + channels.live, kind="stable")
    more = np.zeros(len(channels), bool)
    more[order[: -int(kept.sum()) % multiple]] = True
    return classes.keep(channels, more)


def _check_finite(model):
    weight = first_not_finite(model.weights)
    if weight is not None:
        raise FloatingPointError(
            f"'{weight.path}' holds NaN or infinite weights: 0 times such a "
            "weight is not 0, and nothing that reads it is dead. Load finite "
            "weights first."
        )


def _check_same(model, small, samples):
    """Compares the outputs on samples or random inputs."""
    given = random_inputs(model) if samples is None else samples
    try:
        before, again = (_outputs(model, given) for _ in range(2))
    except Exception as error:
        if samples is not None:
            raise
        raise ValueError(
            f"'{model.name}' does not take random inputs, on which compact "
            "compares it with the smaller model. Pass some of its own as "
            f"`samples`. ({error})"
        ) from error
    if not difference(before, again) <= _tolerance(model):  # it draws lots
        return
    found = difference(before, _outputs(small, given))
    if not (
        found <= _tolerance(model)
        or found <= 4 * _of_rounding(model, given, before)
    ):
        raise RuntimeError(
            f"compact made a model of '{model.name}' whose outputs differ by "
            f"{found:.1e} of the largest. This is an error in keras_bregman; "
            "please report it with the model's `summary()`."
        )


def _of_rounding(model, given, before):
    """By how much the outputs differ when float32 weights round otherwise.

    Deep networks with channels of next to no variance, which batch
    normalization divides by, blow up a last digit to more than the tolerance.
    """
    generator = np.random.default_rng(0)
    weights = [
        v
        for v in model.weights
        if keras.backend.standardize_dtype(v.dtype) == "float32"
    ]
    worst = 0.0
    with restored(weights) as kept:
        for _ in range(_DRAWS):
            for variable, value in kept:
                digits = generator.uniform(-1, 1, value.shape) * 2.0**-23
                variable.assign((value * (1 + digits)).astype("float32"))
            worst = max(worst, difference(before, _outputs(model, given)))
    return worst


def _outputs(model, given):
    """A model's outputs; what it remembers of the call is forgotten."""
    with restored(remembered(model)):
        return model(given, training=False)


def _tolerance(model):
    """1e-5, or a few roundings where layers compute in less."""
    lowest = {layer.compute_dtype for layer in sublayers(model)}
    if "bfloat16" in lowest:
        return 8 * 2.0**-8
    # a GPU rounds what it multiplies to TensorFloat-32
    return 8 * 2.0**-11 if "float16" in lowest or _has_gpu() else 1e-5


def _has_gpu():
    if keras.config.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    devices = keras.distribution.list_devices()
    return any(not device.lower().startswith("cpu") for device in devices)


def _rows(model, small, notes):
    """What every layer was and is, and what operations have left whole."""
    before, after = map(_sizes, (model, small))
    none = Size(0, 0, 0)
    return [
        Row(name, kind, before.get(name, none), after.get(name, none), note)
        for name, (kind, note) in notes.items()
    ]


def _sizes(model):
    seen: set[int] = set()  # weights of several layers count once
    return {
        name: Size.of(layer, calls, seen)
        for name, (layer, calls) in layers_of(model).items()
    }
