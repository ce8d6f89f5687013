"""The graph of layers that a functional or Sequential model is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_bregman._checks import check
from keras_bregman._keras import graph_of, has_nodes, nodes_of


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
        args: What it is given, tensors without values among it.
        kwargs: What it is given by name.
        output: The first tensor that comes out.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: keras.KerasTensor

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The tensors that it is given, in order."""
        given = keras.tree.flatten((self.args, self.kwargs))
        return [x for x in given if isinstance(x, keras.KerasTensor)]


def is_graph(model) -> bool:
    """Whether a model is built, and does what its graph of layers says."""
    if not isinstance(model, keras.Model) or not model.built:
        return False
    own = not type(model).call.__module__.startswith("keras.")
    return not own and has_nodes(graph_of(model))


def check_graph(model) -> None:
    """Raises ValueError unless a model is one that `is_graph` knows."""
    check(
        "model",
        model,
        is_graph(model),
        "a built functional or Sequential model, with a `keras.Input` and "
        "without a `call` of its own",
    )


def structure(model: keras.Model):
    """How a functional or Sequential model's inputs are nested."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input


def layers_of(
    model,
    prefix: str = "",
    inputs: Sequence[keras.KerasTensor] | None = None,
) -> dict[str, tuple[keras.layers.Layer, list[Call]]]:
    """All layers that are no models and their calls, by their path.

    Args:
        model: A built functional or Sequential model.
        prefix: Of the paths.
        inputs: What the model is given, if not what it was built with.
    """
    found: dict[str, tuple[keras.layers.Layer, list[Call]]] = {}
    for layer, call in _calls(graph_of(model), inputs):
        if not isinstance(layer, keras.layers.Layer):
            continue
        path = prefix + layer.name
        if is_graph(layer):
            inner = layers_of(layer, f"{path}/", _given(layer, call))
            for path, (part, calls) in inner.items():  # once for every call
                found.setdefault(path, (part, []))[1].extend(calls)
        else:
            found.setdefault(path, (layer, []))[1].append(call)
    return found


def _given(model, call):
    """What a model is given, in the order of its own inputs."""
    own = structure(model)
    given = call.args[0] if call.args else call.kwargs["inputs"]
    if isinstance(own, Mapping) and isinstance(given, Mapping):
        given = [given[key] for key in sorted(own)]
    return keras.tree.flatten(given)


def _calls(graph, inputs) -> Iterator[tuple[Any, Call]]:
    """Every operation and its call, with the shapes that inputs lead to."""
    given = {id(own): own for own in graph.inputs}
    given.update(zip(map(id, graph.inputs), inputs or (), strict=False))
    anew = any(given[id(own)].shape != own.shape for own in graph.inputs)
    for node in nodes_of(graph):
        args, kwargs = node.arguments.args, node.arguments.kwargs
        output = node.output_tensors[0]
        if anew and not node.is_input:
            args, kwargs = node.arguments.fill_in(given)
            made = node.operation.compute_output_spec(*args, **kwargs)
            made = keras.tree.flatten(made)
            given.update(zip(map(id, node.output_tensors), made, strict=True))
            output = made[0]
        yield node.operation, Call(args, kwargs, output)
