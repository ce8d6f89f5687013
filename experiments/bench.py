"""What an optimizer step costs, as ratios to Keras' own in one run."""

from __future__ import annotations

import pathlib
import statistics
import time

import keras
import numpy as np
from keras import ops

import keras_bregman as kb
from experiments import (
    imports,
    inference,
    results,
    scaling,
    throughput,
    zeros,
)
from experiments.reporting import inference as inference_tables
from experiments.reporting import speed as speed_tables
from keras_bregman._table import table

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
STEP_PAIRS = {
    "LinBreg": (
        lambda: kb.LinBreg(0.01, LAM),
        "SGD momentum",
        lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    ),
    "LinBreg momentum": (
        lambda: kb.LinBreg(0.01, LAM, momentum=0.9),
        "SGD momentum",
        lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    ),
    "AdaBreg": (
        lambda: kb.AdaBreg(0.001, LAM),
        "Adam",
        lambda: keras.optimizers.Adam(0.001),
    ),
    "ProxGD": (
        lambda: kb.ProxGD(0.01, LAM),
        "SGD momentum",
        lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    ),
}


def modes() -> tuple[str, ...]:
    """How a step can be run on this backend."""
    return {
        "tensorflow": ("plain graph", "XLA"),
        "jax": ("jit",),
        "torch": ("eager",),
    }[keras.config.backend()]


def step_costs(repeats: int = 30) -> list[dict]:
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
    makers = {}
    for name, (ours, twin, twins) in STEP_PAIRS.items():
        makers[name], makers[twin] = ours, twins
    runs, slots = {}, {}
    for name, make in makers.items():
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
        for name, (_, twin, _) in STEP_PAIRS.items()
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


def report(
    what: str,
    out: pathlib.Path | None,
    repeats: int,
    only: str | None = None,
) -> None:
    """Runs a benchmark and prints it; writes it to `out` if given.

    Args:
        what: `"step"`, an optimizer step alone; `"fit"`, whole trainings;
            `"scaling"`, trainings by several processes; `"inference"`, what
            trained networks cost where they are used; `"zeros"`, where zeros
            make something faster; or `"import"`, what importing takes.
        out: Result file to write.
        repeats: Measurements of each.
        only: The experiment to whose networks `"inference"` keeps; of the
            others there is nothing to choose.
    """
    key, measure, describe = {
        "step": ("steps", step_costs, describe_steps),
        "fit": ("fits", throughput.measure, describe_fits),
        "scaling": ("scaling", scaling.measure, describe_scaling),
        "inference": ("inference", inference.experiments, describe_inference),
        "zeros": ("zeros", zeros.measure, describe_zeros),
        "import": ("imports", imports.measure, describe_imports),
    }[what]
    results.commit()
    result = {
        "backend": keras.config.backend(),
        key: measure(repeats, **({"names": (only,)} if only else {})),
        **results.provenance(),
    }
    print(describe([result]))
    if out:
        results.save(result, out)


def describe_steps(results: list[dict]) -> str:
    """What a step costs, as a table over one result a backend."""
    rows = [
        (
            s["optimizer"],
            f"{r['backend']}, {s['mode']}",
            f"{1000 * s['seconds']:.1f}",
            s["twin"],
            f"{1000 * s['twin_seconds']:.1f}",
            f"{s['ratio']:.2f}",
            f"{s['slots']:.0f} : {s['twin_slots']:.0f}",
        )
        for r in results
        for s in r["steps"]
    ]
    return table(
        ("step", "run by", "ms", "against", "ms", "ratio", "slots"), rows
    )


def describe_fits(results: list[dict]) -> str:
    """What `fit` makes of it, as a table over one result a backend."""
    return _flat(speed_tables.fits(results))


def describe_scaling(results: list[dict]) -> str:
    """What several processes make of it, a result a backend."""
    return _flat(speed_tables.rates(results))


def describe_inference(results: list[dict]) -> str:
    """Size and speed of networks, as a table over results."""
    rows = [row for result in results for row in result["inference"]]
    return _flat(inference_tables.sizes(rows))


def describe_zeros(results: list[dict]) -> str:
    """How many times as fast as the dense network, by density."""
    rows = [row for result in results for row in result["zeros"]]
    return _flat(inference_tables.zeros(rows))


def describe_imports(results: list[dict]) -> str:
    """What importing takes, as a table over one result a backend."""
    rows = [
        (
            row["package"],
            result["backend"],
            *(f"{1000 * row[key]:.0f}" for key in ("seconds", "least", "most")),
        )
        for result in results
        for row in result["imports"]
    ]
    return table(("import", "backend", "ms", "least", "most"), rows)


def _flat(made):
    heads = [
        f"{head}, {group}" if group else head
        for group, heads in made.groups
        for head in heads
    ]
    return table(heads, made.rows)
