"""What this package asks of itself, from the results of its own tests."""

from __future__ import annotations

from experiments.archive import Archive, name_of
from experiments.reporting.tables import Table

TITLE = "Quality: what this package asks of itself"
CAPTION = (
    "Measured by the commands of CONTRIBUTING.md and of the experiments' "
    "README. Tests: passed and minutes, on the cores that the result file "
    "names. Faults: small ones in the optimizers and regularizers, a sample by "
    "seed, that a test notices. Wrong "
    "calls: of every public function with wrong types, shapes, values and file "
    "bytes; broken contracts are crashes, hangs, and messages that name "
    "neither an argument nor a file. What changed after the commit of a line "
    "is not in it."
)


def build(archive: Archive) -> Table:
    """A line for each, with or without a result."""
    found = [
        ("Tests, every backend", "suite", "under 20 min", _tests),
        ("Lines that these run", "coverage", "95 %", _coverage),
        ("Tests, `make test`", "quick", "under 10 min", _tests),
        ("Faults noticed", "mutation", "90 %", _mutation),
        ("Wrong calls", "fuzz", "0 broken contracts", _fuzz),
        *(
            (f"Import, on {name}", f"import-{name}", "at most 50 ms", _import)
            for name in ("tensorflow", "jax", "torch")
        ),
        ("Kills by SIGKILL", "soak", "0 differences", _soak),
    ]
    return Table(
        [("", ("what", "asked", "measured", "commit", "result file"))],
        [
            [
                *(what, asked, describe(result), result.get("commit", "-")),
                name_of(archive.bench_file(file)),
            ]
            if (result := archive.bench(file))
            else [what, asked, "not measured yet", "-", "-"]
            for what, file, asked, describe in found
        ],
    )


def _tests(result):
    rows = result["suite"]
    passed = sum(row["passed"] for row in rows)
    failed = sum(row["failed"] for row in rows)
    minutes = sum(row["seconds"] for row in rows) / 60
    text = f"{passed:,} in {minutes:.1f} min"
    return f"{text}, {failed} failed" if failed else text


def _coverage(result):
    if "coverage" not in result:  # a test has failed
        return "not measured yet"
    backends = ", ".join(row["backend"] for row in result["suite"])
    return f"{result['coverage']['percent']:.1f} %, on {backends}"


def _mutation(result):
    noticed = result["tried"] - len(result["left"])
    return (
        f"{noticed / result['tried']:.0%}".replace("%", " %")
        + f" ({noticed} of {result['tried']}, of {result['possible']} possible)"
    )


def _fuzz(result):
    calls = result["returned"] + result["refused"]
    broken = sum(found["times"] for found in result["findings"].values())
    return f"{broken} in {calls:,} calls, {result['minutes']:g} min"


def _import(result):
    (ours,) = (
        row for row in result["imports"] if row["package"] == "keras_bregman"
    )
    return f"{1000 * ours['seconds']:.0f} ms"


def _soak(result):
    rows = result["soak"]
    kills = sum(len(row["moments"]) for row in rows)
    spoilt = sum(len(row["differences"] + row["disturbed"]) for row in rows)
    killed = ", ".join(row["killed"] for row in rows)
    return f"{spoilt} in {kills} kills of {killed}"
