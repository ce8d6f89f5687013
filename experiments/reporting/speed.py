"""How fast networks train, from the benchmarks' results."""

from __future__ import annotations

from typing import Any

from experiments.archive import Archive
from experiments.reporting.tables import Table

TITLE = "Speed of training: beside Adam, and by several processes"
BESIDE_ADAM = (
    "Examples a second of model.fit, how many times as fast as with Keras' "
    "Adam on the same network in the same run, and the share of the time spent "
    "waiting for data. Fastest of several measurements, all optimizers in turn."
)
SCALING = (
    "Examples a second of training by one process and by two, each with one "
    "thread on one core of its own, joined over the loopback interface of one "
    "machine; 2 x 64 are two processes with 64 examples each in a step. Times "
    "as fast: as one process in the same run. Fastest of several epochs."
)
BACKENDS = ("tensorflow", "jax", "torch")


def results_of(archive: Archive, name: str) -> list[dict[str, Any]]:
    """A benchmark's result for every backend that was measured, with its name.

    Args:
        archive: Where they are.
        name: `"fit"` or `"scaling"`.
    """
    found = {
        backend: archive.bench(f"{name}-{backend}") for backend in BACKENDS
    }
    return [
        {**result, "backend": backend}
        for backend, result in found.items()
        if result
    ]


def machines(results: list[dict[str, Any]]) -> str:
    """Which machine each backend was measured on: they may be different."""
    found = [
        f"{result['backend']} on {hardware['processor']}, "
        f"{hardware['cores']} cores"
        for result in results
        if (hardware := result.get("hardware"))
    ]
    return f" Measured: {'; '.join(found)}." if found else ""


def fits(results: list[dict[str, Any]]) -> Table:
    """A line for each network and optimizer, columns for each backend."""
    found: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
    for result in results:
        for row in result["fits"]:
            key = (row["network"], row["optimizer"])
            found.setdefault(key, {})[result["backend"]] = (
                f"{row['rate']:,.0f}",
                f"{row['ratio']:.2f}",
                f"{row['waiting']:.0%}".replace("%", " %"),
            )
    return _side_by_side(
        ("network", "optimizer"),
        ("a second", "times as fast", "waiting"),
        found,
    )


def rates(results: list[dict[str, Any]]) -> Table:
    """A line for each network, optimizer and backend."""
    found: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
    for result in results:
        for row in result["scaling"]:
            setting = f"{row['workers']} x {row['batch'] // row['workers']}"
            key = (row["network"], row["optimizer"], result["backend"])
            found.setdefault(key, {})[setting] = (
                f"{row['rate']:,.0f}",
                f"{row['ratio']:.2f}",
            )
    return _side_by_side(
        ("network", "optimizer", "backend"),
        ("a second", "times as fast"),
        found,
    )


def _side_by_side(heads, words, found):
    """Lines by key; for each setting, in the order in which they come, cells.

    Args:
        heads: Of the columns that hold a key.
        words: Of the columns of a setting.
        found: By key and setting, one text for each of `words`.
    """
    settings = dict.fromkeys(name for cells in found.values() for name in cells)
    return Table(
        [("", heads), *((setting, words) for setting in settings)],
        [
            [
                *key,
                *(
                    text
                    for setting in settings
                    for text in cells.get(setting, ("-",) * len(words))
                ),
            ]
            for key, cells in found.items()
        ],
    )
