"""How much faster several processes train, from the benchmark's results."""

from __future__ import annotations

from typing import Any

from experiments.reporting.cells import Archive
from experiments.reporting.tables import Table

TITLE = "Scaling: training by several processes"
CAPTION = (
    "Examples a second of training by one process and by two, each with one "
    "thread on one core of its own, joined over the loopback interface of one "
    "machine; 2 x 64 are two processes with 64 examples each in a step. Times "
    "as fast: as one process in the same run. Fastest of several epochs."
)
BACKENDS = ("tensorflow", "jax", "torch")


def results_of(archive: Archive) -> list[dict[str, Any]]:
    """The result of every backend that was measured, with its name."""
    found = {name: archive.bench(f"scaling-{name}") for name in BACKENDS}
    return [
        {**result, "backend": name} for name, result in found.items() if result
    ]


def rates(results: list[dict[str, Any]]) -> Table:
    """A line for each network, optimizer and backend."""
    settings: dict[str, None] = {}  # in the order in which they come
    found: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {}
    for result in results:
        for row in result["scaling"]:
            setting = f"{row['workers']} x {row['batch'] // row['workers']}"
            settings[setting] = None
            key = (row["network"], row["optimizer"], result["backend"])
            found.setdefault(key, {})[setting] = (
                f"{row['rate']:,.0f}",
                f"{row['ratio']:.2f}",
            )
    return Table(
        [
            ("", ("network", "optimizer", "backend")),
            *((setting, ("a second", "times as fast")) for setting in settings),
        ],
        [
            [
                *key,
                *(
                    text
                    for setting in settings
                    for text in cells.get(setting, ("-", "-"))
                ),
            ]
            for key, cells in found.items()
        ],
        "-",
    )
