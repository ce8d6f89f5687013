"""The README's code runs as printed, its figures are the measured ones."""

import json
import pathlib
import re

import keras_bregman as kb
from experiments import bench
from experiments.reporting import tables
from experiments.reporting.cells import Archive

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "experiments" / "results"


def test_the_example_trains_a_sparse_model(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    names: dict = {}
    exec(code, names)
    assert "total" in capsys.readouterr().out
    assert kb.density(names["model"]) < 0.2
    assert names["model"].history.history["val_accuracy"][-1] > 0.9


def test_its_timings_come_from_the_result_files():
    timed = [
        json.loads((RESULTS / "bench" / f"step-{backend}.json").read_text())
        for backend in ("tensorflow", "jax", "torch")
    ]
    assert bench.describe_steps(timed) in README.read_text()


def test_its_results_come_from_the_result_files():
    assert tables.digest(Archive(RESULTS)) in README.read_text()
