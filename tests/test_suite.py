"""What `tools.suite` says of a run of the tests is what pytest has found."""

import sys

import pytest
from tools import suite

from experiments import results

pytestmark = pytest.mark.once

# a package whose tests have every outcome, and run three of its four lines
TESTS = """
import os
import pytest
from small import double

def test_passes(): assert double(2) == {twice}
def test_backend(): assert os.environ["KERAS_BACKEND"] in ("jax", "torch")
@pytest.mark.once
def test_fails(): assert double(4) == 8 and not {fails}
@pytest.mark.once
@pytest.mark.tensorflow
def test_on_tensorflow(): pass
@pytest.mark.skip
def test_skipped(): pass
"""
PROJECT = """
[tool.pytest.ini_options]
markers = ["once: long", "tensorflow: needs it"]
[tool.coverage.run]
source = ["small"]
[tool.coverage.report]
fail_under = {wanted}
"""
CODE = """
def double(x):
    if x < 0:
        return 0
    if x > 3:
        return 8
    return 2 * x
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `tools.suite` over the small package; the status and the result."""

    def run(*arguments, fails=False, twice=4, wanted=50):
        (tmp_path / "test_small.py").write_text(
            TESTS.format(fails=fails, twice=twice)
        )
        (tmp_path / "small.py").write_text(CODE)
        project = tmp_path / "pyproject.toml"
        project.write_text(PROJECT.format(wanted=wanted))
        out = tmp_path / "suite.json"
        monkeypatch.setattr(suite, "ROOT", tmp_path)
        monkeypatch.setattr(suite, "BUILD", tmp_path / "build")
        monkeypatch.setattr(suite, "_PYTEST", [*PYTEST, f"{tmp_path}"])
        monkeypatch.setattr(
            sys, "argv", ["suite.py", *arguments, f"--out={out}"]
        )
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        return suite.main(), results.read(out)

    return run


PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
BOTH = ("--backends", "jax", "torch")


def counts(result):
    return [
        (row["backend"], row["passed"], row["failed"], row["skipped"])
        for row in result["suite"]
    ]


def test_the_last_backend_runs_the_long_ones_too(run):
    status, result = run(*BOTH)
    assert status == 0
    assert counts(result) == [("jax", 3, 0, 1), ("torch", 4, 0, 1)]
    assert all(row["seconds"] > 0 for row in result["suite"])
    assert "coverage" not in result


def test_a_failure_is_the_end(run):
    status, result = run(*BOTH, twice=5)
    assert status == 1
    assert counts(result) == [("jax", 2, 1, 1)]
    status, result = run("--backends", "jax", fails=True)
    assert status == 1
    assert counts(result) == [("jax", 3, 1, 1)]
    # quick leaves it out
    status, result = run(*BOTH, "--quick", fails=True)
    assert status == 0
    assert counts(result) == [("jax", 2, 0, 1), ("torch", 2, 0, 1)]


def test_lines_that_no_test_runs(run):
    # fewer than wanted are run by the first backend alone
    status, result = run(*BOTH, "--coverage", wanted=70)
    assert status == 0
    assert result["coverage"] == {
        "percent": 83.33,
        "lines": 6,
        "not_run": {"small.py": [4]},
    }
    status, _ = run(*BOTH, "--coverage", wanted=90)
    assert status != 0
