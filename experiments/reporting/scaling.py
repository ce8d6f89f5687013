"""How much faster several processes train, from the benchmark's results."""

from __future__ import annotations

from experiments.reporting.cells import Archive
from experiments.reporting.inference import Measured, measured
from experiments.reporting.tables import Table

TITLE = "Scaling: training by several processes"
CAPTION = (
    "Examples a second of training by one process and by two, each with one "
    "thread on one core of its own, joined over the loopback interface of one "
    "machine; 2 x 64 are two processes with 64 examples each in a step. Times "
    "as fast: as one process in the same run. Fastest of several epochs."
)
BACKENDS = ("tensorflow", "jax", "torch")


def rows_of(archive: Archive) -> Measured:
    """The rows of every backend that was measured, with its name."""
    return [
        {**row, "backend": backend}
        for backend in BACKENDS
        for row in measured(archive, "scaling", f"scaling-{backend}")
    ]


def rates(rows: Measured) -> Table:
    """A line for each network, optimizer and backend."""
    settings = list(dict.fromkeys(_setting(row) for row in rows))
    found: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {}
    for row in rows:
        key = (row["network"], row["optimizer"], row["backend"])
        found.setdefault(key, {})[_setting(row)] = (
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


def _setting(row):
    return f"{row['workers']} x {row['batch'] // row['workers']}"
