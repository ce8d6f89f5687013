"""The optimizers retrace the authors' own, step for step."""

import json
import pathlib

import keras
import numpy as np
import pytest

import keras_bregman as kb
from keras_bregman import regularizers

GOLDEN = pathlib.Path(__file__).parent / "golden"
TRACES = json.loads((GOLDEN / "traces.json").read_text())


def _regularizer(trace):
    name, lam = trace["regularizer"], trace["lam"]
    if name == "none":
        return None
    if name == "l1":
        return lam
    if "non-negative" in name:
        return regularizers.NonNegativeL1(lam)
    assert name.startswith("group: one group per ")
    groups = "unit" if "output unit" in name else "kernel"
    return regularizers.GroupLasso(lam, groups)


def _optimizer(trace):
    arguments = {"regularizer": _regularizer(trace)}
    if "delta" in trace:
        arguments["delta"] = trace["delta"]
    if "momentum" in trace:
        arguments["momentum"] = trace["momentum"]
    if "betas" in trace:
        arguments["beta_1"], arguments["beta_2"] = trace["betas"]
        arguments["epsilon"] = trace["eps"]
    return getattr(kb, trace["optimizer"])(trace["lr"], **arguments)


def _replay(name, dtype):
    """Yields our weights and the authors' after every step."""
    trace, arrays = TRACES[name], np.load(GOLDEN / f"{name}.npz")
    axes = {"out,in": (1, 0), "out,in,kh,kw": (2, 3, 1, 0)}[trace["layout"]]
    theta0 = arrays["theta0"].transpose(axes).astype(dtype)
    variable = keras.Variable(theta0, dtype=dtype, name="kernel")
    optimizer = _optimizer(trace)
    optimizer.build([variable])
    for gradient, theta in zip(arrays["grads"], arrays["thetas"], strict=True):
        gradient = gradient.transpose(axes).astype(dtype)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        ours = keras.ops.convert_to_numpy(variable)
        assert ours.dtype == dtype
        yield ours, theta.transpose(axes)


@pytest.mark.parametrize("name", TRACES)
def test_every_step_agrees_in_float64(name, float64):
    for step, (ours, theirs) in enumerate(_replay(name, "float64")):
        scale = np.abs(theirs).max()
        error = np.abs(ours - theirs).max()
        assert error <= 1e-12 * scale, f"step {step}: {error / scale}"
        np.testing.assert_array_equal(ours != 0, theirs != 0)
    assert step == TRACES[name]["steps"] - 1


@pytest.mark.parametrize("name", TRACES)
def test_every_step_agrees_in_float32(name):
    # a weight that has shrunk carries the rounding of what it was before, so
    # errors are relative to the largest weight up to that step
    scale = 0.0
    for step, (ours, theirs) in enumerate(_replay(name, "float32")):
        scale = max(scale, np.abs(theirs).max())
        error = np.abs(ours - theirs).max()
        assert error <= 1e-5 * scale, f"step {step}: {error / scale}"
    assert step == TRACES[name]["steps"] - 1
