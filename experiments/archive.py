"""What the result files say: the rows of an experiment, means over seeds."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from typing import Any

from experiments import results
from experiments.catalog import EXPERIMENTS, SCALES
from experiments.recipes import Recipe


def _at_best(result: dict[str, Any], key: str) -> float:
    return result["history"][key][result["best_epoch"] - 1]


def _validation(result: dict[str, Any]) -> float:
    """Validation accuracy of the network that was tested."""
    if "validation" in result:
        return result["validation"]["accuracy"]
    return _at_best(result, "val_accuracy")  # in files from before


# what a result says, as a share
QUANTITIES = {
    "density": lambda result: result["test"]["density"],
    # before a peer's last cut
    "val_density": lambda result: _at_best(result, "density"),
    "test_accuracy": lambda result: result["test"]["accuracy"],
    "train_accuracy": lambda result: _at_best(result, "accuracy"),
    "val_accuracy": _validation,
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A quantity over seeds, in percent.

    Attributes:
        mean: `None` without a run.
        std: Standard deviation of the sample, `None` under two runs.
        n: Number of runs.
    """

    mean: float | None
    std: float | None
    n: int

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        spread = "" if self.std is None else f" ± {self.std:.2f}"
        return f"{self.mean:.2f}{spread}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One recipe of an experiment at a scale, and its results.

    Attributes:
        experiment: Name of the experiment.
        scale: `"full"` or `"small"`.
        recipe: What was trained.
        declared: The seeds that the catalog wants.
        results: What was found, by seed.
        files: The files they come from, by seed.
    """

    experiment: str
    scale: str
    recipe: Recipe
    declared: tuple[int, ...]
    results: dict[int, dict[str, Any]]
    files: dict[int, str]

    @property
    def label(self) -> str:
        return self.recipe.label

    @property
    def is_whole(self) -> bool:
        """Whether all of the declared runs are there."""
        return len(self.results) == len(self.declared)

    @property
    def runs(self) -> str:
        """How many of the declared runs there are."""
        if self.is_whole:
            return f"{len(self.results)}"
        return f"{len(self.results)} of {len(self.declared)}"

    def cell(self, quantity: str) -> Cell:
        """Mean and spread of one of `QUANTITIES`."""
        of = QUANTITIES[quantity]
        values = [100 * of(result) for result in self.results.values()]
        return Cell(
            statistics.mean(values) if values else None,
            statistics.stdev(values) if len(values) > 1 else None,
            len(values),
        )

    def histories(self, key: str) -> list[list[float]]:
        """A quantity by epoch, for each seed."""
        return [result["history"][key] for result in self.results.values()]


class Archive:
    """All result files of a folder, held against the catalog.

    Attributes:
        damaged: By file, why it cannot be trusted.
        stale: By file, in what it differs from what the catalog declares.
        missing: The declared files that are not there.
    """

    def __init__(self, folder: pathlib.Path = results.RESULTS):
        self._folder = folder
        self.damaged: dict[str, str] = {}
        self.stale: dict[str, str] = {}
        self.missing: list[str] = []
        self._read: dict[pathlib.Path, dict[str, Any] | None] = {}
        self._rows = {
            (name, scale): self._rows_of(name, scale)
            for name in EXPERIMENTS
            for scale in SCALES
        }
        self._find_undeclared()

    def rows(self, experiment: str, scale: str) -> list[Row]:
        """An experiment's rows, with and without results."""
        return self._rows[experiment, scale]

    def row(self, experiment: str, label: str, scale: str) -> Row:
        """One of them; raises KeyError if the catalog has none so called."""
        for row in self.rows(experiment, scale):
            if row.label == label:
                return row
        raise KeyError(f"{experiment} has no recipe called {label!r}")

    def most_seeds(self, row: Row) -> Row:
        """The same recipe in an experiment with more seeds, if all have run."""
        family = EXPERIMENTS[row.experiment].family
        alike = [
            other
            for (name, scale), rows in self._rows.items()
            if scale == row.scale and EXPERIMENTS[name].family == family
            for other in rows
            if other.recipe == row.recipe
            and other.is_whole
            and len(other.declared) > len(row.declared)
        ]
        return max(alike, key=lambda other: len(other.declared), default=row)

    def bench_file(self, name: str) -> pathlib.Path:
        """Where the result of a benchmark lies, if there is one."""
        return self._folder / "bench" / f"{name}.json"

    def bench(self, name: str) -> dict[str, Any]:
        """The result of a benchmark, empty if there is none."""
        path = self.bench_file(name)
        try:
            return results.read(path)
        except FileNotFoundError:
            return {}
        except results.DamagedResult as error:
            self.damaged[name_of(path)] = str(error)
            return {}

    def _rows_of(self, name, scale):
        experiment = EXPERIMENTS[name]
        recipes, seeds = experiment.at(scale)
        rows = []
        for recipe in recipes:
            found, files = {}, {}
            for seed in seeds:
                path = results.path_of(
                    self._folder, scale, experiment.family, recipe.slug, seed
                )
                if path not in self._read:
                    self._read[path] = self._take(path, recipe, scale, seed)
                result = self._read[path]
                if result is not None:
                    found[seed], files[seed] = result, name_of(path)
            rows.append(Row(name, scale, recipe, seeds, found, files))
        return rows

    def _take(self, path, recipe, scale, seed):
        """A result if it is there, whole, and of the declared recipe."""
        try:
            return results.read_run(path, recipe, scale, seed)
        except FileNotFoundError:
            self.missing.append(name_of(path))
        except results.OtherSettings as error:
            self.stale[name_of(path)] = error.differences
        except results.DamagedResult as error:
            self.damaged[name_of(path)] = str(error)
        return None

    def _find_undeclared(self):
        for scale in SCALES:
            for path in sorted((self._folder / scale).glob("*/*.json")):
                if path not in self._read:
                    self.stale[name_of(path)] = "the catalog declares no such"


def name_of(path: pathlib.Path) -> str:
    """A file relative to the repository, if it lies inside."""
    path = path.resolve()
    if path.is_relative_to(results.ROOT):
        path = path.relative_to(results.ROOT)
    return path.as_posix()
