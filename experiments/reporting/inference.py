"""What networks cost where they are used, from the benchmarks' results."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from experiments.archive import Archive
from experiments.catalog import COMPACTED, EXPERIMENTS
from experiments.reporting.style import BLUE, GREY, ORANGE, PURPLE, RED
from experiments.reporting.tables import Table, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Measured = list[dict[str, Any]]
TITLE = "Inference: accuracy, size and speed of compacted networks"
FIGURE = "Accuracy over speed of compacted networks"
SHOWN = ("TensorFlow", "LiteRT", "ONNX Runtime")
SIZE_AND_SPEED = (
    "Size on disk, raw and compressed by gzip, and speed on one core, each "
    "network held to the dense one in the same format and the same run: "
    "fastest of several measurements, all networks of a run in turn. Test "
    "accuracy is that of training: where layers computed in bfloat16, that of "
    "the file, in float32, differs by up to 1.4 points (saved_models has both "
    "of some), and that of int8 was not measured."
)
# of all networks in one run, then of one experiment's in a run of its own
_FILES = ("inference", *(f"inference-{name}" for name in COMPACTED))
ZEROS = (
    "Random zeros instead of dead units: how many times as fast as the dense "
    "network, one example on one core, by the share of weights that are not 0."
)


def sizes(rows: Measured) -> Table:
    """Every network in every format."""
    groups = [
        (
            "",
            (
                "network",
                "test, as trained",
                "MFLOPs",
                "format",
                "kB",
                "gzip kB",
            ),
        ),
        ("one example", ("ms", "times as fast")),
        ("batches of 64", ("a second", "times as fast")),
    ]
    return Table(
        groups,
        [
            [
                f"{row['network']}: {row['variant']}",
                f"{row['accuracy']:.2f}",
                f"{row['flops'] / 1e6:.2f}",
                row["format"],
                f"{row['bytes'] / 1000:,.0f}",
                f"{row['gzip'] / 1000:,.0f}",
                f"{row['milliseconds']:.3f}",
                f"{row['faster_1']:.2f}",
                f"{row['rate']:,.0f}",
                f"{row['faster_64']:.2f}",
            ]
            for row in rows
        ],
    )


def zeros(rows: Measured) -> Table:
    """How much faster zeros make a network, by density."""
    densities = list(dict.fromkeys(row["density"] for row in rows))
    found: dict[tuple[str, str], dict[float, str]] = {}
    for row in rows:
        cells = found.setdefault((row["network"], row["way"]), {})
        cells[row["density"]] = f"{row['faster']:.2f}"
    return Table(
        [
            ("", ("network", "by")),
            ("", tuple(map(percent, densities))),
        ],
        [
            [*key, *(cells.get(density, "-") for density in densities)]
            for key, cells in found.items()
        ],
    )


def draw(rows: Measured) -> Figure:
    """Accuracy over speed, a panel for each network and runtime."""
    from matplotlib.figure import Figure

    variants = dict.fromkeys((row["network"], row["variant"]) for row in rows)
    counts = Counter(network for network, _ in variants)
    # one alone has nothing to be compared with
    names = list(counts)
    networks = [name for name in names if counts[name] > 1] or names
    figure = Figure(
        figsize=(9.0, 0.6 + 2.5 * len(networks)), layout="constrained"
    )
    axes = figure.subplots(
        len(networks), len(SHOWN), sharey="row", squeeze=False
    )
    for network, line in zip(networks, axes, strict=True):
        for runtime, axis in zip(SHOWN, line, strict=True):
            _panel(
                axis,
                [
                    row
                    for row in rows
                    if row["network"] == network and row["format"] == runtime
                ],
            )
            axis.set_title(f"{_title(network)}, {runtime}")
        line[0].set_ylabel("test accuracy in %")
    for axis in axes[-1]:
        axis.set_xlabel("times as fast as dense, batches of 64")
    shown = {
        label: handle
        for axis in axes.ravel()
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=4)
    return figure


def _title(network):
    """A panel's title, from that of its experiment."""
    experiment = EXPERIMENTS.get(f"compact-{network}")
    if experiment is None:
        return network
    return experiment.title.partition(" on ")[0].rstrip(",")


def _panel(axis, rows):
    kinds = (
        ("dense, the best of each width", GREY, "o-", lambda v: "of " not in v),
        ("units, as trained", ORANGE, "^", _is("of units")),
        ("units, compacted", RED, "o-", _is("of units, compact")),
        ("units, compacted by 8", RED, "D", _is("of units, compact by 8")),
        ("channels, as trained", PURPLE, "^", _is("of channels")),
        ("channels, compacted", PURPLE, "o-", _is("of channels, compact")),
        (
            "channels, compacted by 8",
            PURPLE,
            "D",
            _is("of channels, compact by 8"),
        ),
        ("weights, as trained", BLUE, "v", _is("of weights")),
        ("weights, compacted", BLUE, "s", _is("of weights, compact")),
    )
    for label, colour, style, takes in kinds:
        best: dict[float, float] = {}
        for row in rows:
            if takes(row["variant"]):
                speed, accuracy = row["faster_64"], row["accuracy"]
                best[speed] = max(accuracy, best.get(speed, 0.0))
        if best:
            axis.plot(
                *zip(*sorted(best.items()), strict=True),
                style,
                color=colour,
                markersize=4.5,
                label=label,
            )
    axis.set_xscale("log", base=2)
    axis.set_xticks([1, 1.5, 2, 3])  # powers of 2 would be two
    axis.xaxis.set_major_formatter("{x:g}")


def _is(ending):
    return lambda variant: variant.endswith(ending)


def files(archive: Archive) -> list[str]:
    """Results of `bench inference` that are there."""
    return [name for name in _FILES if archive.bench(name)]


def measured(archive: Archive) -> Measured:
    """What networks cost; as last measured, if in several runs."""
    rows = {
        (row["network"], row["variant"], row["format"]): row
        for name in _FILES
        for row in archive.bench(name).get("inference", ())
    }
    return list(rows.values())
