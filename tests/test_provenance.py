"""A result tells what made it."""

import json
import shlex
import sys

import keras
import pytest

from experiments import provenance
from experiments.results import ROOT

pytestmark = pytest.mark.once


def test_what_made_a_result_is_told(monkeypatch):
    arguments = ["-m", "experiments", "run", "a", "--only", "b c"]
    monkeypatch.setattr(sys, "orig_argv", ["/bin/python3", *arguments])
    made = provenance.of_process()
    assert json.loads(json.dumps(made)) == made
    assert made["versions"]["keras"] == keras.__version__
    assert keras.config.backend() in made["versions"]
    assert made["hardware"]["cores"] >= 1
    assert made["hardware"]["devices"]
    assert shlex.split(made["command"]) == ["python", *arguments]
    if (ROOT / ".git").exists():
        assert len(made["commit"].rstrip("+")) >= 12


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    provenance._commit.cache_clear()
    try:
        assert provenance.of_process()["commit"] is None
    finally:
        provenance._commit.cache_clear()
