"""Result files come back as they were saved, or not at all."""

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import results

pytestmark = pytest.mark.once

RESULT = {
    "recipe": {"label": "A", "start": {"conv": 1.0, "": 0.01}, "lam": None},
    "seed": 3,
    "history": {"loss": [0.5, 1e-30], "density": [0.01, 1.0]},
    "test": {"accuracy": 0.987, "loss": None},
}
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "result.json"


@given(
    history=st.dictionaries(st.text(), st.lists(NUMBERS)),
    other=st.dictionaries(
        st.text().filter(lambda k: k not in ("format", "sha256", "history")),
        VALUES,
    ),
)
def test_what_is_saved_is_read(tmp_path_factory, history, other):
    path = tmp_path_factory.mktemp("results") / "result.json"
    result = {**other, "history": history}
    results.save(result, path)
    assert results.read(path) == result


def test_a_history_is_a_line_a_figure(path):
    results.save(RESULT, path)
    lines = path.read_text().splitlines()
    assert '  "loss": [0.5, 1e-30],' in lines
    assert len(lines) == len(RESULT) + 2 + 2 + len(RESULT["history"]) + 1


def test_no_prefix_passes_for_a_result(path):
    results.save(RESULT, path)
    content = path.read_bytes()
    assert content.endswith(b"}\n")
    for n in range(len(content) - 1):
        path.write_bytes(content[:n])
        with pytest.raises(results.DamagedResult, match=str(path)):
            results.read(path)
    path.write_bytes(content[:-1])  # nothing but the last line's end is gone
    assert results.read(path) == RESULT


def test_no_changed_byte_goes_unnoticed(path):
    results.save(RESULT, path)
    content = path.read_bytes()
    for n in range(len(content)):
        for bit in (0, 4):
            changed = bytearray(content)
            changed[n] ^= 1 << bit
            path.write_bytes(changed)
            try:
                assert results.read(path) == RESULT  # white space
            except results.DamagedResult:
                pass
            else:
                assert content[n : n + 1].isspace()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "3",
        '"text"',
        "{}",
        json.dumps(RESULT),
        json.dumps({"format": results.FORMAT, **RESULT}),
        json.dumps({"format": "keras_bregman result 1", "sha256": ""}),
        json.dumps({"format": results.FORMAT, "sha256": 0, "x": float("nan")}),
        "\xff",
    ],
)
def test_what_is_none_of_ours(path, content):
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(results.DamagedResult, match="version control"):
        results.read(path)


def test_no_file(path):
    with pytest.raises(FileNotFoundError):
        results.read(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_not(path, number):
    with pytest.raises(ValueError, match="JSON"):
        results.save({"x": number}, path)
    assert not path.exists()
    assert results.finite(number) is None
    assert results.finite(0.5) == 0.5


def test_a_full_disk_leaves_the_old_result(path, file_size_limit):
    results.save(RESULT, path)
    with file_size_limit(1000), pytest.raises(OSError, match="too large"):
        results.save({"history": {"loss": [0.1] * 1000}}, path)
    assert results.read(path) == RESULT
    assert list(path.parent.iterdir()) == [path]


def test_every_run_has_a_file_of_its_own():
    paths = {
        results.path_of(pathlib.Path("out"), scale, family, slug, seed)
        for scale in ("full", "small")
        for family in ("mlp", "vgg16")
        for slug in ("sgd", "adam")
        for seed in (0, 1)
    }
    assert len(paths) == 16
