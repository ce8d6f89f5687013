"""The document as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from html import escape

from experiments.reporting import document
from experiments.reporting.criteria import RULES
from experiments.reporting.document import Document, Section
from experiments.reporting.figures import Drawn
from experiments.reporting.tables import Table

_CSS = """
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem;
  color: #222; background: #fff; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 3rem 0 .75rem;
  padding-top: .75rem; border-top: 1px solid #ddd; }
p { max-width: 42rem; margin: .6rem 0; }
.note, figcaption { color: #666; font-size: .85rem; }
.box { overflow-x: auto; margin: .5rem 0 1.5rem; }
table { border-collapse: collapse; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .45rem; text-align: right; white-space: nowrap; }
th { font-weight: 600; }
td:first-child, thead th:first-child { text-align: left; }
thead tr:last-child th { border-bottom: 1px solid #999; }
thead th.group { text-align: center; border-bottom: 1px solid #ccc; }
.first { border-left: 1px solid #ddd; }
tbody tr:nth-child(even) { background: #f7f7f7; }
td.none { text-align: center; color: #888; }
figure { margin: 1rem 0 1.5rem; }
figure .box { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
.figures { display: grid; gap: 0 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
.figures > * { min-width: 0; }
.one { max-width: 40rem; }
.wide, .figures > p { grid-column: 1 / -1; }
.wide img { min-width: 42rem; }
dl { margin: 1rem 0; }
dt { font-weight: 600; margin-top: 1.1rem; }
dd { margin: .15rem 0 0; max-width: 46rem; }
.outcome { display: inline-block; padding: 0 .5rem; border-radius: .3rem;
  margin-right: .4rem; font-size: .85rem; background: #eee; color: #444; }
.confirmed { background: #dcefe7; color: #00583f; }
.refuted { background: #f9e2d3; color: #8a3c00; }
.partly { background: #fbeecb; color: #6b4a00; }
"""


def render(content: Document) -> str:
    """The whole report; figures are inside."""
    parts = [
        f"<h1>{_text(document.TITLE)}</h1>",
        f"<p>{_text(document.INTRODUCTION)}</p>",
        f"<p>{_text(document.READING)}</p>",
        *_verdicts(content),
    ]
    for section in content.sections:
        parts += _section(section)
    parts += _gaps(content)
    return _SHELL.format(
        title=_text(document.TITLE), css=_CSS, body="\n".join(parts)
    )


_SHELL = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _verdicts(content):
    yield "<h2>The report's claims</h2>\n<dl>"
    for verdict in content.verdicts:
        kind = verdict.outcome.partition(":")[0]
        scale = f"{verdict.scale.capitalize()} scale. " if verdict.scale else ""
        yield (
            f"<dt>({verdict.key}) {_text(verdict.claim)}</dt>\n"
            f'<dd><span class="outcome {kind}">{verdict.outcome}</span>'
            f"{scale}{_text(verdict.sentence)}</dd>"
        )
    yield f'</dl>\n<p class="note">{_text(RULES)}</p>'


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{_text(section.title)}</h2>"
    for caption, table in section.tables:
        if table is None:
            yield f'<p class="note">{_text(caption)}</p>'
        else:
            yield _table(table, caption)
    yield '<div class="figures">'
    for drawn in section.figures:
        yield _figure(drawn)
    yield "</div>"


def _figure(drawn: Drawn) -> str:
    if not drawn.images:
        text = f"{drawn.title}. {drawn.note}"
        return f'<p class="note">{_text(text)}</p>'
    source = base64.b64encode(drawn.images["svg"]).decode()
    kind = "wide" if drawn.width > 7 else "one"
    return (
        f'<figure class="{kind}"><div class="box">'
        f'<img alt="{_text(drawn.title)}" '
        f'src="data:image/svg+xml;base64,{source}"></div>\n'
        f"<figcaption>{_text(drawn.note)}</figcaption></figure>"
    )


def _table(table: Table, caption: str) -> str:
    groups = "".join(
        f'<th class="group first" colspan="{len(columns)}">{_text(name)}</th>'
        if name
        else f'<td colspan="{len(columns)}"></td>'
        for name, columns in table.groups
    )
    heads = "".join(
        f"<th{_edge(i, name)}>{_text(column)}</th>"
        for name, columns in table.groups
        for i, column in enumerate(columns)
    )
    rows = "\n".join(f"<tr>{_cells(table, row)}</tr>" for row in table.rows)
    return (
        f'<p class="note">{_text(caption)}</p>\n<div class="box"><table>'
        f"<thead><tr>{groups}</tr>\n<tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cells(table, row):
    """A row's cells; of missing ones side by side it is said once."""
    texts = iter(row)
    cells = []
    for name, columns in table.groups:
        group = enumerate(itertools.islice(texts, len(columns)))
        for is_missing, some in itertools.groupby(group, _is_missing):
            pairs = list(some)
            if is_missing:
                edge = " first" if not pairs[0][0] and name else ""
                cells.append(
                    f'<td class="none{edge}" colspan="{len(pairs)}">'
                    f"{_text(table.missing)}</td>"
                )
            else:
                cells += [
                    f"<td{_edge(i, name)}>{_text(text)}</td>"
                    for i, text in pairs
                ]
    return "".join(cells)


def _is_missing(pair):
    return pair[1] is None


def _text(text):
    """Plain text as HTML in which a number keeps its unit on its line."""
    text = escape(text).replace(" %", "&nbsp;%")
    return text.replace("n = ", "n&nbsp;=&nbsp;")


def _edge(i, group):
    return ' class="first"' if not i and group else ""


def _gaps(content):
    yield "<h2>What is missing</h2>"
    lines = [f"Not drawn: {title}" for title in document.absent(content)]
    lines += content.troubles
    if lines:
        items = "\n".join(f"<li>{_text(line)}</li>" for line in lines)
        yield f'<ul class="note">\n{items}\n</ul>'
    else:
        yield "<p>Nothing.</p>"
