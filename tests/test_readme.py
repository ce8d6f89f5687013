"""The README's code runs as printed, its figures are the measured ones."""

import pathlib
import re

import pytest

import keras_bregman as kb
from experiments import results
from experiments.archive import Archive
from experiments.benchmarks import command
from experiments.reporting import inference, markdown, ranking, verdicts

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "experiments" / "results"
PAGE = ROOT / "docs" / "results.md"


def test_the_example_trains_a_sparse_model(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    names: dict = {}
    exec(code, names)
    assert "total" in capsys.readouterr().out
    assert kb.density(names["model"]) == pytest.approx(0.05, rel=0.02)
    assert names["model"].history.history["val_accuracy"][-1] > 0.88


@pytest.mark.tensorflow  # which the last block exports by
def test_the_other_blocks_run_after_it(tmp_path, monkeypatch):
    blocks = re.findall(r"```py(?:thon)?\n(.*?)```", README.read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        few = re.sub(r"(32, |epochs=|max_trials=)\d+", r"\g<1>2", block)
        exec(few, names)
    assert (tmp_path / "front.png").exists()
    assert kb.flops(names["small"]) < kb.flops(names["model"])


def test_its_timings_come_from_the_result_files():
    timed = [
        results.read(RESULTS / "bench" / f"step-{backend}.json")
        for backend in ("tensorflow", "jax", "torch")
    ]
    assert command.describe_steps(timed) in PAGE.read_text()


def test_its_results_come_from_the_result_files():
    archive = Archive(RESULTS)
    table = markdown.table_of(ranking.glance(archive))
    assert table in README.read_text()
    page = PAGE.read_text()
    assert markdown.table_of(ranking.chances(archive)) in page
    for verdict in verdicts.judge_all(archive):
        assert f"| {verdict.claim} | {verdict.outcome} |" in page


def test_the_compacted_networks_of_the_page_come_from_the_result_files():
    told = PAGE.read_text().partition("\n## Small and fast\n")[2]
    table = [line for line in told.splitlines() if line.startswith("| ")]
    rows = {
        (row["network"], row["variant"], row["format"]): row
        for row in inference.measured(Archive(RESULTS))
    }
    networks = {
        "convnet": (
            "Adam",
            "AdaBreg, 35 % of units, compact",
            "Adam, width 0.35",
        ),
        "vgg16": (
            "SGD",
            "Adam, tau 0.003",
            "LinBreg, 45 % of channels, compact",
            "LinBreg, 45 % of channels, compact by 8",
            "AdaBreg, 50 % of units, compact",
            "Adam, width 0.5, tau 0.003",
        ),
        "resnet18": (
            "SGD",
            "LinBreg, 45 % of channels, compact",
            "Adam, width 0.5, tau 0.003",
        ),
    }
    wanted = []
    for network, variants in networks.items():
        for variant in variants:
            found = [rows[network, variant, name] for name in inference.SHOWN]
            whole = rows[network, variants[0], inference.SHOWN[0]]["flops"]
            times = [whole / found[0]["flops"]]
            times += [row["faster_64"] for row in found]
            cells = ["1" if x == 1 else f"{x:.1f}" for x in times]
            wanted.append([f"{found[0]['accuracy']:.2f}", *cells])
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table
    ]
    assert [line[1:] for line in cells[1:]] == wanted
