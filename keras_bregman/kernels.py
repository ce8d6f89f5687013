"""Which variables are kernels, and how their axes are laid out.

A kernel is the weight that a Keras layer multiplies its input by: of a dense,
convolution, depthwise, pointwise, recurrent or attention layer. Keras names
every one of them so that the last part of its path ends in `kernel`.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_bregman._checks import check_model
from keras_bregman._keras import own_weights, sublayers
from keras_bregman._layers import DEPTHWISE_LAYERS, TRANSPOSED_LAYERS
from keras_bregman._paths import names_of
from keras_bregman._quantized import multiplied_by, refuse_packed

_KERNEL = re.compile(r"(^|[/_])kernel(:\d+)?$")
# always within a layer of attention
_ATTENTION_INPUT = re.compile(r"/(query|key|value)/kernel$")
_ATTENTION_OUTPUT = re.compile(r"/attention_output/kernel$")
_DEPTHWISE = re.compile(r"depthwise|(^|[/_])dw(conv)?(\d|_|/|$)|dwconv")
# by which layers hold them
_KERNEL_ATTRIBUTES = (
    "kernel",
    "_kernel",  # with LoRA `kernel` is a sum
    "recurrent_kernel",
    "depthwise_kernel",
    "pointwise_kernel",
)


class Layout(NamedTuple):
    """The axes of one kernel, counted from 0.

    Attributes:
        shape: The kernel's shape.
        inputs: Axes that run over input channels.
        outputs: Axes that run over output units. A depthwise kernel has its
            channel axis in both, since each channel feeds units of its own.
    """

    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def over(self, groups: str) -> tuple[int, ...]:
        """Axes that run inside one group of `"unit" | "input" | "kernel"`."""
        fixed = {
            "unit": self.outputs,
            "input": self.inputs,
            "kernel": self.inputs + self.outputs,
        }[groups]
        return tuple(a for a in range(len(self.shape)) if a not in fixed)

    def size(self, axes: tuple[int, ...]) -> int:
        """Number of entries along `axes`."""
        return math.prod(self.shape[a] for a in axes)

    @property
    def fan_in(self) -> int:
        """Number of weights that feed one output unit."""
        return self.size(self.over("unit"))

    @property
    def fan_out(self) -> int:
        """Number of weights that one input channel feeds."""
        return self.size(self.over("input"))


class Kernel(NamedTuple):
    """One kernel of a model.

    Attributes:
        name: The variable's path, numbered where paths repeat.
        variable: The variable.
        layout: Its axes.
        layer: The layer that it belongs to, if it is known.
    """

    name: str
    variable: keras.Variable
    layout: Layout
    layer: keras.layers.Layer | None

    @property
    def path(self) -> str:
        """The variable's path."""
        return self.variable.path

    @property
    def multiplied(self) -> Any:
        """What its layer multiplies by, see `multiplied_by`."""
        return multiplied_by(self.layer, self.variable)

    @property
    def value(self) -> np.ndarray:
        """`multiplied` as a numpy array."""
        # not counted by the backend: a GPU may take a subnormal for 0
        return keras.ops.convert_to_numpy(self.multiplied)


def is_kernel(path: str) -> bool:
    """Whether the variable at `path` is the kernel of a Keras layer."""
    return bool(_KERNEL.search(path))


def layout_of(shape, path: str = "", layer=None) -> Layout:
    """The layout of a kernel.

    A Keras kernel is `(*spatial, inputs, outputs)`. The exceptions are told
    from the layer where it is known. An optimizer sees variables only, so it
    goes by the path that Keras gives them: a depthwise layer has to be called
    so (`depthwise`, `dw`, `dwconv`), a transposed convolution `transpose`.
    """
    shape = tuple(int(n) for n in shape)
    rank = len(shape)
    path = path.partition(":")[0]  # a raw TensorFlow name ends in ":0"
    if isinstance(layer, keras.layers.EinsumDense):
        # an axis may be in both, as in "abc,bcd->abd": weights by position
        given, kernel, output = einsum_axes(layer)
        return Layout(
            shape,
            tuple(i for i, axis in enumerate(kernel) if axis in given),
            tuple(i for i, axis in enumerate(kernel) if axis in output),
        )
    if rank < 2:
        return Layout(shape, (), tuple(range(rank)))
    if rank == 3 and layer is None and _ATTENTION_INPUT.search(path):
        return Layout(shape, (0,), (1, 2))
    if rank == 3 and layer is None and _ATTENTION_OUTPUT.search(path):
        return Layout(shape, (0, 1), (2,))
    scope, _, name = path.lower().rpartition("/")
    scope = scope.rpartition("/")[2]  # the layer itself, not what it is in
    named = layer is None and rank > 2 and name.startswith("kernel")
    if (
        name == "depthwise_kernel"
        or isinstance(layer, DEPTHWISE_LAYERS)
        or (named and _DEPTHWISE.search(scope))
    ):
        return Layout(shape, (rank - 2,), (rank - 2, rank - 1))
    if isinstance(layer, TRANSPOSED_LAYERS) or (named and "transpose" in scope):
        return Layout(shape, (rank - 1,), (rank - 2,))
    return Layout(shape, (rank - 2,), (rank - 1,))


def einsum_axes(layer) -> list[str]:
    """The names of the input's, the kernel's and the output's axes."""
    return re.split(",|->", layer.equation.replace(" ", ""))


def kernels(model) -> list[Kernel]:
    """All kernels of a built model, each once, in the order of its weights.

    Args:
        model: A built `keras.Model` or layer. Frozen kernels count too.

    Raises:
        ValueError: If the model is not built, holds no kernel, or holds one
            whose entries share bytes.
    """
    check_model(model)
    # one with a `train_step` and no `call` is never built, but for its parts
    layers = list(sublayers(model, include_self=False))
    if not model.built and not (model.weights and all(x.built for x in layers)):
        raise ValueError(
            f"`model` '{model.name}' has no weights yet. Build it first: give "
            "it a `keras.Input`, or call `model.build(input_shape)`."
        )
    owners: dict[int, keras.layers.Layer] = {}
    for layer in sublayers(model):
        if any(is_kernel(weight.path) for weight in own_weights(layer)):
            refuse_packed(layer)
        for name in _KERNEL_ATTRIBUTES:
            # a wrapper comes before the layer whose kernel it also holds
            owners[id(getattr(layer, name, None))] = layer
    names = names_of(model)
    found = []
    for variable in model.weights:  # where Keras lists each once
        if is_kernel(variable.path):
            layer = owners.get(id(variable))
            layout = layout_of(variable.shape, variable.path, layer)
            found.append(Kernel(names[id(variable)], variable, layout, layer))
    if not found:
        raise ValueError(
            f"`model` '{model.name}' holds no kernel: none of its weights "
            "has a path that ends in 'kernel'. Received: "
            f"{[w.path for w in model.weights]}. Make them by "
            "`add_weight(name='kernel')`; `density` and callbacks count what "
            "the model's optimizer regularizes by of='regularized'."
        )
    return found
