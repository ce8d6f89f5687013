"""What networks cost where they are used, and those that are published."""

import functools
import re

import keras
import numpy as np
import pytest
from tiny import TINY

import keras_bregman as kb
from experiments import jobs, results, runner, zoo
from experiments.archive import Archive
from experiments.benchmarks import inference, zeros
from experiments.catalog import EXPERIMENTS, Experiment
from experiments.reporting import inference as tables

pytestmark = pytest.mark.once

LEARNS = TINY.changed(
    width=0.4, examples=None, epochs=4, augment=False, momentum=0.0, start=1.0
)
UNITS = LEARNS.changed(
    label="AdaBreg, 50 % of units",
    optimizer="AdaBreg",
    learning_rate=3e-3,
    lam=1e-3,
    density=0.5,
    groups={
        "dense.*kernel": {"lam": 1.0, "alpha": 0.0},
        "kernel": {"lam": 1.0},
    },
)
DENSE = LEARNS.changed(label="Adam", optimizer="Adam", learning_rate=1e-3)
FASTER = DENSE.changed(label="Adam, tau 0.003", learning_rate=3e-3)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """An experiment of three recipes whose runs are there, and its files."""
    experiment = Experiment(
        "compact-tiny", "Tiny", "tiny", (DENSE, FASTER, UNITS), (0,), {}
    )
    monkeypatch.setitem(EXPERIMENTS, "compact-tiny", experiment)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "saved_models")
    folders = {
        name: tmp_path / name for name in ("out", "checkpoints", "networks")
    }
    here = functools.partial(jobs.plan, **folders)
    for module in (inference, zoo):
        monkeypatch.setattr(module, "plan", here)
    assert runner.run(here([experiment], "full")) == 0
    archive = Archive(tmp_path / "out")
    monkeypatch.setattr(inference, "Archive", lambda: archive)
    return tmp_path


def test_sparse_networks_are_measured_as_trained_and_compacted(trained):
    found = inference.subjects("compact-tiny")
    assert [s.variant for s in found] == [
        "Adam",
        "Adam, tau 0.003",
        "AdaBreg, 50 % of units",
        "AdaBreg, 50 % of units, compact",
        "AdaBreg, 50 % of units, compact by 8",
    ]
    assert {s.network for s in found} == {"tiny"}
    dense, faster, sparse, small, even = (s.model for s in found)
    assert dense is faster
    assert kb.flops(small) < kb.flops(even) < kb.flops(sparse)
    assert kb.flops(sparse) == kb.flops(dense)
    hidden = [even.get_layer(name) for name in ("dense1", "dense2")]
    assert all(layer.units % 8 == 0 for layer in hidden)
    for subject in found:
        file = trained / "out" / "full" / "tiny"
        label = subject.variant.partition(", compact")[0]
        (recipe,) = (r for r in (DENSE, FASTER, UNITS) if r.label == label)
        result = results.read(file / f"{recipe.slug}-seed0.json")
        assert subject.facts["accuracy"] == pytest.approx(
            100 * result["test"]["accuracy"]
        )


def test_what_was_trained_elsewhere_is_left_out(trained, capsys):
    (network,) = (trained / "networks").rglob("adabreg-*.kbs")
    network.unlink()
    assert inference.subjects("compact-tiny") == []
    assert 'only "AdaBreg, 50 % of units"' in capsys.readouterr().out


@pytest.mark.tensorflow
def test_every_network_is_held_to_the_first_in_the_same_format(trained):
    # one for each runtime; the dense networks, and the compact one
    formats = inference.FORMATS[::2]
    dense, faster, _, compact, _ = inference.subjects("compact-tiny")
    subjects = [dense, faster, compact]
    rows = inference.measure(subjects, 1, formats)
    n = len(formats)
    for dense, faster in zip(rows[:n], rows[n : 2 * n], strict=True):
        differ = {key for key in dense if dense[key] != faster[key]}
        assert differ == {"variant", "accuracy"}
    assert len(rows) == len(subjects) * len(formats)
    for i, row in enumerate(rows):
        first = rows[i % len(formats)]
        assert row["format"] == first["format"]
        assert row["faster_64"] == pytest.approx(row["rate"] / first["rate"])
        assert row["faster_1"] == pytest.approx(
            first["milliseconds"] / row["milliseconds"]
        )
        assert row["gzip"] < row["bytes"]
        if row["variant"].endswith("compact"):
            assert row["bytes"] < first["bytes"]
            assert row["flops"] < first["flops"]
    printed = tables.sizes(rows)
    assert len(printed.rows) == len(rows)
    assert {len(r) for r in printed.rows} == {10}
    assert tables.draw(rows).axes


def test_a_published_network_loads_as_its_card_says(trained, monkeypatch):
    saved = zoo.Saved("tiny", "compact-tiny", UNITS.label)
    monkeypatch.setattr(zoo, "SAVED", (saved,))
    said = zoo.publish(saved)
    (file,) = zoo.FOLDER.glob("*.kbs")
    card = (zoo.FOLDER / "tiny.md").read_text()
    result = results.read(saved.job.result)
    assert f"{100 * result['test']['accuracy']:.2f}%" in said
    assert f"| test accuracy | {result['test']['accuracy']:.2%}, " in card
    assert f"{file.stat().st_size:,} bytes" in card
    assert '--only "AdaBreg, 50 % of units" --seeds 0' in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    monkeypatch.chdir(trained)
    scope: dict = {}
    exec(code, scope)
    assert kb.density(scope["model"]) == pytest.approx(
        result["test"]["density"]
    )
    # found there too by whoever has not trained it
    saved.job.network.unlink()
    again = zoo.trained(saved.job)
    assert kb.density(again) == pytest.approx(result["test"]["density"])


def test_a_network_of_another_training_is_not_published(trained):
    saved = zoo.Saved("tiny", "compact-tiny", UNITS.label)
    job = saved.job
    model = zoo.trained(job)
    for weight in model.weights:
        weight.assign(0 * weight)
    kb.save_sparse(model, job.network)
    with pytest.raises(RuntimeError, match="not of one training"):
        zoo.publish(saved)
    job.network.unlink()
    with pytest.raises(FileNotFoundError, match="experiments run compact-tiny"):
        zoo.publish(saved)


def test_all_that_lies_in_saved_models_is_declared():
    there = {file.stem for file in zoo.FOLDER.glob("*.kbs")}
    names = {saved.name for saved in zoo.SAVED}
    assert {n for n in there if not n.startswith("demo-")} == names


@pytest.mark.parametrize("saved", zoo.SAVED, ids=[s.name for s in zoo.SAVED])
def test_what_lies_in_saved_models_is_what_its_card_says(saved):
    model = kb.load_sparse(zoo.FOLDER / f"{saved.name}.kbs")
    card = (zoo.FOLDER / f"{saved.name}.md").read_text()
    assert f"| weights that are not 0 | {kb.density(model):.2%} |" in card
    assert saved.command in card
    assert model(np.zeros((1, *model.input.shape[1:]), "uint8")).shape == (
        1,
        10,
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize("density", [1.0, 0.05])
def test_a_dense_layer_in_three_ways(density):
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(40, 30)).astype("float32")
    kernel *= generator.random(kernel.shape) < density
    x = generator.normal(size=(1, 40)).astype("float32")
    for way in (zeros._whole, zeros._as_sparse, zeros._condensed):
        answer = keras.ops.convert_to_numpy(way(kernel)(x))
        np.testing.assert_allclose(answer, x @ kernel, atol=1e-5)


def test_networks_with_zeros_have_the_density_asked_for(monkeypatch):
    monkeypatch.setattr(zeros, "DENSITIES", (1.0, 0.1))
    for make in (zeros.mobile, zeros.plain, zeros.perceptron):
        (_, full), (_, thin) = zeros._sparsified(make)
        assert kb.density(full) == 1
        assert kb.density(thin) < 0.25
