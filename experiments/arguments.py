"""What options of the commands take, each checked before any work."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

from experiments.catalog import EXPERIMENTS
from experiments.recipes import parse_change
from experiments.results import ROOT


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """Lets a command be told where to write the result that it always does."""
    parser.add_argument(
        "--out",
        type=file,
        default=ROOT / "build" / f"{name}.json",
        help=f"result file (default: build/{name}.json)",
    )


def experiment(text: str) -> str:
    if text not in EXPERIMENTS:
        raise argparse.ArgumentTypeError(
            f"no experiment is called {text!r}; there are "
            f"{', '.join(EXPERIMENTS)}"
        )
    return text


def change(text: str) -> tuple[str, Any]:
    """A field of a recipe and its value."""
    try:
        return parse_change(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def seed(text: str) -> int:
    return _number(text, int, "0 or greater, of 32 bits", _is_seed)


def count(text: str) -> int:
    return _number(text, int, "1 or greater", lambda n: n > 0)


def minutes(text: str) -> float:
    return _number(text, float, "0 or greater", lambda n: n >= 0)


def width(text: str) -> float:
    return _number(text, float, "in (0, 100)", lambda n: 0 < n < 100)


def share(text: str) -> float:
    return _number(text, float, "in (0, 1]", lambda n: 0 < n <= 1)


def file(text: str) -> pathlib.Path:
    path = pathlib.Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder, not a file")
    return path


def folder(text: str) -> pathlib.Path:
    path = pathlib.Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file, not a folder")
    return path


def _is_seed(n):
    return 0 <= n < 2**32


def _number(text, kind: Callable, bound, is_good: Callable):
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not is_good(number):
        raise argparse.ArgumentTypeError(f"must be {bound}, not {text}")
    return number
