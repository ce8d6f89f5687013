"""Sparse starts: most weights 0, the variance of the signal kept."""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras
import numpy as np

from keras_bregman._checks import (
    check_choice,
    check_integer,
    check_number,
)
from keras_bregman.allocation import densities
from keras_bregman.kernels import kernels

_METHODS = ("bernoulli", "kernel", "balanced")
_VARIANCES = {
    "he": lambda layout: 2 / layout.fan_in,
    "glorot": lambda layout: 2 / (layout.fan_in + layout.fan_out),
}


def sparsify(
    model: keras.layers.Layer,
    density: float | Mapping[str, float],
    method: str = "bernoulli",
    *,
    seed: int | None = None,
    variance: str = "he",
    scale: float = 1.0,
    bias_scale: float | None = 1.0,
) -> None:
    """Draws a model's kernels anew, most entries 0.

    The entries that stay are normal with variance `scale^2 alpha / r`, where r
    is the share that stays and alpha the variance that the dense network would
    have. So every unit's input keeps its variance, in expectation over the
    masks:

        "bernoulli"  each entry stays with probability r
        "kernel"     each spatial kernel (all of one input and one output
                     channel) stays whole with probability r; a single entry
                     in a dense kernel
        "balanced"   each output unit keeps k = max(1, round(r fan_in)) entries
                     drawn at random, of variance scale^2 alpha fan_in / k

    A balanced start leaves no unit without input. In a chain of layers without
    skip connections that decides whether signal and gradient get through: with
    batch normalization an empty unit multiplies its gradient by 1/sqrt(1e-5),
    without it the signal dies.

    Biases get small positive numbers, uniform in [0, bias_scale/sqrt(fan_in)]:
    with all of them 0, a ReLU unit whose weights are all 0 has no gradient and
    never wakes. Biases of recurrent layers stay, since theirs open and close
    gates. Normalization and embeddings stay too, and so do layers with
    `trainable=False` or LoRA, whose kernels no training would mend.

    The weights can also be drawn after `compile` and between two `fit` calls.

    Args:
        model: A built `keras.Model` or layer, changed in place. Weights drawn
            depend on `seed` and the order of the kernels, not on the backend.
        density: Share r of entries that stay, a float in (0, 1]. Or a dict
            from regular expressions to floats: each kernel takes the first
            whose expression `re.search` finds in its path, and stays as it is
            if none does or it is not trained.
        method: `"bernoulli"`, `"kernel"` or `"balanced"`, see above.
        seed: An integer for a repeatable draw. By default drawn from numpy's
            global state, which `keras.utils.set_random_seed` seeds.
        variance: `"he"`, alpha = 2 / fan_in, for ReLU; `"glorot"`,
            alpha = 2 / (fan_in + fan_out), for tanh and linear units.
        scale: Factor on the standard deviation, a float greater than 0.
        bias_scale: Upper end of the biases times sqrt(fan_in), a float of 0
            or greater. `None` leaves biases as they are.

    Raises:
        ValueError: If the model is not built, holds no kernel that is trained,
            or one of integers, for an argument out of range, or for an
            expression that takes no kernel.

    Reference: Bungert et al., "A Bregman Learning Framework for Sparse Neural
    Networks", JMLR 23(192), 2022, section 4.1.
    """
    check_choice("method", method, _METHODS)
    check_choice("variance", variance, _VARIANCES)
    scale = check_number("scale", scale, "(0, inf)")
    if bias_scale is not None:
        bias_scale = check_number("bias_scale", bias_scale)
    chosen = densities(density, kernels(model))
    if seed is None:
        seed = np.random.randint(2**31)
    seed = check_integer("seed", seed, 0)
    generator = np.random.default_rng(seed)
    for kernel, share in chosen:
        layout = kernel.layout
        if not math.prod(layout.shape):
            continue
        alpha = _VARIANCES[variance](layout)
        if method == "balanced":
            mask, alpha = _balanced(generator, layout, share, alpha)
        else:
            together = layout.over("kernel") if method == "kernel" else ()
            drawn = [
                1 if a in together else n for a, n in enumerate(layout.shape)
            ]
            mask = generator.random(drawn) < share
            alpha /= share
        weights = generator.normal(0, scale * math.sqrt(alpha), layout.shape)
        kernel.variable.assign(weights * mask)
        bias = getattr(kernel.layer, "bias", None)
        # gates keep theirs; a separable layer's belongs to its other kernel
        kept = hasattr(
            kernel.layer, "recurrent_kernel"
        ) or kernel.path.endswith("depthwise_kernel")
        if bias_scale is not None and bias is not None and not kept:
            high = bias_scale / math.sqrt(layout.fan_in)
            bias.assign(generator.uniform(0, high, tuple(bias.shape)))


def _balanced(generator, layout, share, alpha):
    """The mask with k entries per output unit, and the variance for k."""
    fan_in = layout.fan_in
    k = min(fan_in, max(1, round(share * fan_in)))
    units = layout.size(layout.outputs)
    keys = generator.random((units, fan_in))
    mask = np.zeros((units, fan_in), bool)
    chosen = np.argpartition(keys, k - 1, axis=1)[:, :k]
    np.put_along_axis(mask, chosen, True, axis=1)
    # rows are units: lay the axes out as (outputs, others), then put them back
    axes = (*layout.outputs, *layout.over("unit"))
    mask = mask.reshape([layout.shape[a] for a in axes])
    return mask.transpose(np.argsort(axes)), alpha * fan_in / k
