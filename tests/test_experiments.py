"""The demo and the benchmarks."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import start_soon

from experiments import building, demo, results
from experiments.archive import Row
from experiments.benchmarks import command, fit, importing, scaling, step
from experiments.data import load
from experiments.recipes import Recipe
from experiments.training import train

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parent.parent


def _command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_all_runs_of_the_demo_start_from_the_same_weights():
    dataset = load("digits")
    recipes = demo.recipes_of("digits")
    assert len(recipes) == 5
    built = (building.model_of(r, dataset, 3) for r in recipes)
    start, *others = (model.get_weights() for model in built)
    for other in others:
        for a, b in zip(start, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.tensorflow
def test_the_demo_command(tmp_path):
    done = _command(
        "demo", "--epochs=1", "--seeds", "4", "--out", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    rows = []
    for recipe in demo.recipes_of("digits"):
        file = tmp_path / f"{recipe.slug}-seed4.json"
        found = {4: results.read(file)}
        rows.append(Row("demo", "digits", recipe, (4,), found, {4: str(file)}))
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "the same predictions on 300 test images" in done.stdout
    assert demo.describe(rows) in done.stdout
    assert all(Recipe(**row.results[4]["recipe"]).epochs == 1 for row in rows)


@pytest.mark.tensorflow
def test_a_missing_dataset_ends_the_demo_before_training(tmp_path):
    done = _command(
        "demo",
        "--data=mnist",
        TFDS_DATA_DIR=str(tmp_path),
        KERAS_BREGMAN_CACHE=str(tmp_path),
        HTTPS_PROXY="http://127.0.0.1:9",
        HTTP_PROXY="http://127.0.0.1:9",
    )
    assert done.returncode == 1
    assert "Dataset 'mnist' is not available" in done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch" not in done.stdout


def test_the_benchmark_reports_every_pair(monkeypatch):
    monkeypatch.setattr(step, "RESNET18_KERNELS", [(3, 3, 4, 8), (8, 10)])
    monkeypatch.setattr(step, "RESNET18_VECTORS", [8, 10])
    rows = step.measure(repeats=2)
    assert len(rows) == len(step.TWINS) * len(step.modes())
    slots = {s["optimizer"]: s["slots"] for s in rows}
    # duals of kernels only; as scalars iterations, tau, two lambdas, and the
    # density at the start
    kernels, weights = 3 * 3 * 4 * 8 + 8 * 10, 3 * 3 * 4 * 8 + 8 * 10 + 18
    dual = (kernels + 5) / weights
    assert slots["LinBreg"] == pytest.approx(dual)
    assert slots["LinBreg momentum"] == pytest.approx(1 + dual)
    assert slots["AdaBreg"] == pytest.approx(2 + dual)
    timed = {"backend": keras.config.backend(), "steps": rows}
    text = command.describe_steps([timed])
    assert all(name in text for name in step.TWINS)


def test_the_benchmark_of_fit_times_every_optimizer():
    recipe = fit.NETWORKS[0].recipe.changed(width=0.1)
    tiny = fit.Network("tiny", recipe, steps=3)
    fits = fit.measure(1, (tiny,))
    assert [f["optimizer"] for f in fits] == list(fit.OPTIMIZERS)
    assert fits[0]["ratio"] == 1
    assert all(0 <= f["waiting"] < 1 for f in fits)
    text = command.describe_fits([{"backend": "this", "fits": fits}])
    assert all(name in text for name in fit.OPTIMIZERS)


def test_the_benchmark_of_imports_counts_both_packages(monkeypatch):
    start_soon(monkeypatch)
    rows = importing.measure(repeats=1)
    assert [row["package"] for row in rows] == ["keras", "keras_bregman"]
    assert all(0 < r["least"] <= r["seconds"] <= r["most"] for r in rows)
    text = command.describe_imports([{"backend": "this", "imports": rows}])
    assert "keras_bregman" in text


def test_the_benchmark_of_scaling_trains_by_one_process_and_by_two():
    recipe = fit.NETWORKS[0].recipe.changed(width=0.1)
    rows = scaling.measure(1, (fit.Network("tiny", recipe, steps=3),))
    assert [(r["optimizer"], r["workers"], r["batch"]) for r in rows] == [
        ("Adam", 1, 128),
        ("AdaBreg", 1, 128),
        *(("Adam", 2, 128), ("Adam", 2, 256)),
        *(("AdaBreg", 2, 128), ("AdaBreg", 2, 256)),
    ]
    alone = {r["optimizer"]: r["rate"] for r in rows if r["workers"] == 1}
    for row in rows:
        assert row["ratio"] == row["rate"] / alone[row["optimizer"]]
    text = command.describe_scaling([{"backend": "this", "scaling": rows}])
    assert "times as fast, 2 x 64" in text
    assert len(text.splitlines()) == 4


def test_resnet18_has_eleven_million_weights():
    size = sum(np.prod(shape) for shape in step.RESNET18_KERNELS)
    assert 11.0e6 < size + sum(step.RESNET18_VECTORS) < 11.3e6


@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set"
)
@pytest.mark.parametrize(
    "recipe", demo.recipes_of("mnist", epochs=3)[2::2], ids=lambda r: r.slug
)
def test_real_mnist(recipe, tmp_path):
    """Within a few points of what 40 epochs reach, at fewer weights still."""
    _, result = train(recipe, 0, load("mnist"), tmp_path / "run.npz")
    adam = recipe.optimizer == "AdaBreg"
    assert result["test"]["accuracy"] > (0.955 if adam else 0.92)
    assert result["test"]["density"] < (0.35 if adam else 0.05)
