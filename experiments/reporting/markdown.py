"""The document as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.reporting import document
from experiments.reporting.criteria import RULES
from experiments.reporting.document import Document, Section
from experiments.reporting.tables import Table


def render(content: Document) -> str:
    """The whole report; figures are the files beside it."""
    blocks = [
        f"# {document.TITLE}",
        document.INTRODUCTION,
        document.READING,
        *_verdicts(content),
    ]
    for section in content.sections:
        blocks += _section(section)
    blocks += _gaps(content)
    return "\n\n".join(blocks) + "\n"


def _verdicts(content):
    yield "## The report's claims"
    rows = [
        [v.key, v.claim, v.outcome, v.scale or "-", v.sentence]
        for v in content.verdicts
    ]
    header = ("claim", "of the report", "verdict", "scale", "numbers")
    yield _lines(header, rows, "---")
    yield RULES


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    for caption, table in section.tables:
        yield caption
        if table is not None:
            yield table_of(table)
    for drawn in section.figures:
        if drawn.images:
            yield f"![{drawn.title}](figures/{drawn.name}.svg)"
            yield drawn.note
        else:
            yield f"{drawn.title}. {drawn.note}"


def _gaps(content):
    yield "## What is missing"
    titles = document.absent(content)
    lines = [f"- Not drawn: {title}" for title in titles]
    lines += [f"- {trouble}" for trouble in content.troubles]
    yield "\n".join(lines) or "Nothing."


def table_of(table: Table) -> str:
    """Markdown has no groups of columns, so every head names its own."""
    header = [
        f"{group} {column}".strip()
        for group, columns in table.groups
        for column in columns
    ]
    rows = [
        [table.missing if text is None else text for text in row]
        for row in table.rows
    ]
    return _lines(header, rows, "--:")


def _lines(header, rows, align):
    rule = ["---", *[align] * (len(header) - 1)]
    return "\n".join(
        "| " + " | ".join(line) + " |" for line in (header, rule, *rows)
    )
