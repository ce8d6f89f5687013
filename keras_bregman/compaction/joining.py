"""Layers of several inputs."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import ClassVar

import keras
import numpy as np

from keras_bregman.compaction.channels import Channels
from keras_bregman.compaction.piece import Piece


class Join(Piece):
    """Tensors, or one and a number, entry by entry, by a function of arrays."""

    functions: ClassVar[dict[str, Callable]] = {
        "Add": sum,
        "Subtract": lambda values: values[0] - values[1],
        "Multiply": math.prod,
        "Average": lambda values: sum(values) / len(values),
        "Maximum": lambda values: np.max(values, 0),
        "Minimum": lambda values: np.min(values, 0),
    }

    def trace(self, call):
        known = keras.KerasTensor, numbers.Real
        if not call.inputs or not all(isinstance(a, known) for a in call.args):
            self.note = "joins channels with numbers of their own"
            return super().trace(call)
        first, *others = call.inputs
        # the axis from the last, as tensors of fewer axes are broadcast
        places = {
            None if c is None else (c.axis - len(tensor.shape), len(c))
            for tensor, c in zip(call.tensors, call.inputs, strict=True)
        }
        if None in places or len(places) > 1:
            self.note = "channels on different axes"
            return super().trace(call)
        for channels in others:
            self.classes.tie(first.atoms, channels.atoms)
        kind = type(self.layer).__name__
        of_inputs = (c.values for c in call.inputs)
        given = [
            np.full(len(first), a)
            if isinstance(a, numbers.Real)
            else next(of_inputs)
            for a in call.args
        ]
        values = self.functions[kind](given)
        if kind == "Multiply":
            zero = np.any([v == 0 for v in given], axis=0)
            values = np.where(zero, 0.0, values)
        more = len(call.outputs[0].shape) - len(call.tensors[0].shape)
        return [first.replaced(values, first.axis + more)]


class Concatenate(Piece):
    def trace(self, call):
        rank = len(call.outputs[0].shape)
        axes = {c and c.axis for c in call.inputs}
        if len(axes) != 1 or None in axes:
            self.note = "channels on different axes"
            return super().trace(call)
        first, *others = call.inputs
        if self.layer.axis % rank == first.axis:
            return [
                Channels(
                    first.axis,
                    np.concatenate([c.atoms for c in call.inputs]),
                    np.concatenate([c.values for c in call.inputs]),
                )
            ]
        values = first.values
        for channels in others:
            self.classes.tie(first.atoms, channels.atoms)
            values = np.where(values == channels.values, values, np.nan)
        return [first.replaced(values)]
