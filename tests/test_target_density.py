"""A density that was asked for is met, kept, and survives a kill."""

import math
import os
import pickle
import re
import warnings

import keras
import numpy as np
import pytest
from helpers import (
    Crash,
    array,
    assert_same_weights,
    compiled,
    fed,
    heard,
    multi_optimizer,
    param_once,
    train,
    unwarned,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_bregman as kb
from experiments.data import load
from experiments.models import convnet, mlp
from keras_bregman.allocation import allocate
from keras_bregman.callbacks import (
    SparsityLogger,
    TargetDensity,
    _strengths,
)
from keras_bregman.callbacks._clock import Clock
from keras_bregman.kernels import kernels

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

both = pytest.mark.parametrize(
    "make",
    (
        lambda strength: kb.LinBreg(0.1, strength),
        lambda strength: kb.AdaBreg(0.003, strength),
    ),
    ids=("linbreg", "adabreg"),
)


def perceptron(optimizer, start=1.0, data="digits", width=0.5):
    dataset = load(data)
    model = mlp(dataset.inputs, width)
    kb.sparsify(model, start, seed=0)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def fit(model, callbacks, epochs=6, **arguments):
    dataset = load("digits")
    return model.fit(
        **fed(dataset.x_train[:512], dataset.y_train[:512], 32),
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
        **arguments,
    )


def held_out():
    """One batch to validate on."""
    dataset = load("digits")
    return dataset.x_val[:32], dataset.y_val[:32]


def supports(model):
    return [
        array(k) != 0 for k in model.trainable_weights if "kernel" in k.path
    ]


@pytest.mark.parametrize("density", (param_once(0.5), 0.05, param_once(0.005)))
@pytest.mark.parametrize("method", ("exact", "feedback"))
@both
def test_ends_with_the_density_asked_for(make, method, density):
    model = perceptron(make(1.0), start=0.05)
    fit(model, [TargetDensity(density, method=method)], epochs=4)
    assert kb.density(model) == pytest.approx(density, rel=0.02)


@both
def test_strengths_are_given_relative_to_each_other_only(make):
    """From a sparse start lambda falls at once, and enlarges nothing."""
    losses = []
    for strength in (3.0, 0.01):
        model = perceptron(make(strength), start=0.05)
        history = fit(model, [TargetDensity(0.1)], epochs=3).history
        losses.append(history["loss"])
    np.testing.assert_allclose(*losses, rtol=0.02)


@pytest.mark.parametrize("distribution", ("global", "uniform", "erdos-renyi"))
@both
def test_asked_for_all_weights_it_is_a_plain_step(make, distribution):
    plain = fit(perceptron(make(None)), []).history["loss"]
    model = perceptron(make(1.0))
    losses = fit(
        model, [TargetDensity(1.0, distribution=distribution)]
    ).history["loss"]
    # but for the first step, which switches some off
    np.testing.assert_allclose(losses, plain, rtol=0.05)
    assert kb.density(model) > 0.99
    assert not any(float(array(x)) for x in model.optimizer.lambdas.values())


@both
def test_a_layer_that_stays_dense_takes_a_plain_step(make):
    model = perceptron(make(1.0))
    callback = TargetDensity(0.4, distribution="erdos-renyi", ramp=0.0)
    fit(model, [callback])
    *_, (last, lam) = model.optimizer.lambdas.items()
    kernel = next(w for w in model.trainable_weights if w.path == last)
    assert float(array(lam)) == 0.0
    assert np.count_nonzero(array(kernel)) > 0.99 * array(kernel).size
    assert kb.density(model) == pytest.approx(0.4, rel=0.02)


@both
def test_nothing_grows_while_all_are_wanted(make):
    """As in an epoch of unknown length, which is a plain training."""
    largest = []
    for strength, callbacks in ((None, []), (1.0, [TargetDensity(0.99)])):
        model, dataset = perceptron(make(strength)), load("digits")
        data = (
            (dataset.x_train[i : i + 32], dataset.y_train[i : i + 32])
            for _ in range(12)
            for i in range(0, 1024, 32)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tested elsewhere
            model.fit(data, verbose=0, callbacks=callbacks)
        values = [array(w) for w in model.trainable_weights]
        largest.append(max(np.abs(value).max() for value in values))
    assert largest[1] == pytest.approx(largest[0], rel=0.05)


def test_a_gpu_finds_the_strength_that_a_cpu_finds(monkeypatch):
    models = []
    for on_cpu in (True, False):
        monkeypatch.setattr(
            _strengths, "_is_on_cpu", lambda tensor, answer=on_cpu: answer
        )
        keras.utils.set_random_seed(0)
        model = perceptron(kb.AdaBreg(0.003, 1.0), start=0.05)
        fit(model, [TargetDensity(0.05)], epochs=4)
        models.append(model)
    assert_same_weights(*models)


@pytest.mark.parametrize("distribution", ("global", "uniform"))
def test_a_gpu_is_asked_as_often_for_many_layers(distribution, monkeypatch):
    asked, by_correction = [], []
    convert, correct = keras.ops.convert_to_numpy, TargetDensity._correct

    def counted(self):
        asked.clear()
        correct(self)
        by_correction.append(len(asked))

    monkeypatch.setattr(_strengths, "_is_on_cpu", lambda tensor: False)
    monkeypatch.setattr(
        "keras_bregman._scalars.ops.convert_to_numpy",
        lambda x: asked.append(x) or convert(x),
    )
    monkeypatch.setattr(TargetDensity, "_correct", counted)
    most = []
    for layers in (1, 5):
        start = [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
        ]
        hidden = [keras.layers.Dense(20, "relu") for _ in range(layers)]
        model = keras.Sequential([*start, *hidden, keras.layers.Dense(10)])
        model.compile(
            kb.LinBreg(0.1, 1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        by_correction.clear()
        fit(model, [TargetDensity(0.2, distribution=distribution)], epochs=2)
        most.append(max(by_correction))
    assert most[0] == most[1] > 0


@pytest.mark.once
@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set"
)
@both
def test_real_mnist(make):
    """Two epochs at a fortieth of the weights, from a dense start."""
    dataset = load("mnist")
    model = perceptron(make(1.0), data="mnist", width=1.0)
    model.fit(
        dataset.x_train,
        dataset.y_train,
        batch_size=128,
        epochs=2,
        verbose=0,
        callbacks=[TargetDensity(0.025)],
    )
    assert kb.density(model) == pytest.approx(0.025, rel=1e-4)
    _, accuracy = model.evaluate(dataset.x_test, dataset.y_test, verbose=0)
    assert accuracy > 0.88


@pytest.mark.parametrize("distribution", (param_once("uniform"), "erdos-renyi"))
@both
def test_layers_get_their_own_density(make, distribution):
    model = perceptron(make(1.0))
    fit(model, [TargetDensity(0.1, distribution=distribution)], epochs=3)
    found = [(s.shape, s.sum()) for s in supports(model)]
    shapes = [shape for shape, _ in found]
    total = round(0.1 * sum(math.prod(shape) for shape in shapes))
    assert [n for _, n in found] == allocate(shapes, total, distribution)


def test_convolutions():
    dataset = load("digits")
    keras.utils.set_random_seed(0)
    inputs = dataset.inputs._replace(shape=(28, 28, 1))
    model = convnet(inputs, width=0.1)
    model.compile(kb.LinBreg(0.01, 1.0), "mse")
    x = np.random.default_rng(0).integers(0, 255, (64, 28, 28, 1), "uint8")
    model.fit(
        x,
        np.eye(10, dtype="float32")[np.arange(64) % 10],
        batch_size=16,
        epochs=3,
        verbose=0,
        callbacks=[TargetDensity(0.2)],
    )
    assert kb.density(model) == pytest.approx(0.2, rel=0.001)


@pytest.mark.parametrize("begin", (0.0, 0.25))
@pytest.mark.parametrize("start", (1.0, param_once(0.02)))
def test_the_way_there_is_a_cubic_ramp(start, begin):
    model = perceptron(kb.LinBreg(0.1, 1.0), start=start)
    begun_at = kb.density(model)
    history = fit(
        model,
        [
            TargetDensity(0.2, ramp=0.5, freeze=0.25, begin=begin),
            SparsityLogger(),
        ],
        epochs=8,
        validation_data=held_out(),
    ).history
    size = sum(s.size for s in supports(model))
    for epoch, density in enumerate(history["density"], start=1):
        left = min(1, max(0, 1 - (epoch / 8 - begin) / 0.5)) ** 3
        wanted = 0.2 + (begun_at - 0.2) * left
        assert density == pytest.approx(wanted, abs=1.5 / size)


@pytest.mark.once
def test_a_model_that_its_first_step_builds_is_led_down_from_1():
    hidden = keras.layers.Dense(32, "relu")
    logits = keras.layers.Dense(10)
    flat = keras.layers.Flatten()
    model = keras.Sequential([flat, hidden, logits])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kb.AdaBreg(0.003, 1.0), loss)
    fit(model, [kb.callbacks.SparsityWatch(), TargetDensity(0.05)])
    assert kb.density(model) == pytest.approx(0.05, rel=0.02)
    assert float(model.optimizer.initial_density) == 1


class OfValidation(keras.callbacks.Callback):
    """Notes the density that validation sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_test_batch_end(self, batch, logs=None):
        self.seen.append(kb.density(self.model))


def fit_of_unknown_length(callbacks, **how):
    """A model after an epoch, and its history."""
    model, (x, y) = perceptron(kb.AdaBreg(0.003, 1.0)), held_out()
    data = ((x, y) for _ in range(5))
    with pytest.warns(UserWarning, match="does not know how long"):
        history = model.fit(data, verbose=0, callbacks=callbacks, **how).history
    return model, history


def test_validation_sees_the_density_of_the_logs():
    validation, model = OfValidation(), perceptron(kb.AdaBreg(0.003, 1.0))
    callbacks = [SparsityLogger(), validation, TargetDensity(0.1)]
    history = fit(model, callbacks, 3, validation_data=held_out()).history
    assert validation.seen == history["density"]
    assert validation.seen[-1] == pytest.approx(0.1, rel=0.02)


def test_validation_of_an_epoch_of_unknown_length_sees_it_too():
    validation = OfValidation()
    callbacks = [SparsityLogger(), validation, TargetDensity(0.1)]
    _, history = fit_of_unknown_length(callbacks, validation_data=held_out())
    assert validation.seen == history["density"]
    assert validation.seen[-1] == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("order", (1, -1))
def test_the_logs_have_the_density_of_the_model_in_any_order(order):
    callbacks = [SparsityLogger(), TargetDensity(0.1)][::order]
    model, history = fit_of_unknown_length(callbacks)
    assert history["density"] == [kb.density(model)]


def test_a_fit_that_others_began_is_corrected_from_the_first_step_on():
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(kb.density(self.model))

    model = perceptron(kb.LinBreg(0.1, 1.0))
    fit(model, [], 1)
    target = TargetDensity(0.1, ramp=0.0, freeze=0.0)
    fit(model, [target, Look()], 2, initial_epoch=1)
    assert seen[0] == pytest.approx(0.1, rel=0.02)


def corrections(monkeypatch, target, epochs=2):
    """Of each the step, density before it, former and new lambda, `hard`."""
    model = perceptron(kb.LinBreg(0.1, {"kernel": 1.0}))
    rethreshold = kb.LinBreg.rethreshold
    found, first = [], model.trainable_weights[0]

    def spy(self, entry, lam, hard=False):
        if entry.variable is first:
            step = int(array(self.iterations))
            before = kb.density(model), float(array(entry.lam))
            found.append((step, *before, lam, hard))
        rethreshold(self, entry, lam, hard=hard)

    monkeypatch.setattr(kb.LinBreg, "rethreshold", spy)
    fit(model, [target], epochs=epochs)
    return found


@pytest.mark.parametrize("gain", (0.2, 0.7))
@pytest.mark.parametrize("threshold", ("soft", "hard"))
def test_feedback_moves_lambda_by_the_gain(gain, threshold, monkeypatch):
    target = TargetDensity(
        0.3,
        method="feedback",
        ramp=0.0,
        freeze=0.0,
        every=1,
        gain=gain,
        threshold=threshold,
    )
    found = corrections(monkeypatch, target, epochs=1)
    assert len(found) > 5
    for _, density, before, lam, hard in found[:-1]:
        factor = min(2, max(0.5, (density / 0.3) ** gain))
        assert lam == pytest.approx(before * factor, rel=1e-3)
        assert hard == (threshold == "hard")


def test_a_thousandth_of_the_training_is_between_two_corrections():
    target = TargetDensity(0.1)
    for epochs, steps, every in ((4, 16, 20), (10, 5000, 50)):
        target._clock = Clock({"epochs": epochs, "steps": steps})
        assert target._interval() == every


def test_the_support_freezes_with_the_epoch_in_which_it_is_to():
    frozen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                frozen.append(self.model.optimizer.support_is_frozen)

    model = perceptron(kb.LinBreg(0.1, 1.0))
    fit(model, [TargetDensity(0.3, ramp=0.1, freeze=0.7), Look()], epochs=10)
    assert frozen == [False] * 3 + [True] * 7


def test_negative_weights_are_no_end_too_soon():
    model = perceptron(kb.LinBreg(0.01, kb.regularizers.NonNegativeL1(1.0)))
    with pytest.warns(UserWarning, match="keeps the others at 0"):
        fit(model, [TargetDensity(0.95)], epochs=4)


def test_steps_between_two_corrections(monkeypatch):
    def steps(**how):
        target = TargetDensity(0.3, ramp=1.0, freeze=0.0, **how)
        with monkeypatch.context() as patch:
            return [step for step, *_ in corrections(patch, target, epochs=4)]

    ends = {16, 32, 48, 64}  # of the epochs
    assert set(steps()) == {1} | ends  # 20 are more than an epoch
    assert set(steps(every=6)) == {1} | ends | {
        e + s for e in (0, 16, 32, 48) for s in (6, 12)
    }


class TestTheFrozenSupport:
    def test_is_kept_while_its_weights_move(self):
        class Keep(keras.callbacks.Callback):
            def __init__(self):
                super().__init__()
                self.supports, self.weights = [], []

            def on_epoch_end(self, epoch, logs=None):
                self.supports.append(supports(self.model))
                self.weights.append(self.model.get_weights())

        keep = Keep()
        model = perceptron(kb.AdaBreg(0.003, 1.0))
        fit(model, [TargetDensity(0.1, ramp=0.2, freeze=0.5), keep])
        for earlier, later in zip(
            keep.supports[2:], keep.supports[3:], strict=False
        ):
            for a, b in zip(earlier, later, strict=True):
                np.testing.assert_array_equal(a, b)
        assert all(
            (a != b).any()
            for a, b in zip(keep.weights[2], keep.weights[-1], strict=True)
        )
        assert not model.optimizer.support_is_frozen

    @pytest.mark.once
    def test_is_released_by_a_new_fit_after_one_that_was_broken_off(self):
        model = perceptron(kb.AdaBreg(0.003, 1.0))
        first = TargetDensity(0.1, ramp=0.2, freeze=0.5)
        with pytest.raises(KeyboardInterrupt):
            fit(model, [first, Crash(2)], epochs=3)
        assert model.optimizer.support_is_frozen
        fit(model, [TargetDensity(0.3, ramp=0.2, freeze=0.5)], epochs=2)
        assert kb.density(model) == pytest.approx(0.3, rel=0.02)

    def test_moves_as_under_sgd(self):
        model, twin = (compiled(kb.LinBreg(0.1, 0.05, delta=2.0)) for _ in "ab")
        kb.sparsify(model, 0.5, seed=1)
        twin.set_weights(model.get_weights())
        before = model.get_weights()
        twin.compile(keras.optimizers.SGD(0.2), "mse")
        model.optimizer.build(model.trainable_variables)
        model.optimizer.freeze_support()
        train(model)
        train(twin)
        for old, new, free in zip(
            before, model.get_weights(), twin.get_weights(), strict=True
        ):
            expected = np.where((old == 0) & (old.ndim > 1), 0, free)
            np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("make", (kb.LinBreg, kb.ProxGD))
    def test_a_constraint_takes_none_away(self, make):
        """What it puts at 0 in one step may come back in the next."""
        model = compiled(make(0.5, 0.05), kernel_constraint="non_neg")
        for kernel in (k.variable for k in kernels(model)):
            kernel.assign(np.abs(array(kernel)) * 0.02)
        kb.prune(model, 0.5)
        model.optimizer.build(model.trainable_variables)
        model.optimizer.freeze_support()
        before = supports(model)
        train(model, 20)
        for was, kernel in zip(before, supports(model), strict=True):
            np.testing.assert_array_equal(was, kernel)
        assert all((array(k.variable) >= 0).all() for k in kernels(model))

    def test_may_change_signs_and_thaws(self):
        model = compiled(kb.LinBreg(0.3, 0.5))
        kb.sparsify(model, 0.5, seed=1, scale=0.05)
        before = model.get_weights()[0]
        model.optimizer.build(model.trainable_variables)
        model.optimizer.freeze_support()
        train(model, 10)
        after = model.get_weights()[0]
        np.testing.assert_array_equal(before != 0, after != 0)
        assert (np.sign(before) != np.sign(after)).any()
        model.optimizer.freeze_support(False)
        model.make_train_function(force=True)
        model.optimizer.set_lambda(0.0)
        train(model, 3)
        assert (model.get_weights()[0] != 0).all()


class TestRethreshold:
    @pytest.mark.parametrize("delta", (1.0, 0.5))
    def test_reads_the_weights_off_the_dual(self, delta):
        model = compiled(kb.LinBreg(0.05, 0.1, delta=delta))
        train(model, 5)
        optimizer = model.optimizer
        entry = optimizer.regularized()[0]
        before = array(entry.variable)
        dual = before / delta + np.where(
            before != 0, 0.1 * np.sign(before), array(entry.state[0])
        )
        optimizer.rethreshold(entry, 0.25)
        np.testing.assert_allclose(
            array(entry.variable),
            delta * (dual - np.clip(dual, -0.25, 0.25)),
            atol=1e-6,
        )
        assert float(optimizer.lambdas[entry.name]) == 0.25
        optimizer.rethreshold(entry, 0.1)
        np.testing.assert_allclose(array(entry.variable), before, atol=1e-6)

    @pytest.mark.parametrize(
        ("make", "delta"),
        (
            (kb.regularizers.L1, 0.5),
            (kb.regularizers.GroupLasso, 1.0),
            (kb.regularizers.SparseGroupLasso, 0.5),
        ),
    )
    def test_a_hard_one_keeps_what_stays(self, make, delta):
        def trained():
            keras.utils.set_random_seed(0)
            model = compiled(kb.LinBreg(0.05, make(0.05), delta=delta))
            train(model, 5)
            return model, model.optimizer.regularized()[0]

        (model, hard), (_, soft) = trained(), trained()
        before = array(hard.variable)
        lam = float(np.median(array(model.optimizer.critical_lambda(hard))))
        model.optimizer.rethreshold(hard, lam, hard=True)
        soft.optimizer.rethreshold(soft, lam)
        kept = array(hard.variable)
        stays = array(soft.variable) != 0
        assert 0 < stays.sum() < (before != 0).sum()
        np.testing.assert_array_equal(kept, np.where(stays, before, 0))
        # consistent: a step without a gradient changes nothing
        model.optimizer.learning_rate = 0.0
        train(model)
        np.testing.assert_allclose(array(hard.variable), kept, atol=1e-6)

    def test_refuses_what_is_no_strength(self):
        model = compiled(kb.LinBreg(0.05, 0.1))
        train(model)
        entry = model.optimizer.regularized()[0]
        with pytest.raises(ValueError, match="`lam` must be a finite number"):
            model.optimizer.rethreshold(entry, -1.0)


@pytest.mark.once
def test_another_fit_counts_its_own_steps():
    def batches(steps):
        x, y = load("digits").x_train, load("digits").y_train
        for i in range(0, 8 * steps, 8):
            yield x[i : i + 8], y[i : i + 8]

    class AtStep30(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 29:
                densities.append(kb.density(self.model))

    densities = []
    callback = TargetDensity(0.1, every=1)
    too_short = r"does not know how long.*`steps_per_epoch`"
    for steps in (10, 40):  # which Keras does not know before the end
        model = perceptron(kb.AdaBreg(0.003, 1.0))
        callbacks = [callback, AtStep30()]
        with pytest.warns(UserWarning, match=too_short):
            model.fit(batches(steps), verbose=0, callbacks=callbacks)
        assert kb.density(model) == pytest.approx(0.1, rel=0.02)
    assert densities == [pytest.approx(1.0, abs=0.01)]


@pytest.mark.once
@pytest.mark.parametrize("fits", (0, 1))
def test_a_pickled_one_is_another(fits):
    model, callback = perceptron(kb.AdaBreg(0.003, 1.0)), TargetDensity(0.1)
    for _ in range(fits):
        fit(model, [callback], epochs=2)
    again = pickle.loads(pickle.dumps(callback))
    model = perceptron(kb.AdaBreg(0.003, 1.0))
    fit(model, [again], epochs=2)
    assert kb.density(model) == pytest.approx(0.1, rel=0.02)


@pytest.mark.once
def test_an_end_before_the_density_is_reached_is_told():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model = perceptron(kb.AdaBreg(0.003, 1.0))
    with pytest.warns(UserWarning, match="before the density was reached"):
        fit(model, [TargetDensity(0.05), Stop()])
    # a third of training is two thirds of the ramp
    assert kb.density(model) == pytest.approx(0.05 + 0.95 / 27, rel=0.02)
    with unwarned():
        fit(model, [TargetDensity(0.05)], initial_epoch=2)
    assert kb.density(model) == pytest.approx(0.05, rel=0.02)


def _unwanted(*callbacks, epochs=8):
    """What a training to 10 % is warned of."""
    model = perceptron(kb.AdaBreg(0.003, 1.0))
    with heard() as found:
        fit(model, [TargetDensity(0.1), *callbacks, SparsityLogger()], epochs)
    return model, [text for text in found if "was reached" in text]


def _densest(start_from_epoch):
    """Restores the first epoch that it looks at."""
    return keras.callbacks.EarlyStopping(
        "density",
        mode="max",
        patience=1,
        start_from_epoch=start_from_epoch,
        restore_best_weights=True,
    )


@pytest.mark.once
def test_an_end_behind_the_ramp_is_none_too_soon():
    model, told = _unwanted(_densest(4))
    assert kb.density(model) == pytest.approx(0.1, rel=0.02)
    assert told == []


@pytest.mark.once
def test_epochs_of_a_length_that_nobody_knows():
    """A short one is no measure of those behind it."""
    model = perceptron(kb.AdaBreg(0.003, 1.0))
    target = TargetDensity(0.1, ramp=1.0, freeze=0.0, every=10)
    target.set_params({"epochs": 4, "steps": None})
    target.set_model(model)
    target.on_train_begin()
    x, y = held_out()
    for epoch, steps in enumerate((20, 3, 20, 20)):
        target.on_epoch_begin(epoch)
        for batch in range(steps):
            model.train_on_batch(x, y)
            if epoch == batch == 0:
                with pytest.warns(UserWarning, match="does not know how long"):
                    target.on_train_batch_end(batch)
            else:
                target.on_train_batch_end(batch)
            if epoch == 3 and batch == 9:
                half = 0.1 + 0.9 * (0.5 / 4) ** 3
                assert kb.density(model) == pytest.approx(half, rel=0.02)
        target.on_epoch_end(epoch)
        end = 0.1 + 0.9 * (1 - (epoch + 1) / 4) ** 3
        assert kb.density(model) == pytest.approx(end, rel=0.02)


@pytest.mark.once
def test_who_overrides_the_model_is_told_too():
    class Own(TargetDensity):
        def set_model(self, model):
            super().set_model(model)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model = perceptron(kb.AdaBreg(0.003, 1.0))
    with pytest.warns(UserWarning, match="before the density was reached"):
        fit(model, [Own(0.05), Stop()])


@pytest.mark.once
def test_weights_that_are_restored_behind_it_are_seen():
    model, (text,) = _unwanted(_densest(0))
    assert kb.density(model) > 0.2
    assert f"{kb.density(model):.3g}, not 0.1" in text


def _logged(model, target, epochs=6, **arguments):
    return fit(model, [target, SparsityLogger()], epochs, **arguments).history[
        "density"
    ]


@pytest.mark.parametrize("method", ("exact", "feedback"))
def test_a_start_with_nothing_on(method):
    """As a linear model has that begins at 0, or a small one by chance."""
    dataset = load("digits")
    image = keras.Input(dataset.inputs.shape)
    flat = keras.layers.Flatten()(image)
    logits = keras.layers.Dense(10, kernel_initializer="zeros")(flat)
    model = keras.Model(image, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kb.AdaBreg(0.01, 1.0), loss)
    found = _logged(model, TargetDensity(0.3, method=method))
    assert found[0] < found[1] < found[-1] == pytest.approx(0.3, rel=0.02)


def test_a_fit_that_others_began_goes_on_from_where_it_stands():
    model = perceptron(kb.AdaBreg(0.001, 1.0), start=0.02)
    fit(model, [], 1)
    begun = kb.density(model)
    found = _logged(model, TargetDensity(0.1), 10, initial_epoch=1)
    assert begun < found[0] < found[-1]
    assert max(found) < 0.11


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="one step an execution"
)
@pytest.mark.parametrize("validates", (False, True))
def test_several_steps_in_one_execution(validates):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((logs["density"], kb.density(self.model)))

    model = perceptron(kb.AdaBreg(0.01, 1.0))
    model.compile(model.optimizer, model.loss, steps_per_execution=3)
    target = TargetDensity(0.1, ramp=1.0, freeze=0.0)
    held = {"validation_data": held_out()} if validates else {}
    # of 16 steps, so that the last three end behind the epoch
    fit(model, [target, SparsityLogger(), Look()], 4, **held)
    assert [logged for logged, _ in seen] == [found for _, found in seen]
    wanted = [0.1 + 0.9 * (1 - e / 4) ** 3 for e in range(1, 5)]
    assert [found for _, found in seen] == pytest.approx(wanted, rel=0.02)


# on JAX Keras lets no optimizer go on with fewer variables
@pytest.mark.skipif(keras.config.backend() == "jax", reason="Keras refuses")
def test_a_layer_frozen_meanwhile_is_left_alone():
    optimizer = kb.AdaBreg(0.003, 1.0)
    model = perceptron(optimizer)
    fit(model, [], 1)
    first = model.get_layer("dense1")
    first.trainable = False
    model.compile(optimizer, model.loss)
    before = first.get_weights()
    with pytest.raises(ValueError, match="are on and not regularized, or not"):
        fit(model, [TargetDensity(0.1)], 1)
    first.kernel.assign(
        before[0]
        * (np.arange(before[0].size) % 20 == 0).reshape(before[0].shape)
    )
    before = array(first.kernel)
    fit(model, [TargetDensity(0.1)])
    np.testing.assert_array_equal(array(first.kernel), before)
    assert kb.density(model) == pytest.approx(0.1, rel=0.02)


@multi_optimizer
def test_an_optimizer_without_variables_beside_it():
    parts = keras.optimizers.OptimizerMap(
        kb.AdaBreg(0.003, 1.0),
        {
            ".*kernel": kb.AdaBreg(0.003, 1.0),
            ".*bias": keras.optimizers.Adam(),
        },
    )
    model = perceptron(keras.optimizers.MultiOptimizer(parts))
    fit(model, [TargetDensity(0.1)], 2)
    assert kb.density(model) == pytest.approx(0.1, rel=0.02)


# without XLA, whatever the optimizer
@pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="oneDNN aborts"
)
@pytest.mark.once
def test_a_kernel_without_entries():
    inputs = keras.Input((4,)), keras.Input((0,))
    hidden = [keras.layers.Dense(8)(x) for x in inputs]
    model = keras.Model(inputs, keras.layers.add(hidden))
    model.compile(kb.AdaBreg(0.01, 1.0), "mse")
    x = [np.ones((4, 4), "float32"), np.ones((4, 0), "float32")]
    logger = SparsityLogger(per_layer=True)
    history = model.fit(
        x,
        np.ones((4, 8)),
        epochs=2,
        verbose=0,
        callbacks=[TargetDensity(0.5, ramp=0.0), logger],
    ).history
    assert history["density"][-1] == kb.density(model) == 0.5
    assert all(np.isfinite(figures).all() for figures in history.values())
    assert 0 in [c.size for c in kb.sparsity.count(model)]


def test_an_average_is_where_the_weights_are():
    model = perceptron(kb.AdaBreg(0.01, 1.0, use_ema=True, ema_momentum=0.9))
    fit(model, [TargetDensity(0.1, freeze=0)])
    assert kb.density(model) == pytest.approx(0.1, rel=0.02)


@pytest.mark.once
def test_feedback_finds_its_way_from_a_strength_of_0():
    model = perceptron(kb.AdaBreg(0.003, 1.0))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.set_lambda(0.0)
    callbacks = [
        TargetDensity(0.1, method="feedback", every=1),
        SparsityLogger(),
    ]
    history = fit(model, callbacks, epochs=8).history
    assert history["density"][2] < 0.6
    assert kb.density(model) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(
    ("method", "crash_at"),
    (
        param_once("exact", 2, id="exact-ramp"),
        param_once("exact", 5, id="exact-frozen"),
        param_once("feedback", 2, id="feedback-ramp"),
        pytest.param("feedback", 5, id="feedback-frozen"),
    ),
)
def test_goes_on_after_a_crash(method, crash_at, tmp_path):
    """Once on the ramp, and once on the frozen support."""

    def run(*others):
        model = perceptron(kb.AdaBreg(0.003, 1.0))
        target = TargetDensity(0.1, method=method, every=7)
        return model, lambda: fit(model, [*others, target])

    twin, go = run()
    go()
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    _, go = run(backup, Crash(crash_at))
    with pytest.raises(KeyboardInterrupt):
        go()
    model, go = run(backup)
    assert go().epoch == list(range(crash_at, 6))
    assert_same_weights(model, twin)


def test_goes_on_after_a_crash_in_the_first_epoch(tmp_path):
    class Crash(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 11:
                raise KeyboardInterrupt

    def run(*others):
        model = perceptron(kb.AdaBreg(0.003, 1.0))
        target = TargetDensity(0.1, ramp=0.8, freeze=0.2, every=1)
        backup = keras.callbacks.BackupAndRestore(tmp_path, save_freq=5)
        fit(model, [target, backup, *others], epochs=2)
        return model

    with pytest.raises(KeyboardInterrupt):
        run(Crash())
    model = run()
    # of the ramp that began dense, and not of another one
    assert float(array(model.optimizer.initial_density)) == 1.0
    assert kb.density(model) == pytest.approx(0.1, rel=0.02)


@pytest.mark.once
def test_what_lora_adds_counts():
    model = perceptron(kb.AdaBreg(0.003, 1.0))
    kb.prune(model, {"dense2": 0.05})
    layer = model.get_layer("dense2")
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    model.compile(kb.AdaBreg(0.003, 1.0), model.loss)
    product = np.count_nonzero(array(layer.kernel))
    share = product / sum(k.value.size for k in kernels(model))
    with pytest.raises(ValueError, match=r"cannot be reached.*not trained"):
        fit(model, [TargetDensity(0.5 * share)], 1)
    fit(model, [TargetDensity(share + 0.05)])
    assert kb.density(model) == pytest.approx(share + 0.05, rel=0.02)


def _wrapped(kind):
    if kind == "loss scaling":
        return keras.optimizers.LossScaleOptimizer(kb.LinBreg(0.1, 1.0), 2.0)
    parts = keras.optimizers.OptimizerMap(
        kb.LinBreg(0.1, 1.0), {"dense2/kernel": kb.AdaBreg(0.003, 1.0)}
    )
    return keras.optimizers.MultiOptimizer(parts)


@pytest.mark.parametrize(
    "kind",
    (
        "loss scaling",
        pytest.param("two optimizers", marks=multi_optimizer),
    ),
)
def test_behind_other_optimizers(kind):
    model = perceptron(_wrapped(kind))
    fit(model, [TargetDensity(0.1)], epochs=2)
    assert kb.density(model) == pytest.approx(0.1, rel=0.02)


def test_kernels_without_a_regularizer_count():
    model = perceptron(kb.LinBreg(0.1, {"dense1/kernel": 1.0}))
    target = TargetDensity(0.8)
    fit(model, [target], epochs=2)
    first, *others = supports(model)
    assert kb.density(model) == pytest.approx(0.8, rel=0.001)
    assert not first.all() and all(other.all() for other in others)
    with pytest.raises(ValueError, match="`density` cannot be reached"):
        fit(model, [TargetDensity(0.1)], epochs=2)


class SignDescent(kb.optimizers.BregmanOptimizer):
    """An optimizer of one's own, as CONTRIBUTING.md says."""

    def direction(self, gradient, learning_rate, step, *slots):
        return learning_rate * keras.ops.sign(gradient), []


def test_optimizers_of_one_s_own_are_steered():
    model = perceptron(SignDescent(0.001, 1.0, delta=1.0))
    fit(model, [TargetDensity(0.05)], epochs=3)
    assert kb.density(model) == pytest.approx(0.05, rel=0.02)


class Inputs(kb.regularizers.Regularizer):
    """Groups by a regularizer of one's own: all weights of an input."""

    def __init__(self, lam):
        super().__init__(lam)
        self.by_input = kb.regularizers.GroupLasso(lam, "input")

    def value(self, x, lam=None, layout=None):
        return self.by_input.value(x, lam, layout)

    def prox(self, x, step=1.0, lam=None, layout=None):
        return self.by_input.prox(x, step, lam, layout)

    def project(self, x, v, lam=None, layout=None):
        return self.by_input.project(x, v, lam, layout)

    def critical(self, x, layout=None):
        return self.by_input.critical(x, layout)

    def group_size(self, layout):
        return layout.size(layout.over("input"))

    def get_config(self):
        return {"lam": self.lam}


def test_groups_of_one_s_own_are_steered():
    choice = {"dense1/kernel": Inputs(1e-3)}
    model = perceptron(kb.AdaBreg(0.003, choice))
    inputs = model.get_layer("dense1").kernel.shape[0]
    callback = TargetDensity(0.3, threshold="hard", of="regularized")
    fit(model, [callback], epochs=4)
    kernel = array(model.get_layer("dense1").kernel)
    on = (kernel != 0).any(axis=1).sum()
    assert kb.density(model, of="regularized") == on / inputs
    assert on / inputs == pytest.approx(0.3, abs=1 / inputs)


def test_groups_are_met_to_within_one():
    regularizer = kb.regularizers.GroupLasso(1.0, "unit")
    model = perceptron(kb.LinBreg(0.1, regularizer))
    fit(model, [TargetDensity(0.5)], epochs=3)
    largest = max(len(s) for s in supports(model))
    size = sum(s.size for s in supports(model))
    assert abs(kb.density(model) - 0.5) <= largest / size


def test_groups_that_do_not_divide_the_density(tmp_path):
    """Whole ones are as near as they come, for the end and for a resumed fit.

    Of 32 units of 64 weights 614 weights are to be on.
    """
    units = kb.regularizers.GroupLasso(1e-3, "unit")

    def made():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Rescaling(1 / 16),
                keras.layers.Flatten(),
                keras.layers.Dense(32, "relu"),
                keras.layers.Dense(24, "relu"),
                keras.layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(kb.AdaBreg(0.003, units), loss)
        return model

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 6:
                self.model.save(tmp_path / "model.keras")

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            frozen.append(self.model.optimizer.support_is_frozen)

    frozen = []
    target = TargetDensity(0.3, distribution="uniform", ramp=0.3, freeze=0.5)
    whole = made()
    with unwarned():
        fit(whole, [target, Keep()], epochs=10)
        resumed = keras.models.load_model(tmp_path / "model.keras")
        fit(resumed, [target, Look()], epochs=10, initial_epoch=7)
    assert abs(kb.density(whole) - 0.3) > 0.02 * 0.3
    assert frozen == [True] * 3
    assert_same_weights(whole, resumed)


class TestOfWhatIsRegularized:
    @pytest.mark.once
    def test_scales_of_batch_normalization_take_channels_with_them(self):
        inputs = keras.Input((8, 8, 1))
        x = inputs
        for n in (16, 32):
            x = keras.layers.Conv2D(n, 3, padding="same")(x)
            x = keras.layers.BatchNormalization()(x)
            x = keras.layers.ReLU()(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(10)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(kb.AdaBreg(0.01, {"gamma": 1e-3}), loss)
        logger = SparsityLogger(of="regularized", per_layer=True)
        target = TargetDensity(0.25, threshold="hard", of="regularized")
        history = fit(model, [target, logger], epochs=4).history
        assert kb.density(model) == 1
        assert kb.density(model, of="regularized") == 12 / 48
        assert history["density"][-1] == 12 / 48 < history["density"][0]
        assert "dead_units/batch_normalization/gamma" in " ".join(history)
        small = kb.compact(model)
        left = [w.shape[0] for w in small.weights if "gamma" in w.path]
        # a channel more may carry those that are constant, but not at borders
        assert 12 <= sum(left) <= 13

    @pytest.mark.parametrize("distribution", ("global", "uniform"))
    @pytest.mark.parametrize(
        "make", (kb.LinBreg, kb.AdaBreg), ids=("linbreg", "adabreg")
    )
    def test_scales_that_began_alike_stay_on_until_they_differ(
        self, make, distribution
    ):
        inputs = keras.Input((64,))
        x = keras.layers.Dense(40, use_bias=False)(inputs)
        x = keras.layers.BatchNormalization(name="norm")(x)
        x = keras.layers.Dense(24)(keras.layers.ReLU()(x))
        x = keras.layers.BatchNormalization(name="last")(x)
        model = keras.Model(inputs, keras.layers.Dense(10)(x))
        # all are 1 after the first step of a warm-up, and 1 +- tau after
        # AdaBreg's first
        rate = 0.003
        if make is kb.LinBreg:
            rate = keras.optimizers.schedules.CosineDecay(
                0.0, 300, warmup_target=0.1, warmup_steps=20
            )
        model.compile(
            make(rate, {"gamma": 1e-3}),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        short = []

        class Short(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                on = kb.density(self.model, of="regularized")
                short.append(target._wanted() - on)

        target = TargetDensity(
            0.5,
            threshold="hard",
            of="regularized",
            distribution=distribution,
            every=1,
        )
        digits = load("digits")
        history = model.fit(
            digits.x_train.reshape(-1, 64)[:640] / 16,
            digits.y_train[:640],
            epochs=6,
            verbose=0,
            callbacks=[target, Short()],
        ).history
        assert max(short) < 2 / 64
        assert kb.density(model, of="regularized") == 0.5
        assert history["accuracy"][-1] > 0.8

    @pytest.mark.once
    def test_embeddings_beside_kernels_go_on_after_a_kill(self, tmp_path):
        rng = np.random.default_rng(0)
        x = rng.integers(0, 50, (256, 8))
        y = (x < 5).sum(axis=1)

        class Keep(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if epoch == 1:
                    self.model.save(tmp_path / "at-2.keras")

        def run(model, *callbacks, begin=0):
            target = TargetDensity(0.3, of="regularized", every=1)
            model.fit(
                x,
                y,
                epochs=6,
                initial_epoch=begin,
                shuffle=False,
                verbose=0,
                callbacks=[target, *callbacks],
            )

        whole = keras.Sequential(
            [
                keras.Input((8,), dtype="int32"),
                keras.layers.Embedding(50, 16, name="words"),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(9, name="logits"),
            ]
        )
        rows = kb.regularizers.GroupLasso(1e-3, "input")
        whole.compile(
            kb.AdaBreg(0.01, {"embeddings": rows, "kernel": 1e-3}),
            keras.losses.SparseCategoricalCrossentropy(True),
        )
        run(whole, Keep())
        resumed = keras.saving.load_model(tmp_path / "at-2.keras")
        run(resumed, begin=2)
        assert_same_weights(whole, resumed)
        assert abs(kb.density(whole, of="regularized") - 0.3) < 16 / 900
        words = array(whole.get_layer("words").embeddings)
        assert (words == 0).all(axis=1).sum() > 0
        assert ((words == 0).all(axis=1) == (words == 0).any(axis=1)).all()

    def test_others_do_not_count(self):
        model = perceptron(kb.LinBreg(0.1, {"dense1/kernel": 1.0}))
        fit(model, [TargetDensity(0.1, of="regularized")], epochs=2)
        first, *others = supports(model)
        assert first.mean() == pytest.approx(0.1, rel=0.001)
        assert all(other.all() for other in others)
        lines = []
        kb.summary(model, print_fn=lines.append, of="regularized")
        assert "10.0" in lines[0] and "logits" not in lines[0]

    def test_needs_an_optimizer_that_regularizes(self):
        with pytest.raises(ValueError, match="no optimizer that regularizes"):
            kb.density(perceptron("sgd"), of="regularized")
        with pytest.raises(ValueError, match="`of` must be one of"):
            kb.density(perceptron("sgd"), of="all")


@pytest.mark.once
def test_groups_that_stay_keep_their_size_under_hard_thresholds():
    sizes = {}
    for threshold in ("soft", "hard"):
        units = kb.regularizers.GroupLasso(1e-3, "unit")
        strengths = {"logits/kernel": 1e-3, "kernel": units}
        model = perceptron(kb.AdaBreg(0.001, strengths))
        target = TargetDensity(
            0.5, distribution="uniform", threshold=threshold, freeze=0.0
        )
        begun = array(model.get_layer("dense1").kernel)
        fit(model, [target], epochs=3)
        kernel = array(model.get_layer("dense1").kernel)
        sizes[threshold] = np.linalg.norm(kernel) / np.linalg.norm(begun)
        assert abs(kb.density(model) - 0.5) < 0.02
    assert sizes["hard"] > 0.6 > 0.5 > sizes["soft"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        ({"density": 0}, r"`density` must be in \(0, 1\]. Received: density=0"),
        ({"density": 1.5}, "`density` must be in"),
        ({"method": "other"}, "`method` must be one of"),
        ({"distribution": "other"}, "`distribution` must be one of"),
        ({"every": 0}, "`every` must be 1 or greater"),
        ({"gain": 0}, "`gain` must be in"),
        ({"of": "all"}, "`of` must be one of"),
        ({"threshold": "firm"}, "`threshold` must be one of"),
        ({"ramp": 0.8, "freeze": 0.3}, "must not be more than all"),
        ({"begin": 0.5, "ramp": 0.4, "freeze": 0.2}, "must not be more"),
        ({"begin": -0.1}, "`begin`"),
    ),
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        TargetDensity(**{"density": 0.1, **arguments})


@pytest.mark.parametrize(
    ("optimizer", "message"),
    (
        (
            kb.LinBreg,
            "LinBreg has none. Give the optimizer `regularizer=1.0`",
        ),
        (lambda: kb.LinBreg(0.1, 0.0), "that of 'dense1/kernel' is 0"),
    ),
)
def test_optimizers_that_it_cannot_steer(optimizer, message):
    with pytest.raises(ValueError, match=message):
        fit(perceptron(optimizer()), [TargetDensity(0.1)], epochs=1)


@pytest.mark.parametrize(
    "make", (keras.optimizers.SGD, kb.ProxGD), ids=("SGD", "ProxGD")
)
def test_optimizers_without_a_dual_are_refused_before_a_step(make):
    model = perceptron(make(0.1))
    before = model.get_weights()
    message = f"the model is compiled with {make.__name__}. Compile it with"
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(model, [TargetDensity(0.1)], epochs=1)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("told", ({}, {"steps": 4}), ids=("nothing", "steps"))
def test_a_loop_that_does_not_say_how_long_it_is(told):
    model = compiled(kb.LinBreg(0.1, 1.0))
    callbacks = keras.callbacks.CallbackList(
        [TargetDensity(0.1)], model=model, **told
    )
    with pytest.raises(ValueError, match="Call it by"):
        callbacks.on_train_begin()


def test_an_optimizer_of_another_model():
    first = compiled(kb.LinBreg(0.1, 1.0))
    train(first, 1)
    second = compiled(first.optimizer)
    with pytest.raises(ValueError, match="LinBreg was built for another model"):
        train(second, 1, callbacks=[TargetDensity(0.5)])


def test_less_than_one_weight():
    model = compiled(kb.LinBreg(0.1, 1.0))
    with pytest.raises(ValueError, match=r"it is less than one of \d+ weights"):
        train(model, 1, callbacks=[TargetDensity(1e-4)])


def test_a_loss_that_is_not_finite():
    model = perceptron(kb.LinBreg(1e30, 1.0))
    with pytest.raises(FloatingPointError, match="NaN or infinite weights"):
        fit(model, [TargetDensity(0.1)], epochs=1)


def test_weights_too_large_for_a_strength():
    """They are finite, and the squares that a group's norm sums are not."""
    model = compiled(kb.LinBreg(0.0, kb.regularizers.GroupLasso(0.1)))
    kernel = model.get_layer("hidden").kernel
    kernel.assign(np.full(kernel.shape, 1e30))
    with pytest.raises(FloatingPointError, match=r"hidden.* Lower `learning_"):
        train(model, 1, callbacks=[TargetDensity(0.5, ramp=0.0)])


def test_an_unknown_distribution_is_refused():
    with pytest.raises(ValueError, match="`distribution` must be one of"):
        allocate([(3, 4)], 6, "global")


shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 50), st.integers(1, 50)),
        st.tuples(*(st.integers(1, 9) for _ in range(4))),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(
    shapes=shapes,
    share=st.floats(0.01, 1),
    distribution=st.sampled_from(("uniform", "erdos-renyi")),
)
def test_allocation(shapes, share, distribution):
    sizes = [math.prod(shape) for shape in shapes]
    total = max(len(sizes), round(share * sum(sizes)))
    counts = allocate(shapes, total, distribution)
    assert all(1 <= n <= size for n, size in zip(counts, sizes, strict=True))
    assert abs(sum(counts) - total) <= len(sizes)
    weight = math.prod if distribution == "uniform" else sum
    ratios = [
        n / weight(shape)
        for n, size, shape in zip(counts, sizes, shapes, strict=True)
        if 1 < n < size
    ]
    # rounding moves a count by a half
    least = min(map(weight, shapes))
    assert max(ratios, default=0) - min(ratios, default=0) <= 1 / least


def test_weights_that_may_not_be_negative_stay_where_they_are_held():
    """Those that a step would make 0 would never come back."""
    kernel = keras.Variable(np.array([[0.3, 0.5, 0.0, 0.2]]), name="kernel")
    optimizer = kb.LinBreg(0.1, kb.regularizers.NonNegativeL1(0.1))
    optimizer.build([kernel])
    optimizer.freeze_support()
    gradient = keras.ops.array([[2.0, -1.0, 1.0, 1.0]])
    for expected in ([0.1, 0.6, 0, 0.1], [0.1, 0.7, 0, 0.1]):
        optimizer.apply([gradient], [kernel])
        np.testing.assert_allclose(array(kernel), [expected], atol=1e-6)
    optimizer.apply([-gradient], [kernel])  # and go on from there
    np.testing.assert_allclose(array(kernel), [[0.3, 0.6, 0, 0.2]], atol=1e-6)

    model = perceptron(kb.AdaBreg(0.01, kb.regularizers.NonNegativeL1(1.0)))
    logger = SparsityLogger()
    target = TargetDensity(0.1, ramp=0.3, freeze=0.6)
    density = fit(model, [target, logger], epochs=10).history["density"]
    assert density[-6:] == pytest.approx([0.1] * 6, rel=1e-3)


class TwoNetworks(keras.Model):
    """As a GAN: a step of its own, of an optimizer for each of them."""

    def __init__(self, steered, other):
        super().__init__()
        self.steered, self.other = steered, other
        self.loss_of = keras.losses.SparseCategoricalCrossentropy(True)
        self.built = True

    def compile(self, optimizer, other_optimizer):
        optimizer.build(self.steered.trainable_variables)
        super().compile(optimizer=optimizer)
        self.other_optimizer = other_optimizer

    def train_step(self, batch):
        x, y = batch
        for network, optimizer in (
            (self.steered, self.optimizer),
            (self.other, self.other_optimizer),
        ):
            variables = network.trainable_variables
            optimizer.apply(self._gradients(network, x, y), variables)
        return {"loss": keras.ops.zeros(())}  # TensorFlow wants any

    def _gradients(self, network, x, y):
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = self.loss_of(y, network(x, training=True))
            return tape.gradient(loss, network.trainable_variables)
        network.zero_grad()
        self.loss_of(y, network(x, training=True)).backward()
        return [v.value.grad for v in network.trainable_variables]


@pytest.mark.skipif(
    keras.config.backend() == "jax", reason="its steps have no such loop"
)
def test_one_of_two_networks():
    steered, other = perceptron("sgd"), perceptron("sgd")
    model = TwoNetworks(steered, other)
    model.compile(kb.AdaBreg(0.003, 1.0), keras.optimizers.Adam(0.003))
    fit(model, [TargetDensity(0.1, of="regularized")])
    assert kb.density(steered) == pytest.approx(0.1, rel=0.02)
    assert kb.density(other) == 1


def test_what_no_gradient_reaches_is_told():
    dataset = load("digits")
    model = mlp(dataset.inputs, 0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for weight in model.trainable_weights:  # biases too
        weight.assign(np.zeros(weight.shape))
    model.get_layer("dense1").kernel.assign(
        np.eye(*model.get_layer("dense1").kernel.shape)
    )
    model.compile(kb.AdaBreg(0.003, 1.0), loss)
    with pytest.warns(UserWarning, match="no gradient.*Start denser"):
        fit(model, [TargetDensity(0.3)])


def test_a_layer_that_no_gradient_reaches_is_told_beside_others():
    dataset = load("digits")
    model = mlp(dataset.inputs, 0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    first, second = map(model.get_layer, ("dense1", "dense2"))
    for weight in (first.kernel, first.bias, second.kernel):
        weight.assign(np.zeros(weight.shape))
    second.bias.assign(np.ones(second.bias.shape))  # for the logits alone
    model.compile(kb.AdaBreg(0.003, 1.0), loss)
    with pytest.warns(UserWarning, match="no gradient.*Start denser"):
        fit(model, [TargetDensity(0.3, distribution="uniform")])
    *_, last = model.optimizer.regularized()
    assert float(keras.ops.convert_to_numpy(last.lam)) > 0


@pytest.mark.tensorflow
@pytest.mark.parametrize("notices", (True, False))
def test_a_compiled_loop_of_one_s_own(notices):
    import tensorflow as tf

    dataset = load("digits")
    x, y = dataset.x_train[:512], dataset.y_train[:512]
    model = perceptron(kb.AdaBreg(0.003, 1.0))
    loss, optimizer = model.loss, model.optimizer

    @tf.function
    def step(images, labels, frozen):
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    callbacks = keras.callbacks.CallbackList(
        [TargetDensity(0.1)], model=model, epochs=6, steps=16
    )
    densities = []
    with heard() as found:
        callbacks.on_train_begin()
        for epoch in range(6):
            callbacks.on_epoch_begin(epoch)
            for i in range(16):
                part = slice(32 * i, 32 * i + 32)
                frozen = notices and optimizer.support_is_frozen
                step(x[part], y[part], frozen)
                callbacks.on_train_batch_end(i)
            callbacks.on_epoch_end(epoch)
            densities.append(kb.density(model))
        callbacks.on_train_end()
    assert sum("compiled before" in text for text in found) == (not notices)
    assert not any("was reached" in text for text in found)
    assert densities[-2:] == pytest.approx([0.1, 0.1], rel=0.02)
