"""What the results say to each of the report's claims."""

from __future__ import annotations

from typing import NamedTuple

from experiments.archive import Archive
from experiments.catalog import SCALES
from experiments.reporting.claims import CLAIMS, Claim

OPEN = "open: full runs are missing"


class Verdict(NamedTuple):
    """One claim, judged.

    Attributes:
        key: The claim's letter.
        claim: The claim.
        outcome: `"confirmed"`, `"refuted"`, `"partly"` or `OPEN`.
        sentence: The numbers.
        scale: Where they come from, `None` without any.
        files: The result files they come from.
    """

    key: str
    claim: str
    outcome: str
    sentence: str
    scale: str | None
    files: list[str]


def judge_all(archive: Archive) -> list[Verdict]:
    """A verdict on every claim, which only full runs can settle."""
    return [judge(claim, archive) for claim in CLAIMS]


def judge(claim: Claim, archive: Archive) -> Verdict:
    """One claim by its full runs; without all of them it stays open.

    The small runs then at least show what to expect.
    """
    lacking = {}
    for scale in SCALES:
        rows = {key: archive.row(*key, scale) for key in claim.needs}
        lacking[scale] = [
            key for key, row in rows.items() if len(row.results) < claim.seeds
        ]
        if lacking[scale]:
            continue
        seen = {key: archive.row(*key, scale) for key in claim.sees}
        outcome, sentence = claim.judge({**rows, **seen})
        sentence += f" {_seeds(rows.values())}"
        if scale != "full":
            outcome = OPEN
            sentence = (
                "Only at small scale, which the paper cannot be held against: "
                f"{sentence}"
            )
        files = {
            file
            for row in (*rows.values(), *seen.values())
            for file in row.files.values()
        }
        return Verdict(
            claim.key, claim.text, outcome, sentence, scale, sorted(files)
        )
    sentence = _lacking(claim, lacking["full"])
    return Verdict(claim.key, claim.text, OPEN, sentence, None, [])


def _seeds(rows):
    counts = [len(row.results) for row in rows]
    low, high = min(counts), max(counts)
    return f"n = {low}." if low == high else f"n = {low} to {high}."


def _lacking(claim, keys):
    by_experiment: dict[str, list[str]] = {}
    for experiment, label in keys:
        by_experiment.setdefault(experiment, []).append(label)
    names = "; ".join(
        f"{experiment} {', '.join(labels)}"
        for experiment, labels in by_experiment.items()
    )
    runs = "a full run" if claim.seeds == 1 else f"{claim.seeds} full runs each"
    return f"It takes {runs} of {names}."
