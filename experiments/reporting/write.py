"""The report's tables, figures and verdicts, written from result files."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from experiments import results
from experiments.archive import QUANTITIES, Archive, Row
from experiments.catalog import EXPERIMENTS, SCALES
from experiments.reporting import document, figures, markdown, page, verdicts
from experiments.reporting.figures import Drawn
from experiments.reporting.published import Published, paper_of, report_of
from experiments.reporting.verdicts import Verdict


def write(source: pathlib.Path, out: pathlib.Path) -> int:
    """Writes report.md, index.html, report.json and the figures.

    Nothing is trained, and nothing is written before all of it is made.

    Args:
        source: Folder of the result files.
        out: Folder to write to; figures that no result backs any more are
            removed from it.

    Returns:
        Number of damaged result files, each of which is named on stderr.

    Raises:
        OSError: If a file cannot be written; what it replaces stays.
        Trouble: If the model for Figure 1 cannot be built.
    """
    archive = Archive(source)
    files = _contents(archive)
    for name, data in files.items():
        results.write(out / name, data)
    for name in figures.file_names():
        if f"figures/{name}" not in files:
            (out / "figures" / name).unlink(missing_ok=True)
    for why in archive.damaged.values():
        print(why, file=sys.stderr)
    return len(archive.damaged)


def _contents(archive: Archive) -> dict[str, bytes]:
    """What is written, by name."""
    judged = verdicts.judge_all(archive)
    drawn = [
        figures.figure1(),
        *figures.draw_all(archive),
        figures.of_inference(archive),
    ]
    content = document.build(archive, judged, drawn)
    images = {
        f"figures/{figure.name}.{suffix}": image
        for figure in drawn
        for suffix, image in figure.images.items()
    }
    return {
        "report.md": markdown.render(content).encode(),
        "index.html": page.render(content).encode(),
        "report.json": _dump(_data(archive, judged, drawn)).encode(),
        **images,
    }


def _dump(data: dict[str, Any]) -> str:
    """JSON with one entry of every list a line, so that changes are seen."""
    parts = []
    for key, entries in data.items():
        lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
        parts.append(
            f' "{key}": [\n{lines}\n ]' if entries else f' "{key}": []'
        )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _data(
    archive: Archive, judged: list[Verdict], drawn: list[Drawn]
) -> dict[str, Any]:
    """Every number with the files it comes from."""
    cells = [
        _cell(row, quantity)
        for name in EXPERIMENTS
        for scale in SCALES
        for row in archive.rows(name, scale)
        for quantity in QUANTITIES
    ]
    return {
        "cells": cells,
        "verdicts": [verdict._asdict() for verdict in judged],
        "figures": [_figure(figure) for figure in drawn],
        "damaged": _named(archive.damaged),
        "stale": _named(archive.stale),
        "missing": archive.missing,
    }


def _cell(row: Row, quantity: str) -> dict[str, Any]:
    cell = row.cell(quantity)
    return {
        "table": row.experiment,
        "scale": row.scale,
        "row": row.label,
        "quantity": quantity,
        "mean": _rounded(cell.mean),
        "std": _rounded(cell.std),
        "n": cell.n,
        "seeds": list(row.results),
        "declared_seeds": list(row.declared),
        "report": _of(report_of(row), quantity),
        "paper": _of(paper_of(row), quantity),
        "files": list(row.files.values()),
    }


def _of(printed: Published | None, quantity):
    # neither prints validation accuracies
    return getattr(printed, quantity, None)


def _rounded(number):
    return None if number is None else round(number, 4)


def _figure(drawn: Drawn) -> dict[str, Any]:
    return {
        "name": drawn.name,
        "title": drawn.title,
        "table": drawn.experiment,
        "scale": drawn.scale,
        "drawn": bool(drawn.images),
        "note": drawn.note,
        "images": [f"figures/{drawn.name}.{kind}" for kind in drawn.images],
        "files": drawn.files,
    }


def _named(reasons: dict[str, str]) -> list[dict[str, str]]:
    return [{"file": name, "why": why} for name, why in reasons.items()]
