"""Two devices, and two processes, train what one does, with the same zeros."""

import pathlib
import sys
import time

import keras
import numpy as np
import pytest
from helpers import BACKEND

import keras_bregman as kb
from experiments import processes, together

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "several-devices.md"
DEVICES = {"jax": ("data", "model"), "tensorflow": ("mirrored",)}
# one thread each, as they share this machine's cores with other tests
ALONE = {
    "PYTHONPATH": str(ROOT),
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    # most of their time is JAX compiling
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}


def _train(how, folder, workers=({},)):
    """The weights that each of some processes ends with."""
    command = [sys.executable, ROOT / "tests" / "parallel.py", how, folder]
    together.run_together(
        [command] * len(workers),
        [{**ALONE, **variables} for variables in workers],
        seconds=400,
    )
    found = []
    for rank in range(len(workers)):
        with np.load(folder / f"weights-{rank}.npz") as file:
            found.append([file[name] for name in file.files])
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    (weights,) = _train("one", tmp_path_factory.mktemp("one"))
    kernels = [weight for weight in weights if weight.ndim == 2]
    assert all(0 < (kernel == 0).mean() < 1 for kernel in kernels)
    return weights


def _assert_agree(shared, alone):
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one == 0, two == 0)
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("how", DEVICES.get(BACKEND, ()))
def test_two_devices_agree_with_one(how, alone, tmp_path):
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    (shared,) = _train(how, tmp_path, [two])
    _assert_agree(shared, alone)


def test_two_processes_agree_with_one(alone, tmp_path):
    first, second = _train("processes", tmp_path, together.cluster(2))
    _assert_agree(first, alone)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    # what the first alone has saved
    for model in (
        keras.models.load_model(tmp_path / "model.keras"),
        kb.load_sparse(tmp_path / "model.kbs"),
    ):
        saved = model.get_weights()
        for one, two in zip(first[-len(saved) :], saved, strict=True):
            np.testing.assert_array_equal(one, two)


def test_the_page_prints_the_code_that_is_tested():
    code = ROOT / "experiments" / "parallel" / f"on_{BACKEND}.py"
    assert f"```py\n{code.read_text()}```" in PAGE.read_text()


class TestProcesses:
    def test_one_that_fails_ends_the_others_and_says_why(self):
        endless = "import time; print('I wait', flush=True); time.sleep(1000)"
        begun = time.monotonic()
        with pytest.raises(RuntimeError, match=r"(?s)I wait.*no such value"):
            together.run_together(
                [
                    [sys.executable, "-c", endless],
                    [sys.executable, "-c", "raise KeyError('no such value')"],
                ],
                [{}, {}],
                seconds=500,
            )
        assert time.monotonic() - begun < 60

    def test_time_is_up(self):
        deaf = (
            "import signal, time; signal.signal(signal.SIGTERM, "
            "signal.SIG_IGN); time.sleep(1000)"
        )
        with pytest.raises(RuntimeError, match=r"longer than 1 s"):
            together.run_together(
                [[sys.executable, "-c", deaf]], [{}], seconds=1
            )

    def test_ports_are_all_different(self):
        assert len(set(processes.free_ports(20))) == 20
