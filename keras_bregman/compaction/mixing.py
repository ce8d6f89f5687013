"""Layers each of whose outputs is a sum over the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_bregman._keras import has_mask
from keras_bregman.compaction.channels import Channels, Classes
from keras_bregman.compaction.elementwise import at_constants, is_elementwise
from keras_bregman.compaction.piece import (
    Piece,
    bias_of,
    data_axis,
    is_uniform,
    kernel_of,
    may_mix,
    numpy_of,
)


class Mixing(Piece):
    """A layer each of whose outputs is a sum over its inputs.

    Subclasses give its effective kernel (positions, inputs, outputs).
    """

    # whether constants may be gathered in one channel where padding cuts them
    gathers = True
    inputs: Any = None  # channels, what is so in all calls
    outputs: Any = None

    def kernel(self) -> np.ndarray:
        raise NotImplementedError

    def trace(self, call):
        first = call.tensors[0] if call.tensors else None
        axis = None if first is None else self._axis(first)
        channels = call.only_input(axis)
        if self.is_whole or channels is None:
            self.is_whole = True
            self.note = "channels on another axis"
            self.classes.pin(self.inputs)
            self.classes.pin(self.outputs)
            return super().trace(call)
        if self.inputs is None:
            self.full = self.kernel()
            self.pattern = (self.full != 0).any(0)
            self.atoms = self._new_atoms(self.full.shape[-1])
            self.inputs = channels
        else:
            self.classes.tie(self.inputs.atoms, channels.atoms)
            same = self.inputs.values == channels.values
            self.inputs = channels.replaced(
                np.where(same, channels.values, np.nan)
            )
        self.outputs = Channels(
            self._axis(call.outputs[0]),
            self.atoms,
            self._constants(channels.values),
        )
        return [self.outputs]

    def _new_atoms(self, n):
        if is_elementwise(self.layer.activation):
            return self.classes.add(n)
        self.note = may_mix(self.layer.activation)
        return Classes.pinned(n, 1).atoms

    def _axis(self, tensor):
        return data_axis(self.layer, tensor)

    def _constants(self, values):
        if not is_elementwise(self.layer.activation):
            return np.full(len(self.atoms), np.nan)
        if self.is_shared:  # its calls may get different constants
            values = np.full(len(values), np.nan)
        values = self._foldable(values)
        touched = self.pattern[np.isnan(values)].any(0)
        before = self._sum(values) + bias_of(self.layer, len(self.atoms))
        return at_constants(
            self.layer.activation,
            np.where(touched, np.nan, before),
            self.layer.compute_dtype,
        )

    def _foldable(self, values):
        """Inputs that a bias can stand for, NaN for the others."""
        if is_uniform(self.layer):
            return values
        return np.where(values == 0, 0.0, np.nan)

    def _sum(self, values):
        """What the constants among the inputs add to the outputs."""
        given = np.flatnonzero(~np.isnan(values) & (values != 0))
        return values[given] @ self.full[:, given].sum(0, dtype=float)

    def claim(self):
        if self.is_whole:
            return False
        needed = self._needed() & np.isnan(self._foldable(self.inputs.values))
        if self.gathers:
            needed &= self.inputs.live
        return self.classes.keep(self.inputs, needed)

    def claim_carrier(self):
        if self.is_whole or not self.gathers:
            return False
        one = np.zeros(len(self.inputs), bool)
        one[self._carrier()] = self._cut().any()
        return self.classes.keep(self.inputs, one)

    def _needed(self):
        return self.pattern[:, self.classes.kept(self.outputs)].any(1)

    def _cut(self):
        """Constants for which no bias can stand, as padding cuts them."""
        foldable = self._foldable(self.inputs.values)
        return self._needed() & np.isnan(foldable) & ~self.inputs.live

    def _carrier(self):
        """The constant that stands for those cut off.

        Rather one that stays anyway, unless it is so small that rounding would
        show in the others.
        """
        sizes = np.where(self._cut(), np.abs(self.inputs.values), 0.0)
        kept = self.classes.kept(self.inputs) & ~self.inputs.live
        staying = np.where(kept, np.abs(self.inputs.values), 0.0)
        enough = staying.max() >= sizes.max() / 16
        return int(np.argmax(staying if enough else sizes))

    def rebuild(self):
        if not self.is_whole:
            self.rows = self.classes.kept(self.inputs)
            self.columns = self.classes.kept(self.outputs)
            gone = np.where(self.rows, np.nan, self.inputs.values)
            self.added = self._sum(self._foldable(gone))[self.columns]
        return super().rebuild()

    def _config(self):
        config = super()._config()
        if not self.is_whole and np.any(self.added):
            config["use_bias"] = True
        return config

    def fill(self, layer):
        if self.is_whole:
            super().fill(layer)
            return
        self._fill_kernel(layer)
        if layer.bias is not None:
            bias = bias_of(self.layer, len(self.columns))[self.columns]
            layer.bias.assign(bias + self.added)

    def _fill_kernel(self, layer):
        raise NotImplementedError

    def _part(self, kernel):
        """What stays of a kernel (..., inputs, outputs)."""
        moved = np.flatnonzero(self._cut() & ~self.rows)
        if len(moved):
            values = self.inputs.values
            carrier = self._carrier()
            share = values[moved] / values[carrier]
            kernel = kernel.copy()
            kernel[..., carrier, :] += np.einsum(
                "...io,i->...o", kernel[..., moved, :], share
            )
        return kernel[..., self.rows, :][..., self.columns]


class Dense(Mixing):
    def kernel(self):
        return kernel_of(self.layer.kernel)

    def _axis(self, tensor):
        return len(tensor.shape) - 1

    def _config(self):
        config = super()._config()
        if not self.is_whole:
            config["units"] = int(self.columns.sum())
        return config

    def _fill_kernel(self, layer):
        layer.kernel.assign(self._part(numpy_of(self.layer.kernel)))


class Convolution(Mixing):
    """A kernel (*positions, inputs of a group, outputs)."""

    def kernel(self):
        kernel = kernel_of(self.layer.kernel)
        groups = self.layer.groups
        if groups == 1:
            return kernel
        positions, inputs, outputs = kernel.shape
        full = np.zeros((positions, groups * inputs, outputs), kernel.dtype)
        for group in range(groups):
            rows, columns = self._group(group, inputs, outputs // groups)
            full[:, rows, columns] = kernel[:, :, columns]
        return full

    @staticmethod
    def _group(group, inputs, outputs):
        return (
            slice(group * inputs, (group + 1) * inputs),
            slice(group * outputs, (group + 1) * outputs),
        )

    def trace(self, call):
        traced = super().trace(call)
        groups = getattr(self.layer, "groups", 1)
        if groups > 1 and not self.is_whole:
            # only whole groups go, as all have to be of one size
            channels = self.inputs
            atoms = self.outputs.atoms
            rows, columns = len(channels) // groups, len(atoms) // groups
            for group in range(groups):
                inputs, outputs = self._group(group, rows, columns)
                both = np.append(channels.atoms[inputs], atoms[outputs])
                self.classes.tie(both, np.full(len(both), both[0]))
        return traced

    def _config(self):
        config = super()._config()
        if not self.is_whole:
            config["filters"] = int(self.columns.sum())
            groups = getattr(self.layer, "groups", 1)
            if groups > 1:
                size = len(self.columns) // groups
                config["groups"] = config["filters"] // size
                self.changes_groups = config["groups"] != groups
        return config

    def _fill_kernel(self, layer):
        kernel = numpy_of(self.layer.kernel)
        if self.layer.groups > 1:
            layer.kernel.assign(kernel[..., self.columns])
        else:
            layer.kernel.assign(self._part(kernel))


class Transposed(Convolution):
    """A kernel (*positions, outputs, inputs)."""

    def kernel(self):
        return kernel_of(np.moveaxis(numpy_of(self.layer.kernel), -1, -2))

    def _fill_kernel(self, layer):
        kernel = self._part(np.moveaxis(numpy_of(self.layer.kernel), -1, -2))
        layer.kernel.assign(np.moveaxis(kernel, -1, -2))


class Separable(Convolution):
    """A depthwise kernel, and one that mixes what comes of it."""

    # each channel has its own kernel at a border
    gathers = False

    def kernel(self):
        depthwise = kernel_of(self.layer.depthwise_kernel)
        _, inputs, multiplier = depthwise.shape
        pointwise = numpy_of(self.layer.pointwise_kernel)
        pointwise = pointwise.reshape(inputs, multiplier, -1)
        return np.einsum("pim,imo->pio", depthwise, pointwise)

    def _fill_kernel(self, layer):
        rows = np.repeat(self.rows, self.layer.depth_multiplier)
        depthwise = numpy_of(self.layer.depthwise_kernel)
        layer.depthwise_kernel.assign(depthwise[..., self.rows, :])
        pointwise = numpy_of(self.layer.pointwise_kernel)
        layer.pointwise_kernel.assign(
            pointwise[..., rows, :][..., self.columns]
        )


class Embedding(Piece):
    """A table (rows, channels), whose rows are not looked at."""

    channels: Any = None  # of the first call

    def trace(self, call):
        super().trace(call)
        if self.channels is None:
            table = numpy_of(self.layer.embeddings).astype(float)
            same = (table == table[0]).all(0)
            self.channels = Channels(
                len(call.outputs[0].shape) - 1,
                self.classes.add(table.shape[1]),
                np.where(same, table[0], np.nan),
            )
        return [self.channels.replaced(axis=len(call.outputs[0].shape) - 1)]

    def _config(self):
        kept = int(self.classes.kept(self.channels).sum())
        return {**super()._config(), "output_dim": kept}

    def fill(self, layer):
        kept = self.classes.kept(self.channels)
        layer.embeddings.assign(numpy_of(self.layer.embeddings)[:, kept])


class Attention(Piece):
    """Heads whose part of the output is always the same are removed.

    The attention weights sum to 1, so that a head without value kernel always
    says its value bias; but not where a mask leaves nothing to attend to, where
    they may be 0.
    """

    note = "heads only"
    is_masked = False

    def trace(self, call):
        masks = [
            *call.tensors[3:],  # behind query, value and key
            *(v for k, v in call.kwargs.items() if k.endswith("_mask")),
        ]
        shapes = [m.shape for m in masks if hasattr(m, "shape")]
        # that of an embedding comes with the tensor
        self.is_masked |= bool(shapes) or any(map(has_mask, call.tensors))
        # whoever looks at the attention scores, or masks them, sees all heads
        self.is_whole |= len(call.outputs) > 1 or any(
            len(shape) > 3 for shape in shapes
        )
        return super().trace(call)

    def rebuild(self):
        output = numpy_of(self.layer._output_dense.kernel)
        value = numpy_of(self.layer._value_dense.kernel)
        says = (value != 0).any((0, 2))
        bias = self.layer._value_dense.bias
        if self.is_masked and bias is not None:
            says |= numpy_of(bias).any(1)
        speaks = output.reshape(len(output), -1).any(1)
        self.heads = speaks & says
        if not self.heads.any():
            self.heads[0] = True
        self.heads |= self.is_whole
        return super().rebuild()

    def _config(self):
        return {**super()._config(), "num_heads": int(self.heads.sum())}

    def fill(self, layer):
        for name in ("_query_dense", "_key_dense", "_value_dense"):
            old, new = getattr(self.layer, name), getattr(layer, name)
            new.kernel.assign(numpy_of(old.kernel)[:, self.heads])
            if old.bias is not None:
                new.bias.assign(numpy_of(old.bias)[self.heads])
        old, new = self.layer._output_dense, layer._output_dense
        kernel = numpy_of(old.kernel)
        new.kernel.assign(kernel[self.heads])
        if old.bias is not None:
            said = numpy_of(self.layer._value_dense.bias).astype(float)
            said[self.heads] = 0
            new.bias.assign(
                numpy_of(old.bias)
                + np.tensordot(said, kernel, ((0, 1), (0, 1)))
            )
