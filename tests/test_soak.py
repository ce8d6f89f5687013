"""Kills at random moments, and that what they break is noticed."""

import contextlib
import subprocess
import sys

import pytest
from helpers import start_soon

from experiments import results, soak, works
from experiments.__main__ import main

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        sys.platform != "linux", reason="finds processes in /proc"
    ),
]


def test_a_kill_loses_repeats_and_changes_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(works, "_EPOCHS", 10)
    monkeypatch.setattr(soak, "_START", 5.0)
    # a search takes several minutes; test_tuning.py finds its processes
    monkeypatch.setattr(works, "all_works", lambda: (works.run_work(),))
    start_soon(monkeypatch)
    out = tmp_path / "soak.json"
    assert main(["soak", "--times", "1", "--out", str(out)]) == 0
    (row,) = results.read(out)["soak"]
    assert row["killed"] == "a run"
    assert len(row["moments"]) == 1 and row["ends"] >= 1
    assert row["differences"] == row["disturbed"] == []
    assert soak.describe({"soak": [row]}) in capsys.readouterr().out


# takes 20 steps, each of which leaves a file
SCRIPT = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
for step in range(20):
    file = folder / str(step)
    if not (file.exists() and {goes_on}):
        time.sleep(0.05)
        file.with_suffix(".new").write_text({text})
        file.with_suffix(".new").replace(file)
        (folder / "last.new").write_text(str(step))
        (folder / "last.new").replace(folder / "last")
"""


@pytest.mark.parametrize(
    ("goes_on", "text", "is_different", "is_disturbed"),
    [
        ("True", "'done'", False, False),
        ("False", "'done'", False, True),
        ("True", "str(os.getpid())", True, False),
    ],
)
def test_what_a_kill_breaks_is_noticed(
    monkeypatch, goes_on, text, is_different, is_disturbed
):
    script = SCRIPT.format(goes_on=goes_on, text=text)

    @contextlib.contextmanager
    def started(folder):
        command = [sys.executable, "-c", script, folder]
        with subprocess.Popen(command) as process:
            yield process

    def steps(folder):
        return [file for file in folder.iterdir() if file.name.isdecimal()]

    work = works.Work(
        lambda folder: [str(folder)],
        "last",
        0.05,
        {"it": lambda process: process.pid},
        lambda folder: {f.name: f.stat().st_ino for f in steps(folder)},
        lambda folder: {f.name: f.read_text() for f in steps(folder)},
    )
    monkeypatch.setattr(soak, "_START", 0.5)
    monkeypatch.setattr(soak, "started", started)
    monkeypatch.setattr(works, "all_works", lambda: (work,))
    (row,) = soak.soak(3, 0)
    assert len(row["moments"]) == 3
    assert bool(row["differences"]) == is_different
    assert bool(row["disturbed"]) == is_disturbed
