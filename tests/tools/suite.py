"""Runs the tests on every backend, and keeps what came of it and how long.

    python -m tests.tools.suite --backends tensorflow jax torch

The last backend runs all tests, the others all but the long ones, marked
`once`, unless these need TensorFlow; with `--quick` none runs those. In
`make test-all` the last is torch, which compiles nothing. With `--coverage` it
is counted which lines of keras_bregman they run, on all backends together; the
status is 1 if these are fewer than pyproject.toml wants. A backend whose tests
fail is the last that runs.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

from experiments import provenance, results
from experiments.arguments import add_out
from experiments.results import ROOT

BUILD = ROOT / "build" / "suite"
_PYTEST = [sys.executable, "-m", "pytest", "-q", "-n=auto", "--dist=worksteal"]
_COVERAGE = [sys.executable, "-m", "coverage"]


def run(backend, chosen, coverage):
    """Runs the tests on a backend.

    Args:
        backend: Its name.
        chosen: Those with which marks, an expression; all if it is empty.
        coverage: Arguments that have pytest count lines.

    Returns:
        The exit status of pytest, and the counts by outcome and `seconds`.
    """
    counted = BUILD / f"{backend}.xml"
    counted.unlink(missing_ok=True)
    command = [*_PYTEST, f"--junitxml={counted}", f"-m={chosen}", *coverage]
    start = time.monotonic()
    status = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "KERAS_BACKEND": backend}
    ).returncode
    seconds = round(time.monotonic() - start, 1)
    return status, {
        "backend": backend,
        "version": importlib.metadata.version(backend),
        "chosen": chosen,
        **outcomes(counted),
        "seconds": seconds,
    }


def outcomes(counted):
    """How many tests passed, failed and were skipped, by pytest's own file."""
    (suite,) = ElementTree.parse(counted).getroot()
    skipped = int(suite.get("skipped"))
    failed = int(suite.get("failures")) + int(suite.get("errors"))
    passed = int(suite.get("tests")) - skipped - failed
    return {"passed": passed, "failed": failed, "skipped": skipped}


def covered():
    """Says which lines no test has run; the status, and what is kept."""
    status = subprocess.run([*_COVERAGE, "report"], cwd=ROOT).returncode
    told = BUILD / "coverage.json"
    subprocess.run(
        [*_COVERAGE, "json", "-q", "-o", str(told)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    found = json.loads(told.read_text())
    return status, {
        "percent": round(found["totals"]["percent_covered"], 2),
        "lines": found["totals"]["num_statements"],
        "not_run": {
            name: file["missing_lines"]
            for name, file in found["files"].items()
            if file["missing_lines"]
        },
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--backends",
        nargs="+",
        default=["tensorflow"],
        choices=("tensorflow", "jax", "torch"),
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    add_out(parser, "suite")
    options = parser.parse_args()

    provenance.remember_commit()
    BUILD.mkdir(parents=True, exist_ok=True)
    result = {"suite": []}
    coverage = []
    for backend in options.backends:
        print(f"== {backend}", flush=True)
        if options.coverage:
            # what is too few is said of all backends together
            coverage = ["--cov", "--cov-report=", "--cov-fail-under=0"]
            coverage += ["--cov-append"] if result["suite"] else []
        chosen = "not once or tensorflow"
        if options.quick:
            chosen = "not once"
        elif backend == options.backends[-1]:
            chosen = ""
        status, row = run(backend, chosen, coverage)
        result["suite"].append(row)
        if status:
            break
    if options.coverage and not status:
        status, result["coverage"] = covered()

    os.environ["KERAS_BACKEND"] = options.backends[0]
    results.save({**result, **provenance.of_process()}, options.out)
    total = sum(row["seconds"] for row in result["suite"])
    print(f"{total / 60:.1f} minutes in all; {options.out}")
    return status


if __name__ == "__main__":
    sys.exit(main())
