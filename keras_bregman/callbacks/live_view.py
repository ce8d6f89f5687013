"""What each layer has left, in the terminal, while `fit` runs."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

import keras
import numpy as np

from keras_bregman import sparsity
from keras_bregman._checks import check, check_choice
from keras_bregman._scalars import to_float
from keras_bregman._wrappers import regularized

_WIDTH = 24


class LiveView(keras.callbacks.Callback):
    """Shows the density of every kernel as bars, and redraws them in place.

        epoch 7/20  loss 0.1184  val_accuracy 0.9712  density 5.02 %
        dense1/kernel  ██░░░░░░░░░░░░░░░░░░  3.91 %  12/300 dead  lambda 0.3

    On a terminal each epoch replaces the last; in a file or a notebook, or for
    a model with more kernels than the terminal has lines, each epoch is one
    line. Give `fit` `verbose=0` beside it.

    Args:
        file: Text stream to write to, by default standard output.
        of: What is counted: `"kernels"`, or `"regularized"`, the variables
            that the model's optimizers regularize, kernels or not.

    Raises:
        ValueError: For an argument out of range; when training begins, if the
            model has no kernel that can be counted.
    """

    def __init__(self, *, file: TextIO | None = None, of: str = "kernels"):
        super().__init__()
        good = all(hasattr(file, name) for name in ("write", "isatty", "flush"))
        good |= file is None
        check("file", file, good, "a text stream")
        self.file = file
        self.of = check_choice("of", of, sparsity.OF)
        self._drawn = 0

    def on_train_begin(self, logs=None):
        sparsity.check_countable(self.model, self.of)
        self._drawn = 0

    def on_epoch_end(self, epoch, logs=None):
        file = sys.stdout if self.file is None else self.file
        head = f"epoch {epoch + 1}"
        # in a loop of one's own there may be no number of all
        if epochs := (self.params or {}).get("epochs"):
            head += f"/{epochs}"
        for name, value in (logs or {}).items():
            if "/" not in name and name != "density":
                # of a figure for each class, as Keras' progress bar does
                head += f"  {name} {np.mean(value):.4g}"
        try:
            counts = sparsity.count(self.model, self.of)
        except FloatingPointError:  # said by others, who can do something
            file.write(f"{head}  weights are NaN\n")
            self._drawn = 0  # what stands above that line is left
            return
        lines = [f"{head}  density {sparsity.total(counts).density:.2%}"]
        room = shutil.get_terminal_size()
        # what is taller than the terminal cannot be replaced
        if file.isatty() and len(counts) + 2 < room.lines:
            lines += self._bars(counts, _blocks(file))
            # nor can a line that wraps
            lines = [line[: room.columns - 1] for line in lines]
            if self._drawn:  # up to the first of the lines, and clear
                file.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = len(lines)
        file.write("\n".join(lines) + "\n")
        file.flush()

    def _bars(self, counts, blocks):
        lambdas = {e.name: to_float(e.lam) for e in regularized(self.model)}
        width = max(len(c.name) for c in counts)
        for c in counts:
            # a kernel with anything left shows something
            full = -(-c.nonzero * _WIDTH // max(1, c.size))
            bar = blocks[0] * full + blocks[1] * (_WIDTH - full)
            line = f"{c.name:{width}}  {bar} {c.density:8.2%}"
            line += f"  {c.dead_units}/{c.units} dead"
            if c.name in lambdas:
                line += f"  lambda {lambdas[c.name]:.3g}"
            yield line


def _blocks(file):
    try:
        "█░".encode(getattr(file, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return "#."
    return "█░"
