"""Searches with keras-tuner: what is scored, resumed, promoted and found."""

import json
import math
import pathlib
import sys
import time

import keras
import keras_tuner
import numpy as np
import pytest
from helpers import array, start_soon

import keras_bregman as kb
from experiments import models, results, works
from experiments.__main__ import main
from experiments.data import load
from experiments.watching import started, wait_for
from keras_bregman import tuning

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def build(hp):
    return models.mlp(load("digits").inputs, width=0.1)


def hypermodel(**changes):
    settings = {"lam": (0.01, 1.0), "start": 0.2, "loss": LOSS, **changes}
    return tuning.SparseHyperModel(build, **settings)


def random_search(found, path, trials, **changes):
    return keras_tuner.RandomSearch(
        found,
        objective=found.objective,
        max_trials=trials,
        seed=1,
        directory=str(path),
        project_name="trials",
        **changes,
    )


def search(tuner, digits, epochs=2):
    tuner.search(
        digits.x_train[:256],
        digits.y_train[:256],
        validation_data=(digits.x_val, digits.y_val),
        epochs=epochs,
        batch_size=64,
        verbose=0,
    )
    return tuner


def outcome(tuner):
    """Settings and figures of all trials, whoever ran them."""
    return sorted(
        (tuple(sorted(p.values.items())), p.density, p.accuracy)
        for p in tuning.trials(tuner)
    )


class TestScore:
    def test_at_a_density_what_is_too_dense_costs(self):
        score = hypermodel(density=0.05).score
        assert score(0.9, 0.05) == score(0.9, 0.051) == score(0.9, 0.01) == 0.9
        assert score(0.9, 0.5) == pytest.approx(0.9 - math.log10(10 / 1.02))

    def test_for_the_front_every_weight_costs(self):
        score = hypermodel(price=0.05).score
        assert score(0.9, 1.0) == pytest.approx(0.9)
        assert score(0.9, 0.01) == pytest.approx(1.0)
        assert score(0.1, 0.0) == score(0.1, 1e-4) == pytest.approx(0.3)
        assert hypermodel(density=0.05).score(0.1, 0.0) == 0.1

    @pytest.mark.parametrize("wrong", [None, 10**400, "0.5"])
    def test_what_is_no_figure(self, wrong):
        score = hypermodel(density=0.05).score
        with pytest.raises(ValueError, match="`accuracy` must be a finite"):
            score(wrong, 0.5)
        with pytest.raises(ValueError, match="`density` must be in"):
            score(0.5, wrong)
        assert math.isnan(score(math.nan, 0.5))

    @pytest.mark.once
    def test_the_best_epoch_by_score_is_the_trials(self, digits, tmp_path):
        tuner = search(random_search(hypermodel(), tmp_path, 1), digits, 4)
        (trial,) = tuner.oracle.trials.values()
        (point,) = tuning.trials(tuner)
        expected = tuner.hypermodel.score(point.accuracy, point.density)
        assert trial.score == pytest.approx(expected)
        # the model kept is of that epoch
        (model,) = tuner.get_best_models()
        assert kb.density(model) == pytest.approx(point.density)
        _, accuracy = model.evaluate(digits.x_val, digits.y_val, verbose=0)
        assert accuracy == pytest.approx(point.accuracy)


class TestTrials:
    def test_ranges_are_searched_and_numbers_kept(self):
        hp = keras_tuner.HyperParameters()
        found = hypermodel(
            optimizer="LinBreg", learning_rate=(0.01, 1.0), delta=2.0, start=0.2
        )
        model = found.build(hp)
        assert {p.name for p in hp.space} == {"lam", "learning_rate"}
        assert all(p.sampling == "log" for p in hp.space)
        optimizer = model.optimizer
        assert type(optimizer) is kb.LinBreg and optimizer.delta == 2.0
        assert optimizer.regularizer.lam == hp.get("lam")
        assert float(optimizer.learning_rate) == pytest.approx(
            hp.get("learning_rate")
        )
        assert kb.density(model) == pytest.approx(0.2, abs=0.03)

    def test_another_s_hyperparameter_of_the_same_name_is_refused(self):
        def own(hp):
            hp.Float("learning_rate", 1e-6, 1e-5)
            return build(hp)

        found = hypermodel(learning_rate=(1e-3, 1e-2))
        found.build_model = own
        with pytest.raises(
            keras_tuner.errors.FatalValueError,
            match="hyperparameter of its own called 'learning_rate'",
        ):
            found.build(keras_tuner.HyperParameters())
        found = hypermodel(learning_rate=0.003)
        found.build_model = own
        model = found.build(keras_tuner.HyperParameters())
        assert float(model.optimizer.learning_rate) == pytest.approx(0.003)
        hp = keras_tuner.HyperParameters()
        for _ in range(2):  # the second time it knows our own
            hypermodel().build(hp)

    def test_a_model_that_is_not_built_is_refused(self):
        found = hypermodel()
        found.build_model = lambda hp: keras.Sequential([keras.layers.Dense(3)])
        with pytest.raises(
            keras_tuner.errors.FatalValueError, match="must make a built model"
        ):
            found.build(keras_tuner.HyperParameters())

    def test_tau_is_searched_where_the_optimizer_wants_it(self):
        for name in ("AdaBreg", "LinBreg"):
            low, high = hypermodel(optimizer=name).ranges["learning_rate"]
            usual = float(getattr(kb, name)().learning_rate)
            assert low < usual < high

    def test_without_lambda_the_density_asked_for_is_met(
        self, digits, tmp_path
    ):
        found = hypermodel(lam=None, density=0.1, learning_rate=(1e-3, 1e-2))
        tuner = search(random_search(found, tmp_path, 1), digits)
        (point,) = tuning.trials(tuner)
        assert point.density == pytest.approx(0.1, rel=0.02)
        assert set(point.values) == {"learning_rate"}

    def test_a_lambda_that_is_given_is_kept_at_a_density(self, digits):
        found = hypermodel(lam=0.07, density=0.1)
        hp = keras_tuner.HyperParameters()
        model = found.build(hp)
        found.fit(
            hp,
            model,
            digits.x_train[:64],
            digits.y_train[:64],
            epochs=1,
            validation_data=(digits.x_val, digits.y_val),
            verbose=0,
        )
        lambdas = {float(v) for v in model.optimizer.lambdas.values()}
        assert list(lambdas) == [pytest.approx(0.07)]

    @pytest.mark.once
    def test_a_stopped_search_goes_on_as_if_it_had_not(self, digits, tmp_path):
        whole = search(
            random_search(hypermodel(), tmp_path / "whole", 2), digits
        )
        search(random_search(hypermodel(), tmp_path / "part", 1), digits)

        def stop(*args, **kwargs):
            raise KeyboardInterrupt  # as a kill does, in the second trial

        broken = random_search(hypermodel(), tmp_path / "part", 2)
        broken.hypermodel.fit = stop
        with pytest.raises(KeyboardInterrupt):
            search(broken, digits)
        resumed = random_search(hypermodel(), tmp_path / "part", 2)
        assert outcome(search(resumed, digits)) == outcome(whole)
        assert len(outcome(whole)) == 2

    @pytest.mark.once
    def test_bayesian_optimization(self, digits, tmp_path):
        found = hypermodel()
        tuner = keras_tuner.BayesianOptimization(
            found,
            objective=found.objective,
            max_trials=3,
            num_initial_points=2,
            seed=1,
            directory=str(tmp_path),
        )
        assert len(outcome(search(tuner, digits, 1))) == 3

    @pytest.mark.once
    def test_what_hyperband_promotes_keeps_its_dual(self, digits, tmp_path):
        begun = []

        class Watched(tuning.SparseHyperModel):
            def fit(self, hp, model, *args, **kwargs):
                optimizer = model.optimizer
                dual = array(optimizer.regularized()[0].state[0])
                begun.append(
                    (
                        hp.values["tuner/initial_epoch"],
                        int(optimizer.iterations),
                        bool(dual.any()),
                        kb.density(model),
                    )
                )
                return super().fit(hp, model, *args, **kwargs)

        found = Watched(build, lam=(0.01, 1.0), start=0.2, loss=LOSS)
        tuner = keras_tuner.Hyperband(
            found,
            objective=found.objective,
            max_epochs=2,
            factor=2,
            seed=1,
            directory=str(tmp_path),
        )
        search(tuner, digits)
        promoted = [entry for entry in begun if entry[0]]
        assert promoted and len(promoted) < len(begun)
        for epoch, iterations, has_dual, _ in begun:
            # 4 steps an epoch; the best epoch's weights may be an earlier one's
            assert (iterations > 0) == has_dual == (epoch > 0)
            assert iterations <= 4 * epoch and iterations % 4 == 0


@pytest.mark.once  # of keras-tuner's results, whatever trained
class TestFront:
    def test_no_trial_beats_one_on_it(self, digits, tmp_path):
        tuner = search(random_search(hypermodel(), tmp_path, 4), digits)
        points, front = tuning.trials(tuner), tuning.front(tuner)
        for p in points:
            beaten = any(
                q.density <= p.density
                and q.accuracy >= p.accuracy
                and (q.density, q.accuracy) != (p.density, p.accuracy)
                for q in points
            )
            alike = [(q.density, q.accuracy) for q in front]
            assert ((p.density, p.accuracy) in alike) != beaten
        tuning.draw_front(tuner, tmp_path / "front.png")
        assert (tmp_path / "front.png").stat().st_size > 5000

    def test_nothing_to_draw(self, tmp_path):
        tuner = random_search(hypermodel(), tmp_path, 1)
        with pytest.raises(ValueError, match="no finished trial"):
            tuning.draw_front(tuner, tmp_path / "front.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "Adam"}, "`optimizer` must be one of"),
        ({"density": 0}, "`density` must be in"),
        ({"density": 1.5}, "`density` must be in"),
        ({"lam": None}, "Give a `density`, or a strength"),
        ({"lam": (1.0, 0.1)}, "low < high"),
        ({"lam": (0.1, 0.1)}, "low < high"),
        ({"lam": 0}, "`lam` must be a number, or a range"),
        ({"lam": 10**400}, "`lam` must be a number, or a range"),
        ({"lam": ()}, "`lam` must be a number, or a range"),
        ({"lam": "0.1"}, "`lam` must be a number, or a range"),
        ({"start": (0.1, 2.0)}, "`start` must be .* at most 1"),
        ({"learning_rate": (0.1, 0.2, 0.3)}, "`learning_rate` must be"),
        ({"price": -1}, "`price` must be"),
        ({"seed": 2**32}, "`seed` must be less than 2"),
        ({"metrics": "accuracy"}, "`metrics` must be a tuple"),
    ],
)
def test_what_cannot_be_searched(changes, message):
    with pytest.raises(ValueError, match=message):
        hypermodel(**changes)


def test_an_accuracy_that_is_not_in_the_logs(digits, tmp_path):
    tuner = random_search(hypermodel(monitor="val_auc"), tmp_path, 2)
    with pytest.raises(ValueError, match=r"'val_auc' is not in the logs\. Th"):
        search(tuner, digits, 1)


def test_every_epoch_needs_a_score(digits, tmp_path):
    tuner = random_search(hypermodel(), tmp_path, 2)
    with pytest.raises(ValueError, match="`validation_freq` must be 1"):
        tuner.search(digits.x_val, digits.y_val, validation_freq=2, verbose=0)


def test_all_of_a_scaled_optimizer_is_built():
    """What is not would be missing where a promoted trial goes on."""
    keras.config.set_dtype_policy("mixed_float16")
    optimizer = hypermodel().build(keras_tuner.HyperParameters()).optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert optimizer.built and optimizer.inner_optimizer.built


@pytest.mark.once
class TestCommand:
    ARGUMENTS = (
        *("search", "--data", "digits", "--width", "0.1", "--epochs", "2"),
        *("--examples", "256", "--tuner", "random"),
    )

    def run(self, out, *further):
        return main([*self.ARGUMENTS, "--out", str(out), *further])

    def test_workers_find_what_one_process_finds(self, tmp_path, capsys):
        # more workers than trials are left at the end
        assert (
            self.run(tmp_path / "two", "--trials", "3", "--workers", "2") == 0
        )
        assert self.run(tmp_path / "one", "--trials", "3") == 0
        found = {}
        for name in ("one", "two"):
            result = results.read(tmp_path / name / "search.json")
            assert (tmp_path / name / "front.png").exists()
            assert result["search"]["trials"] == 3
            found[name] = sorted(
                (p["values"]["lam"], p["density"], p["accuracy"])
                for p in result["trials"]
            )
        np.testing.assert_allclose(found["one"], found["two"], rtol=1e-6)
        assert len(found["one"]) == 3
        assert (
            "3 trials, of which no other beats these" in capsys.readouterr().out
        )

    def test_a_folder_holds_one_search(self, tmp_path, capsys):
        assert self.run(tmp_path, "--trials", "1") == 0
        assert self.run(tmp_path, "--trials", "1", "--density", "0.1") == 1
        assert "holds a search with other settings" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            self.run(tmp_path / "new", "--density", "5")
        assert "density: must be in (0, 1]" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
        assert self.run(tmp_path, "--trials", "2") == 0
        assert len(results.read(tmp_path / "search.json")["trials"]) == 2

    def test_what_is_finished_is_not_repeated(self, tmp_path):
        assert self.run(tmp_path, "--trials", "1") == 0
        # as keras-tuner writes it at the end of a trial
        oracle = tmp_path / "trials" / "oracle.json"
        state = json.loads(oracle.read_text())
        state["ongoing_trials"] = {"worker0": "0"}
        oracle.write_text(json.dumps(state))
        finished = works.search_work().finished
        before = finished(tmp_path)
        assert list(before) == ["trial 0"]
        assert self.run(tmp_path, "--trials", "2") == 0
        after = finished(tmp_path)
        assert after["trial 0"] == before["trial 0"]
        assert set(after) == {"trial 0", "trial 1"}

    def test_killed_between_a_trial_and_the_word_of_it(self, tmp_path):
        whole, part = tmp_path / "whole", tmp_path / "part"
        assert self.run(whole, "--trials", "2") == 0
        assert self.run(part, "--trials", "1") == 0
        begun = pathlib.Path("trials", "trial_1", "trial.json")
        trial = json.loads((whole / begun).read_text())
        trial.update(status="RUNNING", score=None, best_step=None)
        (part / begun).parent.mkdir()
        (part / begun).write_text(json.dumps(trial))
        assert self.run(part, "--trials", "2") == 0
        first, second = (
            results.read(folder / "search.json")["trials"]
            for folder in (whole, part)
        )
        assert first == second and len(first) == 2

    def test_a_full_disk_leaves_what_is_known(
        self, tmp_path, capsys, file_size_limit
    ):
        assert self.run(tmp_path, "--trials", "1") == 0
        before = (tmp_path / "trials" / "oracle.json").read_bytes()
        with file_size_limit(1000):
            assert self.run(tmp_path, "--trials", "2") == 1
        assert "File too large" in capsys.readouterr().err
        assert (tmp_path / "trials" / "oracle.json").read_bytes() == before
        assert self.run(tmp_path, "--trials", "2") == 0

    def test_a_damaged_trial_is_named(self, tmp_path, capsys):
        assert self.run(tmp_path, "--trials", "1") == 0
        (tmp_path / "trials" / "trial_0" / "trial.json").write_text('{"trial')
        assert self.run(tmp_path, "--trials", "2") == 1
        assert f"in {tmp_path / 'trials'} is damaged" in capsys.readouterr().err

    def test_workers_outlive_their_command_and_keep_others_out(
        self, tmp_path, monkeypatch, capsys
    ):
        pytest.importorskip("fcntl")
        start_soon(monkeypatch)
        arguments = [*self.ARGUMENTS, "--trials", "2", "--out", str(tmp_path)]
        with started(*arguments, "--workers", "2") as process:
            trials = tmp_path / "trials"
            assert wait_for(lambda: list(trials.glob("trial_*")), process)
            if sys.platform == "linux":  # as the soak finds whom it kills
                victims = works.search_work().victims.values()
                found = {find(process) for find in victims}
                assert len(found - {None, process.pid}) == 2
            process.kill()
            process.wait()
            assert main(arguments) == 1
            said = capsys.readouterr().err
            assert "is being searched by another process" in said
            end = time.monotonic() + 120
            while (status := main(arguments)) and time.monotonic() < end:
                time.sleep(1)
        assert status == 0
        assert len(results.read(tmp_path / "search.json")["trials"]) == 2
