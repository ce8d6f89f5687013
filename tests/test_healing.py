"""Whatever writes the weights, the next step starts from what it wrote."""

import keras
import numpy as np
import pytest
from helpers import (
    array,
    assert_untouched,
    assert_weights,
    compiled,
    data,
    every_optimizer,
    every_way,
    forget_momentum,
    mlp,
    state,
    strength,
    three_optimizers_and_ways,
    train,
    weights,
)

import keras_bregman as kb

LAM = 0.05
RATE = 0.05

# from files that hold weights only, and of optimizers not yet built
pytestmark = pytest.mark.filterwarnings("ignore:Skipping variable loading")


def _other():
    """A network of the same shape, trained elsewhere and half sparse."""
    other = mlp()
    kb.sparsify(other, 0.5, seed=3)
    return other


def _set_weights(model, folder):
    model.set_weights(_other().get_weights())


def _load_weights(model, folder):
    _other().save_weights(folder / "plain.weights.h5")
    model.load_weights(folder / "plain.weights.h5")


def _load_checkpoint(model, folder):
    model.save_weights(folder / "own.weights.h5")
    model.optimizer.learning_rate = RATE
    train(model, 2)
    model.load_weights(folder / "own.weights.h5")


def _evaluate_and_load(model, folder):
    model.evaluate(*data(), verbose=0)
    _load_weights(model, folder)


def _transplant(model, folder):
    for ours, theirs in zip(model.layers, _other().layers, strict=True):
        ours.set_weights(theirs.get_weights())


def _sparsify(model, folder):
    kb.sparsify(model, 0.2, seed=5)


def _early_stopping(model, folder):
    model.optimizer.learning_rate = RATE
    best = weights(model)

    class Remember(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 0:
                best.update(weights(self.model))
            logs["figure"] = epoch

    stop = keras.callbacks.EarlyStopping(
        "figure", mode="min", patience=2, restore_best_weights=True
    )
    history = train(model, 9, callbacks=[Remember(), stop])
    assert len(history.epoch) == 3
    assert_weights(model, best)


def _set_lambda(lam):
    def event(model, folder):
        model.optimizer.build(model.trainable_variables)
        model.optimizer.set_lambda(lam)

    return event


BEFORE_THE_FIRST_STEP = {
    "load_weights": _load_weights,
    "evaluate, load_weights": _evaluate_and_load,
    "transplant": _transplant,
    "sparsify": _sparsify,
    "smaller lambda": _set_lambda(LAM / 20),
}
IN_MID_TRAINING = {
    **BEFORE_THE_FIRST_STEP,
    "set_weights": _set_weights,
    "larger lambda": _set_lambda(20 * LAM),
    "load_weights with state": _load_checkpoint,
    "EarlyStopping": _early_stopping,
}


def _stays(model, what):
    """One step with tau = 0 leaves the weights where they are."""
    optimizer = model.optimizer
    optimizer.learning_rate = 0.0
    forget_momentum(optimizer)
    before = weights(model)
    train(model)
    assert_untouched(weights(model), before, strength(optimizer), what)


@every_way
@pytest.mark.parametrize(
    "event", BEFORE_THE_FIRST_STEP.values(), ids=BEFORE_THE_FIRST_STEP
)
def test_before_the_first_step(event, way, tmp_path):
    model = compiled(kb.LinBreg(RATE, LAM), way)
    event(model, tmp_path)
    _stays(model, event)


@three_optimizers_and_ways
def test_initial_weights_and_mid_training(make, way, tmp_path):
    model = compiled(make(RATE, LAM), way)
    _stays(model, "initial weights")
    for what, event in IN_MID_TRAINING.items():
        optimizer = model.optimizer
        optimizer.set_lambda(LAM)
        optimizer.learning_rate = RATE
        train(model, 2)
        before = weights(model)["net/hidden/kernel"]
        event(model, tmp_path)
        moved = np.abs(weights(model)["net/hidden/kernel"] - before).max()
        if "lambda" in what:
            assert moved == 0, what
        elif what != "load_weights with state":
            assert moved > 1e-3, what
        _stays(model, what)


@three_optimizers_and_ways
def test_constraints_and_weight_decay(make, way):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(
                8, kernel_constraint=keras.constraints.NonNeg(), name="hidden"
            ),
            keras.layers.Dense(
                2, kernel_constraint=keras.constraints.MaxNorm(1.0), name="out"
            ),
        ],
        name="net",
    )
    model.compile(make(RATE, LAM, weight_decay=0.1), "mse", **way)
    model.set_weights([5 * w for w in model.get_weights()])
    train(model)
    found = weights(model)
    assert found["net/hidden/kernel"].min() == 0
    norms = np.linalg.norm(found["net/out/kernel"], axis=0)
    assert norms.max() == pytest.approx(1.0, rel=1e-6)
    _stays(model, "constraints")


@three_optimizers_and_ways
def test_moving_average(make, way):
    optimizer = make(
        RATE, LAM, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2
    )
    model = compiled(optimizer, way)
    train(model, 5)
    for path, average in state(optimizer, "_average").items():
        name = path.rpartition("/")[2].removesuffix("_average")
        final = {k.replace("/", "_"): v for k, v in weights(model).items()}
        np.testing.assert_array_equal(average, final[name])
    # on JAX Keras' own optimizers fail in the second fit
    for _ in range(2):
        _stays(model, "moving average")


@every_way
@pytest.mark.parametrize("sign", (1, -1))
def test_state_of_sgd_loaded_as_our_own(sign, way, tmp_path):
    """Keras matches state by number: momenta become lambda, dual and all."""

    class Scaled(keras.layers.Layer):
        def build(self, shape):
            scalar = {"shape": (), "initializer": "ones"}
            # their momenta come where our own scalars are
            self.scales = [self.add_weight(**scalar) for _ in range(2)]
            self.kernel = self.add_weight(shape=(6, 2), name="kernel")

        def call(self, x):
            a, b = self.scales
            return a * b * (x @ self.kernel)

    def model(optimizer):
        model = keras.Sequential([keras.Input((6,)), Scaled()])
        model.compile(optimizer, "mse", **way)
        return model

    path = tmp_path / "sgd.weights.h5"
    sgd = model(keras.optimizers.SGD(0.1, momentum=0.9))
    x, _ = data()
    # lambda gets the sign of the scale's momentum
    train(sgd, 1, (x, sign * 5 * (x @ array(sgd.weights[2]))))
    sgd.save_weights(path)

    ours = model(kb.LinBreg(RATE, LAM))
    train(ours, 3)
    assert len(ours.optimizer.variables) == len(sgd.optimizer.variables)
    ours.load_weights(path)
    np.testing.assert_array_equal(ours.get_weights()[2], sgd.get_weights()[2])
    density = float(ours.optimizer.initial_density)
    assert density == -1 or 0 <= density <= 1
    _stays(ours, "momenta of SGD")


@three_optimizers_and_ways
def test_a_gradient_that_is_not_finite(make, way):
    model = compiled(make(RATE, LAM), way)
    train(model, 3)
    good = model.get_weights()
    x, y = data()
    for bad in (np.nan, np.inf):
        poisoned = x.copy()
        poisoned[0, 0] = bad
        message = r"'net/hidden/kernel'.*NaN.*lower `learning_rate`.*load"
        model.optimizer.learning_rate = RATE
        with pytest.raises(FloatingPointError, match=message):
            train(model, 1, (poisoned, y))
        assert np.isnan(model.get_weights()[0]).any()
        model.set_weights(good)
        _stays(model, bad)
        for path, value in state(model.optimizer).items():
            assert np.isfinite(value).all(), path
        model.optimizer.learning_rate = RATE / 5
        losses = train(model, 4).history["loss"]
        assert losses[-1] < losses[0]


@every_way
def test_a_moving_average_that_is_not_finite(way):
    optimizer = kb.LinBreg(RATE, LAM, use_ema=True, ema_momentum=0.9)
    model = compiled(optimizer, way)
    good = model.get_weights()
    x, y = data()
    poisoned = x.copy()
    poisoned[0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="heals"):
        train(model, 1, (poisoned, y))
    model.set_weights(good)
    assert np.isfinite(train(model, 3).history["loss"]).all()
    for path, average in state(optimizer, "_average").items():
        assert np.isfinite(average).all(), path
    for average, last in zip(model.get_weights(), good, strict=True):
        assert 0 < np.abs(average - last).max() < 1


@every_optimizer
def test_a_state_that_is_not_finite_counts_as_none(make):
    found = []
    for values in ([np.nan, np.inf, -np.inf, 0.0], np.zeros(4)):
        kernel = keras.Variable(np.zeros((1, 4)), name="kernel")
        optimizer = make(1.0, 0.05)
        optimizer.build([kernel])
        (entry,) = optimizer.regularized()
        for slot in entry.state:
            slot.assign([values])
        gradient = keras.ops.array([[0.25, 1.0, -1.0, 2.0]])
        optimizer.apply([gradient], [kernel])
        found.append([array(kernel), *map(array, entry.state)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.count_nonzero(found[0][0]) > 0


@every_optimizer
def test_a_variable_without_gradient_at_first(make):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(3, 4)).astype("float32") for _ in range(2)]
    first, second = (keras.Variable(v, name="kernel") for v in values)
    optimizer = make(0.1, 0.3)
    optimizer.build([first, second])
    gradient = keras.ops.ones((3, 4))
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([gradient, None], [first, second])
    assert np.abs(array(first) - values[0]).min() > 0.005
    np.testing.assert_array_equal(array(second), values[1])
    optimizer.learning_rate = 0.0
    optimizer.apply([0 * gradient, gradient], [first, second])
    assert_untouched({0: array(second)}, {0: values[1]}, 0.3)


@pytest.mark.parametrize("name", ("linbreg", "adabreg"))
def test_a_lower_lambda_leaves_zeros_at_the_threshold(name):
    kernel = keras.Variable(np.zeros((1, 4)), name="kernel")
    make = {"linbreg": kb.LinBreg, "adabreg": kb.AdaBreg}[name]
    optimizer = make(1.0, 1.0)
    optimizer.build([kernel])
    dual = next(v for v in optimizer.variables if v.path.endswith("_dual"))
    dual.assign([[0.9, -0.9, 0.3, 0.0]])
    optimizer.set_lambda(0.5)
    optimizer.learning_rate = 0.0
    optimizer.apply([keras.ops.zeros((1, 4))], [kernel])
    np.testing.assert_array_equal(array(kernel), 0)
    np.testing.assert_allclose(array(dual), [[0.5, -0.5, 0.3, 0.0]])
    # the least push switches on those at the threshold, and only those
    optimizer.learning_rate = 0.01
    optimizer.apply([keras.ops.array([[-1.0, 1.0, -1.0, 1.0]])], [kernel])
    np.testing.assert_array_equal(np.sign(array(kernel)), [[1, -1, 0, 0]])
