"""The report's figures, those of the tables and of the autopsy, as files."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from experiments.archive import Archive, Row, name_of
from experiments.catalog import CURVES, EXPERIMENTS, SCALES
from experiments.recipes import Recipe
from experiments.reporting import (
    architecture,
    autopsy,
    by_epoch,
    inference,
    ranking,
    style,
    tradeoff,
)
from experiments.reporting.published import REPORT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Spec(NamedTuple):
    """A figure to be drawn from an experiment's rows.

    Attributes:
        name: Of its files.
        title: Above it.
        experiment: Whose rows.
        draw: From rows to a matplotlib figure.
        takes: Whether a recipe belongs into it.
        marks: What stands for several seeds.
    """

    name: str
    title: str
    experiment: str
    draw: Callable[[list[Row]], Figure]
    takes: Callable[[Recipe], bool] = lambda recipe: True
    marks: str = "Line: mean over {} seeds; band: their range."


class Drawn(NamedTuple):
    """A figure at one scale, drawn if there is anything to draw.

    Attributes:
        name: Of its files; ends in `-small` at that scale.
        title: Above it.
        experiment: Whose rows.
        scale: `"full"` or `"small"`.
        note: What its lines and bands are, and what is missing.
        files: The result files it shows.
        images: The file's content by suffix, empty if nothing is there.
        width: In inches.
    """

    name: str
    title: str
    experiment: str
    scale: str
    note: str
    files: list[str]
    images: dict[str, bytes]
    width: float


def _by_epoch(*keys: str, log_density: bool = False):
    return functools.partial(by_epoch.draw, keys=keys, log_density=log_density)


SPECS = (
    Spec(
        "figure2",
        "Figure 2: training accuracy of SGD, ProxGD and LinBreg",
        "figure2-4",
        _by_epoch("accuracy"),
    ),
    Spec(
        "figure3",
        "Figure 3: validation accuracy of SGD, ProxGD and LinBreg",
        "figure2-4",
        _by_epoch("val_accuracy"),
    ),
    Spec(
        "figure4",
        "Figure 4: density of SGD, ProxGD and LinBreg",
        "figure2-4",
        _by_epoch("density"),
    ),
    Spec(
        "figure5",
        "Figure 5: validation accuracy of the Bregman optimizers",
        "figure5-8",
        _by_epoch("val_accuracy"),
    ),
    Spec(
        "figure6",
        "Figure 6: validation accuracy, AdaBreg at tau 0.001",
        "figure5-8",
        _by_epoch("val_accuracy"),
        lambda r: r.optimizer != "AdaBreg" or r.learning_rate != 0.1,
    ),
    Spec(
        "figure7",
        "Figure 7: density of the Bregman optimizers",
        "figure5-8",
        _by_epoch("density"),
    ),
    Spec(
        "figure8",
        "Figure 8: density of LinBreg with and without momentum",
        "figure5-8",
        _by_epoch("density"),
        lambda recipe: recipe.optimizer == "LinBreg",
    ),
    *(
        Spec(
            table,
            f"Table {table[-1]} by epoch: {EXPERIMENTS[table].title}",
            table,
            _by_epoch("val_accuracy", "density", log_density=True),
        )
        for table in REPORT
    ),
    Spec(
        "autopsy-adabreg",
        "AdaBreg over tau: what its first steps switch on",
        "autopsy-adabreg",
        autopsy.draw_steps,
    ),
    *(
        Spec(
            f"autopsy-{model}",
            f"{title}: what each start does to gradients and units",
            "autopsy-vgg",
            autopsy.draw_starts,
            functools.partial(lambda wanted, r: r.model == wanted, model),
        )
        for model, title in (("vgg13", "VGG-13"), ("vgg16", "VGG-16"))
    ),
    *(
        Spec(
            curve.name,
            f"{curve.network}: test accuracy over density",
            curve.name,
            tradeoff.draw,
            marks=(
                "Points: means over {} seeds; bars: their range. Dense: by the "
                f"curve's own recipe; '{ranking.TITLE}' has the best."
            ),
        )
        for curve in CURVES
    ),
    Spec(
        "autopsy-start",
        "ConvNet: dense layers that start sparse or full",
        "autopsy-start",
        _by_epoch("val_accuracy", "density", log_density=True),
    ),
    Spec(
        "decay-convnet",
        "ConvNet at 10 %: learned by heart, or not",
        "decay-convnet",
        _by_epoch("accuracy", "val_accuracy"),
    ),
)


def file_names() -> list[str]:
    """All files that figures can have."""
    names = ["figure1", "inference", *(s.name for s in SPECS)]
    names += [f"{s.name}-small" for s in SPECS]
    return [f"{name}.{suffix}" for name in names for suffix in ("png", "svg")]


def figure1() -> Drawn:
    """The ConvNet, read from the model; needs Keras but no result."""
    title = "Figure 1: the layers of the ConvNet"
    layers = architecture.read_layers()
    note = "Names, sizes and numbers are read from the model that is trained."
    images, width = render(lambda: architecture.draw(layers), title)
    return Drawn("figure1", title, "table1", "full", note, [], images, width)


def of_inference(archive: Archive) -> Drawn:
    """Accuracy over speed, from the benchmark's result."""
    title, rows = inference.FIGURE, inference.measured(archive)
    if rows:
        note = "One seed."
        images, width = render(lambda: inference.draw(rows), title)
    else:
        note, images, width = "Not measured yet.", {}, 0.0
    files = [name_of(archive.bench_file(f)) for f in inference.files(archive)]
    return Drawn(
        "inference", title, "inference", "full", note, files, images, width
    )


def draw_all(archive: Archive) -> list[Drawn]:
    """Every other figure at every scale, drawn or not."""
    return [_drawn(spec, archive, scale) for spec in SPECS for scale in SCALES]


def _drawn(spec, archive, scale):
    rows = [
        row
        for row in archive.rows(spec.experiment, scale)
        if spec.takes(row.recipe)
    ]
    small = scale != "full"
    name = f"{spec.name}-small" if small else spec.name
    title = f"{spec.title} (small scale)" if small else spec.title
    if any(row.results for row in rows):
        note = _note(spec.marks, rows)
        images, width = render(lambda: spec.draw(rows), title)
    else:
        note, images, width = f"No {scale} run yet.", {}, 0.0
    files = [file for row in rows for file in row.files.values()]
    return Drawn(
        name, title, spec.experiment, scale, note, files, images, width
    )


def _note(marks, rows):
    """Over how many seeds, and which rows fall short of that."""
    wanted = len(rows[0].declared)
    text = "One seed." if wanted == 1 else marks.format(wanted)
    short = [
        f"{row.label} ({len(row.results)} of {wanted})"
        for row in rows
        if not row.is_whole
    ]
    if not short:
        return text
    if len(short) > 8:
        none = sum(not row.results for row in rows)
        short = [f"{len(short)} of {len(rows)} rows, {none} without a run"]
    return f"{text} Still incomplete: {', '.join(short)}."


def render(
    draw: Callable[[], Figure], title: str
) -> tuple[dict[str, bytes], float]:
    """A figure as PNG and SVG, always the same bytes, and its width."""
    import matplotlib

    images = {}
    with matplotlib.rc_context(style.STYLE):
        figure = draw()
        figure.suptitle(title, x=0.01, ha="left", size=10.5)
        for suffix, unwanted in (("png", "Software"), ("svg", "Date")):
            file = io.BytesIO()
            figure.savefig(
                file, format=suffix, dpi=160, metadata={unwanted: None}
            )
            images[suffix] = file.getvalue()
    return images, float(figure.get_figwidth())
