"""What the report says, in order, before it is Markdown or HTML."""

from __future__ import annotations

from typing import NamedTuple

from experiments.archive import Archive
from experiments.catalog import EXPERIMENTS, SCALES, Experiment
from experiments.reporting import (
    inference,
    quality,
    ranking,
    speed,
    tables,
)
from experiments.reporting.figures import Drawn
from experiments.reporting.tables import Table
from experiments.reporting.verdicts import Verdict

TITLE = "The report, run again"
INTRODUCTION = (
    "Every table and figure of the student report (COMP 551, Project 4, "
    "December 2021) about the Bregman learning framework, and the comparisons "
    "with other methods, from runs of this repository. All numbers but those "
    "that others print are computed from the result files in "
    "experiments/results; python -m experiments report writes this anew."
)
READING = (
    "Numbers are percent: mean ± standard deviation of the sample over n "
    "seeds. N_total is the density, the share of weights that are not 0. Test "
    "and train are accuracies at the best epoch, which validation data chose. "
    "Where a density is asked for, an epoch with over 2 % more weights is not "
    "chosen. Train is the mean over that epoch while it trained, on augmented "
    "images if there are. Full runs are as the catalog declares them: figures "
    "2-8 and tables 1-4 with the report's networks and, but for a row of table "
    "2, its epochs. Small ones have what their heading says, to be trained on "
    "two CPU cores. They cannot be compared with the report or the paper."
)


class Section(NamedTuple):
    """One experiment.

    Attributes:
        title: Its heading.
        tables: Captions and tables; `None` for what has not run.
        figures: Its figures, drawn or not.
    """

    title: str
    tables: list[tuple[str, Table | None]]
    figures: list[Drawn]


class Document(NamedTuple):
    """All of it.

    Attributes:
        verdicts: On the report's claims.
        sections: At a glance, then in the catalog's order.
        troubles: Damaged and stale files, with the reason.
    """

    verdicts: list[Verdict]
    sections: list[Section]
    troubles: list[str]


def build(
    archive: Archive, verdicts: list[Verdict], drawn: list[Drawn]
) -> Document:
    """Puts everything in its place."""
    # which may find damaged files, so before these are listed
    benchmarks = [
        _speed(archive),
        _inference(archive, drawn),
        Section(quality.TITLE, [(quality.CAPTION, quality.build(archive))], []),
    ]
    troubles = [
        *(f"Damaged: {why}" for why in archive.damaged.values()),
        *(f"Not used: {name} ({why})" for name, why in archive.stale.items()),
    ]
    sections = [
        _glance(archive),
        *(
            _section(experiment, archive, drawn)
            for experiment in EXPERIMENTS.values()
        ),
    ]
    return Document(verdicts, [*sections, *benchmarks], troubles)


def absent(document: Document) -> list[str]:
    """The titles of all figures that wait for their full runs."""
    return [
        drawn.title
        for section in document.sections
        for drawn in section.figures
        if not drawn.images and drawn.scale == "full"
    ]


def _glance(archive):
    parts: list[tuple[str, Table | None]] = [
        (ranking.GLANCE, ranking.glance(archive))
    ]
    if (chances := ranking.chances(archive)) is not None:
        parts.append((ranking.CHANCES, chances))
    return Section(ranking.TITLE, parts, [])


def _section(experiment: Experiment, archive, drawn):
    name = experiment.name
    return Section(
        f"{_heading(name)}: {experiment.title}",
        [
            table
            for scale in SCALES
            for table in _tables(experiment, archive, scale)
        ],
        [
            figure
            for figure in drawn
            if figure.experiment == name
            and (figure.images or figure.scale == "full")
        ],
    )


def _speed(archive):
    """What a step costs, and how much faster several processes train."""
    parts = []
    for name, caption, build in (
        ("fit", speed.BESIDE_ADAM, speed.fits),
        ("scaling", speed.SCALING, speed.rates),
    ):
        found = speed.results_of(archive, name)
        told = caption + speed.machines(found)
        parts.append(_benchmark(name, told, found, build))
    return Section(speed.TITLE, parts, [])


def _inference(archive, drawn):
    """What the networks to be compacted cost where they are used."""
    rows = inference.measured(archive)
    zeros = archive.bench("zeros").get("zeros", [])
    parts = [
        _benchmark(
            "inference", inference.SIZE_AND_SPEED, rows, inference.sizes
        ),
        _benchmark("zeros", inference.ZEROS, zeros, inference.zeros),
    ]
    figures = [figure for figure in drawn if figure.experiment == "inference"]
    return Section(inference.TITLE, parts, figures)


def _benchmark(name, caption, found, build):
    """Caption and table of what a benchmark found, if anything."""
    if not found:
        return f"{caption} Not measured yet: bench {name}.", None
    return caption, build(found)


def _heading(name):
    """`table1` as Table 1, `figure2-4` as Figures 2-4, `curve-mlp` as Curve."""
    word = name.rstrip("0123456789-")
    number = name[len(word) :]
    if not number or "-" in word:
        return word.partition("-")[0].capitalize()
    return f"{word.capitalize()}{'s' if '-' in number else ''} {number}"


def _tables(experiment, archive, scale):
    """What an experiment shows at a scale."""
    rows = archive.rows(experiment.name, scale)
    caption = _caption(experiment, scale)
    # the report's own tables show what is missing, line by line
    optional = scale != "full" or experiment.kind == "trials"
    if optional and not any(row.results for row in rows):
        yield f"{caption}: no {scale} run yet.", None
        return
    caption = " ".join(filter(None, (f"{caption}.", experiment.note)))
    if experiment.kind == "trials":
        yield caption, tables.by_validation(rows)
    elif experiment.kind == "choice":
        yield caption, tables.by_validation(rows, tested=True)
    elif experiment.kind == "curve":
        yield f"{caption} {tables.COST}", tables.by_density(rows)
        if (ranked := ranking.by_density(rows)) is not None:
            yield ranking.CAPTION, ranked
    else:
        yield caption, tables.build(rows)


def _precision(recipes):
    """Which rows compute in bfloat16, or which do not, if those are fewer."""
    exact = [r.label for r in recipes if r.precision == "float32"]
    mixed = [r.label for r in recipes if r.precision != "float32"]
    if not mixed:
        return ""
    if not exact:
        return "; layers compute in bfloat16"
    if len(exact) < len(mixed):
        return f"; layers compute in bfloat16 (not: {'; '.join(exact)})"
    return f"; layers compute in bfloat16 (only: {'; '.join(mixed)})"


def _caption(experiment, scale):
    recipes, _ = experiment.at(scale)
    precision = _precision(recipes)
    if scale == "full":
        return f"Full scale{precision}"
    changes = ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in experiment.small.items()
    )
    return f"Small scale ({changes}; not comparable with the paper){precision}"
