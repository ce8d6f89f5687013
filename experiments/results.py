"""Result files: where they lie, how they are written, read and trusted."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import pathlib
from typing import Any

from experiments.errors import Trouble
from experiments.recipes import Recipe, differing

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
FORMAT = "keras_bregman result 2"


class DamagedResult(Trouble):
    """A result file is not what it should be; the message names it."""


class OtherSettings(DamagedResult):
    """A result file is whole, and of a run with other settings.

    Attributes:
        differences: In words.
    """

    def __init__(self, path: pathlib.Path, differences: list[str]):
        self.differences = "; ".join(differences)
        super().__init__(
            f"The result file {path} is of a run with other settings: "
            f"{self.differences}."
        )


def path_of(
    folder: pathlib.Path, scale: str, family: str, slug: str, seed: int
) -> pathlib.Path:
    """The result file of one run."""
    return folder / scale / family / f"{slug}-seed{seed}.json"


def write(path: pathlib.Path, data: bytes) -> None:
    """Writes a file whole or not at all, with the folders above it.

    Raises:
        OSError: If it cannot be written; a file that was there stays.
    """
    from keras_bregman._files import write_whole  # Keras takes seconds

    write_whole(path, data)


def save(result: dict[str, Any], path: pathlib.Path) -> None:
    """Writes a result file with its checksum; raises as `write` does."""
    result = {"format": FORMAT, **result}
    result["sha256"] = _digest(result)
    write(path, _dump(result).encode())


def read(path: pathlib.Path) -> dict[str, Any]:
    """A result as it was saved.

    Raises:
        FileNotFoundError: If there is none.
        DamagedResult: If the file is cut off, changed, none of ours, or cannot
            be read.
    """
    try:
        result = json.loads(path.read_text())
        if result["format"] != FORMAT:
            raise ValueError(f"its format is {result['format']!r}")
        if result.pop("sha256") != _digest(result):
            raise ValueError("its checksum does not fit what it holds")
    except FileNotFoundError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise DamagedResult(
            f"The result file {path} is damaged ({error}). Take it from "
            "version control again, or delete it and repeat the run."
        ) from error
    del result["format"]
    return result


def read_run(
    path: pathlib.Path, recipe: Recipe, scale: str, seed: int
) -> dict[str, Any]:
    """The result of a run, if it is of these settings.

    Raises:
        FileNotFoundError: If there is none.
        OtherSettings: If it has another recipe, scale or seed.
        DamagedResult: As in `read`.
    """
    result = read(path)
    declared = {"scale": scale, "seed": seed}
    differences = differing({k: result.get(k) for k in declared}, declared)
    stored = result.get("recipe")
    if not isinstance(stored, dict):
        differences.append("it has no recipe")
    else:
        differences = [*recipe.differences(stored), *differences]
    if differences:
        raise OtherSettings(path, differences)
    return result


def aside(path: pathlib.Path) -> pathlib.Path:
    """Renames a file, by the first name of its kind that is free."""
    names = (
        path.with_name(f"{path.name}.aside{number or ''}")
        for number in itertools.count()
    )
    return path.replace(next(name for name in names if not name.exists()))


def finite(number: float) -> float | None:
    """A number as a result file has it: JSON has no NaN and no infinity."""
    return float(number) if math.isfinite(number) else None


def _dump(result) -> str:
    """JSON with one key a line but long lists of numbers on one."""
    parts = []
    for key, value in result.items():
        if key == "history":
            rows = (f"  {_json(k)}: {_json(v)}" for k, v in value.items())
            text = "{\n" + ",\n".join(rows) + "\n }"
        else:
            text = _json(value)
        parts.append(f" {_json(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _json(value) -> str:
    return json.dumps(value, allow_nan=False)


def _digest(result) -> str:
    text = json.dumps(result, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
