"""A support that a whole model holds, whatever it is compiled with."""

import warnings

import keras
import pytest

import keras_bregman as kb
from tests.helpers import array, compiled, mlp, multi_optimizer, train


def _scaled():
    return keras.optimizers.LossScaleOptimizer(kb.AdaBreg(0.03, 0.05), 2.0)


def _several():
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.SGD(0.1),
            {
                ".*hidden/kernel": kb.AdaBreg(0.03, 0.05),
                ".*out/kernel": kb.ProxGD(0.1, 0.01),
            },
        )
    )


def _supports(model):
    return [array(k.variable) != 0 for k in kb.kernels.kernels(model)]


@pytest.mark.parametrize(
    "make",
    (
        lambda: kb.AdaBreg(0.03, 0.05),
        lambda: kb.ProxGD(0.1, 0.01),
        _scaled,
        pytest.param(_several, marks=multi_optimizer),
    ),
    ids=("AdaBreg", "ProxGD", "loss scaling", "several"),
)
def test_between_two_fits(make):
    model = compiled(make())
    kb.sparsify(model, 0.3, seed=0)
    train(model, 2)
    before = _supports(model)
    kb.freeze_support(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train(model, 4)
    for a, b in zip(before, _supports(model), strict=True):
        assert (a == b).all()
    kb.freeze_support(model, False)
    train(model, 20)
    assert any(
        (a != b).any() for a, b in zip(before, _supports(model), strict=True)
    )


@pytest.mark.parametrize("optimizer", (None, "adam"))
def test_models_that_have_no_support(optimizer):
    model = mlp()
    if optimizer:
        model.compile(optimizer, "mse")
    with pytest.raises(ValueError, match="compiled with LinBreg, AdaBreg or"):
        kb.freeze_support(model)
    with pytest.raises(ValueError, match="`frozen` must be True or False"):
        kb.freeze_support(compiled(kb.LinBreg()), 1)
