"""What an optimizer step costs, as ratios to Keras' own in one run."""

from __future__ import annotations

import statistics
import time

import keras
import numpy as np
from keras import ops

import keras_bregman as kb

# the variables of a ResNet-18 with a 10-class head: 11 million weights
RESNET18_KERNELS = [
    (3, 3, 3, 64),
    *[(3, 3, 64, 64)] * 4,
    (3, 3, 64, 128),
    *[(3, 3, 128, 128)] * 3,
    (1, 1, 64, 128),
    (3, 3, 128, 256),
    *[(3, 3, 256, 256)] * 3,
    (1, 1, 128, 256),
    (3, 3, 256, 512),
    *[(3, 3, 512, 512)] * 3,
    (1, 1, 256, 512),
    (512, 10),
]
RESNET18_VECTORS = [64] * 10 + [128] * 10 + [256] * 10 + [512] * 10 + [10]

LAM = 0.1
OPTIMIZERS = {
    "LinBreg": lambda: kb.LinBreg(0.01, LAM),
    "LinBreg momentum": lambda: kb.LinBreg(0.01, LAM, momentum=0.9),
    "AdaBreg": lambda: kb.AdaBreg(0.001, LAM),
    "ProxGD": lambda: kb.ProxGD(0.01, LAM),
    "SGD momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.001),
}
# Keras' own that each of ours is held against
TWINS = {
    "LinBreg": "SGD momentum",
    "LinBreg momentum": "SGD momentum",
    "AdaBreg": "Adam",
    "ProxGD": "SGD momentum",
}


def modes() -> tuple[str, ...]:
    """How a step can be run on this backend."""
    return {
        "tensorflow": ("plain graph", "XLA"),
        "jax": ("jit",),
        "torch": ("eager",),
    }[keras.config.backend()]


def measure(repeats: int) -> list[dict]:
    """Times one optimizer step on 11 million weights, all in turn.

    Returns:
        One dict per mode and optimizer: `mode`, `optimizer`, `twin`, seconds
        (`seconds`, `twin_seconds`, medians), their `ratio`, and the number of
        floats kept per weight (`slots`, `twin_slots`).
    """
    generator = np.random.default_rng(0)
    shapes = [*RESNET18_KERNELS, *((n,) for n in RESNET18_VECTORS)]
    initial = [
        (generator.normal(size=s) * (generator.random(s) < 0.1)).astype(
            "float32"
        )
        for s in shapes
    ]
    gradients = [
        ops.convert_to_tensor(1e-3 * generator.normal(size=s).astype("float32"))
        for s in shapes
    ]
    runs, slots = {}, {}
    for name, make in OPTIMIZERS.items():
        for mode in modes():
            variables = [
                keras.Variable(v, name="kernel" if v.ndim > 1 else "bias")
                for v in initial
            ]
            optimizer = make()
            optimizer.build(variables)
            runs[name, mode] = _runner(mode, optimizer, variables, gradients)
            size = sum(int(np.prod(v.shape)) for v in optimizer.variables)
            slots[name] = size / sum(v.size for v in initial)
    for run in runs.values():
        run()
        run()
    times: dict = {key: [] for key in runs}
    for _ in range(repeats):
        for key, run in runs.items():
            start = time.perf_counter()
            run()
            times[key].append(time.perf_counter() - start)
    return [
        {
            "mode": mode,
            "optimizer": name,
            "twin": twin,
            "seconds": statistics.median(times[name, mode]),
            "twin_seconds": statistics.median(times[twin, mode]),
            "ratio": statistics.median(times[name, mode])
            / statistics.median(times[twin, mode]),
            "slots": slots[name],
            "twin_slots": slots[twin],
        }
        for mode in modes()
        for name, twin in TWINS.items()
    ]


def _runner(mode, optimizer, variables, gradients):
    """A function that runs one step to its end."""
    if mode == "jit":
        import jax

        step = jax.jit(
            lambda t, o: optimizer.stateless_apply(o, gradients, t),
            donate_argnums=(0, 1),
        )
        state = [
            [v.value for v in variables],
            [v.value for v in optimizer.variables],
        ]

        def run():
            state[:] = step(*state)
            jax.block_until_ready(state)

        return run
    if mode == "eager":
        import torch

        def run():
            with torch.no_grad():
                optimizer.apply(gradients, variables)
            if torch.cuda.is_available():
                torch.cuda.synchronize()

        return run
    import tensorflow as tf

    compiled = tf.function(
        lambda: optimizer.apply(gradients, variables),
        jit_compile=mode == "XLA",
        autograph=False,
    )
    if not tf.config.list_physical_devices("GPU"):
        return compiled

    def run_to_its_end():
        compiled()
        tf.test.experimental.sync_devices()

    return run_to_its_end
