"""One run: stopped and resumed, evaluated, and its checkpoint's soundness."""

import json

import keras
import numpy as np
import pytest
from helpers import assert_same_weights
from tiny import TINY

import keras_bregman as kb
from experiments import models, provenance, results
from experiments.checkpoint import Checkpoint
from experiments.data import load
from experiments.training import OutOfTime, train
from experiments.works import outcome

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "run.npz"


def train_a_little(digits, path):
    """One epoch, after which the time is over."""
    with pytest.raises(OutOfTime):
        train(TINY, 0, digits, path, deadline=0)


class TestResuming:
    def test_stopped_after_every_epoch_a_run_ends_the_same(
        self, unbroken, digits, path, monkeypatch
    ):
        model, expected = unbroken
        rates = expected["history"]["learning_rate"]
        assert rates == pytest.approx([0.1, 0.1, 0.05, 0.05])
        for _ in range(TINY.epochs - 1):
            train_a_little(digits, path)
        resumed, result = train(TINY, 0, digits, path)
        assert outcome(result) == outcome(expected)
        assert result["sessions"] == TINY.epochs
        assert_same_weights(resumed, model)
        # killed before the result was saved, it is not trained again
        monkeypatch.setattr(keras.Model, "fit", None)
        _, result = train(TINY, 0, digits, path)
        assert outcome(result) == outcome(expected)

    def test_what_each_session_was_made_with_is_told(
        self, digits, path, monkeypatch
    ):
        made_with = provenance.of_process()
        for commit in ("a", "b", "b", "c"):
            monkeypatch.setattr(
                provenance,
                "of_process",
                lambda commit=commit: {**made_with, "commit": commit},
            )
            if commit == "c":
                _, result = train(TINY, 0, digits, path)
            else:
                train_a_little(digits, path)
        assert result["commit"] == "c"
        assert [e["commit"] for e in result["earlier"]] == ["a", "b"]
        keys = made_with.keys()
        assert all(former.keys() == keys for former in result["earlier"])

    def test_with_a_damaged_checkpoint_a_run_begins_anew(
        self, unbroken, digits, path
    ):
        train_a_little(digits, path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.warns(UserWarning, match=f"{path} is not used"):
            _, result = train(TINY, 0, digits, path)
        assert outcome(result) == outcome(unbroken[1])
        assert result["sessions"] == 1

    def test_a_checkpoint_of_another_run_is_kept(self, digits, path):
        train_a_little(digits, path)
        kept = path.read_bytes()
        other = TINY.changed(learning_rate=0.5)
        why = f"learning_rate.*moved to {path.name}.aside"
        with pytest.warns(UserWarning, match=why):
            train(other, 0, digits, path)
        aside = path.with_name(f"{path.name}.aside")
        assert aside.read_bytes() == kept


class TestResult:
    def test_it_can_be_saved_and_says_how_it_was_made(self, unbroken, path):
        _, result = unbroken
        results.save(result, path)
        assert results.read(path) == result
        assert {len(v) for v in result["history"].values()} == {TINY.epochs}
        assert result["history"]["density"][0] < 0.5
        assert result["sessions"] == 1 and result["seconds"] > 0

    def test_figures_that_json_has_not(self, digits, path, monkeypatch):
        def evaluate(self, *args, **kwargs):
            return {"loss": float("inf"), "accuracy": 0.5}

        monkeypatch.setattr(keras.Model, "evaluate", evaluate)
        _, result = train(TINY.changed(epochs=1), 0, digits, path)
        assert result["history"]["val_loss"] == [None]
        assert result["test"]["loss"] is None
        results.save(result, path)

    def test_weights_that_are_no_numbers(self, digits, path):
        diverging = TINY.changed(
            optimizer="SGD", momentum=0.0, learning_rate=1e30
        )
        with pytest.raises(FloatingPointError):
            train(diverging, 0, digits, path)

    def test_the_test_split_decides_nothing(self, unbroken, digits, path):
        other = digits._replace(
            x_test=digits.x_test[:50], y_test=(digits.y_test[:50] + 1) % 10
        )
        _, result = train(TINY, 0, other, path)
        assert result["test"] != unbroken[1]["test"]
        assert {**outcome(result), "test": 0} == {
            **outcome(unbroken[1]),
            "test": 0,
        }

    def test_another_seed_and_what_is_said_of_it(self, unbroken, digits, path):
        lines = []
        recipe = TINY.changed(epochs=2)
        _, result = train(recipe, 3, digits, path, progress=lines.append)
        assert result["history"]["loss"][0] != unbroken[1]["history"]["loss"][0]
        assert len(lines) == 2
        assert lines[0].startswith("Tiny  seed 3  epoch   1/2  loss ")
        assert lines[1].endswith("  0 s left")


@pytest.fixture(scope="module")
def watched(digits, tmp_path_factory):
    """A run with batch normalization whose evaluations are looked at.

    Three images to validate: their accuracy has ties, and a best epoch that
    is hardly the last.
    """
    dataset = digits._replace(x_val=digits.x_val[:3], y_val=digits.y_val[:3])
    recipe = TINY.changed(model="vgg13", width=0.1, epochs=6)
    evaluate, seen = keras.Model.evaluate, []

    def look(self, x=None, y=None, **options):
        before = self.get_weights()
        figures = evaluate(self, x, y, **options)
        seen.append((x, before, self.get_weights(), figures))
        return figures

    path = tmp_path_factory.mktemp("watched") / "run.npz"
    with pytest.MonkeyPatch.context() as patch:
        # for 8x8 images, and a matter of time
        patch.setitem(models._VGG, "vgg13", (1, 1))
        patch.setattr(keras.Model, "evaluate", look)
        model, result = train(recipe, 0, dataset, path)
    return model, result, dataset, seen


def accuracy(model, x, y, training=False):
    logits = keras.ops.convert_to_numpy(model(x, training=training))
    return np.mean(logits.argmax(-1) == y)


class TestEvaluation:
    def test_the_test_split_is_read_once_at_the_end(self, watched):
        _, result, dataset, seen = watched
        *validated, last = [x for x, *_ in seen]
        # after each epoch, and the finished network
        assert len(validated) == len(result["history"]["loss"]) + 1
        assert all(x is dataset.x_val for x in validated)
        assert last is dataset.x_test

    def test_no_evaluation_changes_the_network(self, watched):
        model, _, _, seen = watched
        assert any("moving_variance" in v.path for v in model.variables)
        for _, before, after, _ in seen:
            for a, b in zip(before, after, strict=True):
                np.testing.assert_array_equal(a, b)
        # which training does
        (_, first, *_), (_, second, *_), *_ = seen
        for a, b, variable in zip(first, second, model.variables, strict=True):
            if "moving" in variable.path:
                assert not np.array_equal(a, b), variable.path

    def test_figures_are_those_of_inference(self, watched):
        model, result, dataset, _ = watched
        x, y = dataset.x_test, dataset.y_test
        assert result["test"]["accuracy"] == pytest.approx(
            accuracy(model, x, y)
        )
        assert result["test"]["density"] == kb.density(model)
        # in training mode they would be others
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        assert accuracy(copy, x, y) != accuracy(copy, x, y, training=True)

    def test_the_best_epoch_is_the_first_on_validation_images(self, watched):
        model, result, dataset, seen = watched
        scores = result["history"]["val_accuracy"]
        assert scores.count(max(scores)) > 1
        assert result["best_epoch"] == 1 + scores.index(max(scores))
        assert result["best_epoch"] < len(scores)
        _, best, *_ = seen[result["best_epoch"] - 1]
        for a, b in zip(model.get_weights(), best, strict=True):
            np.testing.assert_array_equal(a, b)
        assert max(scores) == pytest.approx(
            accuracy(model, dataset.x_val, dataset.y_val)
        )


def small():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(kb.AdaBreg(0.1, 0.01), "mse")
    return model


def saver(path, model, **identity):
    checkpoint = Checkpoint(path, identity, kb.callbacks.PlateauDecay())
    checkpoint.set_model(model)
    return checkpoint


def saved(path, **identity):
    """A small model that was trained for two epochs, with its file."""
    model = small()
    writer = saver(path, model, **identity)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    for epoch, score in enumerate((0.5, 0.25)):
        model.fit(x, x[:, :2], verbose=0)
        writer.plateau.bad_epochs = epoch
        writer.on_epoch_end(epoch, {"val_accuracy": score, "loss": 1 - score})
    return model


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v) for v in variables]


@pytest.mark.parametrize("epoch", (2, 4), ids=("ramp", "frozen"))
def test_a_density_asked_for_survives_a_kill(epoch, tmp_path):
    recipe = TINY.changed(
        density=0.3, lam=1.0, epochs=5, ramp=0.5, freeze=0.3, schedule="cosine"
    )
    dataset = load("digits")
    model, whole = train(recipe, 0, dataset, tmp_path / "whole.npz")
    assert kb.density(model) == pytest.approx(0.3, rel=0.02)
    assert whole["test"]["density"] == pytest.approx(0.3, rel=0.02)

    def interrupt(line):
        if f"epoch   {epoch}/5" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, 0, dataset, tmp_path / "run.npz", progress=interrupt)
    _, resumed = train(recipe, 0, dataset, tmp_path / "run.npz")
    assert resumed["sessions"] == 2
    assert outcome(resumed) == outcome(whole)


def assert_same_state(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def repacked(path, **changes):
    """The file with other arrays in it."""
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, **arrays)


def other_version(path):
    with np.load(path) as archive:
        fields = json.loads(archive["state"].item())
    del fields["sessions"]
    repacked(path, state=np.array(json.dumps(fields)))


class TestCheckpoint:
    def test_everything_comes_back(self, path):
        model = saved(path)
        other = small()
        reader = saver(path, other)
        reader.restore(other)
        assert_same_state(state(other), state(model))
        assert reader.history == {
            "val_accuracy": [0.5, 0.25],
            "loss": [0.5, 0.75],
        }
        assert reader.epochs_done == 2 and reader.best_epoch == 1
        assert reader.plateau.bad_epochs == 1 and reader.sessions == 2
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes()[:300]),
            lambda path: path.write_text("{}"),
            lambda path: repacked(path, state=np.array("{}")),
            lambda path: repacked(path, now0=np.zeros((2, 3), "float32")),
            lambda path: repacked(path, best0=np.array([{}], object)),
            other_version,
        ],
    )
    def test_a_damaged_file_is_named_and_changes_nothing(self, path, damage):
        saved(path)
        damage(path)
        model = small()
        model.optimizer.build(model.trainable_variables)
        before = state(model)
        reader = saver(path, model)
        with pytest.warns(UserWarning, match=f"{path} is not used"):
            reader.restore(model)
        assert_same_state(state(model), before)
        assert reader.epochs_done == 0 and reader.history == {}

    @pytest.mark.filterwarnings("ignore:The checkpoint")
    def test_no_flipped_byte_changes_a_run(self, path):
        trained = state(saved(path))
        content = path.read_bytes()
        model, noticed = small(), 0
        for i in range(0, len(content), 41):
            flipped = bytearray(content)
            flipped[i] ^= 1 << i % 8
            path.write_bytes(flipped)
            reader = saver(path, model)
            reader.restore(model)
            if reader.epochs_done:  # a date or an attribute of the archive
                assert_same_state(state(model), trained)
                reader.restore_best(model)
            else:
                noticed += 1
        assert noticed > 0.6 * len(content) / 41

    @pytest.mark.parametrize(
        ("other", "why"),
        (
            (
                {"start": {"conv": 0.1, "": 1.0}, "backend": "torch"},
                'backend is "jax", not "torch". It is moved to',
            ),
            (
                {"start": {"": 1.0, "conv": 0.1}, "backend": "jax"},
                "start is .*, not .* It is moved to",
            ),
        ),
        ids=("backend", "order"),
    )
    def test_a_file_of_another_run(self, path, other, why):
        saved(path, start={"conv": 0.1, "": 1.0}, backend="jax")
        model = small()
        reader = saver(path, model, **other)
        with pytest.warns(UserWarning, match=why):
            reader.restore(model)
        assert reader.epochs_done == 0

    def test_a_full_disk_leaves_the_former_file(self, path, file_size_limit):
        model = saved(path)
        before = path.read_bytes()
        writer = saver(path, model)
        writer.restore(model)
        for size in (0, 100, 1000, len(before) - 1):
            with file_size_limit(size), pytest.raises(OSError):
                writer.on_epoch_end(2, {"val_accuracy": 1.0, "loss": 0.0})
            assert path.read_bytes() == before
            assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_only_epochs_with_the_density_asked_for_are_the_best(self, path):
        model = small()
        model.optimizer.build(model.trainable_variables)
        writer = Checkpoint(path, {}, None, 0.1)
        writer.set_model(model)
        best = []
        for epoch, (score, density) in enumerate(
            ((0.5, 1.0), (0.9, 0.2), (0.6, 0.101), (0.7, 0.1), (0.65, 0.1))
        ):
            logs = {"val_accuracy": score, "density": density}
            writer.on_epoch_end(epoch, logs)
            best.append(writer.best_epoch)
        # until one has it, the sparsest of them
        assert best == [1, 2, 3, 4, 4]

    def test_the_first_of_equal_epochs_is_the_best(self, path):
        model = small()
        model.optimizer.build(model.trainable_variables)
        writer = saver(path, model)
        kernel = model.trainable_variables[0]
        for epoch, score in enumerate((0.1, 0.3, 0.3, 0.2, 0.3)):
            kernel.assign(np.full((3, 2), epoch))
            writer.on_epoch_end(epoch, {"val_accuracy": score})
        assert writer.best_epoch == 2
        reader = saver(path, model)
        reader.restore(model)
        reader.restore_best(model)
        assert (keras.ops.convert_to_numpy(kernel) == 1).all()
