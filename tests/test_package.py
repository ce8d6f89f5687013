"""What importing the package brings along, and what its files say of it."""

import inspect
import json
import pathlib
import re
import subprocess
import sys
import typing

import pytest

import keras_bregman as kb
from keras_bregman import plots, tuning

ROOT = pathlib.Path(__file__).parent.parent

# What each of two modules imports after `keras`, which may have imported all
# backends: what is asked for by name counts as well as what is new.
_IMPORTED = """
import builtins
import json
import sys

import keras


def watched(name, globals=None, *rest):
    if (globals or {}).get("__name__", "").startswith("keras_bregman"):
        asked.add(name)
    return original(name, globals, *rest)


asked, before = set(), set(sys.modules)
original, builtins.__import__ = builtins.__import__, watched
for module in ("keras_bregman", "keras_bregman.tuning"):
    __import__(module)
    print(json.dumps([*asked, *(set(sys.modules) - before)]))
"""


def _printed(program):
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return done.stdout


def test_importing_it_imports_keras_and_numpy_alone():
    alone, with_tuning = (
        set(json.loads(line)) for line in _printed(_IMPORTED).splitlines()[-2:]
    )
    assert "keras_bregman.optimizers" in alone
    needed = {"keras_bregman", "keras", "numpy", *sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in alone} - needed == set()
    # these need packages of their own
    assert not alone & {"keras_bregman.plots", "keras_bregman.tuning"}
    # an import would be seen
    assert "keras_tuner" in with_tuning


def test_what_needs_other_packages_is_there_when_asked_for():
    code = (
        "import keras_bregman as kb; "
        "print(kb.plots.__name__, kb.tuning.__name__)"
    )
    assert _printed(code).split() == [
        "keras_bregman.plots",
        "keras_bregman.tuning",
    ]
    with pytest.raises(AttributeError, match="no attribute 'plot'"):
        _ = kb.plot


def test_what_is_exported_is_there():
    for module in (kb, kb.callbacks):
        assert sorted(module.__all__) == module.__all__
        for name in module.__all__:
            assert getattr(module, name) is not None


@pytest.mark.parametrize(
    "module",
    [kb, kb.callbacks, kb.regularizers, kb.optimizers, plots, tuning],
    ids=lambda module: module.__name__,
)
def test_what_is_public_has_types(module):
    """Which tools that read signatures can evaluate."""
    exported = getattr(module, "__all__", [])
    found = [
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value)
        if name in exported or value.__module__ == module.__name__
    ]
    assert found
    for thing in found:
        if inspect.isclass(thing) and issubclass(thing, tuple):
            continue  # its fields have
        called = thing.__init__ if inspect.isclass(thing) else thing
        names = set(inspect.signature(called).parameters) - {"self"}
        if not inspect.isclass(thing):
            names.add("return")
        assert names - set(typing.get_type_hints(called)) == set(), thing


def test_citation_names_the_version():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", text, re.M).group(1) == kb.__version__


@pytest.mark.parametrize(
    "package", ["keras", "numpy", "tensorflow", "jax", "torch"]
)
def test_lowest_versions_are_those_that_setup_asks_for(package):
    asked = re.search(
        rf'"{package}>=([\d.]+)"', (ROOT / "setup.py").read_text()
    ).group(1)
    pins = (ROOT / "requirements" / "lowest.txt").read_text()
    tested = re.search(rf"^{package}==([\d.]+)$", pins, re.M).group(1)
    assert f"{tested}.".startswith(f"{asked}."), (asked, tested)
