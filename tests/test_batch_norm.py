"""Averages of batch normalization that are those of the weights."""

import inspect

import keras
import numpy as np
import pytest
from helpers import array, data, train
from keras import layers

import keras_bregman as kb
from experiments.data import load
from keras_bregman.callbacks import PreciseBatchNorm

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


class _Counter(layers.Layer):
    """Knows how often it was called in training."""

    def build(self, shape):
        self.calls = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="calls"
        )

    def call(self, x, training=False):
        if training:
            self.calls.assign(self.calls + 1)
        return x


def _model(seed=0, **norm):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, name="hidden"),
            layers.Dropout(0.3),
            _Counter(),
            layers.BatchNormalization(name="norm", **norm),
            layers.ReLU(),
            layers.Dense(2, name="out"),
        ]
    )
    model.compile(kb.LinBreg(0.3, 0.05, momentum=0.9), "mse")
    return model


def _without_dropout(**norm):
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="hidden")(inputs)
    x = layers.BatchNormalization(name="norm", **norm)(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    model.compile(kb.LinBreg(0.1, 0.05), "mse")
    return model


class _Pairs(keras.utils.PyDataset):
    def __init__(self, x, size):
        super().__init__()
        self.x, self.size = x, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, index):
        part = self.x[self.size * index :][: self.size]
        return part, part[:, :2]


class _Batches:
    """As a `tf.data.Dataset` or a `DataLoader`: begins anew, and has pairs."""

    def __init__(self, x, size, kind):
        self.pairs, self.kind = _Pairs(x, size), kind

    def __iter__(self):
        for index in range(len(self.pairs)):
            yield self.kind(self.pairs[index])


def _means(model, x, size, batches):
    """Means and variances that the batches have, on average."""
    kernel, bias = map(array, model.get_layer("hidden").weights)
    parts = [x[i : i + size] @ kernel + bias for i in range(0, len(x), size)]
    parts = parts[:batches]
    return (
        np.mean([part.mean(0) for part in parts], 0),
        np.mean([part.var(0) for part in parts], 0),
    )


def _assert_averages(model, x, size, batches):
    norm = model.get_layer("norm")
    mean, variance = _means(model, x, size, batches)
    np.testing.assert_allclose(array(norm.moving_mean), mean, atol=1e-5)
    np.testing.assert_allclose(array(norm.moving_variance), variance, 1e-4)


@pytest.mark.parametrize(("examples", "used"), ((12, 10), (3, 3)))
def test_whole_batches_of_arrays(examples, used):
    model = _without_dropout()
    x, y = data(examples)
    train(model, 1, (x, y), callbacks=[PreciseBatchNorm(x, batch_size=5)])
    mean, _ = _means(model, x[:used], 5, 2)
    found = array(model.get_layer("norm").moving_mean)
    np.testing.assert_allclose(found, mean, atol=1e-5)


@pytest.mark.parametrize("validates", (True, False))
@pytest.mark.parametrize(
    "given",
    (
        lambda x: x,
        lambda x: _Pairs(x, 5),
        lambda x: _Batches(x, 5, tuple),
        lambda x: _Batches(x, 5, list),
    ),
    ids=("arrays", "PyDataset", "tuples", "lists"),
)
def test_averages_are_those_of_the_last_weights(given, validates):
    model = _without_dropout(momentum=0.999)
    x, y = data(18)
    callback = PreciseBatchNorm(given(x), batches=3, batch_size=5)
    held = {"validation_data": (x, y)} if validates else {}
    train(model, 2, (x, y), callbacks=[callback], **held)
    _assert_averages(model, x, 5, 3)
    assert model.get_layer("norm").momentum == 0.999


@pytest.mark.skipif(
    "renorm" not in inspect.signature(layers.BatchNormalization).parameters,
    reason="of newer Keras",
)
def test_the_deviation_of_renormalization_is_averaged_too():
    model = _without_dropout(momentum=0.999, renorm=True)
    x, y = data(18)
    callback = PreciseBatchNorm(x, batches=3, batch_size=5)
    train(model, 2, (x, y), callbacks=[callback])
    norm = model.get_layer("norm")
    kernel, bias = map(array, model.get_layer("hidden").weights)
    parts = [x[i : i + 5] @ kernel + bias for i in (0, 5, 10)]
    wanted = np.mean([np.sqrt(p.var(0) + norm.epsilon) for p in parts], 0)
    np.testing.assert_allclose(array(norm.moving_stddev), wanted, 1e-4)


def test_averages_are_those_of_averaged_weights():
    model = _without_dropout()
    optimizer = kb.LinBreg(0.3, 0.05, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "mse")
    x, y = data(15)
    last = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            last[:] = [array(self.model.get_layer("hidden").kernel)]

    callback = PreciseBatchNorm(x, batches=3, batch_size=5)
    train(model, 3, (x, y), callbacks=[callback, Keep()])
    moved = array(model.get_layer("hidden").kernel) - last[0]
    assert np.abs(moved).max() > 1e-3
    _assert_averages(model, x, 5, 3)


def test_a_kernel_that_a_call_normalizes_is_put_back():
    def trained(*callbacks):
        keras.utils.set_random_seed(0)
        inner = layers.Dense(8, kernel_initializer="ones", name="hidden")
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.SpectralNormalization(inner),
                layers.BatchNormalization(),
                layers.Dense(2),
            ]
        )
        model.compile(kb.LinBreg(0.0, 0.05), "mse")
        train(model, 1, (x, y), callbacks=callbacks)
        return array(inner.kernel)

    x, y = data(10)
    first = trained()
    np.testing.assert_array_equal(first, trained(PreciseBatchNorm(x)))
    assert first.max() < 1


def test_validation_sees_them():
    model = _without_dropout(momentum=0.999)
    x, y = data(10)
    history = train(
        model,
        1,
        (x, y),
        callbacks=[PreciseBatchNorm(x, batch_size=10)],
        validation_data=(x, y),
    ).history
    # whose one batch has them for its own
    loss = model.evaluate(x, y, verbose=0)
    assert history["val_loss"] == [pytest.approx(loss, rel=1e-5)]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(x, training=True)),
        model.predict(x, verbose=0),
        atol=1e-4,
    )


def test_training_is_what_it_is_without():
    x, y = data(20)
    held = {"validation_data": (x, y)}
    plain = _model()
    train(plain, 3, (x, y), **held)
    precise = _model()
    train(precise, 3, (x, y), callbacks=[PreciseBatchNorm(x)], **held)
    averages = 0
    for one, other in zip(plain.weights, precise.weights, strict=True):
        if "moving" in one.path:
            averages += 1
            assert (array(one) != array(other)).any()
        else:  # the dropout's seed among them, and calls counted
            np.testing.assert_array_equal(array(one), array(other))
    assert averages == 2


def test_arrays_in_the_structure_of_the_inputs():
    inputs = {k: keras.Input((n,), name=k) for k, n in (("a", 6), ("b", 2))}
    x = layers.Concatenate()([inputs["a"], inputs["b"]])
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, layers.Dense(2)(norm(x)))
    model.compile(kb.LinBreg(0.1, 0.05), "mse")
    a, b = data(12)
    callback = PreciseBatchNorm({"a": a, "b": b}, batch_size=12)
    model.fit({"a": a, "b": b}, b, verbose=0, callbacks=[callback])
    both = np.concatenate([a, b], 1)
    np.testing.assert_allclose(array(norm.moving_mean), both.mean(0), atol=1e-6)


def test_all_calls_of_a_shared_layer_count_alike():
    norm, dense = layers.BatchNormalization(), layers.Dense(1)
    inputs = keras.Input((1,)), keras.Input((1,))
    model = keras.Model(inputs, layers.add([dense(norm(x)) for x in inputs]))
    model.compile("sgd", "mse")
    a = np.random.default_rng(0).normal(size=(12, 1)).astype("float32")
    b = 2 * a + 10
    callback = PreciseBatchNorm([a, b], batch_size=4)
    model.fit([a, b], 0 * a, verbose=0, callbacks=[callback])
    parts = np.concatenate([a.reshape(3, 4), b.reshape(3, 4)])
    np.testing.assert_allclose(
        array(norm.moving_mean), [parts.mean()], rtol=1e-5
    )
    np.testing.assert_allclose(
        array(norm.moving_variance), [parts.var(1).mean()], rtol=1e-5
    )
    assert norm.call == type(norm).call.__get__(norm)


class Twice(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()

    def call(self, x, training=None):
        return self.norm(x, training=False) + self.norm(
            2 * x, training=training
        )


def test_calls_in_inference_do_not_count():
    model = Twice()
    model.compile("sgd", "mse")
    x = 5 + np.random.default_rng(0).normal(size=(12, 1)).astype("float32")
    callback = PreciseBatchNorm(x, batches=10**30, batch_size=4)
    model.fit(x, x, verbose=0, callbacks=[callback])
    found = array(model.norm.moving_mean)
    np.testing.assert_allclose(found, [2 * x.mean()], rtol=1e-5)


def test_averages_that_became_infinite_are_made_anew():
    model = _without_dropout()
    norm = model.get_layer("norm")
    norm.moving_mean.assign(np.full(8, np.inf))
    x, y = data(10)
    train(model, 1, (x, y), callbacks=[PreciseBatchNorm(x, batch_size=5)])
    mean, _ = _means(model, x, 5, 2)
    np.testing.assert_allclose(array(norm.moving_mean), mean, atol=1e-5)


def test_frozen_layers_keep_theirs():
    model = _model()
    frozen = model.get_layer("norm")
    frozen.trainable = False
    last = layers.BatchNormalization(name="last")
    model.add(last)
    model.compile(kb.LinBreg(0.1, 0.05), "mse")
    x, y = data()
    before = array(frozen.moving_mean)
    train(model, 1, (x, y), callbacks=[PreciseBatchNorm(x)])
    np.testing.assert_array_equal(array(frozen.moving_mean), before)
    assert array(last.moving_mean).any()


def test_a_model_that_the_first_step_builds():
    model = keras.Sequential([layers.BatchNormalization(), layers.Dense(2)])
    model.compile(kb.LinBreg(0.1, 0.05), "mse")
    x, y = data()
    train(model, 1, (x, y), callbacks=[PreciseBatchNorm(x)])
    mean = array(model.layers[0].moving_mean)
    np.testing.assert_allclose(mean, x.mean(0), atol=1e-6)


class Called(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.norm = layers.Dense(8), layers.BatchNormalization()
        self.out = layers.Dense(2)

    def call(self, x, training=False):
        return self.out(self.norm(self.hidden(x), training=training))


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="has such functions alone"
)
def test_a_function_that_is_compiled_around_the_layers():
    import tensorflow as tf

    class Compiled(Called):
        call = tf.function(Called.call)

    x, y = data()
    means = []
    for cls in (Called, Compiled):
        keras.utils.set_random_seed(0)
        model = cls()
        model.hidden.build((None, 6))  # Keras cannot within such a function
        for layer in (model.norm, model.out):
            layer.build((None, 8))
        model.built = True
        model.compile(kb.LinBreg(0.3, 0.05), "mse")
        precise = PreciseBatchNorm(x, batches=4, batch_size=4)
        model.fit(x, y, 4, 3, verbose=0, shuffle=False, callbacks=[precise])
        means.append(array(model.norm.moving_mean))
        expected = array(model.hidden(x)).mean(axis=0)
        np.testing.assert_allclose(means[-1], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(*means, rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_never_built_hides_nothing():
    class Unused(keras.Model):
        def __init__(self):
            super().__init__()
            self.out, self.unused = layers.Dense(2), layers.Dense(3)

        def call(self, x):
            return self.out(x)

    x, y = data()
    model = Unused()
    model.compile(kb.LinBreg(0.3, 0.05), "mse")
    with pytest.raises(ValueError, match="has no batch normalization"):
        model.fit(x, y, verbose=0, callbacks=[PreciseBatchNorm(x)])


def test_layers_that_the_first_step_builds():
    x, y = data()
    model = Called()
    model.built = True  # as by `build` without one of its own
    model.compile(kb.LinBreg(0.3, 0.05), "mse")
    model.fit(x, y, 4, verbose=0, callbacks=[PreciseBatchNorm(x)])
    expected = array(model.hidden(x)).mean(axis=0)
    found = array(model.norm.moving_mean)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_is_refused():
    x, y = data()
    for wrong in (None, 3, np.float32(1), iter([x]), (b for b in [x])):
        with pytest.raises(ValueError, match="`data` must be arrays"):
            PreciseBatchNorm(wrong)
    with pytest.raises(ValueError, match="`batches` must be 1 or greater"):
        PreciseBatchNorm(x, batches=0)
    with pytest.raises(ValueError, match="`batch_size` must be 2 or greater"):
        PreciseBatchNorm(x, batch_size=1)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    model.compile(kb.LinBreg(0.1, 0.05), "mse")
    with pytest.raises(ValueError, match="has no batch normalization"):
        train(model, 1, (x, y), callbacks=[PreciseBatchNorm(x)])
    model = _model()
    before = model.get_layer("norm").momentum
    for wrong in (x[:0], _Batches(x[:0], 5, tuple), x[:, :4], {"a": x}, "xy"):
        callback = PreciseBatchNorm(wrong)
        with pytest.raises(ValueError, match="`data` must yield batches"):
            train(model, 1, (x, y), callbacks=[callback])
    assert int(model.optimizer.iterations) == 0
    assert model.get_layer("norm").momentum == before


def test_a_list_of_batches_is_not_taken_for_the_first():
    x, y = data()
    callback = PreciseBatchNorm([(x[:4], y[:4]), (x[4:], y[4:])])
    with pytest.raises(ValueError, match="4 arrays for 1 inputs"):
        train(_model(), 1, (x, y), callbacks=[callback])


@pytest.mark.once
def test_validation_of_a_network_that_moves_fast():
    """Where validation is at chance without, and the network is good."""
    digits = load("digits")

    def validated(*callbacks):
        keras.utils.set_random_seed(0)
        inputs = keras.Input(digits.inputs.shape)
        x = layers.Rescaling(1 / 16)(inputs)
        for filters in (16, 32, 32):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
            x = layers.ReLU()(x)
        x = layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, layers.Dense(10)(x))
        model.compile(
            kb.LinBreg(1.0, 0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        history = model.fit(
            digits.x_train,
            digits.y_train,
            32,
            4,
            validation_data=(digits.x_val, digits.y_val),
            verbose=0,
            callbacks=[kb.callbacks.TargetDensity(0.1, ramp=0.3), *callbacks],
        )
        return np.array(history.history["val_accuracy"])

    without = validated()
    precise = validated(PreciseBatchNorm(digits.x_train))
    assert precise[-1] > 0.9
    assert precise.mean() > without.mean() + 0.1
