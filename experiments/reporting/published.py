"""The numbers that the student report and the paper print, in percent.

The report: Chen, Li, Hao, "COMP 551 Project 4", December 2021, its Tables 1 to
4. The paper: Bungert, Roith, Tenbrinck, Burger, "A Bregman Learning Framework
for Sparse Neural Networks", as the report's Tables 5 and 6 quote it.
"""

from __future__ import annotations

from typing import NamedTuple

from experiments.archive import Row
from experiments.catalog.comparison import method_of


class Published(NamedTuple):
    """One printed row of a table.

    Attributes:
        density: N_total, the share of weights that are not 0.
        test_accuracy: On the test split.
        train_accuracy: On the training split.
    """

    density: float
    test_accuracy: float
    train_accuracy: float


REPORT = {
    "table1": {
        "Adam": Published(100, 91.3, 100.0),
        "LinBreg": Published(51.8, 87.1, 94.1),
        "LinBreg momentum": Published(50.2, 87.7, 93.9),
        "AdaBreg": Published(39.7, 79.1, 81.3),
    },
    "table2": {
        "Adam": Published(100, 92.5, 100.0),
        "LinBreg": Published(11.2, 81.9, 91.1),
        "LinBreg momentum": Published(9.1, 81.2, 90.0),
        "AdaBreg": Published(71.2, 86.2, 98.1),
    },
    "table3": {
        "Adam": Published(100, 84.7, 100.0),
        "LinBreg": Published(88.9, 9.9, 10.1),
        "LinBreg momentum": Published(89.5, 9.3, 10.2),
        "AdaBreg": Published(58.2, 10.4, 10.8),
    },
    "table4": {
        "Adam": Published(100, 84.4, 100.0),
        "LinBreg": Published(92.5, 10.7, 9.9),
        "LinBreg momentum": Published(92.5, 10.0, 10.0),
        "AdaBreg": Published(60, 9.3, 10),
    },
}

PAPER = {
    "table1": {
        "Adam": Published(100, 92.1, 100.0),
        "LinBreg": Published(1.9, 89.2, 91.1),
        "LinBreg momentum": Published(2.7, 89.9, 93.8),
        "AdaBreg": Published(2.3, 90.5, 93.6),
    },
    "table2": {
        "Adam": Published(100, 93.6, 100.0),
        "LinBreg": Published(5.5, 90.9, 99.5),
        "LinBreg momentum": Published(4.8, 90.4, 100),
        "AdaBreg": Published(14.7, 92.3, 100),
    },
}

# Test accuracy by density that others print for the networks of the curves.
RECORDS = {
    "curve-lenet": {
        # Dettmers and Zettlemoyer, 2019, two files of the results beside
        # their code; the second does not name its network, dense 98.69
        "sparse momentum": {
            0.083: 98.57,
            0.05: 98.47,
            0.02: 98.01,
            0.01: 97.64,
        },
        "sparse momentum, network not named": {
            0.1: 98.67,
            0.05: 98.53,
            0.02: 98.20,
            0.01: 97.53,
        },
    },
    "curve-convnet": {
        "the paper's AdaBreg": {0.023: PAPER["table1"]["AdaBreg"].test_accuracy}
    },
    "curve-resnet18": {
        f"the paper's {name}": {
            PAPER["table2"][name].density / 100: PAPER["table2"][
                name
            ].test_accuracy
        }
        for name in ("LinBreg", "LinBreg momentum", "AdaBreg")
    }
    | {
        # the code of arXiv 2605.07892; the head alone has 5 million weights
        "AdaBreg, 10,000-class head": {0.05: 94.93, 0.01: 94.51},
    },
    "curve-vgg16": {
        # abstract of arXiv 2606.12278, 2026; SNIP's variant of VGG
        "one-cycle pruning, similar network": {0.03: 93.13},
    },
}

# ends the label of a recipe with the report's settings instead of ours
AS_REPORTED = " (report)"


def report_of(row: Row) -> Published | None:
    """What the report prints beside a row of ours, if anything."""
    return REPORT.get(row.experiment, {}).get(optimizer_of(row.label))


def paper_of(row: Row) -> Published | None:
    """What the paper prints beside a row of ours, if anything."""
    return PAPER.get(row.experiment, {}).get(optimizer_of(row.label))


def optimizer_of(label: str) -> str:
    """A label without the report's settings or the density asked for."""
    return method_of(label.removesuffix(AS_REPORTED))
