"""What each layer has left, in the terminal, while `fit` runs."""

from __future__ import annotations

import sys

import keras

from keras_bregman import sparsity
from keras_bregman._numbers import number
from keras_bregman.callbacks.wrappers import regularized

_WIDTH = 24


class LiveView(keras.callbacks.Callback):
    """Shows the density of every kernel as bars, and redraws them in place.

        epoch 7/20  loss 0.1184  val_accuracy 0.9712  density 5.02 %
        dense1/kernel  ██░░░░░░░░░░░░░░░░░░  3.91 %  12/300 dead  lambda 0.3

    On a terminal each epoch replaces the last; in a file or a notebook each
    epoch is one line. Give `fit` `verbose=0` beside it.

    Args:
        file: Text stream to write to, by default standard output.
    """

    def __init__(self, file=None):
        super().__init__()
        self.file = file
        self._drawn = 0

    def on_train_begin(self, logs=None):
        self._drawn = 0

    def on_epoch_end(self, epoch, logs=None):
        counts = sparsity.count(self.model)
        figures = {k: v for k, v in (logs or {}).items() if "/" not in k}
        figures.pop("density", None)
        head = f"epoch {epoch + 1}/{self.params['epochs']}"
        for name, value in figures.items():
            head += f"  {name} {value:.4g}"
        total = sparsity.total(counts).density
        lines = [f"{head}  density {total:.2%}"]
        file = self.file or sys.stdout
        if file.isatty():
            lines += self._bars(counts)
            if self._drawn:  # up to the first of the lines, and clear
                file.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = len(lines)
        file.write("\n".join(lines) + "\n")
        file.flush()

    def _bars(self, counts):
        lambdas = {e.name: number(e.lam) for e in regularized(self.model)}
        width = max(len(c.path) for c in counts)
        for c in counts:
            # a kernel with anything left shows something
            full = -(-c.nonzero * _WIDTH // c.size)
            bar = "█" * full + "░" * (_WIDTH - full)
            line = f"{c.path:{width}}  {bar} {c.density:8.2%}"
            line += f"  {c.dead_units}/{c.units} dead"
            if c.path in lambdas:
                line += f"  lambda {lambdas[c.path]:.3g}"
            yield line
