"""Two devices train what one does, with the same zeros."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from helpers import BACKEND

WAYS = {"jax": ("data", "model"), "tensorflow": ("mirrored",)}.get(BACKEND, ())


def _weights(how, folder):
    script = pathlib.Path(__file__).parent / "parallel.py"
    path = folder / f"{how}.npz"
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run(
        [sys.executable, script, how, path],
        env={**os.environ, **two},
        check=True,
    )
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return _weights("one", tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("how", WAYS)
def test_two_devices_agree_with_one(how, alone, tmp_path):
    shared = _weights(how, tmp_path)
    assert any((weight == 0).any() for weight in alone)
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one == 0, two == 0)
        np.testing.assert_allclose(one, two, atol=1e-5)
