"""What there is to run: a run and its files, and whether it is done."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable
from typing import Any

from experiments import results
from experiments.catalog import Experiment
from experiments.recipes import Recipe

CHANGED = results.ROOT / "build" / "changed"
_SHOWN = 80  # characters of a folder's name


@dataclasses.dataclass(frozen=True)
class Job:
    """One run and its files.

    Attributes:
        experiment: Name of the experiment.
        family: Folder of its results.
        scale: `"full"` or `"small"`.
        recipe: What is trained.
        seed: With which seed.
        result: The result file.
        checkpoint: The checkpoint file, removed when the result is written.
        network: The file for the trained network.
    """

    experiment: str
    family: str
    scale: str
    recipe: Recipe
    seed: int
    result: pathlib.Path
    checkpoint: pathlib.Path
    network: pathlib.Path

    @property
    def name(self) -> str:
        return f"{self.experiment}  {self.recipe.label}  seed {self.seed}"

    def read(self) -> dict[str, Any]:
        """Its result; raises as `results.read_run` does."""
        return results.read_run(self.result, self.recipe, self.scale, self.seed)

    @property
    def is_done(self) -> bool:
        """Whether it has a result, whole and of its recipe."""
        try:
            self.read()
        except (FileNotFoundError, results.DamagedResult):
            return False
        return True


def plan(
    experiments: Iterable[Experiment],
    scale: str,
    *,
    seeds: list[int] | None = None,
    only: list[str] | None = None,
    changes: dict[str, Any] | None = None,
    out: pathlib.Path | None = None,
    checkpoints: pathlib.Path | None = None,
    networks: pathlib.Path | None = None,
) -> list[Job]:
    """The runs of some experiments, seed by seed.

    Args:
        experiments: Whose runs.
        scale: `"full"` or `"small"`.
        seeds: Instead of the experiments' own.
        only: Labels or slugs of the recipes to train; by default all.
        changes: Fields of every recipe to change. What they make is no part
            of the report.
        out: Folder of the result files, by default `experiments/results`, or
            with changes a folder of theirs in `build/changed`.
        checkpoints: Folder of the checkpoints, by default in `build`, or in
            `out` if that is another folder than the report's.
        networks: Folder of the trained networks, likewise.

    Raises:
        ValueError: If `only` names no recipe, a change does not fit, or what
            is changed would go among the report's results.
    """
    changes = changes or {}
    if out is None:
        out = CHANGED / _folder(changes) if changes else results.RESULTS
    official = out.resolve() == results.RESULTS.resolve()
    if official and changes:
        raise ValueError(
            f"`out` must be another folder than {results.RESULTS}, which has "
            "the results of recipes as they are declared"
        )
    beside = results.ROOT / "build" if official else out
    checkpoints = checkpoints or beside / "checkpoints"
    networks = networks or beside / "networks"
    jobs: dict[pathlib.Path, Job] = {}
    wanted = {name.lower() for name in only or ()}
    met: set[str] = set()
    known: set[str] = set()
    for experiment in experiments:
        recipes, own_seeds = experiment.at(scale)
        for seed in own_seeds if seeds is None else seeds:
            for recipe in recipes:
                names = {recipe.label.lower(), recipe.slug}
                known.add(recipe.label)
                if wanted and not names & wanted:
                    continue
                met |= names & wanted
                path = (scale, experiment.family, recipe.slug, seed)
                job = Job(
                    experiment.name,
                    experiment.family,
                    scale,
                    recipe.changed(**changes),
                    seed,
                    results.path_of(out, *path),
                    results.path_of(checkpoints, *path).with_suffix(".npz"),
                    results.path_of(networks, *path).with_suffix(".kbs"),
                )
                jobs.setdefault(job.result, job)
    if wanted - met:
        raise ValueError(
            f"no recipe is called {', '.join(sorted(wanted - met))}; there are "
            f"{', '.join(sorted(known))}"
        )
    return sorted(jobs.values(), key=lambda job: job.seed)


def _folder(changes):
    """A name for what changes make, another for each."""
    text = ",".join(f"{name}={changes[name]}" for name in sorted(changes))
    name = "".join(c if c.isalnum() or c in "=,.-_" else "-" for c in text)
    if name == text and len(name) <= _SHOWN:
        return name
    return f"{name[:_SHOWN]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
