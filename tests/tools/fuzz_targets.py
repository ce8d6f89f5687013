"""What `fuzz` calls, and with what."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import pathlib
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_bregman as kb
from keras_bregman import cli, plots, sparse_file, sparsity
from keras_bregman import regularizers as regs

try:
    from keras_bregman import tuning
except ImportError:
    tuning = None  # type: ignore[assignment]


class Unfriendly:
    """Fails wherever it is asked."""

    def __repr__(self):
        raise RuntimeError("no name")

    def __eq__(self, other):
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self):
        raise RuntimeError("neither true nor false")


def _endless():
    nest: list = []
    nest.append(nest)
    return nest


# what nothing can change, and then what is made anew for each call
_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3.7, 10**30, 10**5000),
    *(-(10**30), 0.5, -0.0, 5e-324, 1e308, 1e39, math.inf, -math.inf),
    *(math.nan, 1j, "", "x", "0.1", "\0", "[", "(?P<", "\ud800"),
    *("a" * 5000, "ä\n{}%s", b"", b"\xff\x00"),
    *(..., int, len, object(), range(3), NotImplemented),
)
NASTY: list[Callable[[], Any]] = [
    *(lambda v=v: v for v in _VALUES),
    lambda: [],
    lambda: [None],
    lambda: [0.1, 0.2],
    lambda: (),
    lambda: (0.1, math.nan),
    lambda: ("unit", 0),
    lambda: {},
    lambda: {"": 0.1},
    lambda: {"[": 0.1},
    lambda: {1: 2},
    lambda: {None: None},
    lambda: {"kernel": "x"},
    lambda: {0.5},
    lambda: iter([1.0]),
    lambda: lambda *args, **kwargs: None,
    _endless,
    Unfriendly,
    lambda: np.float32(0.1),
    lambda: np.int64(3),
    lambda: np.bool_(True),
    lambda: np.array(0.1),
    lambda: np.array([0.1, 0.2]),
    lambda: np.zeros((0, 3)),
    lambda: np.full((2, 6), math.nan),
    lambda: np.array(["a", "b"]),
    lambda: np.array([None], object),
    lambda: np.zeros((1,) * 30),
    lambda: keras.ops.ones((2, 3)),
    lambda: keras.ops.ones((), "int32"),
    lambda: keras.Variable(np.ones((2, 3)), name="kernel"),
    lambda: keras.layers.Dense(2),
    lambda: keras.Sequential([keras.layers.Dense(2)]),
    lambda: keras.KerasTensor((None, 3)),
    lambda: keras.optimizers.SGD(0.1),
    lambda: keras.regularizers.L1(0.1),
    lambda: regs.L1(0.1),
    lambda: kb.LinBreg(0.1),
]


_TEXTS = (str, pathlib.Path)
# arguments of what is made on the way
_OTHERS = ("regularizer", "groups", "axes", "path")


class Target(NamedTuple):
    """What is called.

    Attributes:
        name: Of the call, for people.
        function: Called with the world and the arguments.
        arguments: By name, from the world to a good value.
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Callable[[World], Any]]

    def marks(self) -> list[str]:
        """How messages name the arguments."""
        return [self.name, "kernel'", "bias'"] + [
            f"`{name}`" for name in [*self.arguments, *_OTHERS]
        ]


class World:
    """What a call is drawn from, all of it settled by a number."""

    def __init__(self, case, folder):
        self.case = case
        self.rng = random.Random(case)
        self.folder = folder
        self.files = 0
        keras.utils.set_random_seed(case)
        # of all tensors of a call; others are nasty
        self.shape = self.one_of((3, 4), (2, 2, 3, 4), (5,), (), (0, 2))
        self.dtype = self.one_of("float32", "float16", "bfloat16")

    def call(self, only: str):
        """A target, its arguments and how messages name them.

        The first cases give each nasty value to each argument alone; then
        chance decides on all.
        """
        targets = [t for t in TARGETS if only in t.name]
        singles = [
            (target, name, nasty)
            for target in targets
            for name in target.arguments
            for nasty in NASTY
        ]
        if self.case < len(singles):
            target, name, nasty = singles[self.case]
            spoilt = {name: nasty}
        else:
            target = self.rng.choice(targets)
            share = self.rng.choice((0.0, 0.2, 0.5))
            spoilt = {
                name: self.rng.choice(NASTY)
                for name in target.arguments
                if self.rng.random() < share
            }
        given = {
            name: spoilt[name]() if name in spoilt else good(self)
            for name, good in target.arguments.items()
        }
        # models are known by what is in them
        weights = [
            f"'{part.path}'"
            for value in given.values()
            if isinstance(value, keras.Model)
            for part in [*value.weights, value]
        ]
        files = [
            mark
            for value in given.values()
            if isinstance(value, _TEXTS)
            for path in [str(pathlib.Path(value))]
            for mark in (f"'{path}'", repr(path))
        ]
        return (
            target,
            given,
            [*target.marks(), *weights, *files, "COMMAND", "'other'"],
        )

    @staticmethod
    def text(target, arguments):
        said = []
        for name, value in arguments.items():
            try:
                said.append(f"{name}={repr(value)[:80]}")
            except Exception:
                said.append(f"{name}={type(value).__name__}")
        return f"{target.name}({', '.join(said)})"

    def one_of(self, *values):
        return self.rng.choice(values)

    # --- good values -------------------------------------------------------

    def model(self):
        """A model, built or not, whole or not."""
        layers = keras.layers
        made = self.one_of(_dense, _dense, _images, _words, _attention)()
        if self.rng.random() < 0.2:
            weight = self.rng.choice(made.weights)
            bad = self.one_of(0.0, math.nan, math.inf, 1e-42)
            weight.assign(np.full(weight.shape, bad))
        if self.rng.random() < 0.1:
            made = self.one_of(
                keras.Sequential([keras.Input((3,)), layers.ReLU()]),
                keras.Sequential([keras.Input((3,))]),
                keras.Sequential(),
            )
        return made

    def optimizer(self, built=True):
        made = self.one_of(kb.LinBreg, kb.AdaBreg, kb.ProxGD)(
            self.one_of(0.0, 0.1, 1e30),
            self.one_of(None, 0.1, regs.GroupLasso(0.1), {"hidden/k": 0.0}),
        )
        if built:
            made.build(_dense().trainable_variables)
        return made

    def regularizer(self):
        return self.one_of(
            *(None, 0.1, regs.L1(0.3), regs.NonNegativeL1(1)),
            *(regs.GroupLasso(0.1, "input"), regs.SparseGroupLasso(0.1)),
            *({"kernel": 0.1}, {"hidden": None, ".": regs.L1(0)}),
        )

    def file(self, ending=""):
        """A path: of no file, a folder, or a file, whole or damaged."""
        self.files += 1
        path = self.folder / f"{self.one_of('a', 'é b')}{self.files}{ending}"
        kind = self.rng.randrange(8)
        if kind == 0:
            return path
        if kind == 1:
            path.mkdir()
            return path
        if kind == 2:
            path.write_bytes(self.rng.randbytes(self.one_of(0, 3, 200)))
            return path
        suffix = ending if ending in (".keras", ".h5") else ".kbs"
        whole = self.folder / f"whole{suffix}"
        if suffix == ".kbs":
            kb.save_sparse(_dense(), whole)
        else:
            _dense().save(whole)
        content = bytearray(whole.read_bytes())
        if kind == 3:
            del content[self.rng.randrange(len(content)) :]
        elif kind in (4, 5):
            for _ in range(self.one_of(1, 1, 20)):
                place = self.rng.randrange(len(content))
                content[place] = self.rng.randrange(256)
        elif kind == 6 and suffix == ".kbs":
            content = self._forged(bytes(content))
        path.write_bytes(content)
        return self.one_of(path, str(path))

    def _forged(self, content):
        """A sparse file with a right checksum and a wrong header."""
        start = sparse_file._START
        length = start.unpack_from(content)[2]
        packed = content[start.size : start.size + length]
        header = json.loads(zlib.decompress(packed))
        place = self.one_of(header, header["weights"][0])
        place[self.rng.choice(list(place))] = self.one_of(
            *(None, -1, 1e9, 10**18, "x", "[" * 9999, [], {}, [[]], "float32"),
            *('{"class_name": "Sequential"}', "null", "[1]", [10**9] * 40),
        )
        if self.rng.random() < 0.2:
            header = self.one_of([], 3, {}, {"weights": []})
        packed = zlib.compress(json.dumps(header).encode())
        data = content[start.size + length : -32]
        magic, version, _ = start.unpack_from(content)
        size = self.one_of(len(packed), len(packed), 0, 2**63)
        content = struct.pack("<8sIQ", magic, version, size) + packed + data
        return content + hashlib.sha256(content).digest()

    def tensor(self):
        value = np.random.normal(size=self.shape)
        return keras.ops.cast(keras.ops.convert_to_tensor(value), self.dtype)

    def data(self):
        """Inputs and targets, of the right shape and full of surprises."""
        x = np.random.normal(size=(8, 6)).astype("float32")
        bad = self.one_of(None, math.nan, math.inf, 1e38, 0.0)
        if bad is not None:
            x[self.one_of(0, slice(None))] = bad
        return x, np.random.normal(size=(8, 2)).astype("float32")


def _dense():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", name="hidden"),
            layers.Dense(2, name="out"),
        ]
    )


def _images():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def _words():
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((5,)), layers.Embedding(7, 3), layers.LSTM(3)]
    )


def _attention():
    x = keras.Input((4, 6))
    y = keras.layers.MultiHeadAttention(2, 3)(x, x)
    return keras.Model(x, keras.layers.Add()([x, y]))


# --- the calls -------------------------------------------------------------


def _good(*values):
    return lambda world: world.one_of(*values)


_REGULARIZED = "an optimizer's own"
_FLAG = _good(True, False)
_MODEL = World.model
_REGULARIZER = World.regularizer
_LAM = _good(0, 0.1, 3, 1e30)


def _optimizer(cls):
    def make(world, **arguments):
        again = optimizer = cls(**arguments)
        # Keras trusts no lambda in a config
        if not callable(arguments["learning_rate"]):
            again = cls.from_config(optimizer.get_config())
        again.build(_dense().trainable_variables)
        again.summary(lambda text: None)

    return make


def _regularizer(cls):
    def make(world, x, v, step, lam2, **arguments):
        made = cls(**arguments)
        repr(made), hash(made), cls.from_config(made.get_config())
        made.value(x, lam2)
        made.prox(x, step, lam2)
        made.project(x, v, lam2)
        made.subgradient(x, lam2)
        made.critical(x)

    return make


def _callback(cls):
    """Makes a callback, and lets a model fit with it."""

    def fit(world, **arguments):
        callback = cls(**arguments)
        model = _dense()
        model.compile(world.optimizer(False), "mse", run_eagerly=True)
        x, y = world.data()
        model.fit(x, y, 4, 2, verbose=0, callbacks=[callback])

    return fit


def _precise(world, **arguments):
    callback = kb.callbacks.PreciseBatchNorm(**arguments)
    model = _dense()
    model.add(keras.layers.BatchNormalization())
    model.compile(world.optimizer(False), "mse", run_eagerly=True)
    model.fit(*world.data(), 4, 2, verbose=0, callbacks=[callback])


def _method(name):
    def call(world, **arguments):
        getattr(world.optimizer(), name)(**arguments)

    return call


def _of_entry(name):
    def call(world, entry, **arguments):
        optimizer = kb.LinBreg(0.1, 0.1)
        optimizer.build(_dense().trainable_variables)
        if entry is _REGULARIZED:
            entry = optimizer.regularized()[0]
        getattr(optimizer, name)(entry, **arguments)

    return call


def _compiled(world):
    model = _dense()
    model.compile(world.optimizer(False), "mse")
    return model


def _fit(world):
    model = _dense()
    model.compile(world.optimizer(False), "mse", run_eagerly=True)
    watch = world.one_of([], [kb.callbacks.SparsityWatch()])
    model.fit(*world.data(), 4, 2, verbose=0, callbacks=watch)


def _cli(world, command, file, out):
    """The command line: 0, or a status and a line that names the file."""
    arguments = [
        str(given) if isinstance(given, _TEXTS) else "other"
        for given in (command, file, out)
    ]
    if arguments[0] != "compact":
        del arguments[2]
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            status = cli.main(arguments)
        except SystemExit as end:
            status = end.code
    if status:  # held to the same contract as what is raised
        raise ValueError(errors.getvalue())


def _hypermodel(world, accuracy, reached, **arguments):
    made = tuning.SparseHyperModel(lambda hp: _dense(), **arguments)
    made.score(accuracy, reached)
    hp = tuning.keras_tuner.HyperParameters()
    made.build(hp)


def _function(function, **arguments):
    """A target for what needs nothing of the world but its arguments."""
    return Target(
        function.__name__, lambda world, **a: function(**a), arguments
    )


TARGETS = [
    *(
        Target(
            cls.__name__,
            _optimizer(cls),
            {
                "learning_rate": _good(
                    0, 0.1, keras.optimizers.schedules.CosineDecay(0.1, 9)
                ),
                "regularizer": _REGULARIZER,
                **more,
            },
        )
        for cls, more in (
            (
                kb.LinBreg,
                {
                    "delta": _good(1.0, 2),
                    "momentum": _good(0.0, 0.9),
                    "nesterov": _FLAG,
                },
            ),
            (
                kb.AdaBreg,
                {
                    "delta": _good(1.0, 2),
                    "beta_1": _good(0, 0.9),
                    "beta_2": _good(0.999),
                    "epsilon": _good(1e-8),
                    "weight_decay": _good(None, 0.1),
                },
            ),
            (kb.ProxGD, {}),
        )
    ),
    Target(
        "set_lambda",
        _method("set_lambda"),
        {"lam": _LAM, "expression": _good("", "kernel", "hidden")},
    ),
    Target("freeze_support", _method("freeze_support"), {"frozen": _FLAG}),
    Target(
        "freeze_support of a model",
        lambda world, **a: kb.freeze_support(**a),
        {"model": _compiled, "frozen": _FLAG},
    ),
    Target(
        "build",
        _method("build"),
        {"variables": lambda world: _images().trainable_variables},
    ),
    Target(
        "critical_lambda",
        _of_entry("critical_lambda"),
        {"entry": _good(_REGULARIZED)},
    ),
    Target(
        "rethreshold",
        _of_entry("rethreshold"),
        {"entry": _good(_REGULARIZED), "lam": _LAM, "hard": _FLAG},
    ),
    *(
        Target(
            cls.__name__,
            _regularizer(cls),
            {
                "lam": _LAM,
                "x": World.tensor,
                "v": World.tensor,
                "step": _good(1.0, 0),
                "lam2": _good(None, 0.2),
                **more,
            },
        )
        for cls, more in (
            (regs.L1, {}),
            (regs.NonNegativeL1, {}),
            (regs.GroupLasso, {"groups": _good("unit", "input", (0,), ())}),
            (
                regs.SparseGroupLasso,
                {"groups": _good("kernel", (-1,)), "alpha": _good(0, 0.5, 1)},
            ),
        )
    ),
    Target(
        "regularizers.get",
        lambda world, identifier: regs.get(identifier),
        {"identifier": _REGULARIZER},
    ),
    Target(
        "TargetDensity",
        _callback(kb.callbacks.TargetDensity),
        {
            "density": _good(0.5, 1, 0.01),
            "method": _good("exact", "feedback"),
            "distribution": _good("global", "uniform", "erdos-renyi"),
            "ramp": _good(0, 0.5),
            "begin": _good(0, 0.1),
            "freeze": _good(0, 0.25),
            "every": _good(None, 1),
            "gain": _good(0.2),
            "threshold": _good("soft", "hard"),
        },
    ),
    Target(
        "PlateauDecay",
        _callback(kb.callbacks.PlateauDecay),
        {
            "monitor": _good("loss"),
            "factor": _good(0.5),
            "patience": _good(0, 5),
            "threshold": _good(0, 0.01),
            "mode": _good("min", "max"),
            "min_lr": _good(0.0, 0.1),
            "verbose": _good(0, 1),
        },
    ),
    Target(
        "PreciseBatchNorm",
        _precise,
        {
            "data": lambda world: world.data()[0],
            "batches": _good(1, 20),
            "batch_size": _good(2, 128),
        },
    ),
    Target(
        "SparsityLogger",
        _callback(kb.callbacks.SparsityLogger),
        {"per_layer": _FLAG},
    ),
    Target(
        "LiveView",
        _callback(kb.callbacks.LiveView),
        {"file": lambda world: io.StringIO()},
    ),
    Target(
        "SparsityBoard",
        _callback(kb.callbacks.SparsityBoard),
        {"log_dir": World.file, "histogram_freq": _good(1, 2)},
    ),
    Target("fit", _fit, {}),
    _function(
        kb.sparsify,
        model=_MODEL,
        density=_good(0.5, 1, {"kernel": 0.1}),
        method=_good("bernoulli", "kernel", "balanced"),
        seed=_good(None, 3),
        variance=_good("he", "glorot"),
        scale=_good(1.0),
        bias_scale=_good(None, 1.0),
    ),
    _function(
        kb.prune,
        model=_MODEL,
        density=_good(0.5, 1, "2:4", {"kernel": 0.1}),
        distribution=_good("global", "uniform", "erdos-renyi"),
    ),
    _function(kb.density, model=_MODEL),
    _function(kb.summary, model=_MODEL),
    _function(sparsity.count, model=_MODEL),
    _function(sparsity.supports, model=_MODEL),
    _function(kb.flops, model=_MODEL, zeros=_FLAG),
    _function(
        kb.compact,
        model=_MODEL,
        return_report=_FLAG,
        samples=_good(None, np.ones((2, 6))),
        multiple_of=_good(1, 2, 8),
    ),
    _function(
        kb.export,
        model=_MODEL,
        path=lambda w: w.file(w.one_of("", ".tflite", ".onnx")),
        format=_good("saved_model", "litert", "onnx"),
        precision=_good("float32", "float16", "int8"),
        samples=_good(None, np.ones((2, 6))),
    ),
    _function(
        kb.save_sparse,
        model=_MODEL,
        path=World.file,
        values=_good(None, "float16"),
    ),
    *[
        _function(
            kb.load_sparse,
            path=World.file,
            model=lambda w: w.one_of(None, None, _dense(), _images()),
        )
    ]
    * 3,
    *(
        _function(draw, model=_MODEL, path=lambda w: w.file(".png"), **more)
        for draw, more in (
            (plots.draw_density, {}),
            (plots.draw_masks, {}),
            (plots.draw_filters, {"layer": _good(None, "conv2d")}),
        )
    ),
    *[
        Target(
            "cli",
            _cli,
            {
                "command": _good("inspect", "density", "compact"),
                "file": lambda w: w.file(w.one_of(".kbs", ".keras", ".h5")),
                "out": lambda w: w.file(w.one_of(".kbs", ".keras")),
            },
        )
    ]
    * 3,
]
if tuning is not None:
    TARGETS += [
        Target(
            "SparseHyperModel",
            _hypermodel,
            {
                "optimizer": _good("AdaBreg", "LinBreg"),
                "density": _good(None, 0.1),
                "lam": _good(None, 0.1, (0.1, 1)),
                "learning_rate": _good(None, 0.1),
                "delta": _good(1.0),
                "start": _good(1.0, (0.1, 0.5)),
                "price": _good(0.02),
                "metrics": _good(("accuracy",)),
                "monitor": _good("val_accuracy"),
                "seed": _good(0, 3),
                "accuracy": _good(0.5, math.nan),
                "reached": _good(0.0, 1),
            },
        ),
        _function(tuning.front, tuner=_good(None)),
        _function(tuning.draw_front, tuner=_good(None), path=World.file),
    ]
