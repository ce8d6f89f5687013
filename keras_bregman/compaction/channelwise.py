"""Layers that treat every channel on its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_bregman.compaction.channels import Channels
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


class Channelwise(Piece):
    """A layer of one input that treats every channel on its own."""

    channels: Any = None  # of the first call

    def trace(self, call):
        channels = call.only_input(self.axis_of(call))
        why = "channels on another axis"
        if channels is not None:
            why = self.misfit(call, channels)
        if self.is_whole or why:
            self.is_whole = True
            self.note = self.note or why
            self.classes.pin(self.channels)
            return super().trace(call)
        if self.channels is None:
            self.channels = channels
        elif self.is_cut:
            # what two calls share is cut once for both
            self.classes.tie(self.channels.atoms, channels.atoms)
        return [self.out_of(call, channels)]

    @property
    def weights(self) -> Mapping[str, int]:
        """Its weights by name, and the axis of each that counts channels."""
        return {}

    @property
    def is_cut(self) -> bool:
        """Whether the layer itself gets smaller with its channels."""
        return bool(self.weights)

    def axis_of(self, call) -> int | None:
        """The axis that the channels must be on; `None` for any."""
        return None

    def misfit(self, call, channels) -> str:
        """Why the layer does not treat these channels one by one, if so."""
        return ""

    def out_of(self, call, channels) -> Channels:
        """The channels of the output."""
        return channels

    def fill(self, layer):
        if self.is_whole or not self.weights:
            super().fill(layer)
            return
        kept = self.classes.kept(self.channels)
        for name, axis in self.weights.items():
            value = getattr(self.layer, name)
            if value is not None:
                part = np.compress(kept, numpy_of(value), axis)
                getattr(layer, name).assign(part)


class Elementwise(Channelwise):
    """A layer, or an operation of `keras.ops`, that treats entries alike."""

    def out_of(self, call, channels):
        dtype = call.tensors[0].dtype
        values = at_constants(self.layer, channels.values, dtype)
        return channels.replaced(values)


class Rescaling(Elementwise):
    def misfit(self, call, channels):
        ranks = np.ndim(self.layer.scale), np.ndim(self.layer.offset)
        return "scales channels by numbers of their own" if any(ranks) else ""


class BatchNormalization(Channelwise):
    @property
    def weights(self):
        names = ["gamma", "beta", "moving_mean", "moving_variance"]
        # the first Keras supported has none
        if getattr(self.layer, "renorm", False):
            names += ["moving_stddev", "renorm_mean", "renorm_stddev"]
        return dict.fromkeys(names, 0)

    def axis_of(self, call):
        return self.layer.axis % len(call.outputs[0].shape)

    def out_of(self, call, channels):
        mean, variance, gamma, beta = (
            default if weight is None else numpy_of(weight).astype(float)
            for weight, default in (
                (self.layer.moving_mean, 0.0),
                (self.layer.moving_variance, 1.0),
                (self.layer.gamma, 1.0),
                (self.layer.beta, 0.0),
            )
        )
        factor = gamma / np.sqrt(variance + self.layer.epsilon)
        # without a factor it does not matter what comes
        values = np.where(factor == 0, mean, channels.values)
        return channels.replaced((values - mean) * factor + beta)


class PReLU(Channelwise):
    def misfit(self, call, channels):
        rank = len(call.outputs[0].shape)
        others = {axis for axis in range(1, rank) if axis != channels.axis}
        if set(self.layer.shared_axes or ()) != others:
            return "has slopes by position"
        return ""

    @property
    def weights(self):
        return {"alpha": self.channels.axis - 1}

    def out_of(self, call, channels):
        values = channels.values
        slope = numpy_of(self.layer.alpha).ravel().astype(float)
        return channels.replaced(np.where(values < 0, slope * values, values))


class Pooling(Channelwise):
    """Pooling, upsampling and cropping: a constant stays what it is.

    Keras averages over what lies within the border only.
    """

    def axis_of(self, call):
        return data_axis(self.layer, call.tensors[0]) if call.tensors else None

    def out_of(self, call, channels):
        rank = len(call.outputs[0].shape)
        axis = 1 if channels.axis == 1 else rank - 1
        return channels.replaced(axis=axis)


class Padding(Pooling):
    """Zeros around: of the constants only 0 stays one."""

    def out_of(self, call, channels):
        values = np.where(channels.values == 0, 0.0, np.nan)
        return channels.replaced(values)


class Flatten(Channelwise):
    def misfit(self, call, channels):
        shape = call.tensors[0].shape
        return "axes of unknown length" if None in shape[1:] else ""

    def out_of(self, call, channels):
        (tensor,) = call.tensors
        shape = [1] * (len(tensor.shape) - 1)
        shape[channels.axis - 1] = -1
        numbers = np.arange(len(channels)).reshape(shape)
        order = np.broadcast_to(numbers, tensor.shape[1:])
        # as the layer does on channels_first
        if getattr(self.layer, "data_format", "") == "channels_first":
            order = np.moveaxis(order, 0, -1)
        return channels.picked(order.ravel(), axis=1)


class Reshape(Channelwise):
    """A reshape that leaves the last axis as it is."""

    is_cut = True

    def misfit(self, call, channels):
        (tensor,) = call.tensors
        last = len(tensor.shape) - 1
        if channels.axis != last or (
            tensor.shape[-1] != call.outputs[0].shape[-1]
        ):
            return "reshapes channels"
        return ""

    def out_of(self, call, channels):
        return channels.replaced(axis=len(call.outputs[0].shape) - 1)

    def _config(self):
        config = super()._config()
        if not self.is_whole:
            kept = int(self.classes.kept(self.channels).sum())
            config["target_shape"] = (*self.layer.target_shape[:-1], kept)
        return config

    def fill(self, layer):
        pass


class Depthwise(Channelwise):
    """A kernel (*positions, channels, multiplier)."""

    @property
    def weights(self):
        return {"kernel": -2}

    def misfit(self, call, channels):
        activation = self.layer.activation
        return "" if is_elementwise(activation) else may_mix(activation)

    @property
    def multiplier(self):
        return self.layer.depth_multiplier

    def axis_of(self, call):
        return data_axis(self.layer, call.outputs[0])

    def out_of(self, call, channels):
        kernel = kernel_of(self.layer.kernel)  # positions, channels, multiplier
        bias = bias_of(self.layer, kernel[0].size)
        sums = kernel.sum(0).ravel()
        given = np.repeat(channels.values, self.multiplier)
        if not is_uniform(self.layer):
            given = np.where(given == 0, 0.0, np.nan)
        values = np.where(
            (kernel == 0).all(0).ravel(), bias, bias + given * sums
        )
        repeated = np.repeat(np.arange(len(channels)), self.multiplier)
        dtype = self.layer.compute_dtype
        values = at_constants(self.layer.activation, values, dtype)
        return channels.picked(repeated).replaced(values)

    def fill(self, layer):
        super().fill(layer)
        if not self.is_whole and self.layer.bias is not None:
            kept = self.classes.kept(self.channels)
            part = numpy_of(self.layer.bias)[np.repeat(kept, self.multiplier)]
            layer.bias.assign(part)
