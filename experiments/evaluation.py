"""What a model is worth on a split."""

from __future__ import annotations

import keras
import numpy as np

BATCH = 500  # in which a split is evaluated


def evaluate(
    model: keras.Model, x: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    """Loss and metrics, in inference mode."""
    return model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
