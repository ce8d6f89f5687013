"""The report's claims, and how each is judged from rows of results.

Every judge takes the rows that its claim needs and returns an outcome and a
sentence. Neither is settled in advance: both follow from the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from experiments.archive import Row
from experiments.reporting.criteria import (
    CONFIRMED,
    DENSE,
    EQUAL,
    FAILED,
    NEAR_ACCURACY,
    NEAR_DENSITY,
    PARTLY,
    REFUTED,
    TWICE,
    UNSTABLE,
    USABLE,
    beyond_chance,
    by_count,
    density,
    failed,
    gap,
    leads,
    mean,
    test,
    val,
)
from experiments.reporting.published import (
    AS_REPORTED,
    PAPER,
    REPORT,
    optimizer_of,
)

Key = tuple[str, str]
Rows = Mapping[Key, Row]


class Claim(NamedTuple):
    """Something that the report says.

    Attributes:
        key: A letter.
        text: The claim.
        needs: Experiment and label of each row it is judged by.
        judge: From those rows to outcome and sentence.
        seeds: Runs that each of the rows has to have.
        sees: Experiment and label of rows that are used if they are there.
    """

    key: str
    text: str
    needs: tuple[Key, ...]
    judge: Callable[[Rows], tuple[str, str]]
    seeds: int = 1
    sees: tuple[Key, ...] = ()


_BREGMAN = ("LinBreg", "LinBreg momentum", "AdaBreg")
_SGD = ("figure5-8", "SGD")
_PROX = (
    ("figure2-4", "ProxGD lambda 0.0001"),
    ("figure2-4", "ProxGD lambda 0.001"),
)
_LIN = ("figure5-8", "LinBreg lambda 0.1")
_MOMENTUM = ("figure5-8", "LinBreg momentum")
_ADA_REPORTED = ("figure5-8", "AdaBreg tau 0.1")
_ADA = ("figure5-8", "AdaBreg tau 0.001")
_VGGS = {"table3": "VGG-16", "table4": "VGG-13"}
_TABLES = {"table1": "ConvNet", "table2": "ResNet-18", **_VGGS}
# on CIFAR-10 ours are asked for a density instead of given a lambda
_ENDINGS = {"table2": " at 5 %", "table3": " at 5 %", "table4": " at 10 %"}
_OURS: dict[str, tuple[Key, ...]] = {
    table: tuple((table, label + _ENDINGS.get(table, "")) for label in _BREGMAN)
    for table in _TABLES
}
# with our lambda instead, which not all of these runs have been done with
_GIVEN = {table: tuple((table, x) for x in _BREGMAN) for table in _ENDINGS}
# by network: the dense reference, then the Bregman optimizers
_NETWORKS: dict[str, tuple[Key, ...]] = {
    "perceptron": (_SGD, _LIN, _MOMENTUM, _ADA),
    **{
        name: ((table, "Adam"), *_OURS[table])
        for table, name in _TABLES.items()
    },
}
_OF_VGGS = tuple(key for table in _VGGS for key in _OURS[table])
_GIVEN_VGGS = tuple(key for table in _VGGS for key in _GIVEN[table])
_VGGS_REPORTED = tuple(
    (table, label + AS_REPORTED) for table in _VGGS for label in _BREGMAN
)


def _sparser(rows: Rows) -> tuple[str, str]:
    lin = rows[_LIN]
    sparser, beside = [], []
    for key in (_SGD, *_PROX):
        row = rows[key]
        beside.append(f"{gap(lin, row)} {row.label} at {density(row)}")
        if "sparsity" in leads(lin, row):
            sparser.append(key)
    sentence = (
        f"With lambda 0.1 LinBreg keeps {density(lin)} of the weights and "
        f"reaches {val(lin)} validation accuracy: {', '.join(beside)}. It is "
        "at least level in accuracy with, and sparser than, "
        f"{' and '.join(rows[key].label for key in sparser) or 'neither'}."
    )
    holding = (_SGD in sparser) + any(key in sparser for key in _PROX)
    return by_count(holding, 2), sentence


def _above_sgd(rows: Rows) -> tuple[str, str]:
    sgd, lin = rows[_SGD], rows[_LIN]
    sign = beyond_chance(lin, sgd, "val_accuracy") or 0
    sentence = (
        f"LinBreg reaches {lin.cell('val_accuracy')} % validation accuracy, "
        f"SGD {sgd.cell('val_accuracy')} %."
    )
    return {1: CONFIRMED, 0: PARTLY, -1: REFUTED}[sign], sentence


def _adabreg(rows: Rows) -> tuple[str, str]:
    reported, own = rows[_ADA_REPORTED], rows[_ADA]
    bad = [
        mean(row, "val_accuracy") < FAILED or mean(row, "density") > DENSE
        for row in (reported, own)
    ]
    cause = {
        (True, True): "it fails at either",
        (True, False): "the step size fails, not the algorithm",
        (False, True): "only the smaller step fails",
        (False, False): "it fails at neither",
    }[bad[0], bad[1]]
    sentence = (
        "At the report's tau 0.1 AdaBreg reaches "
        f"{reported.cell('val_accuracy')} % validation "
        f"accuracy at {density(reported)} density, at tau 0.001 {val(own)} "
        f"at {density(own)}: {cause}."
    )
    return by_count(sum(bad), len(bad)), sentence


def _momentum(rows: Rows) -> tuple[str, str]:
    lin, momentum = rows[_LIN], rows[_MOMENTUM]
    changes = [
        sign * (beyond_chance(momentum, lin, quantity) or 0)
        for sign, quantity in ((1, "val_accuracy"), (-1, "density"))
    ]
    if max(changes) > 0:
        outcome = PARTLY if min(changes) < 0 else REFUTED
    else:
        outcome = CONFIRMED
    words = ("worse", "no different", "better")
    sentence = (
        f"With momentum LinBreg reaches {val(momentum)} validation accuracy "
        f"at {density(momentum)} density, without {val(lin)} at "
        f"{density(lin)}. Beyond what seeds alone would make, its accuracy is "
        f"{words[changes[0] + 1]} and its density {words[changes[1] + 1]}."
    )
    return outcome, sentence


def _convnet(rows: Rows) -> tuple[str, str]:
    matched = _matched(rows, _OURS["table1"])
    ada, said = rows[_OURS["table1"][-1]], REPORT["table1"]["AdaBreg"]
    beside = _beside_paper(rows, _OURS["table1"])
    sentence = (
        "With lambda chosen for the paper's densities. "
        f"{beside} AdaBreg reaches {test(ada)} at "
        f"{density(ada)}, where the report has {said.test_accuracy:g} % at "
        f"{said.density:g} %. {_matches(matched)}"
    )
    return by_count(len(_BREGMAN) - len(matched), len(_BREGMAN)), sentence


def _resnet(rows: Rows) -> tuple[str, str]:
    given = _GIVEN["table2"]
    matched = _matched(rows, given)
    sentence = f"{_beside_paper(rows, given)} {_matches(matched)}"
    # which says nothing of the density, and is no judge of it
    asked = _there(rows, _OURS["table2"])
    if asked:
        sentence += f" Asked for a density instead: {_beside(rows, asked)}."
    if "AdaBreg" not in matched:
        return CONFIRMED, sentence
    return REFUTED if len(matched) == len(_BREGMAN) else PARTLY, sentence


def _matched(rows, keys):
    """The Bregman optimizers that do what the paper says of them."""
    found = []
    for key in keys:
        label = optimizer_of(key[1])
        row, said = rows[key], PAPER[key[0]][label]
        lost = said.test_accuracy - mean(row, "test_accuracy")
        over = mean(row, "density") - said.density
        near = min(NEAR_DENSITY, (TWICE - 1) * said.density)
        if lost <= NEAR_ACCURACY and over <= near:
            found.append(label)
    return found


def _beside_paper(rows, keys):
    return (
        f"Test accuracy and density, the paper's behind: {_beside(rows, keys)}."
    )


def _beside(rows, keys):
    parts = []
    for key in keys:
        label = optimizer_of(key[1])
        row, said = rows[key], PAPER[key[0]][label]
        parts.append(
            f"{label} {test(row)} at {density(row)} "
            f"({said.test_accuracy:g} % at {said.density:g} %)"
        )
    return "; ".join(parts)


def _matches(labels):
    names = ", ".join(labels) if labels else "none of the three"
    return f"The paper is matched by {names}."


def _vgg(rows: Rows) -> tuple[str, str]:
    own = [*_OF_VGGS, *_there(rows, _GIVEN_VGGS)]
    failing = sum(failed(rows[key]) for key in own)
    parts = [
        f"{name} "
        + ", ".join(
            f"{test(rows[key])} at {density(rows[key])}" for key in _OURS[table]
        )
        for table, name in _VGGS.items()
    ]
    reported = _there(rows, _VGGS_REPORTED)
    there = sum(failed(rows[key]) for key in reported)
    sentence = (
        f"With our settings {len(own) - failing} of {len(own)} rows that have "
        "run train. Test accuracy at the density asked for, of LinBreg, "
        f"LinBreg momentum and AdaBreg: {'; '.join(parts)}. With the report's "
        f"settings, without batch normalization, {there} of {len(reported)} "
        "failed."
    )
    return by_count(failing, len(own)), sentence


def _there(rows, keys):
    """The keys of those rows that have run."""
    return [key for key in keys if rows[key].results]


def _general(rows: Rows) -> tuple[str, str]:
    parts, beyond, failing, count = [], [], 0, 0
    for name, (reference, *keys) in _NETWORKS.items():
        keys += _there(rows, _GIVEN.get(reference[0], ()))
        count += len(keys)
        failing += sum(failed(rows[key]) for key in keys)
        dense = mean(rows[reference], "test_accuracy")
        lost = {k: dense - mean(rows[k], "test_accuracy") for k in keys}
        share = {k: mean(rows[k], "density") for k in keys}
        beyond += [
            f"{name} {key[1]}"
            for key in keys
            if lost[key] > USABLE or share[key] > DENSE
        ]
        # plus 0: no "-0.0"
        most = round(max(lost.values()), 1) + 0
        parts.append(f"{name} {most:.1f} and {max(share.values()):.1f} %")
    sentence = (
        f"{count - failing} of {count} rows of Bregman optimizers "
        f"train on the {len(_NETWORKS)} networks. Most points of test accuracy "
        "lost to the dense reference, and largest density: "
        f"{'; '.join(parts)}."
    )
    if not beyond:
        return REFUTED, sentence
    sentence += f" Too much for {', '.join(beyond)}."
    return CONFIRMED if failing else PARTLY, sentence


def _stability(rows: Rows) -> tuple[str, str]:
    accuracy, of_accuracy = _widest(rows, "test_accuracy")
    share, of_share = _widest(rows, "density")
    sentence = (
        f"Over the seeds of {len(rows)} rows the largest standard deviation "
        f"is {accuracy:.2f} points of test accuracy ({of_accuracy}) "
        f"and {share:.2f} points of density ({of_share})."
    )
    if accuracy <= EQUAL and share <= NEAR_DENSITY:
        return REFUTED, sentence
    return CONFIRMED if accuracy >= UNSTABLE else PARTLY, sentence


def _widest(rows, quantity):
    key = max(rows, key=lambda key: rows[key].cell(quantity).std)
    return rows[key].cell(quantity).std, f"{key[0]}, {key[1]}"


CLAIMS = (
    Claim(
        "a",
        "LinBreg surpasses ProxGD and SGD in sparsity.",
        (_SGD, *_PROX, _LIN),
        _sparser,
    ),
    Claim(
        "b",
        "AdaBreg fails to train (about 10 %) and does not reduce the density.",
        (_ADA_REPORTED, _ADA),
        _adabreg,
    ),
    Claim(
        "c",
        "Momentum in LinBreg does not improve the performance.",
        (_LIN, _MOMENTUM),
        _momentum,
        seeds=2,
    ),
    Claim(
        "d",
        "The ConvNet is not reproduced: densities 35 to 45 points above the "
        "paper's, AdaBreg 79.1 % at 39.7 %.",
        _OURS["table1"],
        _convnet,
    ),
    Claim(
        "e",
        "ResNet-18 is partially reproduced: AdaBreg is much denser than in "
        "the paper.",
        _GIVEN["table2"],
        _resnet,
        sees=_OURS["table2"],
    ),
    Claim(
        "f",
        "The Bregman algorithms fail on VGG-16 and VGG-13.",
        _OF_VGGS,
        _vgg,
        sees=(*_GIVEN_VGGS, *_VGGS_REPORTED),
    ),
    Claim(
        "g",
        "The Bregman algorithms are model-dependent, thus not general.",
        tuple(key for keys in _NETWORKS.values() for key in keys),
        _general,
        sees=tuple(key for keys in _GIVEN.values() for key in keys),
    ),
    Claim(
        "h",
        "The Bregman algorithms might be unstable, since the paper's results "
        "could not be reproduced.",
        tuple(
            key
            for name in ("perceptron", "ConvNet", "ResNet-18")
            for key in _NETWORKS[name][1:]
        ),
        _stability,
        seeds=2,
    ),
    Claim(
        "i",
        "LinBreg with lambda 0.1 is 0.2 points more accurate than SGD.",
        (_SGD, _LIN),
        _above_sgd,
        seeds=2,
    ),
)
