"""Layers made a second time, and what the new ones take over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_bregman._graph import is_graph
from keras_bregman._keras import (
    ObjectSharingScope,
    SafeModeScope,
    own_weights,
    parts_of,
    seeds_of,
    sublayers,
)
from keras_bregman._paths import numbered, own_name
from keras_bregman._quantized import is_told_by_config
from keras_bregman._state import states_of


def remade(
    layer: keras.layers.Layer, get_config: Callable[[], dict[str, Any]]
) -> keras.layers.Layer:
    """A new layer of the same class, not built.

    Args:
        layer: The one it is made of.
        get_config: Gives the new one's config.

    Raises:
        ValueError: If the config does not tell all, or cannot be used.
    """
    if not is_told_by_config(layer):
        raise ValueError(
            f"Layer '{layer.name}' cannot be made a second time: it is "
            "quantized to 'float8', or parts of it are quantized or have "
            "LoRA, and its `get_config` does not say so. Compact the model "
            "first, and quantize or adapt what comes of it."
        )
    if type(layer) is keras.layers.Lambda:
        return _same_lambda(layer)
    try:
        config = get_config()
        for name, value in config.items():
            # all weights are set, and values by position no longer fit
            if name.endswith("_initializer") and _holds_array(value):
                config[name] = "zeros"
        activation = getattr(layer, "activation", None)
        is_layer = isinstance(activation, keras.layers.Layer)
        if "activation" in config and not is_layer:
            config["activation"] = activation  # it may be a lambda
        # a lambda in it is the user's own, and not from a file
        with SafeModeScope(False):
            made = type(layer).from_config(config)
    except Exception as error:
        raise _not_made(layer, error) from error
    made.name = layer.name  # a config of one's own may not tell it
    return made


def copy_weights(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Gives a built layer the weights, words and states of another."""
    new.set_weights(old.get_weights())
    parts = zip(sublayers(old), sublayers(new), strict=True)
    for theirs, ours in parts:
        if hasattr(ours, "set_vocabulary"):
            words = theirs.get_vocabulary(include_special_tokens=False)
            ours.set_vocabulary(words, *_frequencies(theirs, len(words)))
        if isinstance(ours, keras.layers.Normalization):  # once adapted
            ours.finalize_state()
        states = zip(states_of(ours), states_of(theirs), strict=True)
        draws = zip(seeds_of(ours), seeds_of(theirs), strict=True)
        for state, value in (*states, *draws):
            state.assign(value)


def rebuild_tied(layers: list[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Layers that have weights in common, made anew, as Keras' files do it."""
    parts = [part for layer in layers for part in sublayers(layer)]
    known = {type(part).__name__: type(part) for part in parts}

    def each(function, given):
        made = []
        for layer, value in zip(layers, given, strict=True):
            try:
                made.append(function(value))
            except Exception as error:
                raise _not_made(layer, error) from error
        return made

    with ObjectSharingScope():
        configs = each(keras.saving.serialize_keras_object, layers)
    with ObjectSharingScope(), SafeModeScope(False):
        return each(
            lambda c: keras.saving.deserialize_keras_object(c, known), configs
        )


def check_tied(layers, made) -> None:
    """Raises ValueError unless the new ones share what the old ones do."""
    if _count(layers) != _count(made):
        raise ValueError(
            f"Layers {[layer.name for layer in layers]} have weights in "
            "common, and made from their `get_config` each has its own. Have "
            "it give the shared layer by `keras.saving.serialize_keras_object`."
        )


def check_apart(model, small) -> None:
    """Raises ValueError for a layer whose new one has weights of the old."""
    old = {id(weight) for weight in model.weights}
    for layer in small.layers:
        if any(id(weight) in old for weight in layer.weights):
            raise ValueError(
                f"Layer '{layer.name}' cannot be made a second time: its "
                "`get_config` gives a layer within it as it is, so that the "
                "new one would share it. Have it give "
                "`keras.saving.serialize_keras_object` of that."
            )


def keep_frozen(old, new) -> None:
    """Freezes in a layer or model what is frozen in the one it came of."""
    if new.trainable != old.trainable:
        new.trainable = old.trainable
    twins = _by_name(new)
    for name, weight in _by_name(old).items():
        if not weight.trainable and name in twins:
            twins[name].trainable = False
    if is_graph(old):
        pairs = [(layer, new.get_layer(layer.name)) for layer in old.layers]
    else:
        pairs = list(zip(parts_of(old), parts_of(new), strict=True))
    for pair in pairs:
        keep_frozen(*pair)


def _by_name(layer):
    weights = own_weights(layer)
    names = numbered(own_name(weight.path) for weight in weights)
    return dict(zip(names, weights, strict=True))


def _count(layers):
    return len({id(weight) for layer in layers for weight in layer.weights})


def _not_made(layer, error):
    return ValueError(
        f"Layer '{layer.name}' cannot be made a second time: "
        f"{type(layer).__name__}.from_config(get_config()) fails. Complete "
        "its `get_config`, and register what is your own in it by "
        f"`keras.saving.register_keras_serializable`. ({error})"
    )


def _same_lambda(layer):
    """With the function itself: by its code it would lose its globals."""
    new = keras.layers.Lambda(
        layer.function,
        layer._output_shape,
        layer.mask,
        layer.arguments,
        name=layer.name,
        dtype=layer.dtype_policy,
    )
    new.trainable = layer.trainable
    return new


def _frequencies(lookup, count):
    """Inverse document frequencies of a lookup's last words, if it has any."""
    lookup = getattr(lookup, "_lookup_layer", lookup)  # TextVectorization's
    if getattr(lookup, "output_mode", None) != "tf_idf":
        return ()
    first = len(lookup.get_vocabulary()) - count  # behind the special tokens
    weights = keras.ops.convert_to_numpy(lookup.idf_weights)
    return (weights[first : first + count],)


def _holds_array(initializer):
    """Whether a config is that of a `Constant` of one value per weight."""
    config = initializer.get("config") if isinstance(initializer, dict) else {}
    if not isinstance(config, dict):  # a function's name
        return False
    return not isinstance(config.get("value", 0), (int, float))
