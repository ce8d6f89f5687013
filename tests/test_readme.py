"""The README's code runs as printed, its figures are the measured ones."""

import pathlib
import re

import pytest

import keras_bregman as kb
from experiments import results
from experiments.archive import Archive
from experiments.benchmarks import command
from experiments.reporting import markdown, ranking

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "experiments" / "results"


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
    page = ROOT / "docs" / "results.md"
    assert command.describe_steps(timed) in page.read_text()


def test_its_results_come_from_the_result_files():
    table = markdown.table_of(ranking.glance(Archive(RESULTS)))
    assert table in README.read_text()
