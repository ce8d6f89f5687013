"""The demo, its result files, the SavedModel check and the benchmark."""

import errno
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_bregman as kb
from experiments import bench, demo, runs, savedmodel
from experiments.data import load

ROOT = pathlib.Path(__file__).parent.parent


def _command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def _linbreg(**changes):
    return runs.Run("LinBreg", "digits", "LinBreg", 0.1, 0.04, **changes)


def test_all_runs_of_a_plan_start_from_the_same_weights():
    dataset = load("digits")
    plan = demo.plan("digits", seed=3)
    assert len(plan) == 5
    start, *others = (run.build_model(dataset).get_weights() for run in plan)
    for other in others:
        for a, b in zip(start, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_run_learns_sparsely_and_its_result_says_how(tmp_path):
    run = _linbreg(epochs=25, batch_size=32, seed=1)
    model, result = runs.train(run, load("digits"))
    assert result["test"]["accuracy"] > 0.9
    assert result["test"]["density"] == kb.density(model) < 0.15
    history = result["history"]
    assert history["density"][0] < 0.06
    assert history["density"][-1] == result["test"]["density"]
    assert {len(values) for values in history.values()} == {25}
    runs.save(result, tmp_path / "new" / "result.json")
    read = json.loads((tmp_path / "new" / "result.json").read_text())
    assert read == result
    assert runs.Run(**read["config"]) == run
    assert read["versions"]["keras"] == keras.__version__
    assert read["hardware"]["cores"] == os.cpu_count()


def test_a_run_is_repeatable():
    histories = [
        runs.train(_linbreg(epochs=2), load("digits"))[1]["history"]
        for _ in range(2)
    ]
    assert histories[0] == histories[1]


def test_a_full_disk_leaves_the_old_result(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    runs.save({"epochs": 1}, path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        runs.save({"epochs": 2}, path)
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"epochs": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.tensorflow
def test_the_demo_command(tmp_path):
    done = _command(
        "demo", "--epochs=1", "--seeds", "4", "--out", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    for run in demo.plan("digits", seed=4):
        assert run.label in done.stdout
        assert (tmp_path / f"{run.slug}.json").exists()
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "the same predictions on 300 test images" in done.stdout
    assert demo.comparison(demo.read_results(tmp_path)) in done.stdout


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


@pytest.mark.tensorflow
def test_a_saved_model_that_differs_is_found_out(tmp_path):
    model = _linbreg().build_model(load("digits"))
    inputs = np.ones((3, 64), "float32")
    savedmodel.export(model, tmp_path / "model")
    check = savedmodel.check_in_fresh_process
    assert check(model, tmp_path / "model", inputs) <= 1e-5
    model.layers[-1].bias.assign_add(np.full(10, 1e-3))
    with pytest.raises(RuntimeError, match="predicts otherwise"):
        check(model, tmp_path / "model", inputs)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(RuntimeError, match="does not load"):
        check(model, tmp_path / "model", inputs)


def test_the_benchmark_reports_every_pair(monkeypatch):
    monkeypatch.setattr(bench, "RESNET18_KERNELS", [(3, 3, 4, 8), (8, 10)])
    monkeypatch.setattr(bench, "RESNET18_VECTORS", [8, 10])
    steps = bench.step_costs(repeats=2)
    assert len(steps) == len(bench.STEP_PAIRS) * len(bench.modes())
    slots = {s["optimizer"]: s["slots"] for s in steps}
    # duals of kernels only, and as scalars iterations, tau and two lambdas
    kernels, weights = 3 * 3 * 4 * 8 + 8 * 10, 3 * 3 * 4 * 8 + 8 * 10 + 18
    dual = (kernels + 4) / weights
    assert slots["LinBreg"] == pytest.approx(dual)
    assert slots["LinBreg momentum"] == pytest.approx(1 + dual)
    assert slots["AdaBreg"] == pytest.approx(2 + dual)
    result = {
        "backend": keras.config.backend(),
        "steps": steps,
        "fit": bench.fit_throughput(repeats=1, examples=1280),
    }
    text = bench.describe([result])
    assert all(name in text for name in bench.STEP_PAIRS)


def test_resnet18_has_eleven_million_weights():
    size = sum(np.prod(shape) for shape in bench.RESNET18_KERNELS)
    assert 11.0e6 < size + sum(bench.RESNET18_VECTORS) < 11.3e6


@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set"
)
@pytest.mark.parametrize("run", demo.plan("mnist", epochs=3)[2:])
def test_real_mnist(run):
    """Within a few points of what 40 epochs reach, at fewer weights still."""
    _, result = runs.train(run, load("mnist"))
    adam = run.optimizer == "AdaBreg"
    assert result["test"]["accuracy"] > (0.955 if adam else 0.92)
    assert result["test"]["density"] < (0.35 if adam else 0.05)
