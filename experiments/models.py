"""The networks of the paper and the report, by the functional API.

Every layer is named, so that paths are the same in every build and process.
"""

from __future__ import annotations

import keras


def mlp(
    features: int, hidden: tuple[int, ...] = (200, 80), classes: int = 10
) -> keras.Model:
    """The paper's perceptron, 784-200-80-10 on MNIST: ReLU, logits out.

    Args:
        features: Number of inputs; images come in flat.
        hidden: Widths of the hidden layers.
        classes: Number of outputs.
    """
    inputs = keras.Input((features,), name="image")
    x = inputs
    for i, width in enumerate(hidden, start=1):
        x = keras.layers.Dense(width, activation="relu", name=f"dense{i}")(x)
    outputs = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name="mlp")
