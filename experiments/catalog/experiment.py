"""An experiment: recipes that belong together, at two scales."""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.recipes import Recipe

SCALES = ("full", "small")

# what most networks change at scale "small"
QUARTER = {"width": 0.25, "epochs": 10}
# a step in bfloat16 takes eight times as long where a CPU has to emulate it
FLOAT32 = {"precision": "float32"}
QUARTER_CURVE = {**QUARTER, **FLOAT32}
# 10 epochs are too few for a plateau to be seen and tau to fall
QUARTER_COSINE = {**QUARTER, "schedule": "cosine"}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Some recipes that belong together.

    Attributes:
        name: On the command line.
        title: What it shows.
        family: Folder of its results. A recipe that two experiments of one
            family share is trained once.
        recipes: What is trained.
        seeds: One run of every recipe for each.
        small: What changes at scale `"small"`, which has the seed 0 alone.
        small_recipes: For a recipe's label, what else changes there.
        kind: What its rows are to each other: `"table"`; `"curve"`, methods
            at densities asked for; `"trials"`, to choose from by
            validation; `"choice"`, a few recipes trained to be compared.
        network: Of a curve, and its data, as tables name them.
        note: What a reader of its table has to know, in sentences.
    """

    name: str
    title: str
    family: str
    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...]
    small: dict[str, Any]
    small_recipes: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=dict
    )
    kind: str = "table"
    network: str = ""
    note: str = ""

    def at(self, scale: str) -> tuple[tuple[Recipe, ...], tuple[int, ...]]:
        """The recipes and seeds at a scale of `SCALES`."""
        if scale == "full":
            return self.recipes, self.seeds
        return tuple(
            r.changed(**{**self.small, **self.small_recipes.get(r.label, {})})
            for r in self.recipes
        ), (0,)
