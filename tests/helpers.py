"""What the tests share: models, data, ways to train."""

import contextlib
import importlib.util
import re
import warnings
from functools import partial

import keras
import numpy as np
import pytest

import keras_bregman as kb

BACKEND = keras.config.backend()

OPTIMIZERS = {
    "linbreg": kb.LinBreg,
    "momentum": partial(kb.LinBreg, momentum=0.9),
    "nesterov": partial(kb.LinBreg, momentum=0.9, nesterov=True),
    "adabreg": kb.AdaBreg,
    "proxgd": kb.ProxGD,
}
# JAX has no graph between eager and XLA, and torch runs eagerly
WAYS = {
    "tensorflow": {
        "graph": {},
        "xla": {"jit_compile": True},
        "eager": {"run_eagerly": True},
    },
    "jax": {"xla": {"jit_compile": True}, "eager": {"run_eagerly": True}},
    "torch": {"eager": {}},
}[BACKEND]

# one for each set of slots, where the rest would only take time
THREE = ("nesterov", "adabreg", "proxgd")

every_optimizer = pytest.mark.parametrize(
    "make", OPTIMIZERS.values(), ids=OPTIMIZERS
)
three_optimizers = pytest.mark.parametrize(
    "make", [OPTIMIZERS[name] for name in THREE], ids=THREE
)
multi_optimizer = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"),
    reason="Keras has MultiOptimizer from 3.15 on",
)
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
# three optimizers in one way, and one of them in the others
three_optimizers_and_ways = pytest.mark.parametrize(
    ("make", "way"),
    [
        pytest.param(OPTIMIZERS[name], how, id=f"{name}-{way}")
        for i, (way, how) in enumerate(WAYS.items())
        for name in THREE
        if i == 0 or name == "adabreg"
    ],
)


# a value of a parameter that one backend is enough for
param_once = partial(pytest.param, marks=pytest.mark.once)


def param_of_page(path):
    """A page or notebook to run, by TensorFlow if nothing else can run it."""
    needs_it = re.search(r"import tensorflow as|\bkb\.export", path.read_text())
    marks = [pytest.mark.tensorflow] if needs_it else []
    return pytest.param(path, id=path.stem, marks=marks)


def on_part(method, size):
    """A method of models that is given the first `size` examples only."""
    return lambda self, *data, **named: method(
        self, *(x[:size] if hasattr(x, "shape") else x for x in data), **named
    )


def mlp(**kernel):
    """6 -> 8 -> 2, its weights settled by the global seed."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh", name="hidden", **kernel),
            keras.layers.Dense(2, name="out", **kernel),
        ],
        name="net",
    )


def compiled(optimizer, way=None, **kernel):
    model = mlp(**kernel)
    model.compile(optimizer, "mse", **(way or {}))
    return model


def data(n=12, seed=0):
    """A regression problem that `mlp` can learn."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype("float32")
    return x, np.stack([x[:, 0] - x[:, 1], x[:, 2]], 1)


def fed(x, y, batch_size):
    """Arguments of `fit` for batches in the order of the data."""
    if BACKEND != "tensorflow":
        return {"x": x, "y": y, "batch_size": batch_size, "shuffle": False}
    # from arrays, Keras makes a pipeline every epoch, which takes longer than
    # the few steps of a test
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
    return {
        "x": batches.repeat().with_options(options),
        "steps_per_epoch": -(-len(x) // batch_size),
        "shuffle": False,
    }


def train(model, steps=1, inputs=None, **fit):
    """`steps` steps, each on all data and an epoch of its own."""
    x, y = inputs or data()
    fit = {"epochs": steps, "verbose": 0, **fit}
    return model.fit(**fed(x, y, len(x)), **fit)


@contextlib.contextmanager
def unwarned():
    """Within, whatever a training is warned of is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@contextlib.contextmanager
def heard():
    """A list, of what a training was warned of when the context is over."""
    texts = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield texts
    texts += [str(w.message) for w in found if w.category is UserWarning]


def array(variable):
    """A float64 array of any tensor or variable, bfloat16 included."""
    variable = keras.ops.convert_to_tensor(variable)
    if keras.backend.standardize_dtype(variable.dtype) == "bfloat16":
        variable = keras.ops.cast(variable, "float32")
    return keras.ops.convert_to_numpy(variable).astype("float64")


def weights(model):
    return {w.path: array(w) for w in model.weights}


def assert_weights(model, wanted):
    """Exactly those, as `weights` gives them."""
    for path, value in weights(model).items():
        np.testing.assert_array_equal(value, wanted[path], err_msg=path)


def assert_same_weights(model, other, rtol=0.0):
    """One by one in their order, whatever their paths."""
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(array(a), array(b), rtol=rtol, atol=rtol / 5)


def state(optimizer, ending=""):
    """The optimizer's variables whose path ends so, by path."""
    found = {v.path: array(v) for v in optimizer.variables}
    return {k: v for k, v in found.items() if k.endswith(ending)}


def forget_momentum(optimizer):
    """Momentum rolls on without a gradient; it is no part of the dual."""
    for variable in optimizer.variables:
        if variable.path.endswith("_momentum"):
            variable.assign(np.zeros(variable.shape))


def strength(optimizer):
    return max((abs(float(v)) for v in optimizer.lambdas.values()), default=0)


def assert_untouched(after, before, lam, what=""):
    """Equal to the float32 rounding of |theta| + lam, and zeros exact."""
    eps = np.finfo("float32").eps
    for path, old in before.items():
        new = after[path]
        assert np.isfinite(new).all(), (what, path)
        bound = np.where(old == 0, 0, 2 * eps * (np.abs(old) + lam))
        worst = np.abs(new - old).max()
        assert (np.abs(new - old) <= bound).all(), (what, path, worst)


def start_soon(monkeypatch):
    """Processes take JAX where it is, which is imported soonest."""
    if importlib.util.find_spec("jax"):
        monkeypatch.setenv("KERAS_BACKEND", "jax")


class Crash(keras.callbacks.Callback):
    """Ends training before an epoch, counted from 0, as Ctrl-C does."""

    def __init__(self, before):
        super().__init__()
        self.before = before

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.before:
            raise KeyboardInterrupt


@keras.saving.register_keras_serializable("keras_bregman tests")
class Tied(keras.layers.Layer):
    """Scores by the table of an embedding, as language models have them."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def call(self, x):
        table = self.embedding.embeddings
        return keras.ops.matmul(x, keras.ops.transpose(table))

    def get_config(self):
        embedding = keras.saving.serialize_keras_object(self.embedding)
        return {**super().get_config(), "embedding": embedding}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        embedding = keras.saving.deserialize_keras_object(config["embedding"])
        return cls(**{**config, "embedding": embedding})


def tied(kind):
    """A model two of whose layers have weights in common.

    Args:
        kind: `"embedding"`, or `"wrapper"`: a layer, and another around it.
    """
    if kind == "wrapper":
        dense = keras.layers.Dense(4)
        x = keras.Input((5, 4))
        y = keras.layers.Dense(4, "relu", name="own")(x)
        return keras.Model(x, keras.layers.TimeDistributed(dense)(dense(y)))
    x = keras.Input((5,), dtype="int32")
    table = keras.layers.Embedding(30, 6)
    y = keras.layers.Dense(8, "relu", name="own")(table(x))
    return keras.Model(x, Tied(table)(keras.layers.Dense(6)(y)))
