"""Calls every public function with what nobody should give it.

`make fuzz MINUTES=30`; `python -m tests.tools.fuzz --case 17` makes a call
again.

The contract: a call returns, or raises one of `REFUSALS` or an `OSError`, in a
sentence which names an argument or the file. Calls are made in a process of
their own, which must neither die nor take long.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import itertools
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from typing import Any

from experiments import provenance, results
from experiments.arguments import add_out
from experiments.results import ROOT

_WORKER = [sys.executable, "-m", "tests.tools.fuzz"]

LIMIT = 120.0  # seconds for a call, on a machine that does much else
REFUSALS = (
    *(ValueError, TypeError, ImportError),
    *(RuntimeError, FloatingPointError),  # a model's or a runtime's fault
)
_SENTENCE = 6  # words at least


def why_broken(error: BaseException, marks: list[str]) -> str | None:
    """How an error breaks the contract; `None` if it does not.

    Args:
        error: What a call has raised.
        marks: How messages name the arguments and files.
    """
    # their subclasses are of those that we call: of json, numpy, zipfile
    if isinstance(error, OSError):
        return None if error.filename else "names no file"
    if type(error) not in REFUSALS:
        return f"raises {type(error).__name__}"
    text = str(error)
    if "unexpected keyword argument" in text:  # so that nothing is tried
        return "is called by an argument that it does not have"
    if len(text.split()) < _SENTENCE:
        return "says too little"
    if not any(mark in text for mark in marks):
        return "names no argument and no file"
    return None


def one(case: int, only: str = "", before=lambda call: None) -> dict:
    """Makes the call with this number, and says what came of it."""
    from .fuzz_targets import World

    # in it, as names without a folder lead there
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        world = World(case, pathlib.Path(folder))
        target, arguments, marks = world.call(only)
        call = world.text(target, arguments)
        before(call)
        told = {"outcome": "returned", "where": "", "finding": ""}
        try:
            with (
                warnings.catch_warnings(),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                warnings.simplefilter("ignore")
                target.function(world, **arguments)
        except Exception as error:
            told["outcome"] = "refused"
            broken = why_broken(error, [*marks, folder])
            if broken:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                told["where"] = f"{frame.filename}:{frame.lineno}"
                kind = type(error).__name__
                told["finding"] = f"{broken}: {kind}: {str(error)[:300]}"
        return told


def work(case: int, only: str) -> None:
    """Makes calls one after the other, and tells of each before and after."""
    faulthandler.enable()
    sys.stdout = sys.stderr  # what others print is not read
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        for number in itertools.count(case):

            def begin(call, number=number):
                print(json.dumps({"case": number, "call": call}), file=out)

            print(json.dumps(one(number, only, begin)), file=out)


def watch(case: int, only: str, minutes: float) -> dict[str, Any]:
    """Has calls made until the time is over.

    Returns:
        How many of the calls `returned` and were `refused`, and the `findings`:
        for every place where the contract broke the first call that broke it,
        and how often (`times`) that happened.
    """
    end = time.monotonic() + 60 * minutes
    outcomes = {"returned": 0, "refused": 0}
    findings: dict[str, dict[str, Any]] = {}

    def find(where, text):
        first = {"case": case, "call": call, "text": text, "times": 0}
        if where not in findings:
            print(f"{case}: {call}\n    {where}\n    {text}", flush=True)
        findings.setdefault(where, first)["times"] += 1

    while time.monotonic() < end:
        worker = subprocess.Popen(
            [*_WORKER, f"--worker={case}", f"--only={only}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines: queue.Queue = queue.Queue()
        threading.Thread(target=_read, args=(worker, lines)).start()
        call = "import"
        while time.monotonic() < end:
            try:
                line = lines.get(timeout=LIMIT)
            except queue.Empty:
                find(call, f"takes longer than {LIMIT:g} s")
                break
            if line is None:
                find(call, f"kills its process: {worker.wait()}")
                break
            told = json.loads(line)
            if "call" in told:
                case, call = told["case"], told["call"]
                continue
            outcomes[told["outcome"]] += 1
            if told["finding"]:
                find(told["where"], told["finding"])
        worker.kill()
        worker.wait()
        case += 1
    return {**outcomes, "findings": findings}


def _read(worker, lines):
    for line in worker.stdout:
        lines.put(line)
    lines.put(None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0, help="the first case")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--only", default="", help="part of a name")
    add_out(parser, "fuzz")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker, options.only)
    if options.case is not None:
        print(json.dumps(one(options.case, options.only, print), indent=1))
        return 0
    provenance.remember_commit()
    found = watch(options.seed, options.only, options.minutes)
    broken = sum(finding["times"] for finding in found["findings"].values())
    print(
        f"{found['returned']} returned, {found['refused']} refused; {broken} "
        f"broke the contract, in {len(found['findings'])} ways"
    )
    asked = {"minutes": options.minutes, "seed": options.seed}
    results.save({**found, **asked, **provenance.of_process()}, options.out)
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
