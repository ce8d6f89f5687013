"""Many runs: none twice, none lost to a kill, and what the commands say."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import pytest
from helpers import mlp
from tiny import TINY

import keras_bregman as kb
from experiments import __main__ as command
from experiments import data, jobs, listing, results, runner, training
from experiments.catalog import EXPERIMENTS, Experiment
from experiments.data import load
from experiments.results import RESULTS
from experiments.watching import started, wait_for
from experiments.works import RECIPE, outcome, run_command

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parent.parent
fcntl = pytest.importorskip("fcntl")  # no locks on Windows


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The `run` command on an experiment of two small recipes."""
    experiment = Experiment(
        "tiny",
        "Small and quick",
        "family",
        (TINY, TINY.changed(label="Other", optimizer="SGD")),
        (0,),
        {"epochs": 1},
    )
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment)
    # with changes as without
    folders = ["--out", str(tmp_path), "--checkpoints", str(tmp_path / "kept")]
    folders += ["--networks", str(tmp_path / "networks")]

    def run(*arguments):
        return command.main(["run", "tiny", *folders, *arguments])

    return run


@pytest.fixture
def trained(monkeypatch):
    """What is trained, by name; nothing is, in truth."""
    names = []

    def train(recipe, seed, dataset, checkpoint, deadline, report):
        names.append(recipe.label)
        assert dataset.name == recipe.data
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_bytes(b"all there is")
        return mlp(), {
            "recipe": dataclasses.asdict(recipe),
            "seed": seed,
            "best_epoch": 1,
            "test": {"loss": 0.1, "accuracy": 0.5, "density": 0.1},
            "history": {},
            "seconds": 30.0,
        }

    monkeypatch.setattr(training, "train", train)
    return names


def files(folder):
    """Content and time of the result files, by name."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted((folder / "full" / "family").iterdir())
    }


class TestNoRunTwice:
    def test_finished_runs_are_not_repeated(
        self, run, trained, tmp_path, capsys
    ):
        assert run() == 0
        assert trained == ["Tiny", "Other"]
        assert (
            "1 of 2 runs done, the others take 30 s" in capsys.readouterr().out
        )
        first = files(tmp_path)
        assert list(first) == ["other-seed0.json", "tiny-seed0.json"]
        assert not list(tmp_path.rglob("*.npz"))
        network = tmp_path / "networks" / "full" / "family" / "tiny-seed0.kbs"
        assert kb.load_sparse(network).count_params() == mlp().count_params()
        assert run() == 0
        assert trained == ["Tiny", "Other"]
        assert files(tmp_path) == first

    @pytest.mark.parametrize("damage", ["cut off", "changed", "not ours"])
    def test_a_damaged_result_is_named_moved_aside_and_repeated(
        self, run, trained, tmp_path, capsys, damage
    ):
        run()
        path = tmp_path / "full" / "family" / "tiny-seed0.json"
        good = path.read_bytes()
        bad = {
            "cut off": good[:-40],
            "changed": good.replace(b'"accuracy": 0.5', b'"accuracy": 0.9'),
            "not ours": b"[]",
        }[damage]
        path.write_bytes(bad)
        capsys.readouterr()
        assert run() == 0
        assert trained == ["Tiny", "Other", "Tiny"]
        assert f"{path} is damaged" in capsys.readouterr().out
        assert path.read_bytes() == good
        assert path.with_suffix(".json.aside").read_bytes() == bad

    def test_a_result_of_other_settings_is_repeated(
        self, run, trained, tmp_path, capsys
    ):
        run("--set", "epochs=2")
        run("--set", "epochs=2")
        assert len(trained) == 2
        assert run("--set", "epochs=3") == 0
        assert len(trained) == 4
        out = capsys.readouterr().out
        assert "tiny-seed0.json is of a run with other settings" in out
        path = tmp_path / "full" / "family" / "tiny-seed0.json"
        assert results.read(path)["recipe"]["epochs"] == 3
        # and what was there before is kept, one beside the other
        run("--set", "epochs=5")
        asides = [path.with_name(f"{path.name}.aside{n}") for n in ("", 1)]
        found = [results.read(aside)["recipe"]["epochs"] for aside in asides]
        assert found == [2, 3]
        networks = tmp_path / "networks" / "full" / "family"
        assert len(list(networks.glob("tiny-seed0.kbs*"))) == 3

    def test_settings_that_json_changes(self, run, trained):
        change = "groups={'kernel': {'lam': 1.0, 'groups': (0,)}}"
        for _ in range(2):
            assert run("--set", change) == 0
        assert len(trained) == 2

    def test_a_result_from_before_a_recipe_had_a_field_counts(
        self, run, trained, tmp_path
    ):
        run("--only", "tiny")
        path = tmp_path / "full" / "family" / "tiny-seed0.json"
        result = results.read(path)
        assert result["recipe"].pop("probe_layers") is False
        results.save(result, path)
        run("--only", "tiny")
        assert trained == ["Tiny"]
        result["recipe"]["from_the_future"] = 1
        results.save(result, path)
        run("--only", "tiny")
        assert trained == ["Tiny", "Tiny"]

    def test_what_another_process_trains_is_left_to_it(
        self, run, trained, tmp_path, capsys
    ):
        lock = tmp_path / "kept" / "full" / "family" / "tiny-seed0.lock"
        lock.parent.mkdir(parents=True)
        with open(lock, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert run() == 0
        assert trained == ["Other"]
        assert "1 more in the hands of other pro" in capsys.readouterr().out
        assert run() == 0
        assert trained == ["Other", "Tiny"]

    def test_a_checkpoint_stays_until_the_result_is_saved(
        self, run, trained, tmp_path, capsys, file_size_limit
    ):
        with file_size_limit(100):
            assert run("--only", "tiny") == 1
        checkpoint = tmp_path / "kept" / "full" / "family" / "tiny-seed0.npz"
        assert checkpoint.read_bytes() == b"all there is"
        out = capsys.readouterr().out
        assert f"{checkpoint}; the same command goes on" in out
        assert not list(tmp_path.rglob("*.json"))
        assert run("--only", "tiny") == 0
        assert not checkpoint.exists()

    def test_out_of_time(self, run, trained):
        assert run("--minutes", "0") == 0
        assert trained == []


class TestOthersGoOn:
    def test_a_missing_dataset(
        self, run, trained, tmp_path, monkeypatch, capsys
    ):
        def nowhere(*arguments):
            tried.append(arguments)
            raise ConnectionError("no way there")

        tried = []
        monkeypatch.setattr(data, "_from_tfds", nowhere)
        monkeypatch.setenv("KERAS_BREGMAN_CACHE", str(tmp_path / "none"))
        mnist = TINY.changed(label="M1", data="mnist")
        recipes = (mnist, mnist.changed(label="M2"), TINY)
        monkeypatch.setitem(
            EXPERIMENTS,
            "tiny",
            dataclasses.replace(EXPERIMENTS["tiny"], recipes=recipes),
        )
        assert run() == 1
        assert trained == ["Tiny"]
        assert len(tried) == 1
        out = capsys.readouterr().out
        assert "M1  seed 0  failed: Dataset 'mnist' is not available." in out
        assert "M2  seed 0  failed: Dataset 'mnist' is not available, " in out
        assert out.count("no way there") == 1
        assert "Traceback" not in out

    def test_an_error_that_nobody_foresaw(
        self, run, trained, monkeypatch, capsys
    ):
        def train(recipe, *arguments):
            if recipe.label == "Tiny":
                raise RuntimeError("of the backend")
            return pretend(recipe, *arguments)

        pretend = training.train
        monkeypatch.setattr(training, "train", train)
        assert run() == 1
        assert trained == ["Other"]
        out = capsys.readouterr().out
        assert "Tiny  seed 0  failed: Traceback" in out
        assert "RuntimeError: of the backend" in out

    def test_weights_that_are_no_numbers(self, run, tmp_path, capsys):
        assert run("--set", "learning_rate=1e30", "--only", "other") == 1
        out = capsys.readouterr().out
        assert "Other  seed 0  failed: " in out and "Traceback" not in out
        assert not list(tmp_path.rglob("*.json"))

    def test_ctrl_c_ends_it_quietly(self, run, monkeypatch, capsys):
        def train(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(training, "train", train)
        assert run() == 130
        assert capsys.readouterr().err == "\nstopped\n"


class TestFullDisk:
    def test_it_is_named_and_the_run_goes_on_later(
        self, run, unbroken, tmp_path, capsys, file_size_limit
    ):
        stem = tmp_path / "kept" / "full" / "family" / "tiny-seed0"
        checkpoint = stem.with_suffix(".npz")
        with pytest.raises(training.OutOfTime):
            training.train(TINY, 0, load("digits"), checkpoint, deadline=0)
        before = checkpoint.read_bytes()
        with file_size_limit(len(before) - 1):
            assert run("--only", "tiny") == 1
        out = capsys.readouterr().out
        assert "File too large" in out and "Traceback" not in out
        assert f"{checkpoint}; the same command goes on from there" in out
        assert checkpoint.read_bytes() == before
        assert {p.name for p in checkpoint.parent.iterdir()} == {
            "tiny-seed0.npz",
            "tiny-seed0.lock",
        }
        assert run("--only", "tiny") == 0
        result = results.read(tmp_path / "full" / "family" / "tiny-seed0.json")
        assert outcome(result) == outcome(unbroken[1])
        assert result["sessions"] == 2
        assert result["family"] == "family" and result["scale"] == "full"


# --- in processes of their own ---------------------------------------------


def is_free(lock):
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


class TestSideBySide:
    def test_two_processes_share_the_runs(self, tmp_path, capsys):
        seeds = [0, 1, 2]
        shared = run_command(tmp_path, seeds, epochs=1)
        assert command.main([*shared, "--jobs", "2"]) == 0
        out = capsys.readouterr().out
        for seed in seeds:
            line = f"{RECIPE.label}  seed {seed}  begins or resumes"
            assert out.count(line) == 1
        assert out.endswith("3 of 3 runs done\n")
        found = [results.read(p) for p in tmp_path.rglob("*.json")]
        assert sorted(result["seed"] for result in found) == seeds
        assert {result["sessions"] for result in found} == {1}
        if len(os.sched_getaffinity(0)) > 1:
            cores = {result["hardware"]["cores"] for result in found}
            assert max(cores) < len(os.sched_getaffinity(0))

    def test_told_to_end_it_takes_its_workers_along(self, tmp_path):
        many = run_command(tmp_path, [0], epochs=10_000)
        with started(*many, "--jobs", "2") as process:
            locks = tmp_path / "kept" / "full"
            assert wait_for(lambda: list(locks.rglob("*.lock")), process)
            (lock,) = locks.rglob("*.lock")
            assert wait_for(lambda: not is_free(lock), process)
            process.terminate()
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 143
            assert "Traceback" not in errors
            assert is_free(lock)

    def test_a_crashed_worker_is_no_success(self, capfd):
        assert runner.run_side_by_side([], 2, ["nonsense"]) == 2
        out = capfd.readouterr().out
        assert out.count("crashed, status 2") == 2


# --- the commands ----------------------------------------------------------


class TestCommands:
    def test_they_are_explained_without_keras(self):
        """Which takes many seconds to import."""
        for arguments in ("['list']", "['list', 'table3']", "['--help']"):
            script = (
                "import sys\n"
                "from experiments.__main__ import main\n"
                "try:\n"
                f"    main({arguments})\n"
                "finally:\n"
                "    assert not {'keras', 'tensorflow'} & set(sys.modules)"
            )
            subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)

    def test_list(self, run, trained, capsys):
        assert command.main(["list"]) == 0
        out = capsys.readouterr().out
        for name, experiment in EXPERIMENTS.items():
            (line,) = [x for x in out.splitlines() if x.startswith(f"{name} ")]
            assert line.endswith(experiment.title)
        assert "full   0 of  2  small   0 of  2  Small and quick" in out

    def test_list_counts_what_is_done(
        self, run, trained, tmp_path, monkeypatch, capsys
    ):
        run("--only", "tiny")
        here = functools.partial(jobs.plan, out=tmp_path)
        monkeypatch.setattr(listing, "plan", here)
        capsys.readouterr()
        command.main(["list"])
        assert "full   1 of  2  small   0 of  2" in capsys.readouterr().out

    def test_list_a_name(self, run, capsys):
        assert command.main(["list", "tiny", "--scale", "small"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "tiny: Small and quick"
        assert lines[1].endswith(str(pathlib.Path("small", "family")))
        assert "  epochs = 1" in lines  # shared, and changed for small
        own = lines[lines.index("Other") :]
        assert own == ["Other", "  optimizer = 'SGD'"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                "list nonsense",
                "no experiment is called 'nonsense'; there are f",
            ),
            ("list tiny --scale tall", "invalid choice: 'tall'"),
            ("run", "the following arguments are required: NAME"),
            ("run nonsense", "no experiment is called 'nonsense'"),
            ("run tiny --only Tini", "no recipe is called tini; there are Oth"),
            ("run tiny --set epochs", "'epochs' is not NAME=VALUE with"),
            ("run tiny --set epoch=1", "'epoch=1' is not NAME=VALUE with"),
            ("run tiny --set epochs=ten", "`epochs` must be of type int"),
            ("run tiny --set epochs=0", "`epochs` must be greater than 0"),
            ("run tiny --set model=vgg", "`model` must be one of mlp, "),
            ("run tiny --seeds -1", "must be 0 or greater, of 32 bits, not -1"),
            (
                "run tiny --seeds one",
                "must be 0 or greater, of 32 bits, not one",
            ),
            ("run tiny --jobs 0", "must be 1 or greater, not 0"),
            ("run tiny --seeds 4294967296", "must be 0 or greater, of 32 bits"),
            ("run tiny --jobs some", "must be 1 or greater, not some"),
            ("run tiny --minutes soon", "must be 0 or greater, not soon"),
            ("run tiny --minutes -1", "must be 0 or greater, not -1"),
            ("run tiny --minutes nan", "must be 0 or greater, not nan"),
            ("run tiny --set groups={'x':1}", "a dict with `lam` in it"),
            ("run tiny --set ramp=0.8", "must be 1 in sum at most"),
            ("run tiny --set decay=1.0", "`decay` must be in (0, 1). Rec"),
            ("run tiny --set probe_steps=(5,3)", "`probe_steps` must be num"),
            (f"run tiny --set lam=1 --out {RESULTS}", "another folder than"),
            (f"run tiny --out {__file__}", "is a file, not a folder"),
            ("bench step --out .", "is a folder, not a file"),
            ("search --width 150", "must be in (0, 100), not 150"),
            ("search --density 5", "must be in (0, 1], not 5"),
        ],
    )
    def test_a_mistake_is_named_in_a_line(
        self, run, trained, capsys, arguments, message
    ):
        try:
            status = command.main(arguments.split())
        except SystemExit as end:
            status = end.code
        assert status == 2
        assert trained == []
        *usage, line = capsys.readouterr().err.splitlines()
        assert message in line and "error: " in line
        assert not usage or usage[0].startswith("usage: ")

    def test_changed_recipes_stay_apart(
        self, run, trained, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(jobs, "CHANGED", tmp_path)
        for epochs in (3, 4):
            change = f"epochs={epochs}"
            assert command.main(["run", "tiny", "--set", change]) == 0
            (path,) = (tmp_path / change).rglob("tiny-seed0.json")
            assert json.loads(path.read_text())["recipe"]["epochs"] == epochs
            locks = (tmp_path / change).rglob("tiny-seed0.lock")
            assert len(list(locks)) == 1
        # a name that a folder cannot have, or not well
        for change in ("options={'weight_decay':1}", "steering={'every':9}"):
            assert command.main(["run", "tiny", "--set", change]) == 0
        assert len(list(tmp_path.rglob("tiny-seed0.json"))) == 4

    def test_a_result_of_another_seed_is_none(self, run, trained, tmp_path):
        run("--only", "tiny")
        (path,) = tmp_path.rglob("tiny-seed0.json")
        path.rename(path.with_name("tiny-seed1.json"))
        assert run("--only", "tiny", "--seeds", "1") == 0
        assert len(trained) == 2


class TestPlan:
    def plan(self, *names, **options):
        return jobs.plan([EXPERIMENTS[n] for n in names], "full", **options)

    def test_a_shared_run_is_planned_once(self):
        both = self.plan("figure2-4", "figure5-8")
        apart = self.plan("figure2-4") + self.plan("figure5-8")
        assert len(both) < len(apart)
        assert {job.result for job in both} == {job.result for job in apart}
        assert len({job.result for job in both}) == len(both)
        assert len({job.checkpoint for job in both}) == len(both)

    def test_seed_by_seed(self):
        jobs = self.plan("table1", seeds=[5, 2])
        assert [job.seed for job in jobs] == [2] * 5 + [5] * 5

    def test_by_label_or_slug(self):
        label = EXPERIMENTS["table1"].recipes[1].label
        slug = EXPERIMENTS["table1"].recipes[2].slug
        jobs = self.plan("table1", only=[label.upper(), slug], seeds=[0])
        assert [job.recipe.label for job in jobs] == [
            recipe.label for recipe in EXPERIMENTS["table1"].recipes[1:3]
        ]
