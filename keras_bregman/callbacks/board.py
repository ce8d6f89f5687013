"""Histograms of what a sparse training does, for TensorBoard."""

from __future__ import annotations

from typing import Any

import keras

from keras_bregman._checks import PathLike, check_integer, check_path
from keras_bregman._scalars import to_float
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
        histogram_freq: Epochs between two writings, 1 or greater.

    Raises:
        ValueError: For an argument out of range.
        OSError: When `fit` begins, if the folder cannot be made.
        ImportError: If TensorFlow is missing.
    """

    def __init__(self, log_dir: PathLike, *, histogram_freq: int = 1):
        super().__init__()
        self.log_dir = check_path("log_dir", log_dir)
        self.histogram_freq = check_integer("histogram_freq", histogram_freq, 1)
        _summary()
        self._writer: Any = None

    def on_train_begin(self, logs=None):
        folder = self.log_dir / "sparsity"
        folder.mkdir(parents=True, exist_ok=True)  # says what is in the way
        self._writer = _summary().create_file_writer(str(folder))

    def on_epoch_end(self, epoch, logs=None):
        if epoch % self.histogram_freq:
            return
        summary = _summary()
        with self._writer.as_default(step=epoch):
            for entry in regularized(self.model):
                weights = keras.ops.convert_to_numpy(entry.variable)
                on = weights[weights != 0].astype("float32")
                summary.histogram(f"weights/{entry.name}", on)
                lam = to_float(entry.lam)
                if entry.dual is not None and lam:
                    v = keras.ops.convert_to_numpy(entry.dual)
                    scaled = (v / lam).astype("float32")
                    summary.histogram(f"dual/{entry.name}", scaled)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()
        self._writer = None


def _summary():
    """TensorFlow's; not kept, since modules cannot be copied as tuners do."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "SparsityBoard writes by TensorFlow, as Keras' TensorBoard "
            "does: `pip install tensorflow`. `SparsityLogger` needs none."
        ) from error
    return tf.summary
