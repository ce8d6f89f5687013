"""Optimizers on the part of the weights that a callback chooses."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
from keras import ops

import keras_bregman as kb
from keras_bregman._paths import path_of
from keras_bregman.kernels import is_kernel


@dataclasses.dataclass(frozen=True)
class MaskedKernel:
    """A kernel, and what belongs to it.

    Attributes:
        variable: The kernel.
        mask: Of its shape, 1 where it may be other than 0.
        gradient: Of its shape, the loss' at the last step, zeros included;
            `None` where it is not kept.
        slots: The optimizer's for it, as its moments.
    """

    variable: keras.Variable
    mask: keras.Variable
    gradient: keras.Variable | None
    slots: list[keras.Variable]

    def remask(self, mask: np.ndarray) -> None:
        """Sets the mask; what comes or goes starts from 0.

        Args:
            mask: Booleans of the kernel's shape.
        """
        stays = mask & (ops.convert_to_numpy(self.mask) != 0)
        for variable in (self.variable, *self.slots):
            value = ops.convert_to_numpy(variable)
            variable.assign(np.where(stays, value, np.zeros_like(value)))
        self.mask.assign(mask.astype("float32"))


class _Masked(keras.optimizers.Optimizer):
    """Holds every kernel at 0 outside its mask.

    Masks start full. They, and with `keep_gradients` the dense gradients that
    `RigL` reads, are variables of the optimizer and saved with it. Outside its
    mask a kernel gets no gradient.
    """

    def __init__(self, *args, keep_gradients=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.keep_gradients = keep_gradients

    def build(self, variables):
        if self.built:
            return
        self._slots: dict[int, list[keras.Variable]] = {}
        super().build(variables)
        self._masked: dict[int, MaskedKernel] = {}
        for index, variable in enumerate(variables):
            slots = self._slots.pop(id(variable), [])
            if is_kernel(path_of(variable)):
                add = self.add_variable_from_reference
                mask = add(variable, name="mask", initializer="ones")
                gradient = None
                if self.keep_gradients:
                    gradient = add(variable, name="gradient")
                self._masked[index] = MaskedKernel(
                    variable, mask, gradient, slots
                )

    @property
    def masked(self) -> list[MaskedKernel]:
        """All masked kernels, in the order of the model's weights."""
        return list(self._masked.values())

    def add_variable_from_reference(self, reference_variable, *args, **kwargs):
        slot = super().add_variable_from_reference(
            reference_variable, *args, **kwargs
        )
        self._slots.setdefault(id(reference_variable), []).append(slot)
        return slot

    def update_step(self, gradient, variable, learning_rate):
        kernel = self._masked.get(self._get_variable_index(variable))
        if kernel is None:
            super().update_step(gradient, variable, learning_rate)
            return
        mask = ops.convert_to_tensor(kernel.mask)
        if kernel.gradient is not None:
            self.assign(kernel.gradient, gradient)
        super().update_step(gradient * mask, variable, learning_rate)
        self.assign(variable, ops.convert_to_tensor(variable) * mask)


class MaskedAdam(_Masked, keras.optimizers.Adam):
    """Keras' Adam on masked kernels."""


class MaskedSGD(_Masked, keras.optimizers.SGD):
    """Keras' SGD on masked kernels."""


class MaskedProxGD(_Masked, kb.ProxGD):
    """Proximal gradient descent on masked kernels."""
