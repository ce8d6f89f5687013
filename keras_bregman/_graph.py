"""The graph of layers that a functional or Sequential model is."""

from __future__ import annotations

import keras


def is_graph(model) -> bool:
    """Whether a model is built, and does what its graph of layers says."""
    if not isinstance(model, keras.Model) or not model.built:
        return False
    own = not type(model).call.__module__.startswith("keras.")
    return not own and hasattr(graph_of(model), "_nodes_by_depth")


def graph_of(model):
    """The functional model that holds the graph of a Sequential one."""
    return getattr(model, "_functional", model)


def structure(model: keras.Model):
    """How a functional or Sequential model's inputs are nested."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input


def nodes_of(graph):
    """Every call of a layer in a functional model, from the inputs on."""
    return [
        node
        for depth in sorted(graph._nodes_by_depth, reverse=True)
        for node in graph._nodes_by_depth[depth]
    ]


def layers_of(model, prefix=""):
    """All layers that are no models and their calls, by their path."""
    found: dict[str, tuple[keras.layers.Layer, list]] = {}
    for node in nodes_of(graph_of(model)):
        layer = node.operation
        if not isinstance(layer, keras.layers.Layer):
            continue
        if is_graph(layer):
            inner = layers_of(layer, f"{prefix}{layer.name}/")
            for path, (part, calls) in inner.items():  # once for every call
                found.setdefault(path, (part, []))[1].extend(calls)
        else:
            found.setdefault(prefix + layer.name, (layer, []))[1].append(node)
    return found
