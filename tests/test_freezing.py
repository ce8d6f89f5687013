"""A support that a whole model holds, whatever it is compiled with."""

import keras
import pytest
from helpers import (
    Crash,
    array,
    compiled,
    data,
    mlp,
    multi_optimizer,
    train,
    unwarned,
)

import keras_bregman as kb


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
    with unwarned():
        train(model, 4)
    for a, b in zip(before, _supports(model), strict=True):
        assert (a == b).all()
    kb.freeze_support(model, False)
    train(model, 20)
    assert any(
        (a != b).any() for a, b in zip(before, _supports(model), strict=True)
    )


@pytest.mark.parametrize("frozen", (True, False))
def test_what_the_optimizer_alone_did_too_late(frozen):
    """The step that `fit` has is of the other state, whatever the flag says."""
    model = compiled(kb.AdaBreg(0.03, 0.05))
    kb.sparsify(model, 0.3, seed=0)
    kb.freeze_support(model, not frozen)
    train(model, 2)
    model.optimizer.freeze_support(frozen)
    before = _supports(model)
    kb.freeze_support(model, frozen)
    with unwarned():
        train(model, 10)
    pairs = zip(before, _supports(model), strict=True)
    assert all((a == b).all() for a, b in pairs) == frozen


def _compiled_step():
    """A step that is compiled for itself, and so not anew with all of it."""
    step = keras.Sequential.train_step
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(step)
    import jax

    return jax.jit(step, static_argnums=0)


@pytest.mark.skipif(keras.config.backend() == "torch", reason="never stale")
@pytest.mark.parametrize("frozen", (True, False))
def test_a_step_that_is_compiled_for_itself_is_told_of(frozen):
    def begun(model):
        model.compile(kb.AdaBreg(0.03, 0.05), "mse")
        kb.sparsify(model, 0.3, seed=0)
        if not frozen:
            kb.freeze_support(model)
        train(model, 2)
        with unwarned():
            train(model, 2)
        kb.freeze_support(model, frozen)
        return model

    made = {"train_step": _compiled_step(), "__hash__": object.__hash__}
    cls = type("Compiled", (keras.Sequential,), made)
    model = begun(cls([keras.Input((6,)), *mlp().layers]))
    with pytest.warns(UserWarning, match="when a function that applies"):
        train(model, 5)
    # the same again changes nothing, and says no more than that
    kb.freeze_support(model, frozen)
    with pytest.warns(UserWarning, match="when a function that applies"):
        train(model, 1)
    with unwarned():  # the other way it is what was compiled
        kb.freeze_support(model, not frozen)
        train(model, 1)
    plain = begun(mlp())
    with unwarned():
        train(plain, 2)
        kb.freeze_support(plain, frozen)
        train(plain, 2)


def test_a_target_takes_a_frozen_step_away():
    def target():
        return kb.callbacks.TargetDensity(0.5, ramp=0.2, freeze=0.5)

    model = compiled(kb.AdaBreg(0.03, 0.05))
    x, y = data()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, 4, 4, verbose=0, callbacks=[target(), Crash(3)])
    model.optimizer.freeze_support(False)
    before = array(model.optimizer.regularized()[0].dual)
    off = ~_supports(model)[0]
    moved = []

    class Moves(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            dual = self.model.optimizer.regularized()[0].dual
            moved.append((array(dual) != before)[off].any())

    model.fit(x, y, 4, 4, verbose=0, callbacks=[target(), Moves()])
    assert off.any()
    assert moved[0]


@pytest.mark.once
@pytest.mark.skipif(keras.config.backend() == "torch", reason="never stale")
def test_a_step_that_is_told_the_state_is_never_stale():
    step = keras.Sequential.train_step
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def told(model, frozen, *arguments):
            return step(model, *arguments)

    else:
        import jax

        def told(model, frozen, *arguments):
            return step(model, *arguments)

        told = jax.jit(told, static_argnums=(0, 1))

    class Model(keras.Sequential):
        __hash__ = object.__hash__

        def train_step(self, *arguments):
            return told(self, self.optimizer.support_is_frozen, *arguments)

    model = Model([keras.Input((6,)), *mlp().layers])
    model.compile(kb.AdaBreg(0.03, 0.05), "mse")
    kb.sparsify(model, 0.3, seed=0)
    with unwarned():
        for frozen in (False, True, False, True):
            kb.freeze_support(model, frozen)
            before = _supports(model)
            train(model, 10)
            pairs = zip(before, _supports(model), strict=True)
            assert all((a == b).all() for a, b in pairs) == frozen
            assert not model.optimizer.step_is_stale


@pytest.mark.once
@pytest.mark.skipif(keras.config.backend() == "torch", reason="never stale")
def test_a_loop_compiled_for_both_is_never_stale():
    optimizer = kb.AdaBreg(0.03, 0.05)
    model = mlp()
    optimizer.build(model.trainable_variables)
    gradients = [keras.ops.ones(v.shape) for v in model.trainable_variables]

    def step(frozen):
        optimizer.apply(gradients, model.trainable_variables)

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        step = tf.function(step)
    for frozen in (False, True, False, False, True):
        optimizer.freeze_support(frozen)
        step(frozen)
        assert not optimizer.step_is_stale


@multi_optimizer
def test_a_multi_optimizer_that_is_told_by_a_function():
    ours, theirs = kb.AdaBreg(0.03, 0.05), keras.optimizers.SGD(0.1)
    model = compiled(
        keras.optimizers.MultiOptimizer(
            lambda v: ours if "hidden/kernel" in v.path else theirs
        )
    )
    kb.sparsify(model, 0.3, seed=0)
    kb.freeze_support(model)
    before = array(model.get_layer("hidden").kernel) != 0
    train(model, 4)
    kernel = array(model.get_layer("hidden").kernel)
    assert ((kernel != 0) == before).all()


@pytest.mark.parametrize("optimizer", (None, "adam"))
def test_models_that_have_no_support(optimizer):
    model = mlp()
    if optimizer:
        model.compile(optimizer, "mse")
    with pytest.raises(ValueError, match="compiled with LinBreg, AdaBreg or"):
        kb.freeze_support(model)
    with pytest.raises(ValueError, match="`frozen` must be True or False"):
        kb.freeze_support(compiled(kb.LinBreg()), 1)
