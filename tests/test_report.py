"""The report says what the result files say, no more and no less."""

import dataclasses
import errno
import functools
import json
import re
import subprocess
import sys

import pytest

from experiments import results
from experiments.__main__ import main
from experiments.archive import Archive, Row
from experiments.catalog import EXPERIMENTS
from experiments.reporting import (
    architecture,
    autopsy,
    by_epoch,
    claims,
    criteria,
    document,
    figures,
    inference,
    markdown,
    page,
    quality,
    ranking,
    speed,
    tables,
    tradeoff,
    verdicts,
    write,
)
from experiments.reporting.published import RECORDS

pytestmark = pytest.mark.once


def result_of(recipe, seed, scale, accuracy=0.9, density=0.1, **changes):
    """What training would have written, best in the first epoch."""
    epochs = range(recipe.epochs)
    history = {
        "accuracy": [accuracy + 0.05 - 0.001 * e for e in epochs],
        "val_accuracy": [accuracy - 0.001 * e for e in epochs],
        "loss": [2.0 - 0.01 * e for e in epochs],
        "density": [density + 0.0001 * e for e in epochs],
    }
    return {
        "scale": scale,
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "best_epoch": 1,
        "test": {"accuracy": accuracy, "density": density},
        "history": history,
        "probes": {},
        **changes,
    }


def put(folder, name, scale="full", only=None, seeds=None, **figures):
    """Writes the results of an experiment; returns their paths."""
    experiment = EXPERIMENTS[name]
    recipes, declared = experiment.at(scale)
    paths = []
    for recipe in recipes:
        for seed in declared if seeds is None else seeds:
            if only is None or recipe.label in only:
                path = results.path_of(
                    folder, scale, experiment.family, recipe.slug, seed
                )
                results.save(result_of(recipe, seed, scale, **figures), path)
                paths.append(path)
    return paths


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report of one full and one small table, and where it lies."""
    folder = tmp_path_factory.mktemp("report")
    put(folder / "results", "table1", seeds=(0, 1))
    put(folder / "results", "table2", "small")
    assert write.write(folder / "results", folder / "out") == 0
    return folder


def test_a_cell_is_mean_and_deviation_over_the_seeds_there_are(tmp_path):
    for seed, share in ((0, 0.90), (2, 0.94)):
        put(
            tmp_path, "table1", only=("AdaBreg",), seeds=(seed,), accuracy=share
        )
    row = Archive(tmp_path).row("table1", "AdaBreg", "full")
    cell = row.cell("test_accuracy")
    assert (cell.mean, cell.n) == (pytest.approx(92), 2)
    assert cell.std == pytest.approx(8**0.5)
    assert str(cell) == "92.00 ± 2.83"
    assert row.runs == "2 of 3"
    # the training accuracy of the best epoch, which is the first
    assert str(row.cell("train_accuracy")) == "97.00 ± 2.83"


def test_one_run_has_no_deviation_and_none_has_no_number(tmp_path):
    put(tmp_path, "table1", only=("AdaBreg",), seeds=(1,))
    archive = Archive(tmp_path)
    one = archive.row("table1", "AdaBreg", "full")
    none = archive.row("table1", "LinBreg", "full")
    assert str(one.cell("density")) == "10.00"
    assert none.cell("density").mean is None
    assert none.runs == "0 of 3"


def test_a_full_cell_is_never_filled_from_a_small_run(written):
    data = json.loads((written / "out" / "report.json").read_text())
    cells = [cell for cell in data["cells"] if cell["table"] == "table2"]
    for cell in cells:
        full = cell["scale"] == "full"
        assert (cell["mean"] is None) == full
        assert (cell["files"] == []) == full
    text = (written / "out" / "report.md").read_text()
    section = text.split("## Table 2")[1].split("\n## ")[0]
    full, small = section.split(
        "Small scale (width 0.25, epochs 10, schedule cosine, threshold 0.01;"
    )
    rows = len(EXPERIMENTS["table2"].recipes)
    assert full.count("no full run yet") == 3 * rows
    assert full.count("0 of 3") == rows
    assert "no full run yet" not in small and "90.00" in small
    title = "Table 2 by epoch: ResNet-18 on CIFAR-10"
    assert f"{title}. No full run yet." in section
    assert f"- Not drawn: {title}\n" in text
    (verdict,) = (v for v in data["verdicts"] if v["key"] == "e")
    assert verdict["outcome"] == verdicts.OPEN
    assert verdict["scale"] == "small"


def test_the_report_and_the_paper_stand_beside_ours(written):
    text = (written / "out" / "report.md").read_text()
    ours = "10.00 ± 0.00 | 90.00 ± 0.00 | 95.00 ± 0.00"
    printed = "| 2 of 3 | 51.8 | 87.1 | 94.1 | 1.9 | 89.2 | 91.1 |"
    assert f"{ours} {printed}" in text
    # Table 3 is the report's own, for every group of rows
    assert text.count("| 88.9 | 9.9 | 10.1 |\n") == 3


def test_a_caption_says_what_computes_in_bfloat16(written):
    text = (written / "out" / "report.md").read_text()
    mixed = "Full scale; layers compute in bfloat16"
    for heading, caption in (
        ("Table 1", mixed),
        ("Figures 2-4", "Full scale"),
        (
            "Compact: VGG-16, width 1/4",
            f"{mixed} (not: LinBreg, 45 % of channels)",
        ),
    ):
        section = text.split(f"## {heading}")[1].split("\n## ")[0]
        assert f"\n{caption}." in section
    small = "layers compute in bfloat16 (not: AdaBreg at 2.3 %): no small run"
    assert small in text.split("## Table 1")[1].split("\n## ")[0]


def test_a_field_younger_than_a_file_had_its_defaults_effect(tmp_path):
    (path,) = put(tmp_path, "figure2-4", only=("SGD",), seeds=(0,))
    result = results.read(path)
    for name in ("options", "steering", "density", "precision", "probe_layers"):
        del result["recipe"][name]
    results.save(result, path)
    archive = Archive(tmp_path)
    assert not archive.stale
    assert archive.row("figure2-4", "SGD", "full").runs == "1 of 3"


def test_a_curve_is_a_table_of_methods_by_densities(tmp_path):
    put(tmp_path, "curve-lenet", only=("Adam", "AdaBreg at 5 %"))
    put(tmp_path, "curve-lenet", only=("STR at 20 %",), seeds=(1,))
    (path,) = put(tmp_path, "curve-lenet", only=("SET at 2 %",), seeds=(0,))
    result = results.read(path)
    result["history"]["flops"] = [0.04] * result["recipe"]["epochs"]
    result["floats"] = {"weights": 1000, "optimizer": 2500}
    results.save(result, path)
    rows = Archive(tmp_path).rows("curve-lenet", "full")
    table = tables.by_density(rows)
    columns = [c for _, group in table.groups for c in group]
    assert columns[:4] == ["method", "100 %", "50 %", "20 %"]
    assert columns[-3:] == ["0.5 %", "FLOPs", "memory"]
    lines = {
        line[0]: dict(zip(columns, line, strict=True)) for line in table.rows
    }
    assert lines["Adam"]["100 %"].startswith("90.00 ± 0.00")
    assert lines["Adam"]["50 %"] == ""
    # `put` gives every run a density of 10 %
    assert lines["AdaBreg"]["5 %"] == "90.00 ± 0.00 (10 %)"
    assert lines["STR"]["20 %"] == "90.00 (10 %), 1 of 3"
    assert lines["STR"]["10 %"] is None
    assert table.missing == "no full run yet"
    assert (lines["SET"]["FLOPs"], lines["SET"]["memory"]) == ("4 %", "3.5")
    assert lines["Adam"]["FLOPs"] == "-"  # its file does not say


def test_on_the_page_every_cell_stands_in_its_column():
    table = tables.Table(
        [("", ("method",)), ("asked for", ("10 %", "5 %", "2 %", "1 %"))],
        [
            ["AdaBreg", None, "90", None, None],
            ["LinBreg", "91", "91", None, "85"],
            ["RigL", None, None, None, None],
        ],
        "no run",
    )
    heads, *rows = re.findall(
        "<tr>(?!<td colspan)(.*?)</tr>", page._table(table, "")
    )
    assert heads.count("<th") == 5
    found = [
        [
            cell
            for span, text in re.findall(
                r'<td[^>]*?(?:colspan="(\d+)")?>(.*?)</td>', row
            )
            for cell in [text] * int(span or 1)
        ]
        for row in rows
    ]
    assert found == [
        ["no run" if cell is None else cell for cell in row]
        for row in table.rows
    ]
    assert rows[1].count("no run") == 1 and rows[2].count("no run") == 1


def put_seeds(folder, name, label, accuracies, **figures):
    """Writes the results of a recipe for seeds from 0 on."""
    for seed, accuracy in enumerate(accuracies):
        figures["accuracy"] = accuracy
        put(folder, name, only=(label,), seeds=(seed,), **figures)


def test_who_is_first_at_a_density(tmp_path):
    def run(label, share, *accuracies):
        put_seeds(tmp_path, "curve-lenet", label, accuracies, density=share)

    run("AdaBreg at 20 %", 0.2, 0.92, 0.92, 0.92)
    run("LinBreg at 20 %", 0.2, 0.91, 0.91, 0.91)
    run("Pruning at 20 %", 0.1, 0.91, 0.91, 0.91)  # fewer weights will do
    run("RigL at 20 %", 0.21, 0.99, 0.99, 0.99)  # more will not
    run("SET at 20 %", 0.2, 0.99, 0.99)  # nor a seed less
    # validation decides, and the test split only says how good it is
    put(
        tmp_path,
        "curve-lenet",
        only=("ProxGD at 20 %",),
        density=0.2,
        validation={"accuracy": 0.89},
        test={"accuracy": 0.99, "density": 0.2},
    )
    # beyond the deviation, but seeds make that in one case of ten
    run("LinBreg at 10 %", 0.1, 0.895, 0.895, 0.895)
    run("Lasso at 10 %", 0.1, 0.90, 0.91, 0.92)
    run("LinBreg at 5 %", 0.05, 0.88, 0.88, 0.88)
    run("ProxGD at 5 %", 0.05, 0.90, 0.91, 0.89)
    run("AdaBreg at 2 %", 0.02, 0.90, 0.90, 0.90)  # no other to compare with
    table = ranking.by_density(Archive(tmp_path).rows("curve-lenet", "full"))
    assert table.groups[1] == ("asked for", ("20 %", "10 %", "5 %"))
    named, others, ahead, standing = (row[1:] for row in table.rows)
    assert named[0] == "AdaBreg 92.00 ± 0.00"
    assert others == [
        "Pruning 91.00 ± 0.00",
        "Lasso 91.00 ± 1.00",
        "ProxGD 90.00 ± 1.00",
    ]
    assert ahead == ["+1.00", "-1.50", "-2.00"]
    assert standing == ["first", "level", "behind"]
    # one run each says nothing of who is
    for label, accuracy in (("AdaBreg at 10 %", 0.9), ("RigL at 10 %", 0.8)):
        put(
            tmp_path,
            "curve-resnet18",
            "small",
            only=(label,),
            accuracy=accuracy,
        )
    small = Archive(tmp_path).rows("curve-resnet18", "small")
    assert [row[1] for row in ranking.by_density(small).rows] == [
        *("AdaBreg 90.00", "RigL 80.00", "+10.00", "-"),
    ]
    # and nobody is, before both kinds have run
    mlp = Archive(tmp_path).rows("curve-mlp", "full")
    assert ranking.by_density(mlp) is None


def test_a_glance_takes_ten_seeds_where_all_have_run(tmp_path):
    def run(label, *accuracies):
        put_seeds(tmp_path, "seeds-lenet", label, accuracies, density=0.05)

    def line():
        (line,) = ranking.glance(Archive(tmp_path)).rows
        return line[2:5]

    run("AdaBreg at 5 %", 0.91, 0.92, 0.93)
    run("Pruning at 5 %", 0.90, 0.91, 0.92)
    three = ["AdaBreg 92.00 ± 1.00", "Pruning 91.00 ± 1.00", "level"]
    assert line() == three
    run("AdaBreg at 5 %", *[0.91, 0.92, 0.93] * 3)  # one is missing
    assert line() == three
    run("AdaBreg at 5 %", *[0.91, 0.93] * 5)
    run("Pruning at 5 %", *[0.90, 0.92] * 5)
    assert line() == [
        "AdaBreg 92.00 ± 1.05, 10 seeds",
        "Pruning 91.00 ± 1.05, 10 seeds",
        "first",
    ]


def test_a_difference_is_held_against_the_seeds_of_either(tmp_path):
    def row(label, *accuracies):
        put_seeds(tmp_path, "seeds-lenet", label, accuracies)
        return Archive(tmp_path).row("seeds-lenet", label, "full")

    def sign(other):
        return criteria.beyond_chance(one, other, "test_accuracy")

    one = row("AdaBreg at 5 %", *(0.90 + 0.001 * i for i in range(10)))
    # t of 10 degrees of freedom is 2.20 and 2.24, and the bound 2.228
    assert sign(row("LinBreg at 5 %", 0.9087, 0.9100)) == 0
    assert sign(row("Pruning at 5 %", 0.9089, 0.9101)) == -1
    assert sign(row("Lasso at 5 %", 0.99)) is None


def test_chances_are_corrected_for_how_many_were_looked_at():
    # each times as many as are not smaller, and none below a smaller one's
    found = criteria.corrected([0.04, 0.01, 0.03, 0.9])
    assert found == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert criteria.corrected([0.6, 0.7]) == [1.0, 1.0]


def test_beside_a_glance_stands_how_sure_it_is(tmp_path):
    def run(label, *accuracies):
        put_seeds(tmp_path, "curve-lenet", label, accuracies, density=0.05)

    def sections():
        return section_of(Archive(tmp_path), ranking.TITLE).tables

    run("AdaBreg at 5 %", 0.91, 0.92, 0.93)
    run("Pruning at 5 %", 0.90, 0.91)
    assert len(sections()) == 1  # a run is missing
    run("Pruning at 5 %", 0.90, 0.91, 0.92)
    for label in ("LinBreg at 2 %", "RigL at 2 %"):
        put(tmp_path, "curve-lenet", only=(label,), density=0.02)
    network = "LeNet-300-100 on MNIST"
    _, (text, table) = sections()
    assert text == ranking.CHANCES
    # t is 1.22 with 4 degrees of freedom
    assert table.rows == [
        [network, "5 %", "AdaBreg", "Pruning", "+1.00", "0.29", "0.58"],
        [network, "2 %", "LinBreg", "RigL", "+0.00", "1", "1"],
    ]


def test_a_glance_takes_runs_that_are_few_and_the_dense_network_of_any_kind(
    tmp_path,
):
    def lines():
        return ranking.glance(Archive(tmp_path)).rows

    put(tmp_path, "curve-lenet", only=("Adam", "Pruning at 2 %"))
    put(tmp_path, "curve-lenet", only=("AdaBreg at 50 %",), density=0.5)
    put(tmp_path, "curve-lenet", "small")
    assert lines() == []  # without ours, at too many weights, small
    put(
        tmp_path,
        "curve-lenet",
        only=("AdaBreg at 5 %",),
        seeds=(1,),
        density=0.05,
    )
    network = "LeNet-300-100 on MNIST"
    record = (
        "98.47 at 5 %, sparse momentum; "
        "98.53 at 5 %, sparse momentum, network not named"
    )
    (line,) = lines()
    assert line == [
        *(network, "5 %", "AdaBreg 90.00, 1 of 3", None, "-"),
        *("90.00 ± 0.00 by Adam", record),
    ]
    # another experiment's dense network, of the same kind and more weights
    other = "Adam, weight decay 0.3"
    put(tmp_path, "decay-lenet", only=(other,), accuracy=0.95)
    put(tmp_path, "figure2-4", only=("SGD",), accuracy=0.99)
    put(tmp_path, "curve-lenet", only=("LinBreg at 5 %",), accuracy=0.99)
    put(tmp_path, "curve-lenet", only=("RigL at 5 %",), density=0.04)
    (line,) = lines()
    assert line == [  # LinBreg has 10 % of the weights
        *(network, "5 %", "AdaBreg 90.00, 1 of 3", "RigL 90.00 ± 0.00", "-"),
        *(f"95.00 ± 0.00 by {other}", record),
    ]
    put(tmp_path, "curve-lenet", only=("AdaBreg at 5 %",), density=0.05)
    assert lines()[0][4] == "level"
    put(tmp_path, "curve-lenet", only=("AdaBreg at 2 %",), density=0.02)
    assert lines()[1][-1] == (
        "98.01 at 2 %, sparse momentum; "
        "98.20 at 2 %, sparse momentum, network not named"
    )
    put(tmp_path, "curve-resnet18", only=("LinBreg at 5 %",), density=0.05)
    assert lines()[2][-2:] == [
        None,
        "90.9 at 5.5 %, the paper's LinBreg; "
        "90.4 at 4.8 %, the paper's LinBreg momentum; "
        "94.93 at 5 %, AdaBreg, 10,000-class head",
    ]


def test_a_glance_names_ours_tuned_there_and_does_not_compare_it(tmp_path):
    def line():
        (line,) = ranking.glance(Archive(tmp_path)).rows
        return line[2:5]

    for label in ("LinBreg at 10 %", "RigL at 10 %"):
        put_seeds(tmp_path, "curve-convnet", label, (0.90, 0.91, 0.92))
    level = ["LinBreg 91.00 ± 1.00", "RigL 91.00 ± 1.00", "level"]
    assert line() == level
    tuned = "LinBreg at 10 %, decay 0.001, tau 1"
    put(tmp_path, "decay-convnet", only=(tuned,), accuracy=0.99)
    assert line() == [f"{level[0]}; tuned there 99.00 ± 0.00", *level[1:]]


def test_what_settings_are_chosen_from_has_no_test_figures(tmp_path):
    (recipe, *_), _ = EXPERIMENTS["search-lenet"].at("full")
    # cut after the last epoch, as some peers are
    cut = {"accuracy": 0.5, "density": 0.02}
    put(tmp_path, "search-lenet", only=(recipe.label,), test=cut)
    archive = Archive(tmp_path)
    built = document.build(archive, [], []).sections
    sections = {
        s.title.partition(":")[0]: s
        for s in built
        if "LeNet" in s.title and "further trials" not in s.title
    }
    (caption, table), (small, none) = sections["Search"].tables
    assert caption.startswith("Full scale. STR's") and none is None
    assert "no small run yet" in small
    columns = [c for _, group in table.groups for c in group]
    assert "validation" in columns and "test" not in columns
    assert table.rows[0][2:] == ["10.00", "90.00", "95.00", "1"]
    (caption, table), _ = sections["Ablation"].tables
    assert caption == "Full scale: no full run yet." and table is None
    (_, table), _ = sections["Decay"].tables
    columns = [c for _, group in table.groups for c in group]
    assert columns[-4:] == ["validation", "test", "train", "n"]


def test_the_tradeoff_has_a_line_for_each_method_with_runs(tmp_path):
    put(tmp_path, "curve-lenet", only=("Adam", "AdaBreg at 5 %", "SET at 1 %"))
    axis = tradeoff.draw(Archive(tmp_path).rows("curve-lenet", "full")).axes[0]
    _, labels = axis.get_legend_handles_labels()
    assert sorted(labels) == [
        "AdaBreg",
        "Adam, dense",
        "SET",
        "sparse momentum, network not named, published",
        "sparse momentum, published",
    ]
    assert not axis.texts


def test_methods_of_a_tradeoff_are_told_apart_without_colours(tmp_path):
    put(tmp_path, "curve-lenet", accuracy=0.9)
    axis = tradeoff.draw(Archive(tmp_path).rows("curve-lenet", "full")).axes[0]
    markers = [bars.lines[0].get_marker() for bars in axis.containers]
    published = [
        line.get_marker()
        for line in axis.lines
        if "published" in line.get_label()
    ]
    assert len(markers) == 8 and len(published) == 2
    assert len({*markers, *published}) == 10


def test_the_bars_of_a_tradeoff_are_within_its_frame(tmp_path):
    put_seeds(tmp_path, "curve-mlp", "STR at 0.5 %", (0.96, 0.95, 0.91))
    put(tmp_path, "curve-mlp", only=("AdaBreg at 1 %",), accuracy=0.96)
    axis = tradeoff.draw(Archive(tmp_path).rows("curve-mlp", "full")).axes[0]
    assert axis.get_ylim()[0] < 91
    assert not axis.texts


def test_what_the_room_for_arrows_shows_has_none(tmp_path):
    for label, accuracy in (
        ("AdaBreg at 1 %", 0.90),
        ("SET at 1 %", 0.833),
        ("STR at 1 %", 0.5),
    ):
        put(tmp_path, "curve-mlp", only=(label,), accuracy=accuracy)
    axis = tradeoff.draw(Archive(tmp_path).rows("curve-mlp", "full")).axes[0]
    assert [text.get_text() for text in axis.texts] == ["50.0"]
    assert axis.get_ylim()[0] < 83.3


def test_published_records_lie_in_the_frame_of_full_runs_only(tmp_path):
    for scale in ("full", "small"):
        put(
            tmp_path,
            "curve-resnet18",
            scale,
            only=("LinBreg at 5 %",),
            accuracy=0.945,
        )
    full, small = (
        tradeoff.draw(Archive(tmp_path).rows("curve-resnet18", scale)).axes[0]
        for scale in ("full", "small")
    )
    # the paper's LinBreg with momentum, 90.4 %, is the lowest
    assert full.get_ylim()[0] < 90.4
    # and all of them are there, those above ours too
    _, labels = full.get_legend_handles_labels()
    assert set(labels) == {
        "LinBreg",
        *(f"{name}, published" for name in RECORDS["curve-resnet18"]),
    }
    drawn = {tuple(line.get_ydata()) for line in full.lines}
    assert (94.93, 94.51) in drawn
    assert full.get_ylim()[1] > 94.93
    _, labels = small.get_legend_handles_labels()
    assert labels == ["LinBreg"]


def test_an_arrow_names_what_lies_below_the_frame(tmp_path):
    put(tmp_path, "curve-lenet", only=("AdaBreg at 1 %",))
    low = {
        "SET at 1 %": (0.7125, 0.0099),
        "STR at 1 %": (0.505, 0.01),
        "STR at 2 %": (0.6, 0.02),
    }
    for label, (accuracy, density) in low.items():
        (path,) = put(tmp_path, "curve-lenet", only=(label,), seeds=(0,))
        result = results.read(path)
        result["test"].update(accuracy=accuracy, density=density)
        results.save(result, path)
    axis = tradeoff.draw(Archive(tmp_path).rows("curve-lenet", "full")).axes[0]
    assert axis.get_ylim()[0] > 80
    found = {text.get_text(): text for text in axis.texts}
    assert set(found) == {"71.2", "50.5", "60.0"}
    # at one density they stand side by side
    shifts = {name: text.xyann[0] for name, text in found.items()}
    assert shifts == {"71.2": 0, "50.5": 26, "60.0": 0}


def test_every_number_names_the_files_that_it_comes_from(written):
    data = json.loads((written / "out" / "report.json").read_text())
    full = [
        cell
        for cell in data["cells"]
        if (cell["table"], cell["scale"]) == ("table1", "full")
    ]
    assert len(full) == 5 * 5
    for cell in full:
        assert cell["seeds"] == [0, 1]
        read = [results.read(written / file) for file in cell["files"]]
        assert [result["seed"] for result in read] == [0, 1]
        assert {r["recipe"]["label"] for r in read} == {cell["row"]}
    (figure,) = (f for f in data["figures"] if f["name"] == "table1")
    assert len(figure["files"]) == 10
    for image in figure["images"]:
        assert (written / "out" / image).stat().st_size > 1000
    # table 1's third seed, and what others of its family have besides
    missing = [f for f in data["missing"] if "/convnet/" in f]
    labels = {
        recipe.label
        for experiment in EXPERIMENTS.values()
        if experiment.family == "convnet"
        for recipe in experiment.recipes
    }
    besides = len(labels) - len(EXPERIMENTS["table1"].recipes)
    assert len([f for f in missing if "/full/" in f]) == 5 + 3 * besides
    assert len([f for f in missing if "/small/" in f]) == 5 + besides


def test_the_page_needs_nothing_beside_it(written):
    page = (written / "out" / "index.html").read_text()
    sources = re.findall(
        r"(?:src|href|srcset|data)\s*=\s*\"([^\"]{0,20})", page
    )
    # Figure 1, two tables, and a row of each in a curve
    assert len(sources) == 5
    assert all(s.startswith("data:image/svg+xml") for s in sources)
    assert not re.search(r"<script|<link|@import|url\(|https?://", page)


def test_the_same_results_give_the_same_bytes(written, tmp_path):
    write.write(written / "results", tmp_path)
    made = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert len(made) == 3 + 2 * 5
    for path in made:
        former = written / "out" / path.relative_to(tmp_path)
        assert path.read_bytes() == former.read_bytes(), path.name


@pytest.fixture
def no_images(monkeypatch):
    """Leaves the figures out where they are not the point."""
    monkeypatch.setattr(figures, "render", lambda *_: ({}, 0.0))


def test_a_damaged_file_is_named_and_not_used(tmp_path, no_images, capsys):
    source, out = tmp_path / "results", tmp_path / "out"
    damaged, *_ = put(source, "table1", only=("AdaBreg",))
    damaged.write_text(damaged.read_text().replace("0.95", "0.99"))
    assert main(["report", "--results", str(source), "--out", str(out)]) == 1
    assert damaged.name in capsys.readouterr().err
    data = json.loads((out / "report.json").read_text())
    (entry,) = data["damaged"]
    assert entry["file"].endswith(damaged.name)
    assert damaged.name in (out / "report.md").read_text()
    assert Archive(source).row("table1", "AdaBreg", "full").runs == "2 of 3"


def test_a_result_of_another_recipe_is_named_and_not_used(tmp_path):
    first, second, third = put(tmp_path, "table1", only=("AdaBreg",))
    for path, change in ((first, {"momentum": 0.4}), (second, {"gone": 1})):
        result = results.read(path)
        result["recipe"].update(change)
        results.save(result, path)
    third.rename(third.with_name("renamed-seed2.json"))
    archive = Archive(tmp_path)
    assert archive.row("table1", "AdaBreg", "full").runs == "0 of 3"
    reasons = list(archive.stale.values())
    assert reasons[0] == "momentum is 0.4, not 0.0"
    assert reasons[1] == "gone is 1, not null"
    assert "renamed" in list(archive.stale)[2]


def test_results_that_are_nowhere_leave_the_former_report(tmp_path, capsys):
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    former = out / "figures" / "figure2.png"
    former.write_text("former")
    for source in (tmp_path / "typo", out):
        command = ["report", "--results", str(source), "--out", str(out)]
        assert main(command) == 1
        assert "no folder of result files" in capsys.readouterr().err
    assert former.read_text() == "former"
    assert [f.name for f in out.iterdir()] == ["figures"]


def test_a_full_disk_is_said_and_leaves_the_former_report(
    tmp_path, no_images, monkeypatch, capsys
):
    put(tmp_path / "results", "figure2-4")
    out = tmp_path / "out"
    command = ["report", "--results", f"{tmp_path}/results", "--out", f"{out}"]
    assert main(command) == 0
    before = {file: file.read_bytes() for file in out.glob("*.*")}
    assert len(before) == 3

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "report.md" in error and "No space left" in error
    assert {file: file.read_bytes() for file in out.glob("*.*")} == before
    assert set(out.iterdir()) == before.keys()


def test_a_figure_without_results_any_more_is_removed(tmp_path, no_images):
    (tmp_path / "figures").mkdir()
    former = tmp_path / "figures" / "figure2.png"
    theirs = tmp_path / "figures" / "mine.png"
    former.touch()
    theirs.touch()
    write.write(tmp_path / "none", tmp_path)
    assert theirs.exists() and not former.exists()


def test_keras_is_imported_for_figure_1_only():
    code = (
        "import sys, experiments.reporting.write as write\n"
        "write.Archive()\n"
        "sys.exit('keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=results.ROOT, check=True)


# --- Verdicts --------------------------------------------------------------


def rows_of(key, numbers, seeds=(0, 1, 2)):
    """The rows that a claim needs: accuracy and density by label.

    A label is without the density asked for. A triple has the step between
    seeds as well; "" is every other label.
    """
    (claim,) = (c for c in claims.CLAIMS if c.key == key)
    rows = {}
    for experiment, label in (*claim.needs, *claim.sees):
        recipes, declared = EXPERIMENTS[experiment].at("full")
        (recipe,) = (r for r in recipes if r.label == label)
        name = label.partition(" at ")[0]
        found = numbers.get(name, numbers.get(f"{experiment} {name}"))
        accuracy, density, *step = found or numbers[""]
        own = {
            seed: result_of(
                recipe, seed, "full", accuracy + seed * sum(step), density
            )
            for seed in seeds
        }
        rows[experiment, label] = Row(
            experiment, "full", recipe, declared, own, {}
        )
    return claim, rows


GOOD = {"": (0.92, 0.02), "SGD": (0.93, 1.0), "Adam": (0.93, 1.0)}


@pytest.mark.parametrize(
    ("key", "numbers", "outcome"),
    [
        # level with dense SGD, as sparse as ProxGD
        ("a", {"": (0.97, 0.1), "SGD": (0.975, 1.0)}, "partly"),
        # 2 points better than that, which is no sparsity
        (
            "a",
            {
                "": (0.97, 0.1),
                "SGD": (0.975, 1.0),
                "ProxGD lambda 0.001": (0.95, 0.1),
            },
            "partly",
        ),
        (
            "a",
            {
                "": (0.97, 0.1),
                "SGD": (0.975, 1.0),
                "ProxGD lambda 0.0001": (0.975, 0.35),
            },
            "confirmed",
        ),
        ("a", {"": (0.97, 0.1), "LinBreg lambda 0.1": (0.9, 0.1)}, "refuted"),
        ("b", {"": (0.1, 0.9)}, "confirmed"),
        ("b", {"": (0.1, 0.9), "AdaBreg tau 0.001": (0.98, 0.3)}, "partly"),
        ("b", {"": (0.98, 0.3)}, "refuted"),
        # trains, but keeps nearly all weights
        ("b", {"": (0.98, 0.9)}, "confirmed"),
        ("c", {"": (0.97, 0.1)}, "confirmed"),
        ("c", {"": (0.97, 0.1), "LinBreg momentum": (0.98, 0.1)}, "refuted"),
        ("c", {"": (0.97, 0.1), "LinBreg momentum": (0.98, 0.2)}, "partly"),
        # better by less than the seeds differ
        (
            "c",
            {"": (0.97, 0.1), "LinBreg momentum": (0.96, 0.1, 0.015)},
            "confirmed",
        ),
        ("d", GOOD, "refuted"),
        ("d", {"": (0.92, 0.4)}, "confirmed"),
        ("d", {"": (0.92, 0.02), "AdaBreg": (0.79, 0.4)}, "partly"),
        # three times as dense as the paper's, if by 4 points only
        ("d", {"": (0.92, 0.02), "AdaBreg": (0.92, 0.065)}, "partly"),
        ("e", GOOD, "refuted"),
        ("e", {"": (0.92, 0.02), "AdaBreg": (0.86, 0.05)}, "confirmed"),
        ("e", {"": (0.92, 0.02), "LinBreg": (0.82, 0.1)}, "partly"),
        ("f", {**GOOD, "LinBreg (report)": (0.1, 0.9)}, "refuted"),
        ("f", {"": (0.1, 0.9)}, "confirmed"),
        ("f", {**GOOD, "table4 AdaBreg": (0.1, 0.9)}, "partly"),
        ("g", GOOD, "refuted"),
        ("g", {**GOOD, "table3 LinBreg": (0.1, 0.9)}, "confirmed"),
        ("g", {**GOOD, "table3 LinBreg": (0.8, 0.1)}, "partly"),
        ("h", {"": (0.9, 0.1)}, "refuted"),
        ("h", {"": (0.9, 0.1), "AdaBreg": (0.8, 0.1, 0.02)}, "partly"),
        ("h", {"": (0.9, 0.1), "AdaBreg": (0.7, 0.1, 0.1)}, "confirmed"),
        ("i", {"": (0.97, 0.1), "SGD": (0.96, 1.0)}, "confirmed"),
        ("i", {"": (0.97, 0.1, 0.01), "SGD": (0.97, 1.0)}, "partly"),
        ("i", {"": (0.97, 0.1), "SGD": (0.98, 1.0)}, "refuted"),
    ],
)
def test_a_verdict_follows_the_numbers(key, numbers, outcome):
    claim, rows = rows_of(key, numbers)
    found, sentence = claim.judge(rows)
    assert found == outcome, sentence


def test_a_row_with_a_lambda_of_ours_counts_once_it_has_run():
    claim, rows = rows_of("g", GOOD)
    key = ("table4", "AdaBreg")
    assert key in claim.sees
    (bad,) = (
        row
        for found, row in rows_of("g", {"": (0.8, 0.1)})[1].items()
        if found == key
    )
    outcome, sentence = claim.judge({**rows, key: bad})
    assert outcome == "partly"
    assert sentence.endswith(
        "VGG-13 13.0 and 10.0 %. Too much for VGG-13 AdaBreg."
    )
    not_run = dataclasses.replace(bad, results={})
    outcome, sentence = claim.judge({**rows, key: not_run})
    assert (outcome, "Too much" in sentence) == ("refuted", False)
    outcome, sentence = rows_of("f", {"": (0.9, 0.1)})[0].judge(
        {**rows_of("f", {"": (0.9, 0.1)})[1], key: not_run}
    )
    assert "11 of 11 rows" in sentence


def test_a_verdict_says_its_numbers():
    claim, rows = rows_of(
        "b", {"": (0.11, 0.95), "AdaBreg tau 0.001": (0.98, 0.38)}
    )
    assert claim.judge(rows)[1] == (
        "At the report's tau 0.1 AdaBreg reaches 11.00 ± 0.00 % validation "
        "accuracy at 95.0 % density, at tau 0.001 98.00 % at 38.0 %: the step "
        "size fails, not the algorithm."
    )


def test_a_claim_is_open_until_every_full_run_it_needs_is_there(tmp_path):
    claim = next(c for c in claims.CLAIMS if c.key == "h")
    put(tmp_path, "figure5-8")
    put(tmp_path, "table1")
    put(tmp_path, "table2", seeds=(0,))
    verdict = verdicts.judge(claim, Archive(tmp_path))
    assert (verdict.outcome, verdict.files) == (verdicts.OPEN, [])
    assert verdict.sentence == (
        "It takes 2 full runs each of table2 LinBreg at 5 %, LinBreg momentum "
        "at 5 %, AdaBreg at 5 %."
    )
    put(tmp_path, "table2", seeds=(1,))
    verdict = verdicts.judge(claim, Archive(tmp_path))
    assert (verdict.outcome, verdict.scale) == ("refuted", "full")
    assert verdict.sentence.endswith("n = 2 to 3.")
    assert len(verdict.files) == 9 + 9 + 6


def test_every_claim_is_about_recipes_that_exist(tmp_path):
    assert [v.key for v in verdicts.judge_all(Archive(tmp_path))] == [
        *"abcdefghi"
    ]


# --- Figures --------------------------------------------------------------


def test_a_curve_is_the_mean_and_its_band_the_range(tmp_path):
    for seed, share in ((0, 0.6), (1, 0.8)):
        put(
            tmp_path, "table1", only=("AdaBreg",), seeds=(seed,), accuracy=share
        )
    rows = Archive(tmp_path).rows("table1", "full")
    (axis,) = by_epoch.draw(rows, ["val_accuracy"]).axes
    (line,) = axis.lines
    assert line.get_label() == "AdaBreg"
    assert line.get_ydata()[:2] == pytest.approx([70, 69.9])
    (band,) = axis.collections
    extent = band.get_paths()[0].get_extents()
    assert (extent.ymax, extent.ymin) == pytest.approx((80, 60 - 9.9))


def test_an_optimizer_has_one_colour_and_each_recipe_its_own_dashes():
    for spec in figures.SPECS:
        if isinstance(spec.draw, functools.partial):  # by epoch
            recipes = EXPERIMENTS[spec.experiment].recipes
            looks = by_epoch.looks(recipes)
            assert len(set(looks.values())) == len(recipes)
    table1 = by_epoch.looks(EXPERIMENTS["table1"].recipes)
    figure = by_epoch.looks(EXPERIMENTS["figure5-8"].recipes)
    assert table1["LinBreg"].color == figure["LinBreg lambda 0.1"].color
    # more than four lines of one colour are not told apart by dashes
    for spec in figures.SPECS:
        if isinstance(spec.draw, functools.partial):
            recipes = EXPERIMENTS[spec.experiment].recipes
            colors = [look.color for look in by_epoch.looks(recipes).values()]
            assert max(map(colors.count, colors)) <= 4, spec.name


def probed_rows(name, probes):
    recipes, seeds = EXPERIMENTS[name].at("small")
    return [
        Row(
            name,
            "small",
            recipe,
            seeds,
            {0: result_of(recipe, 0, "small", probes=probes(recipe))},
            {},
        )
        for recipe in recipes
    ]


def test_adabregs_first_steps_are_drawn_over_tau():
    rows = probed_rows(
        "autopsy-adabreg",
        lambda recipe: {
            "steps": [
                {"step": s, "density": recipe.learning_rate, "accuracy": 0.5}
                for s in recipe.probe_steps
            ]
        },
    )
    left, right = autopsy.draw_steps(rows).axes
    taus = sorted(row.recipe.learning_rate for row in rows)
    steps = rows[0].recipe.probe_steps
    assert len(left.lines) == len(right.lines) == len(steps) + 1
    assert list(left.lines[0].get_xdata()) == taus
    assert left.lines[0].get_ydata() == pytest.approx([100 * t for t in taus])
    # colours alone do not tell them apart
    markers = {line.get_marker() for line in left.lines}
    assert len(markers) == len(left.lines)


def test_the_starts_of_a_vgg_are_drawn_by_norm_and_start():
    rows = probed_rows(
        "autopsy-vgg",
        lambda recipe: {
            "layers": [
                {"gradient_norm": norm, "dead_units": 0.25}
                for norm in (1.0, None, 3.0)
            ]
        },
    )
    rows = [row for row in rows if row.recipe.model == "vgg13"]
    axes = autopsy.draw_starts(rows).axes
    assert [len(axis.lines) for axis in axes] == [len(rows) // 2] * 8
    # what overflowed is a gap
    assert str(axes[0].lines[0].get_ydata()) == "[ 1. nan  3.]"
    assert set(axes[2].lines[0].get_ydata()) == {25.0}


def test_figure_1_shows_the_model_that_is_trained():
    layers = architecture.read_layers()
    assert sum(layer.parameters for layer in layers) == 236_618
    (axis,) = architecture.draw(layers).axes
    texts = [text.get_text() for text in axis.texts]
    for wanted in (
        "conv1",
        "4\N{MULTIPLICATION SIGN}4\N{MULTIPLICATION SIGN}64",
        "102,464",
        "logits",
    ):
        assert wanted in texts


def test_figure_1_without_a_backend_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "experiments.models", None)
    monkeypatch.delattr("experiments.models", raising=False)
    with pytest.raises(RuntimeError, match=r"Figure 1.*pip install"):
        architecture.read_layers()


def test_markdown_says_that_nothing_is_missing_only_if_so(tmp_path):
    content = document.build(Archive(tmp_path), [], [])
    assert markdown.render(content).endswith("Nothing.\n")


def section_of(archive, title, drawn=()):
    sections = document.build(archive, [], list(drawn)).sections
    return next(section for section in sections if section.title == title)


def test_what_networks_cost_is_told_from_the_benchmarks_file(
    tmp_path, no_images
):
    def sections():
        archive = Archive(tmp_path)
        drawn = [figures.of_inference(archive)]
        return section_of(archive, inference.TITLE, drawn)

    empty = sections()
    assert [table for _, table in empty.tables] == [None, None]
    assert "Not measured yet: bench inference." in empty.tables[0][0]
    assert not empty.figures[0].images
    row = {
        "network": "convnet",
        "variant": "Adam",
        "format": "LiteRT",
        "accuracy": 91.234,
        "flops": 15_220_000,
        "bytes": 950_680,
        "gzip": 880_027,
        "milliseconds": 0.139,
        "rate": 6759.0,
        "faster_1": 1.0,
        "faster_64": 3.3,
    }
    zeros = [
        {"network": "a layer", "way": "LiteRT", "density": d, "faster": f}
        for d, f in ((1.0, 1.0), (0.05, 1.4))
    ]
    folder = tmp_path / "bench"
    results.save({"inference": [row]}, folder / "inference.json")
    results.save({"zeros": zeros}, folder / "zeros.json")
    (_, sizes), (_, faster) = sections().tables
    assert sizes.rows == [
        ["convnet: Adam", "91.23", "15.22", "LiteRT", "951", "880"]
        + ["0.139", "1.00", "6,759", "3.30"]
    ]
    assert faster.groups[1] == ("", ("100 %", "5 %"))
    assert faster.rows == [["a layer", "LiteRT", "1.00", "1.40"]]
    # one experiment's alone: what it has again, and a network more
    again = {**row, "faster_64": 3.5}
    results.save(
        {"inference": [{**row, "variant": "SGD"}, again]},
        folder / "inference-compact-convnet.json",
    )
    (_, sizes), _ = sections().tables
    assert [(r[0], r[-1]) for r in sizes.rows] == [
        ("convnet: Adam", "3.50"),
        ("convnet: SGD", "3.30"),
    ]
    files = figures.of_inference(Archive(tmp_path)).files
    assert [f.split("/")[-1] for f in files] == [
        "inference.json",
        "inference-compact-convnet.json",
    ]
    (folder / "zeros.json").write_text("{}")
    archive = Archive(tmp_path)
    document.build(archive, [], [])
    assert "bench/zeros.json is damaged" in str(archive.damaged)


def test_speed_is_told_from_each_backends_file(tmp_path):
    def tables():
        return section_of(Archive(tmp_path), speed.TITLE).tables

    for (text, table), name in zip(tables(), ("fit", "scaling"), strict=True):
        assert f"Not measured yet: bench {name}." in text and table is None
    common = {"network": "perceptron", "optimizer": "AdaBreg"}
    torch = [
        {**common, "workers": 1, "batch": 128, "rate": 12345.6, "ratio": 1.0},
        {**common, "workers": 2, "batch": 256, "rate": 20000.0, "ratio": 1.62},
    ]
    fit = {**common, "rate": 4321.0, "ratio": 0.984, "waiting": 0.028}
    slow = {**fit, "network": "ConvNet"}
    folder = tmp_path / "bench"
    results.save({"scaling": torch}, folder / "scaling-torch.json")
    results.save({"scaling": torch[:1]}, folder / "scaling-jax.json")
    results.save({"fits": [fit]}, folder / "fit-jax.json")
    hardware = {"processor": "a processor", "cores": 2}
    results.save(
        {"fits": [fit, slow], "hardware": hardware}, folder / "fit-torch.json"
    )
    (text, beside_adam), (_, table) = tables()
    assert text.endswith("Measured: torch on a processor, 2 cores.")
    words = ("a second", "times as fast", "waiting")
    assert beside_adam.groups[1:] == [("jax", words), ("torch", words)]
    measured = ["4,321", "0.98", "3 %"]
    assert beside_adam.rows == [
        ["perceptron", "AdaBreg", *measured, *measured],
        ["ConvNet", "AdaBreg", "-", "-", "-", *measured],
    ]
    assert [group for group, _ in table.groups] == ["", "1 x 128", "2 x 128"]
    assert table.rows == [
        ["perceptron", "AdaBreg", "jax", "12,346", "1.00", "-", "-"],
        ["perceptron", "AdaBreg", "torch", "12,346", "1.00", "20,000", "1.62"],
    ]


def test_what_is_asked_is_told_beside_what_was_measured(tmp_path):
    def rows():
        ((_, table),) = section_of(Archive(tmp_path), quality.TITLE).tables
        return {row[0]: row[2] for row in table.rows}

    assert set(rows().values()) == {"not measured yet"}
    results.save({"suite": []}, tmp_path / "bench" / "coverage.json")
    assert rows()["Lines that these run"] == "not measured yet"
    tests = {
        "backend": "torch",
        **{"passed": 1200, "failed": 0, "skipped": 3, "seconds": 90.0},
    }
    found = {
        "suite": {"suite": [tests, tests]},
        "quick": {"suite": [{**tests, "failed": 2}]},
        "coverage": {"suite": [tests], "coverage": {"percent": 97.64}},
        "mutation": {"possible": 500, "tried": 40, "left": ["a fault"]},
        "fuzz": {
            **{"returned": 900, "refused": 200, "minutes": 30.0},
            "findings": {"a place": {"times": 3}, "another": {"times": 1}},
        },
        "import-jax": {
            "commit": "0123456789ab",
            "imports": [
                {"package": "keras", "seconds": 2.0},
                {"package": "keras_bregman", "seconds": 0.0331},
            ],
        },
        "soak": {
            "soak": [
                {
                    **{"killed": killed, "moments": [1.0, 2.0]},
                    **{"differences": ["density"], "disturbed": []},
                }
                for killed in ("a run", "a worker")
            ]
        },
    }
    for name, result in found.items():
        results.save(result, tmp_path / "bench" / f"{name}.json")
    assert rows() == {
        "Tests, every backend": "2,400 in 3.0 min",
        "Tests, `make test`": "1,200 in 1.5 min, 2 failed",
        "Lines that these run": "97.6 %, on torch",
        "Faults noticed": "98 % (39 of 40, of 500 possible)",
        "Wrong calls": "4 in 1,100 calls, 30 min",
        "Import, on tensorflow": "not measured yet",
        "Import, on jax": "33 ms",
        "Import, on torch": "not measured yet",
        "Kills by SIGKILL": "2 in 4 kills of a run, a worker",
    }
    ((_, table),) = section_of(Archive(tmp_path), quality.TITLE).tables
    commits = {row[0]: row[3] for row in table.rows}
    assert commits["Import, on jax"] == "0123456789ab"
    assert commits["Import, on torch"] == "-"
