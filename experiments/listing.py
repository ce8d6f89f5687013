"""What there is to run, in words."""

from __future__ import annotations

import dataclasses

from experiments import results
from experiments.catalog import EXPERIMENTS, SCALES, Experiment
from experiments.jobs import plan
from experiments.recipes import Recipe


def overview() -> str:
    """All experiments, with the number of runs that have a result."""
    width = max(map(len, EXPERIMENTS))
    rows = []
    for name, experiment in EXPERIMENTS.items():
        counts = []
        for scale in SCALES:
            jobs = plan([experiment], scale)
            done = sum(job.is_done for job in jobs)
            counts.append(f"{scale} {done:3} of {len(jobs):2}")
        rows.append("  ".join((f"{name:{width}}", *counts, experiment.title)))
    return "\n".join(rows)


def describe(experiment: Experiment, scale: str) -> str:
    """An experiment's recipes: what they share, then what sets each apart."""
    recipes, seeds = experiment.at(scale)
    fields = [f.name for f in dataclasses.fields(Recipe) if f.name != "label"]
    shared = [
        f for f in fields if len({repr(getattr(r, f)) for r in recipes}) == 1
    ]
    lines = [
        f"{experiment.name}: {experiment.title}",
        f"results in {results.RESULTS / scale / experiment.family}",
        f"seeds {', '.join(map(str, seeds))}",
        *(f"  {f} = {getattr(recipes[0], f)!r}" for f in shared),
    ]
    for recipe in recipes:
        lines.append(f"{recipe.label}")
        for f in fields:
            if f not in shared:
                lines.append(f"  {f} = {getattr(recipe, f)!r}")
    return "\n".join(lines)
