"""Histograms of what a sparse training does, for TensorBoard."""

from __future__ import annotations

import pathlib
from typing import Any

import keras

from keras_bregman._checks import check_all
from keras_bregman._numbers import number
from keras_bregman._wrappers import regularized


class SparsityBoard(keras.callbacks.Callback):
    """Writes histograms for TensorBoard; needs TensorFlow to be installed.

    | tag | histogram |
    |---|---|
    | `dual/PATH` | the dual variable over lambda; with l1, beyond 1 is on |
    | `weights/PATH` | the weights that are not 0 |

    The figures that are one number come from Keras' own callback:
    `[SparsityLogger(per_layer=True), keras.callbacks.TensorBoard(log_dir)]`.

    Args:
        log_dir: Folder to write to, that of `keras.callbacks.TensorBoard`.
        every: Epochs between two writings, 1 or greater.

    Raises:
        ValueError: For an argument out of range.
        ImportError: If TensorFlow is missing.
    """

    def __init__(self, log_dir, every: int = 1):
        super().__init__()
        check_all(("every", every, every >= 1, "1 or greater"))
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(
                "SparsityBoard writes by TensorFlow, as Keras' TensorBoard "
                "does: `pip install tensorflow`. `SparsityLogger` needs none."
            ) from error
        self._summary = tf.summary
        self.log_dir = pathlib.Path(log_dir)
        self.every = every
        self._writer: Any = None

    def on_train_begin(self, logs=None):
        folder = self.log_dir / "sparsity"
        self._writer = self._summary.create_file_writer(str(folder))

    def on_epoch_end(self, epoch, logs=None):
        if epoch % self.every:
            return
        with self._writer.as_default(step=epoch):
            for entry in regularized(self.model):
                weights = keras.ops.convert_to_numpy(entry.variable)
                on = weights[weights != 0].astype("float32")
                self._summary.histogram(f"weights/{entry.name}", on)
                lam = number(entry.lam)
                if entry.dual is not None and lam:
                    v = keras.ops.convert_to_numpy(entry.dual)
                    scaled = (v / lam).astype("float32")
                    self._summary.histogram(f"dual/{entry.name}", scaled)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()
        self._writer = None
