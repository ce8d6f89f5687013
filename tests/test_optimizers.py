"""The optimizers' arithmetic, their arguments and their choice of variables."""

import math
import threading
import time
import warnings
from concurrent import futures
from functools import partial

import keras
import numpy as np
import pytest
import reference
from helpers import (
    BACKEND,
    OPTIMIZERS,
    WAYS,
    array,
    compiled,
    data,
    every_optimizer,
    fed,
    mlp,
    state,
    three_optimizers,
    three_optimizers_and_ways,
    train,
)
from keras import layers, ops

import keras_bregman as kb
from keras_bregman import _fusion, regularizers

REFERENCES = {
    "linbreg": reference.linbreg,
    "momentum": partial(reference.linbreg, momentum=0.9),
    "nesterov": partial(reference.linbreg, momentum=0.9, nesterov=True),
    "adabreg": reference.adabreg,
    "proxgd": reference.proxgd,
}


# Keras adds epsilon before the bias correction, and on TensorFlow it rounds
# the betas to float32, which these do not feel
BETAS = {"beta_1": 0.875, "beta_2": 0.96875, "epsilon": 1e-12}


def _steps(optimizer, theta, gradients, dtype="float32"):
    """The weights of one kernel after every step."""
    kernel = keras.Variable(theta, dtype=dtype, name="kernel")
    optimizer.build([kernel])
    for g in gradients:
        optimizer.apply([ops.convert_to_tensor(g, dtype=dtype)], [kernel])
        yield array(kernel)


class TestArithmetic:
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            (partial(kb.LinBreg, 0.1), partial(keras.optimizers.SGD, 0.1)),
            (partial(kb.ProxGD, 0.1), partial(keras.optimizers.SGD, 0.1)),
            (
                partial(kb.AdaBreg, 0.05, **BETAS),
                partial(keras.optimizers.Adam, 0.05, **BETAS),
            ),
        ],
        ids=("linbreg", "proxgd", "adabreg"),
    )
    def test_without_regularizer_the_keras_twin(self, ours, theirs, float64):
        rng = np.random.default_rng(0)
        theta, gradients = rng.normal(size=(4, 3)), rng.normal(size=(50, 4, 3))
        found = [
            _steps(make(), theta, gradients, "float64")
            for make in (ours, theirs)
        ]
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
        assert np.abs(a - theta).min() > 1e-3

    def test_adabreg_without_memory_moves_by_the_sign(self, float64):
        optimizer = kb.AdaBreg(0.25, beta_1=0.0, beta_2=0.0, epsilon=1e-12)
        gradients = [[3.0, -0.5], [-0.25, -8.0]]
        one, two = _steps(optimizer, [1.0, 1.0], gradients, "float64")
        np.testing.assert_allclose(one, [0.75, 1.25], rtol=1e-9)
        np.testing.assert_allclose(two, [1.0, 1.5], rtol=1e-9)

    @pytest.mark.parametrize("name", OPTIMIZERS)
    @pytest.mark.parametrize("seed", range(3))
    def test_reference(self, name, seed, float64):
        rng = np.random.default_rng(seed)
        tau, lam = rng.uniform(0.01, 0.3), rng.uniform(0.1, 1)
        extra = {} if name == "proxgd" else {"delta": rng.uniform(0.2, 5)}
        theta = rng.normal(size=(5, 7)) * (rng.random((5, 7)) < 0.5)
        gradients = rng.normal(0.1, 1, (100, 5, 7))
        ours = OPTIMIZERS[name](tau, lam, **extra)
        expected = REFERENCES[name](theta, gradients, tau, lam, **extra)
        zeros = 0
        for a, b in zip(
            _steps(ours, theta, gradients, "float64"), expected, strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
            np.testing.assert_array_equal(a == 0, b == 0)
            zeros += np.mean(b == 0)
        assert 1 < zeros < 99

    @pytest.mark.parametrize(
        ("nesterov", "expected"),
        # g = 1, tau = 1, beta = 1/2: m = 1/2, 3/4, 7/8
        [(False, [3.5, 2.75, 1.875]), (True, [3.25, 2.375, 1.4375])],
    )
    def test_momentum_by_hand(self, nesterov, expected):
        optimizer = kb.LinBreg(1.0, momentum=0.5, nesterov=nesterov)
        found = list(_steps(optimizer, [[4.0]], [[[1.0]]] * 3))
        np.testing.assert_array_equal(np.ravel(found), expected)

    def test_delta_by_hand(self):
        # v0 = 3 / 2 + 1; then v = 1.5, 0.5 and theta = 2 prox_J(v)
        optimizer = kb.LinBreg(1.0, 1.0, delta=2.0)
        found = list(_steps(optimizer, [[3.0]], [[[1.0]]] * 2))
        np.testing.assert_array_equal(np.ravel(found), [1.0, 0.0])

    @pytest.mark.skipif(len(WAYS) == 1, reason="torch has one way to train")
    @three_optimizers
    def test_eager_graph_and_xla_agree(self, make):
        start = mlp().get_weights()
        found = []
        ways = {**WAYS, "several": {"steps_per_execution": 3}}
        for way in ways.values():
            model = compiled(make(0.05, 0.03), way)
            model.set_weights(start)
            model.fit(**fed(*data(24), 4), verbose=0)
            found.append(model.get_weights())
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("make", "steps"),
        [
            (partial(kb.LinBreg, 0.3, 10.0), 200),
            (partial(kb.LinBreg, 0.3, 10.0, momentum=0.5), 200),
            # an epsilon above the gradients, else every entry moves by tau
            (partial(kb.AdaBreg, 30.0, 10.0, beta_1=0.5, epsilon=100.0), 200),
            (partial(kb.ProxGD, 0.1, 0.05), 200),
        ],
        ids=("linbreg", "momentum", "adabreg", "proxgd"),
    )
    def test_finds_the_support(self, make, steps):
        rng = np.random.default_rng(1)
        x = rng.normal(size=(60, 20))
        truth = np.zeros((20, 1))
        truth[[2, 7, 11], 0] = 2.0, -1.5, 1.0
        y = x @ truth
        kernel = keras.Variable(np.zeros((20, 1)), name="kernel")
        optimizer = make()
        optimizer.build([kernel])
        for _ in range(steps):
            gradient = x.T @ (x @ array(kernel) - y) / len(x)
            optimizer.apply([ops.convert_to_tensor(gradient, "float32")])
        np.testing.assert_array_equal(array(kernel) != 0, truth != 0)
        # ProxGD minimizes loss + J and so stays lam below the truth
        bias = 0.1 if make.func is kb.ProxGD else 0.01
        np.testing.assert_allclose(array(kernel), truth, atol=bias)


class TestLearningRate:
    @three_optimizers_and_ways
    def test_schedule(self, make, way):
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [2, 4], [0.1, 0.02, 0.0]
        )
        model, twin = compiled(make(schedule, 0.03), way), compiled(make(0.1))
        twin.compile(make(0.1, 0.03), "mse", **way)
        twin.set_weights(model.get_weights())
        train(model, 6)
        for rate, steps in ((0.1, 3), (0.02, 2), (0.0, 1)):
            twin.optimizer.learning_rate = rate
            train(twin, steps)
        for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("rate", (1, np.float32(0.5), np.int64(2), 0))
    @every_optimizer
    def test_numbers_of_any_kind(self, make, rate):
        assert float(make(rate).learning_rate) == rate

    def test_callable(self):
        found = list(_steps(kb.LinBreg(lambda: 0.5), [[1.0]], [[[1.0]]]))
        np.testing.assert_array_equal(found[0], 0.5)


class TestConfig:
    BASE = {  # noqa: RUF012
        "name": "mine",
        "clipnorm": 1.0,
        "weight_decay": 0.01,
        "use_ema": True,
        "ema_momentum": 0.5,
        "ema_overwrite_frequency": 3,
        "loss_scale_factor": 2.0,
        "gradient_accumulation_steps": 2,
    }
    OWN = {  # noqa: RUF012
        "linbreg": {"delta": 2.0, "momentum": 0.5, "nesterov": True},
        "adabreg": {
            "delta": 3.0,
            "beta_1": 0.1,
            "beta_2": 0.2,
            "epsilon": 1e-3,
        },
        "proxgd": {},
    }

    @pytest.mark.parametrize("name", OWN)
    def test_round_trip(self, name):
        rules = {
            "z": regularizers.SparseGroupLasso(0.1, "input", 0.3),
            "a": regularizers.GroupLasso(0.2, (0, 1)),
            "b": None,
            "c": 0.5,
        }
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
        arguments = {**self.BASE, **self.OWN[name]}
        first = OPTIMIZERS[name](schedule, rules, **arguments)
        config = keras.optimizers.serialize(first)
        second = keras.optimizers.deserialize(config)
        assert type(second) is type(first)
        assert list(second.regularizer.items()) == [
            *list(rules.items())[:3],
            ("c", regularizers.L1(0.5)),
        ]
        for key, value in arguments.items():
            assert getattr(second, key) == value, key
        assert second._learning_rate.get_config() == schedule.get_config()
        assert keras.optimizers.serialize(second) == config

    @pytest.mark.parametrize("clip", ("clipvalue", "global_clipnorm"))
    def test_the_other_clips(self, clip):
        first = kb.LinBreg(**{clip: 0.5})
        second = kb.LinBreg.from_config(first.get_config())
        assert getattr(second, clip) == 0.5

    @pytest.mark.parametrize(
        "regularizer", (None, regularizers.NonNegativeL1(0.25)), ids=repr
    )
    def test_one_regularizer(self, regularizer):
        config = kb.ProxGD(0.5, regularizer).get_config()
        second = kb.ProxGD.from_config(config)
        assert second.regularizer == regularizer
        assert float(second.learning_rate) == 0.5

    @pytest.mark.parametrize(
        ("make", "defaults"),
        [
            (
                kb.LinBreg,
                {
                    "name": "linbreg",
                    "learning_rate": 0.1,
                    "delta": 1.0,
                    "momentum": 0.0,
                    "nesterov": False,
                },
            ),
            (
                kb.AdaBreg,
                {
                    "name": "adabreg",
                    "learning_rate": 0.001,
                    "delta": 1.0,
                    "beta_1": 0.9,
                    "beta_2": 0.999,
                    "epsilon": 1e-8,
                },
            ),
            (kb.ProxGD, {"name": "proxgd", "learning_rate": 0.1}),
        ],
    )
    def test_defaults(self, make, defaults):
        config = make().get_config()
        assert config["regularizer"] is None
        # Keras keeps the rate in float32
        rate = np.float32(defaults.pop("learning_rate"))
        assert np.float32(config["learning_rate"]) == rate
        assert {name: config[name] for name in defaults} == defaults


def _chosen(model, regularizer):
    optimizer = kb.LinBreg(0.1, regularizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def _built(layer, *shape):
    model = keras.Sequential([keras.Input(shape), layer], name="net")
    return {v.path for v in _chosen(model, 0.1)._trainable_variables}, set(
        _chosen(model, 0.1).lambdas
    )


class TestChoice:
    @pytest.mark.parametrize(
        ("layer", "shape", "expected"),
        [
            (layers.Dense, (4,), {"kernel"}),
            (partial(layers.Conv2D, kernel_size=3), (8, 8, 2), {"kernel"}),
            (
                lambda n, name: layers.DepthwiseConv2D(3, name=name),
                (8, 8, 2),
                {"kernel"},
            ),
            (
                partial(layers.SeparableConv1D, kernel_size=3),
                (8, 2),
                {"depthwise_kernel", "pointwise_kernel"},
            ),
            (
                layers.LSTM,
                (5, 2),
                {"lstm_cell/kernel", "lstm_cell/recurrent_kernel"},
            ),
            (
                layers.GRU,
                (5, 2),
                {"gru_cell/kernel", "gru_cell/recurrent_kernel"},
            ),
        ],
        ids=("dense", "conv", "depthwise", "separable", "lstm", "gru"),
    )
    def test_kernels_by_default(self, layer, shape, expected):
        every, chosen = _built(layer(3, name="it"), *shape)
        assert chosen == {f"net/it/{name}" for name in expected}
        assert any(path.endswith("bias") for path in every - chosen)

    def test_not_embeddings_normalization_or_attention_biases(self):
        x = keras.Input((4,), dtype="int32")
        y = layers.Embedding(9, 6, name="table")(x)
        y = layers.LayerNormalization(name="norm")(y)
        y = layers.MultiHeadAttention(2, 3, name="heads")(y, y)
        y = layers.BatchNormalization(name="batch")(y)
        model = keras.Model(x, y)
        parts = ("query", "key", "value", "attention_output")
        assert set(_chosen(model, 0.1).lambdas) == {
            f"heads/{part}/kernel" for part in parts
        }

    def test_none(self):
        optimizer = _chosen(mlp(), None)
        assert optimizer.lambdas == {}
        assert state(optimizer, "_dual") == {}

    def test_the_first_match_wins(self):
        rules = {"out/k": 0.5, "hidden/bias": 0.1, "kernel": 0.2, "out": None}
        lambdas = _chosen(mlp(), rules).lambdas
        assert {k: float(v) for k, v in lambdas.items()} == {
            "net/hidden/kernel": pytest.approx(0.2),
            "net/hidden/bias": pytest.approx(0.1),
            "net/out/kernel": pytest.approx(0.5),
        }

    @pytest.mark.parametrize(
        "rules", ({"k": 0.1, "conv": 0.2}, {"kernel": 0.1, "out/kernel": 0.2})
    )
    def test_an_expression_that_takes_nothing(self, rules):
        message = f"takes no variable: '{list(rules)[1]}'.*net/out/kernel"
        with pytest.raises(ValueError, match=message):
            _chosen(mlp(), rules)

    def test_a_group_regularizer_on_a_bias(self):
        rules = {"out": regularizers.GroupLasso(0.1)}
        with pytest.raises(ValueError, match=r"rank 2.*'net/out/bias'.*\(2,\)"):
            _chosen(mlp(), rules)

    def test_l1_on_a_scalar(self):
        scale = keras.Variable(3.0, name="scale")
        optimizer = kb.ProxGD(1.0, {"scale": 2.0})
        optimizer.apply([ops.zeros(())], [scale])
        assert float(array(scale)) == 1

    def test_summary(self):
        lines = []
        rules = {"hidden/k": regularizers.GroupLasso(0.5), "out/k": 0.25}
        _chosen(mlp(), rules).summary(lines.append)
        rows = {row.split()[0]: row for row in lines[0].splitlines()}
        assert rows["net/hidden/kernel"].split()[1:] == (
            ["(6,", "8)", "GroupLasso", "8", "x", "6", "0.5"]
        )
        assert rows["net/out/kernel"].split()[1:] == [
            "(8,",
            "2)",
            "L1",
            "-",
            "0.25",
        ]
        assert rows["net/out/bias"].split()[1:] == ["(2,)", "-", "-", "-"]


class TestLambda:
    def test_set_lambda(self):
        optimizer = _chosen(mlp(), 0.5)
        optimizer.set_lambda(0.25, "out")
        found = {k: float(v) for k, v in optimizer.lambdas.items()}
        assert found == {"net/hidden/kernel": 0.5, "net/out/kernel": 0.25}
        optimizer.set_lambda(2)
        assert {float(v) for v in optimizer.lambdas.values()} == {2.0}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((-1.0,), "lam=-1.0"),
            ((float("nan"),), "lam=nan"),
            (("much",), "lam='much'"),
            ((0.1, "bias"), "expression='bias'.*net/out/kernel"),
            ((0.1, "("), r"Received: '\('"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            _chosen(mlp(), 0.5).set_lambda(*arguments)

    @pytest.mark.parametrize(
        "use",
        (
            lambda o: o.lambdas,
            lambda o: o.set_lambda(1.0),
            lambda o: o.summary(),
        ),
    )
    def test_before_build(self, use):
        with pytest.raises(ValueError, match=r"optimizer\.build\(model"):
            use(kb.LinBreg(0.1, 0.1))

    @three_optimizers_and_ways
    def test_changed_in_a_running_fit(self, make, way):
        class Counting(layers.Layer):
            traces = 0

            def call(self, x):
                type(self).traces += 1
                return x

        model = keras.Sequential([mlp(), Counting()])
        model.compile(make(0.05, 0.01), "mse", **way)
        traces, kept = [], []

        class Change(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 3:
                    model.optimizer.set_lambda(100.0)

            def on_epoch_end(self, epoch, logs=None):
                traces.append(Counting.traces)
                kept.append(kb.density(model))

        train(model, 5, callbacks=[Change()])
        calls = np.diff(traces)
        # run eagerly, the layer is called at every step
        assert (calls == ("run_eagerly" in way or len(WAYS) == 1)).all()
        (lam,) = {float(v) for v in model.optimizer.lambdas.values()}
        assert lam == 100
        # ProxGD shrinks by tau lam = 5 at once; the others leave what is on,
        # and switch nothing on
        assert kept[2] > 0.9
        if model.optimizer.keeps_dual:
            assert 0.8 < kept[4] <= kept[2]
        else:
            assert kept[4] == 0

    def test_decides_when_a_weight_switches_on(self):
        kernel = keras.Variable([[0.0]], name="kernel")
        optimizer = kb.LinBreg(1.0, 10.0)
        optimizer.build([kernel])
        on = []
        for _ in range(6):
            optimizer.apply([ops.convert_to_tensor([[-1.0]])], [kernel])
            on.append(float(array(kernel)[0, 0]))
            if len(on) == 3:
                optimizer.set_lambda(4.5)
        np.testing.assert_allclose(on, [0, 0, 0, 0, 0.5, 1.5])

    @pytest.mark.parametrize(
        ("lam", "hard", "expected"),
        # with delta = 2 and v = 2, -1.5, 0.5, -0.25
        [
            (1.75, False, [0.5, 0.0, 0.0, 0.0]),
            (1.75, True, [2.0, 0.0, 0.0, 0.0]),
            (0.375, False, [3.25, -2.25, 0.25, 0.0]),
            (0.375, True, [2.0, -1.0, 0.25, 0.0]),
        ],
    )
    def test_rethreshold_by_hand(self, lam, hard, expected):
        kernel = keras.Variable([[2.0, -1.0, 0.0, 0.0]], name="kernel")
        optimizer = kb.AdaBreg(0.1, 1.0, delta=2.0)
        optimizer.build([kernel])
        (entry,) = optimizer.regularized()
        entry.dual.assign([[0.0, 0.0, 0.5, -0.25]])
        v = [[2.0, -1.5, 0.5, -0.25]]
        found = array(optimizer.critical_lambda(entry))
        np.testing.assert_array_equal(found, np.abs(v))
        if hard:
            optimizer.rethreshold(entry, lam, hard=True)
        else:
            optimizer.rethreshold(entry, lam)
        np.testing.assert_array_equal(array(kernel), [expected])
        np.testing.assert_array_equal(array(entry.dual), v)
        assert float(entry.lam) == lam


def _loaded(name, value):
    """An optimizer of strength 2 with another value for one variable."""
    kernel = keras.Variable([[1.0]], name="kernel")
    optimizer, other = kb.LinBreg(0.1, 2.0), kb.LinBreg(0.1, 2.0)
    store = {}
    for each in (optimizer, other):
        each.build([kernel])
    other.save_own_variables(store)
    paths = [variable.path for variable in other.variables]
    (index,) = [i for i, path in enumerate(paths) if path.endswith(name)]
    store[str(index)] = np.float32(value)
    optimizer.load_own_variables(store)
    return optimizer


class TestLoadedState:
    @pytest.mark.parametrize("lam", (0.0, 0.5, 3.0))
    @pytest.mark.filterwarnings("error::UserWarning")
    def test_a_strength(self, lam):
        assert float(_loaded("_lambda", lam).lambdas["kernel"]) == lam

    @pytest.mark.parametrize("lam", (-0.5, math.inf, math.nan))
    def test_what_is_no_strength(self, lam):
        with pytest.warns(UserWarning, match="lambda is set back to 2"):
            optimizer = _loaded("_lambda", lam)
        assert float(optimizer.lambdas["kernel"]) == 2

    def test_what_is_no_strength_is_told_of_each_time(self):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("default")  # as in a script
            for _ in range(2):
                _loaded("_lambda", -0.5)
        assert sum("set back" in str(w.message) for w in found) == 2

    @pytest.mark.parametrize(
        ("density", "expected"),
        [(0.5, 0.5), (1, 1), (0, 0), (-0.5, -1), (1.5, -1), (math.nan, -1)],
    )
    def test_a_density(self, density, expected):
        optimizer = _loaded("initial_density", density)
        assert float(optimizer.initial_density) == expected


NUMBERS = (-1.0, float("nan"), float("inf"), "big", None, [])


def _bad(make, name, values):
    return [(make, name, value) for value in values]


class TestBadArguments:
    @pytest.mark.parametrize(
        ("make", "name", "value"),
        [
            *(
                case
                for make in (kb.LinBreg, kb.AdaBreg, kb.ProxGD)
                for case in _bad(make, "learning_rate", NUMBERS)
            ),
            *_bad(kb.LinBreg, "regularizer", (*NUMBERS[:4], [], "l1")),
            *_bad(kb.LinBreg, "delta", (0.0, *NUMBERS)),
            *_bad(kb.AdaBreg, "delta", (0.0, *NUMBERS)),
            *_bad(kb.LinBreg, "momentum", (1.0, *NUMBERS)),
            *_bad(kb.AdaBreg, "beta_1", (1.0, *NUMBERS)),
            *_bad(kb.AdaBreg, "beta_2", (1.0, *NUMBERS)),
            *_bad(kb.AdaBreg, "epsilon", (0.0, 1e-38, *NUMBERS)),
            *_bad(kb.ProxGD, "weight_decay", NUMBERS[:4]),
            *_bad(kb.ProxGD, "clipnorm", (0.0, *NUMBERS[:4])),
            *_bad(kb.LinBreg, "clipvalue", (0.0, *NUMBERS[:4])),
            *_bad(kb.AdaBreg, "global_clipnorm", (0.0, *NUMBERS[:4])),
            *_bad(kb.LinBreg, "ema_momentum", (1.1, *NUMBERS[:4])),
            *_bad(kb.ProxGD, "loss_scale_factor", (0.0, *NUMBERS[:4])),
            *_bad(kb.AdaBreg, "gradient_accumulation_steps", (1, 2.5, "2")),
        ],
    )
    def test_names_argument_and_value(self, make, name, value):
        with pytest.raises(ValueError) as raised:
            make(**{name: value})
        assert f"`{name}`" in str(raised.value)
        assert f"{name}={value!r}" in str(raised.value)

    def test_nesterov_without_momentum(self):
        with pytest.raises(ValueError, match=r"`nesterov=True`.*momentum=0\.0"):
            kb.LinBreg(0.1, nesterov=True)

    @pytest.mark.parametrize("rules", ({"(": 0.1}, {3: 0.1}))
    def test_expressions(self, rules):
        with pytest.raises(ValueError, match="regular expressions"):
            kb.LinBreg(0.1, rules)

    def test_a_regularizer_of_keras(self):
        with pytest.raises(ValueError, match="belongs to a layer"):
            kb.LinBreg(0.1, keras.regularizers.L1(0.1))

    def test_an_unknown_argument(self):
        with pytest.raises(ValueError, match="lambda_"):
            kb.LinBreg(0.1, lambda_=0.1)


def test_a_regularizer_that_takes_nothing_warns():
    weight = keras.Variable(np.ones((2, 3), "float32"), name="w")
    with pytest.warns(UserWarning, match=r"nothing will be sparse.*'w'"):
        kb.AdaBreg(regularizer=1.0).build([weight])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kb.AdaBreg(regularizer=None).build([weight])
        kb.AdaBreg(regularizer={"w": 1.0}).build([weight])


class OfItsOwn(keras.layers.Layer):
    """Multiplies by a matrix of any name."""

    def __init__(self, units, called):
        super().__init__(name="own")
        self.units, self.called = units, called

    def build(self, shape):
        size = (shape[-1], self.units)
        self.matrix = self.add_weight(size, name=self.called)

    def call(self, x):
        return x @ self.matrix


def test_matrices_that_are_no_kernels_stay_dense_with_a_warning():
    def built(called, regularizer=1.0):
        layers = [keras.Input((20,)), OfItsOwn(30, called)]
        model = keras.Sequential([*layers, keras.layers.Dense(4)])
        kb.AdaBreg(regularizer=regularizer).build(model.trainable_weights)

    told = r"600 entries of others stay dense.*'\S*own/w'.*of='regularized'"
    with pytest.warns(UserWarning, match=told):
        built("w")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built("kernel")
        built("embeddings")  # as Keras' own, which look things up
        built("w", {"kernel": 1.0, "w$": 1.0})
        built("w", {"kernel": 1.0})  # as somebody wants it
        built("w", None)


def test_arrays_are_no_variables():
    with pytest.raises(ValueError, match="`variables` must be a list of"):
        kb.LinBreg().build([np.zeros((2, 2), "float32")])


SHAPES = {
    "a/kernel": (4, 3),
    "a/bias": (3,),
    "b/kernel": (3, 2),
    "b/bias": (2,),
    "whole/kernel": (2, 5),
    "c/kernel": (2, 2, 1, 3),
    "own/kernel": (3, 2),
    "c/scale": (),
    "positive/kernel": (2, 2),
    "large/kernel": (4, 6),
    "half/kernel": (3, 3),
}


@pytest.mark.skipif(BACKEND != "torch", reason="torch alone joins variables")
class TestJoinedVariables:
    class Own(regularizers.L1):
        """Inherits all that joins kernels, and must not be joined."""

        def prox(self, x, step=1.0, lam=None, layout=None):
            assert len(x.shape) > 1
            return super().prox(x, step, lam, layout)

    class Scaled(regularizers.L1):
        """May be joined with those of the same scale."""

        separable = True

        def __init__(self, lam, scale):
            super().__init__(lam)
            self.scale = scale

        def prox(self, x, step=1.0, lam=None, layout=None):
            return super().prox(x, step, self.scale * lam, layout)

        def get_config(self):
            return {**super().get_config(), "scale": self.scale}

    def _variables(self):
        rng = np.random.default_rng(0)
        return [
            keras.Variable(
                rng.normal(size=shape),
                dtype="bfloat16" if "half" in path else "float32",
                name=path.replace("/", "_"),
            )
            for path, shape in SHAPES.items()
        ]

    def _optimizer(self, name, **kwargs):
        return OPTIMIZERS[name](
            0.1,
            {
                "whole": regularizers.GroupLasso(0.1),
                "own": self.Own(0.1),
                "positive": regularizers.NonNegativeL1(0.1),
                "a_kernel": 0.05,
                "kernel": 0.2,
            },
            **kwargs,
        )

    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_a_step_is_that_of_each_alone(self, name, monkeypatch):
        monkeypatch.setattr(_fusion, "_JOINED_ON_CPU", 20)
        monkeypatch.setattr(_fusion, "_CUT", 10)
        ours = self._optimizer(name, global_clipnorm=5.0, weight_decay=0.01)
        alone = self._optimizer(name, global_clipnorm=5.0, weight_decay=0.01)
        one_by_one = []

        def update_step(optimizer, gradient, variable, learning_rate):
            one_by_one.append(variable)
            return type(ours).update_step(
                optimizer, gradient, variable, learning_rate
            )

        alone.__class__ = type(
            "Alone", (type(alone),), {"update_step": update_step}
        )
        found, expected = self._variables(), self._variables()
        rng = np.random.default_rng(1)
        for step in range(24):
            if step == 8:
                for optimizer in (ours, alone):
                    optimizer.set_lambda(0.5, "b_kernel")
            if step == 16:
                for optimizer in (ours, alone):
                    optimizer.freeze_support()
            gradients = [
                ops.convert_to_tensor(rng.normal(size=shape), "float32")
                for shape in SHAPES.values()
            ]
            # now and then some have no gradient
            used = slice(0, None, 1 + step % 2)
            ours.apply(gradients[used], found[used])
            alone.apply(gradients[used], expected[used])
        assert len(one_by_one) == 12 * (11 + 6)
        # two kernels fill a vector, the third begins another, a large one is
        # cut; what is in groups or has a prox of its own stays alone
        assert ours._vectors == [
            [(0, 0, 12), (2, 0, 6)],
            [(1, 0, 3), (3, 0, 2), (7, 0, 1)],
            [(5, 0, 12)],
            [(8, 0, 4)],
            [(9, 0, 8)],
            [(9, 8, 16)],
            [(9, 16, 24)],
            [(10, 0, 9)],
        ]
        assert alone._vectors == []
        for a, b in zip(
            [*found, *ours.variables],
            [*expected, *alone.variables],
            strict=True,
        ):
            np.testing.assert_array_equal(array(a), array(b))
        zeros = [np.mean(array(v) == 0) for v in found]
        assert 0 < np.mean(zeros) < 1

    def test_gradients_and_given_tensors_stay_as_they_are(self):
        optimizer, variables = self._optimizer("adabreg"), self._variables()
        optimizer.build(variables)
        gradients = [ops.ones_like(v.value) for v in variables]
        values = [ops.copy(v) for v in variables]
        slots = [ops.copy(v) for v in optimizer.variables]
        before = [array(t).copy() for t in (*gradients, *values, *slots)]
        new, _ = optimizer.stateless_apply(slots, gradients, values)
        for tensor, value in zip(
            (*gradients, *values, *slots), before, strict=True
        ):
            np.testing.assert_array_equal(array(tensor), value)
        optimizer.apply(gradients, variables)
        for variable, value in zip(variables, new, strict=True):
            np.testing.assert_array_equal(array(variable), array(value))

    def test_a_parameter_of_ones_own_tells_regularizers_apart(self):
        kinds = {
            "a": self.Scaled(0.1, 1.0),
            "b": self.Scaled(0.2, 1.0),
            "c": self.Scaled(0.1, 10.0),
        }
        optimizer = kb.LinBreg(1.0, kinds)
        variables = [keras.Variable(np.ones(4), name=name) for name in kinds]
        optimizer.build(variables)
        owners = [[p.owner for p in v] for v in optimizer._vectors]
        assert owners == [[0, 1], [2]]

    def test_a_memory_format_that_changes(self):
        import torch

        model = keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten()]
        )
        model.compile(kb.LinBreg(0.1, 0.001), "mse")
        x = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
        for _ in range(2):
            before = model.get_weights()[0]
            model.fit(x, np.ones((4, 144)), verbose=0)
            assert (model.get_weights()[0] != before).any()
            model.to(memory_format=torch.channels_last)

    def test_models_in_several_threads(self):
        alone = threading.Lock()  # torch's tracer has to be

        class Slow(kb.LinBreg):
            def direction(self, *args):
                assert alone.acquire(blocking=False)
                time.sleep(0.1)
                alone.release()
                return super().direction(*args)

        def trained(_):
            optimizer, variable = Slow(0.1, 0.1), keras.Variable(np.ones(3))
            optimizer.apply([ops.ones(3)], [variable])
            return array(variable)

        with futures.ThreadPoolExecutor(3) as pool:
            for found in pool.map(trained, range(3)):
                np.testing.assert_allclose(found, 0.9, rtol=1e-6)

    @pytest.mark.parametrize("most", [0, 256])
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_what_is_recorded_is_what_python_computes(
        self, name, most, monkeypatch
    ):
        def trained():
            optimizer, variables = self._optimizer(name), self._variables()
            rng = np.random.default_rng(1)
            for step in range(9):
                # a recording must not keep what they were when it was made
                if step == 3:
                    optimizer.set_lambda(0.3, "b_kernel")
                    optimizer.learning_rate = 0.02
                if step == 6:
                    optimizer.freeze_support()
                gradients = [
                    # as convolutions leave them: not in the weights' order
                    ops.transpose(
                        ops.convert_to_tensor(
                            rng.normal(size=shape[::-1]), v.dtype
                        )
                    )
                    for shape, v in zip(SHAPES.values(), variables, strict=True)
                ]
                optimizer.apply(gradients, variables)
            return [array(v) for v in (*variables, *optimizer.variables)]

        recordings = []
        record = _fusion._record

        def recording(function, tensors):
            recordings.append(record(function, tensors))
            return recordings[-1]

        monkeypatch.setattr(_fusion, "_record", recording)
        monkeypatch.setattr(_fusion, "_RECORDINGS", most)
        monkeypatch.setattr(_fusion, "_CUT", 10)
        monkeypatch.setattr(_fusion, "_JOINED_ON_CPU", 20)
        recorded = trained()
        assert bool(recordings) is bool(most)
        monkeypatch.setattr(_fusion, "_is_plain", lambda tensor: False)
        for a, b in zip(recorded, trained(), strict=True):
            np.testing.assert_array_equal(a == 0, b == 0)
            np.testing.assert_allclose(
                a.astype("float64"), b.astype("float64"), rtol=1e-5, atol=1e-7
            )
