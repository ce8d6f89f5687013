"""What runs each of the benchmarks, and how its results are told."""

from __future__ import annotations

import pathlib

import keras

from experiments import provenance, results
from experiments.benchmarks import (
    fit,
    importing,
    inference,
    scaling,
    step,
    zeros,
)
from experiments.reporting import inference as inference_tables
from experiments.reporting import speed as speed_tables
from keras_bregman._table import table


def run(
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
        "step": ("steps", step.measure, describe_steps),
        "fit": ("fits", fit.measure, describe_fits),
        "scaling": ("scaling", scaling.measure, describe_scaling),
        "inference": ("inference", inference.experiments, describe_inference),
        "zeros": ("zeros", zeros.measure, describe_zeros),
        "import": ("imports", importing.measure, describe_imports),
    }[what]
    provenance.remember_commit()
    result = {
        "backend": keras.config.backend(),
        key: measure(repeats, **({"names": (only,)} if only else {})),
        **provenance.of_process(),
    }
    print(describe([result]))
    if out:
        results.save(result, out)


def describe_steps(found: list[dict]) -> str:
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
        for r in found
        for s in r["steps"]
    ]
    return table(
        ("step", "run by", "ms", "against", "ms", "ratio", "slots"), rows
    )


def describe_fits(found: list[dict]) -> str:
    """What `fit` makes of it, as a table over one result a backend."""
    return _flat(speed_tables.fits(found))


def describe_scaling(found: list[dict]) -> str:
    """What several processes make of it, a result a backend."""
    return _flat(speed_tables.rates(found))


def describe_inference(found: list[dict]) -> str:
    """Size and speed of networks, as a table over results."""
    rows = [row for result in found for row in result["inference"]]
    return _flat(inference_tables.sizes(rows))


def describe_zeros(found: list[dict]) -> str:
    """How many times as fast as the dense network, by density."""
    rows = [row for result in found for row in result["zeros"]]
    return _flat(inference_tables.zeros(rows))


def describe_imports(found: list[dict]) -> str:
    """What importing takes, as a table over one result a backend."""
    rows = [
        (
            row["package"],
            result["backend"],
            *(f"{1000 * row[key]:.0f}" for key in ("seconds", "least", "most")),
        )
        for result in found
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
