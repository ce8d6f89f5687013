"""What Keras' own optimizers can do, ours can."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import (
    BACKEND,
    OPTIMIZERS,
    THREE,
    Crash,
    array,
    assert_same_weights,
    compiled,
    data,
    fed,
    heard,
    mlp,
    multi_optimizer,
    state,
    three_optimizers,
    three_optimizers_and_ways,
    train,
)
from keras import layers, ops

import keras_bregman as kb

ROOT = pathlib.Path(__file__).parents[1]


def _in_fresh_process(script, *arguments):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": BACKEND, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _variables(*values):
    return [keras.Variable(v, dtype="float32", name="kernel") for v in values]


def _twins(first, second):
    """Two models of the same weights."""
    models = compiled(first), compiled(second)
    models[1].set_weights(models[0].get_weights())
    return models


class TestGradients:
    @pytest.mark.parametrize(
        ("clip", "expected"),
        [
            ("clipvalue", [[1, 1], [0, 0.5]]),
            ("clipnorm", [[0.6, 0.8], [0, 0.5]]),
            ("global_clipnorm", [[3 / 13, 4 / 13], [0, 12 / 13]]),
        ],
    )
    def test_clipping(self, clip, expected):
        last = 12.0 if clip == "global_clipnorm" else 0.5
        both = _variables([[0.0, 0.0]], [[0.0, 0.0]])
        optimizer = kb.LinBreg(1.0, **{clip: 1.0})
        optimizer.apply(
            [ops.array([[-3.0, -4.0]]), ops.array([[0.0, -last]])], both
        )
        found = [array(v)[0] for v in both]
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    @pytest.mark.parametrize("clip", ("clipnorm", "global_clipnorm"))
    def test_what_is_held_at_0_is_not_clipped_for(self, clip):
        (kernel,) = _variables([[1.0, 0.0]])
        scale = keras.Variable([[0.0]], dtype="float32", name="scale")
        optimizer = kb.LinBreg(1.0, {"kernel": 0.1}, **{clip: 5.0})
        grads = [ops.array([[-3.0, -400.0]]), ops.array([[-4.0]])]
        optimizer.freeze_support()
        optimizer.apply(grads, [kernel, scale])
        assert optimizer.regularized()[0].variable is kernel
        np.testing.assert_allclose(array(kernel), [[4.0, 0.0]], rtol=1e-6)
        np.testing.assert_allclose(array(scale), [[4.0]], rtol=1e-6)
        # with None for a variable that the loss knows nothing of
        optimizer.apply([None, ops.array([[-1.0]])])
        np.testing.assert_allclose(array(scale), [[5.0]], rtol=1e-6)
        # as a whole again
        optimizer.freeze_support(False)
        optimizer.apply(grads)
        assert array(kernel)[0, 0] < 4.1

    @three_optimizers
    def test_weight_decay_is_decoupled(self, make):
        (kernel,) = _variables([[2.0, -1.0, 0.0]])
        optimizer = make(0.1, 0.5, weight_decay=0.2)
        for step in range(1, 4):
            optimizer.apply([ops.zeros((1, 3))], [kernel])
            expected = np.array([[2.0, -1.0, 0.0]]) * 0.98**step
            if optimizer.keeps_dual:
                np.testing.assert_allclose(array(kernel), expected, rtol=1e-5)
            else:
                # the prox shrinks by tau lam = 0.05 besides
                shrunk = np.abs(expected) - 0.05 * sum(
                    0.98**k for k in range(step)
                )
                np.testing.assert_allclose(
                    array(kernel),
                    np.sign(expected) * np.maximum(shrunk, 0),
                    rtol=1e-5,
                )
        assert array(kernel)[0, 2] == 0

    @three_optimizers
    def test_accumulation_equals_the_big_batch(self, make):
        model, twin = _twins(
            make(0.05, 0.03, gradient_accumulation_steps=3), make(0.05, 0.03)
        )
        model.fit(**fed(*data(), 4), epochs=4, verbose=0)
        train(twin, 4)
        assert_same_weights(model, twin, rtol=1e-5)
        assert int(model.optimizer.iterations) == 4

    @pytest.mark.parametrize(
        ("make", "clip"),
        [
            *((OPTIMIZERS[name], {}) for name in THREE),
            (kb.AdaBreg, {"clipnorm": 0.1}),
        ],
        ids=[*THREE, "clipped"],
    )
    def test_repeated_rows_of_an_embedding(self, make, clip):
        x = np.array([[0, 0, 3], [3, 0, 8]])
        y = np.ones((2, 3, 2), "float32")
        rows, hot = (
            keras.Sequential([keras.Input((3,), dtype="int32"), *parts])
            for parts in (
                [layers.Embedding(9, 2, name="table")],
                [
                    layers.CategoryEncoding(9, output_mode="one_hot"),
                    layers.Dense(2, use_bias=False, name="table"),
                ],
            )
        )
        hot.set_weights(rows.get_weights())
        for model in (rows, hot):
            model.compile(make(0.5, {"table": 0.02}, **clip), "mse")
            train(model, 4, (x, y))
        np.testing.assert_allclose(
            rows.get_weights()[0], hot.get_weights()[0], rtol=1e-5, atol=1e-6
        )


class TestMovingAverage:
    @three_optimizers_and_ways
    def test_as_sparse_as_the_last_weights(self, make, way):
        optimizer = make(0.05, 0.02, use_ema=True, ema_momentum=0.8)
        model = compiled(optimizer, way)
        kb.sparsify(model, 0.4, seed=1)
        last = []

        class Keep(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                last.append(self.model.get_weights())

        train(model, 12, callbacks=[Keep()])
        moved = 0
        for i in (0, 2):
            final, averaged = last[-1][i], model.get_weights()[i]
            np.testing.assert_array_equal(averaged != 0, final != 0)
            moved += np.abs(averaged - final).max()
        assert moved > 1e-3
        assert 0 < kb.density(model) < 1

    def test_restarts_where_a_regularized_weight_is_0(self):
        kernel, bias = (
            keras.Variable([[1.0]], name=n) for n in ("kernel", "bias")
        )
        optimizer = kb.LinBreg(1.0, 0.5, use_ema=True, ema_momentum=0.5)
        # v falls from 1.5 to 0.25, below lambda; the bias is 0 by chance
        for gradients in ((0.0, 0.0), (1.25, 1.0)):
            optimizer.apply(
                [ops.array([[g]]) for g in gradients], [kernel, bias]
            )
        assert array(kernel) == array(bias) == 0
        averages = map(array, optimizer._model_variables_moving_average)
        np.testing.assert_array_equal(np.ravel(list(averages)), [0.0, 0.5])


class TestPrecision:
    @three_optimizers
    def test_loss_scale_optimizer(self, make):
        scaled = keras.optimizers.LossScaleOptimizer(make(0.05, 0.03))
        model, twin = _twins(scaled, make(0.05, 0.03))
        train(model, 4)
        train(twin, 4)
        assert_same_weights(model, twin, rtol=1e-5)

    @pytest.mark.parametrize("policy", ("mixed_float16", "mixed_bfloat16"))
    @pytest.mark.parametrize("name", ("linbreg", "adabreg"))
    def test_mixed(self, name, policy):
        keras.mixed_precision.set_global_policy(policy)
        model = compiled(OPTIMIZERS[name](0.01, 50.0))
        kb.sparsify(model, 0.5, seed=0)
        zero = [array(w) == 0 for w in model.weights[::2]]
        history = train(model, 8).history["loss"]
        assert history[-1] < history[0]
        for mask, kernel in zip(zero, model.weights[::2], strict=True):
            np.testing.assert_array_equal(array(kernel) == 0, mask)
        optimizer = model.optimizer
        if policy == "mixed_float16":
            assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
            optimizer = optimizer.inner_optimizer
        assert np.abs(next(iter(state(optimizer, "_dual").values()))).max() > 0
        kinds = {
            keras.backend.standardize_dtype(v.dtype)
            for v in optimizer.variables
            if v is not optimizer._iterations
        }
        assert kinds == {"float32"}

    def test_small_steps_add_up_in_bfloat16(self):
        kernel = keras.Variable([[0.0]], dtype="bfloat16", name="kernel")
        optimizer = kb.LinBreg(2e-3, 1.0)
        optimizer.build([kernel])
        gradient = ops.cast([[-1.0]], "bfloat16")
        # in a bfloat16 slot the sum would stay at 0.5
        for _ in range(300):
            optimizer.apply([gradient], [kernel])
        (dual,) = state(optimizer, "_dual").values()
        np.testing.assert_allclose(dual, 0.6, rtol=1e-4)
        assert keras.backend.standardize_dtype(kernel.dtype) == "bfloat16"


class TestComposition:
    def test_reduce_lr_on_plateau(self):
        class Stand(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs):
                logs["figure"] = 1.0
                kept.append(self.model.get_weights()[0])

        kept = []
        plateau = keras.callbacks.ReduceLROnPlateau(
            "figure", mode="min", factor=0.0, patience=1
        )
        model = compiled(kb.LinBreg(0.05, 0.03))
        train(model, 4, callbacks=[Stand(), plateau])
        assert float(model.optimizer.learning_rate) == 0
        assert np.abs(kept[1] - kept[0]).max() > 1e-3
        np.testing.assert_allclose(kept[3], kept[1], rtol=0, atol=1e-7)

    @multi_optimizer
    @three_optimizers
    def test_multi_optimizer(self, make):
        parts = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.05))
        parts[".*kernel"] = make(0.05, 0.03)
        rules = {"kernel": 0.03}
        model, twin = _twins(
            keras.optimizers.MultiOptimizer(parts), make(0.05, rules)
        )
        for each in (model, twin):
            each.layers[0].bias.trainable = False
            each.layers[1].bias.trainable = False
            each.compile(each.optimizer, "mse")
            train(each, 4)
        assert_same_weights(model, twin, rtol=1e-6)

    def test_frozen_layers(self):
        model = mlp()
        model.layers[0].trainable = False
        model.compile(kb.AdaBreg(0.05, 0.03), "mse")
        before = model.get_weights()
        train(model, 3)
        after = model.get_weights()
        np.testing.assert_array_equal(after[0], before[0])
        assert np.abs(after[2] - before[2]).max() > 0.01
        assert set(model.optimizer.lambdas) == {"net/out/kernel"}

    def test_nested_models_that_repeat_a_path(self):
        def inner():
            x = keras.Input((4,))
            return keras.Model(x, layers.Dense(4, name="d")(x))

        x = keras.Input((4,))
        model = keras.Model(x, inner()(inner()(x)))
        optimizer = kb.LinBreg(0.1, 0.25)
        model.compile(optimizer, "mse")
        optimizer.build(model.trainable_variables)
        assert len({w.path for w in model.weights}) == 2
        assert set(optimizer.lambdas) == {"d/kernel", "d/kernel#2"}
        optimizer.set_lambda(2.0, "d/kernel$")
        assert [float(v) for v in optimizer.lambdas.values()] == [2.0, 2.0]
        optimizer.set_lambda(0.5, "#2$")
        assert [float(v) for v in optimizer.lambdas.values()] == [2.0, 0.5]
        ones = np.ones((4, 4))
        losses = model.fit(ones, 0 * ones, epochs=3, verbose=0).history["loss"]
        assert losses[-1] < losses[0]

    def test_two_optimizers_share_a_regularizer(self):
        shared = kb.regularizers.L1(0.5)
        first, second = kb.LinBreg(0.1, shared), kb.AdaBreg(0.1, shared)
        for optimizer in (first, second):
            optimizer.build(mlp().trainable_variables)
        first.set_lambda(0.125)
        assert {float(v) for v in first.lambdas.values()} == {0.125}
        assert {float(v) for v in second.lambdas.values()} == {0.5}
        assert shared.lam == 0.5

    def test_get_by_name(self):
        optimizer = keras.optimizers.get("keras_bregman>LinBreg")
        assert type(optimizer) is kb.LinBreg

    def test_a_clone_of_a_trained_optimizer(self):
        model = compiled(kb.LinBreg(0.5, 0.1))
        train(model, 2)
        model.optimizer.learning_rate = 0.25
        clone = keras.optimizers.deserialize(
            keras.optimizers.serialize(model.optimizer)
        )
        assert float(clone.learning_rate) == 0.25
        assert not clone.built
        assert clone.regularizer == model.optimizer.regularizer


def _loss(model, x, y):
    return ops.mean(ops.square(model(x) - y))


def _tape_loop(model, optimizer, x, y):
    import tensorflow as tf

    def step():
        with tf.GradientTape() as tape:
            loss = _loss(model, x, y)
        optimizer.apply(
            tape.gradient(loss, model.trainable_variables),
            model.trainable_variables,
        )

    return step


def _graph_loop(model, optimizer, x, y):
    import tensorflow as tf

    return tf.function(_tape_loop(model, optimizer, x, y))


def _torch_loop(model, optimizer, x, y):
    import torch

    def step():
        model.zero_grad()
        _loss(model, torch.from_numpy(x), torch.from_numpy(y)).backward()
        variables = model.trainable_variables
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in variables], variables)

    return step


def _jax_loop(model, optimizer, x, y):
    import jax

    optimizer.build(model.trainable_variables)

    def loss(trainable):
        out, _ = model.stateless_call(trainable, [], x)
        return ops.mean(ops.square(out - y))

    @jax.jit
    def pure(trainable, variables):
        return optimizer.stateless_apply(
            variables, jax.grad(loss)(trainable), trainable
        )

    def step():
        new = pure(
            [v.value for v in model.trainable_variables],
            [v.value for v in optimizer.variables],
        )
        old = model.trainable_variables, optimizer.variables
        for variables, values in zip(old, new, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    return step


LOOPS = {
    "tensorflow": [_tape_loop, _graph_loop],
    "jax": [_jax_loop],
    "torch": [_torch_loop],
}[BACKEND]


@three_optimizers
@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_of_ones_own_equals_fit(make, loop):
    model, twin = _twins(make(0.05, 0.03), make(0.05, 0.03))
    step = loop(model, model.optimizer, *(a.astype("float32") for a in data()))
    for _ in range(4):
        step()
    train(twin, 4)
    assert_same_weights(model, twin, rtol=1e-5)


RESUME = """
import sys
import keras
import numpy as np
import keras_bregman
from helpers import train
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    train(model, 4)
    np.savez(path + ".npz", *model.get_weights())
"""


class TestResuming:
    def test_in_a_fresh_process(self, tmp_path):
        expected = {}
        for name in THREE:
            model = compiled(OPTIMIZERS[name](0.05, 0.01))
            kb.sparsify(model, 0.4, seed=1)
            train(model, 4)
            model.optimizer.set_lambda(0.05, "hidden")
            model.optimizer.learning_rate = 0.0375
            path = str(tmp_path / f"{name}.keras")
            model.save(path)
            train(model, 4)
            expected[path] = model.get_weights()
        _in_fresh_process(RESUME, *expected)
        for path, weights in expected.items():
            for a, b in zip(
                np.load(path + ".npz").values(), weights, strict=True
            ):
                np.testing.assert_array_equal(a, b, err_msg=path)

    def test_a_config_that_says_nothing_of_the_support(self):
        config = kb.LinBreg(0.1, 1.0).get_config()
        del config["frozen"]
        assert not kb.LinBreg.from_config(config).support_is_frozen

    @pytest.mark.parametrize("anew", (False, True))
    def test_a_step_compiled_before_it_was_frozen(self, anew):
        model = compiled(kb.AdaBreg(0.03, 0.05))
        kb.sparsify(model, 0.3, seed=0)
        train(model, 2)
        if anew:  # and of the same state again
            kb.freeze_support(model, False)
            train(model, 2)
        before = model.get_weights()[::2]
        model.optimizer.freeze_support()
        with heard() as found:
            train(model, 4)
        told = [w for w in found if "`optimizer.freeze_support(True)`" in w]
        pairs = zip(before, model.get_weights()[::2], strict=True)
        same = all(((a != 0) == (b != 0)).all() for a, b in pairs)
        # torch compiles nothing
        is_held = keras.config.backend() == "torch"
        assert (same, bool(told)) == (is_held, not is_held)

    def test_a_frozen_support_stays_frozen(self, tmp_path):
        model = compiled(kb.AdaBreg(0.05, 0.01))
        kb.sparsify(model, 0.4, seed=1)
        model.optimizer.freeze_support()
        train(model, 2)
        supports = [w != 0 for w in model.get_weights()[::2]]
        model.save(tmp_path / "a.keras")
        again = keras.models.load_model(tmp_path / "a.keras")
        assert again.optimizer.support_is_frozen
        train(again, 5)
        for support, weights in zip(
            supports, again.get_weights()[::2], strict=True
        ):
            np.testing.assert_array_equal(weights != 0, support)

    def test_a_loaded_model_is_regularized_as_before(self, tmp_path):
        """Keras leaves the names of models out of the paths that it loads."""
        dense = layers.Dense
        inner = keras.Sequential(
            [keras.Input((6,)), dense(8, name="a"), dense(8, name="b")],
            name="inner",
        )
        model = keras.Sequential(
            [keras.Input((6,)), inner, dense(4, name="c"), dense(2, name="d")],
            name="net",
        )
        choice = {
            "inner/.*kernel": kb.regularizers.GroupLasso(0.01, "unit"),
            "net/d/kernel": None,
            "kernel": 0.02,
        }
        model.compile(kb.AdaBreg(0.01, choice), "mse")
        train(model, 2)

        def kinds(model):
            return [
                type(entry.shrink.regularizer).__name__
                for entry in model.optimizer.regularized()
            ]

        found = kinds(model)
        assert found == ["GroupLasso", "GroupLasso", "L1"]
        for name in ("first.keras", "second.keras"):
            model.save(tmp_path / name)
            again = keras.models.load_model(tmp_path / name)
            assert kinds(again) == found
            for one in (model, again):
                train(one, 2)
            for a, b in zip(
                model.get_weights(), again.get_weights(), strict=True
            ):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
            model = again
        # for other variables the expressions are asked
        other = mlp()
        other.compile(
            type(again.optimizer).from_config(
                {**again.optimizer.get_config(), "regularizer": 0.5}
            ),
            "mse",
        )
        train(other, 1)
        assert set(kinds(other)) == {"L1"}

    @three_optimizers
    def test_in_float8(self, make, tmp_path):
        """Keras loads its scales ahead of kernels, and itself sets them."""
        model = mlp()
        model.quantize("float8")
        model.compile(make(0.05, 0.01), "mse")
        train(model, 2)
        model.save(tmp_path / "a.keras")
        again = keras.models.load_model(tmp_path / "a.keras")
        train(model, 2)
        train(again, 2)
        for one, other in zip(model.layers, again.layers, strict=True):
            for name in ("kernel", "bias", "inputs_scale"):
                np.testing.assert_array_equal(
                    array(getattr(one, name)), array(getattr(other, name))
                )

    def test_a_dict_of_regularizers_can_be_read_from_hdf5(self, tmp_path):
        model = mlp()
        optimizer = kb.AdaBreg(0.05, {"kernel": 0.01})
        # as a name Keras cannot read it from this format
        model.compile(optimizer, keras.losses.MeanSquaredError())
        train(model, 2)
        model.save(tmp_path / "a.h5")
        again = keras.models.load_model(tmp_path / "a.h5")
        assert again.optimizer.get_config() == optimizer.get_config()
        assert_same_weights(model, again)

    @three_optimizers
    def test_after_a_crash(self, make, tmp_path):
        model, twin = _twins(make(0.05, 0.03), make(0.05, 0.03))
        first = model.get_weights()
        train(twin, 6)
        backup = keras.callbacks.BackupAndRestore(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            train(model, 6, callbacks=[backup, Crash(3)])
        again = compiled(make(0.05, 0.03))
        again.set_weights(first)
        history = train(again, 6, callbacks=[backup])
        assert history.epoch == [3, 4, 5]
        assert_same_weights(again, twin)

    @three_optimizers
    def test_weights_files_hold_the_state(self, make, tmp_path):
        model, other = _twins(make(0.05, 0.03), make(0.01, 0.5))
        train(model, 4)
        model.optimizer.set_lambda(0.02)
        model.save_weights(tmp_path / "a.weights.h5")
        other.optimizer.build(other.trainable_variables)
        other.load_weights(tmp_path / "a.weights.h5")
        for each in (model, other):
            train(each, 4)
        assert_same_weights(other, model)

    @pytest.mark.tensorflow
    @three_optimizers
    def test_tensorflow_checkpoint(self, make, tmp_path):
        import tensorflow as tf

        model, other = _twins(make(0.05, 0.03), make(0.01, 0.5))
        train(model, 4)
        saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        path = saved.save(str(tmp_path / "checkpoint"))
        other.optimizer.build(other.trainable_variables)
        tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(
            path
        ).assert_existing_objects_matched()
        for each in (model, other):
            train(each, 4)
        assert_same_weights(other, model)


MIRRORED = """
import sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras
import keras_bregman as kb
from helpers import compiled, train

def make():
    return kb.AdaBreg(
        0.05, 0.02, weight_decay=0.1, use_ema=True, ema_momentum=0.8
    )

single = compiled(make())
kb.sparsify(single, 0.4, seed=1)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    double = compiled(make())
double.set_weights(single.get_weights())
start = single.get_weights()
for model in (single, double):
    train(model, 6)
assert np.abs(start[0] - single.get_weights()[0]).max() > 0.01
for a, b in zip(single.get_weights(), double.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(a == 0, b == 0)
print("agrees")
double.save(sys.argv[1])
with strategy.scope():
    again = keras.models.load_model(sys.argv[1])
for model in (double, again):
    train(model, 2)
for a, b in zip(double.get_weights(), again.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
print("loaded")
with strategy.scope():
    tuned = compiled(make())
kb.prune(tuned, 0.5)
kb.freeze_support(tuned)  # builds the optimizer where it trains
train(tuned, 2)
assert abs(kb.density(tuned) - 0.5) < 0.01
print("held")
"""


@pytest.mark.tensorflow
def test_two_devices_equal_one(tmp_path):
    """Decay and averages; test_parallel.py has the rest."""
    said = _in_fresh_process(MIRRORED, tmp_path / "a.keras").split()
    assert said == ["agrees", "loaded", "held"]
