"""Result files: where they lie, how they are written, read and trusted."""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import json
import math
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

from experiments.errors import Trouble
from experiments.recipes import Recipe, differing

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
FORMAT = "keras_bregman result 2"


class DamagedResult(Trouble):
    """A result file is not what it should be; the message names it."""


class OtherSettings(DamagedResult):
    """It is whole, and of a run with other settings.

    Attributes:
        differences: In words.
    """

    def __init__(self, path: pathlib.Path, differences: list[str]):
        self.differences = "; ".join(differences)
        super().__init__(
            f"The result file {path} is of a run with other settings: "
            f"{self.differences}."
        )


def path_of(folder: pathlib.Path, scale: str, family: str, slug: str, seed):
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


def provenance() -> dict[str, Any]:
    """Versions, hardware and command: what a figure has to be read with."""
    import keras

    import keras_bregman as kb

    names = ("keras", keras.config.backend(), "numpy")
    # as the package that is installed may have another name
    modules = {name: importlib.import_module(name) for name in names}
    return {
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            "keras_bregman": kb.__version__,
            **{name: m.__version__ for name, m in modules.items()},
        },
        "hardware": {
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": _cores(),
            "devices": _devices(),
        },
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


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


@functools.cache
def commit() -> str | None:
    """The commit of the code, with a + if files differ from it.

    As it was when a process first asked, which should be when it has loaded
    the code: what is committed later it does not run.
    """
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _devices() -> list[str]:
    import keras

    if keras.config.backend() == "jax":
        import jax

        return [d.device_kind for d in jax.devices()]
    if keras.config.backend() != "torch":
        return [str(d) for d in keras.distribution.list_devices()]
    import torch

    count = torch.cuda.device_count()
    return [torch.cuda.get_device_name(i) for i in range(count)] or ["cpu"]


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
