"""Exports a SavedModel and checks it in a process of its own."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np


def export(model: keras.Model, path: pathlib.Path) -> None:
    """Writes a model for inference to the folder `path`, anew if it exists."""
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.export(path, format="tf_saved_model", verbose=False)


def check_in_fresh_process(
    model: keras.Model,
    path: pathlib.Path,
    inputs: np.ndarray,
    tolerance: float = 1e-5,
) -> float:
    """Compares a SavedModel's predictions with the model's own.

    The other process imports TensorFlow alone: what was exported needs neither
    Keras nor this package.

    Args:
        model: The model that was exported.
        path: The SavedModel's folder.
        inputs: A batch of images, as the model takes them.
        tolerance: Largest absolute difference let pass.

    Returns:
        The largest absolute difference.

    Raises:
        RuntimeError: If the other process fails or predicts otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = pathlib.Path(folder) / "inputs.npy"
        answer = pathlib.Path(folder) / "outputs.npy"
        np.save(given, inputs)
        done = subprocess.run(
            [sys.executable, __file__, str(path), str(given), str(answer)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(
                f"The SavedModel at {path} does not load in a fresh process:\n"
                f"{done.stderr}"
            )
        theirs = np.load(answer)
    ours = keras.ops.convert_to_numpy(model(inputs, training=False))
    difference = float(np.abs(ours - theirs).max())
    if not difference <= tolerance:
        raise RuntimeError(
            f"The SavedModel at {path} predicts otherwise than the model it "
            f"came from: largest difference {difference}"
        )
    return difference


def _predict(path: str, inputs: str, outputs: str) -> None:
    import tensorflow as tf

    served = tf.saved_model.load(path)
    np.save(outputs, served.serve(tf.constant(np.load(inputs))).numpy())


if __name__ == "__main__":
    _predict(*sys.argv[1:])
