"""The paths of variables, and the names that are made of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def path_of(variable) -> str:
    """The Keras path of a variable; a raw backend variable's name."""
    return getattr(variable, "path", None) or variable.name


def first_matching(
    expressions: Iterable[str], paths: Iterable[str]
) -> list[str | None]:
    """For each path the first expression that `re.search` finds in it."""
    expressions = list(expressions)
    return [
        next((e for e in expressions if re.search(e, path)), None)
        for path in paths
    ]


def own_name(path: str) -> str:
    """The end of a weight's path; one without a name is called "variable".

    Keras numbers such weights by how many the process has made before.
    """
    name = path.rpartition("/")[2]
    return "variable" if re.fullmatch(r"variable_\d+", name) else name


def numbered(paths: Iterable[str]) -> list[str]:
    """Paths with a number behind each that was there before, as "a/b#2"."""
    seen: Counter[str] = Counter()
    names = []
    for path in paths:
        seen[path] += 1
        names.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return names


def names_of(model) -> dict[int, str]:
    """By `id`, the paths of a model's weights, numbered where they repeat."""
    names = numbered(map(path_of, model.weights))
    return dict(zip(map(id, model.weights), names, strict=True))
