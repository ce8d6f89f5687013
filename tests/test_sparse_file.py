"""Files of sparse weights: small, exact, and refused when damaged."""

import hashlib
import json
import math
import os
import subprocess
import sys
import tracemalloc
import zlib

import keras
import numpy as np
import pytest
from helpers import array, assert_same_weights, assert_weights, tied, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import keras_bregman as kb
from keras_bregman import _sparse_codec, sparse_file

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def network(density=0.02, name="net"):
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(300, "relu", name="one"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(100, "relu", name="two"),
            layers.Dense(10, name="out"),
        ],
        name=name,
    )
    kb.sparsify(model, density, seed=0)
    return model


@pytest.mark.parametrize("density", [0.0005, 0.02, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("given_model", [True, False])
def test_what_is_loaded_is_equal(tmp_path, density, given_model):
    model = network(density)
    kb.save_sparse(model, tmp_path / "w.kbs")
    fresh = network(1.0, "other") if given_model else None
    loaded = kb.load_sparse(tmp_path / "w.kbs", fresh)
    assert given_model == (loaded is fresh)
    assert_same_weights(loaded, model)


@keras.saving.register_keras_serializable()
class Unnamed(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[1:])

    def call(self, x):
        return x * self.scale


def test_weights_without_a_name_are_told_by_their_place(tmp_path):
    """Keras numbers them through the whole process."""
    model = keras.Sequential([keras.Input((4,)), Unnamed(), layers.Dense(2)])
    kb.save_sparse(model, tmp_path / "w.kbs")
    for given_model in (None, keras.models.clone_model(model)):
        loaded = kb.load_sparse(tmp_path / "w.kbs", given_model)
        assert_same_weights(loaded, model)


def test_the_size_follows_the_density(tmp_path):
    def size(model, **how):
        kb.save_sparse(model, tmp_path / "w.kbs", **how)
        return (tmp_path / "w.kbs").stat().st_size

    dense = 4 * network().count_params()
    assert size(network(0.02)) <= dense / 34
    assert size(network(0.02), values="float16") <= dense / 53
    header = 1500
    for density in (0.1, 0.3, 0.7, 0.97, 1.0):
        assert size(network(density)) <= dense + header
    network(1.0).save_weights(tmp_path / "dense.weights.h5")
    assert size(network(1.0)) <= (tmp_path / "dense.weights.h5").stat().st_size


FRESH = """
import pathlib, sys
import keras
import numpy as np
import keras_bregman as kb

folder = pathlib.Path(sys.argv[1])
sparse = kb.load_sparse(folder / "w.kbs")
compact = keras.models.load_model(folder / "small.keras")
x = np.load(folder / "x.npy")
answers = [model.predict(x, verbose=0) for model in (sparse, compact)]
np.save(folder / "y.npy", answers)
"""


@pytest.mark.once
def test_a_fresh_process_predicts_the_same(tmp_path):
    """With the sparse file, and with a compact model in Keras' own."""
    model = network()
    kb.save_sparse(model, tmp_path / "w.kbs")
    small = kb.compact(model)
    small.save(tmp_path / "small.keras")
    x = np.random.default_rng(0).normal(size=(5, 784)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    subprocess.run([sys.executable, "-c", FRESH, tmp_path], check=True)
    answers = np.load(tmp_path / "y.npy")
    for saved, answer in zip((model, small), answers, strict=True):
        expected = saved.predict(x, verbose=0)
        np.testing.assert_allclose(answer, expected, atol=1e-6)


@given(
    gaps=st.lists(st.integers(0, 1200), max_size=40),
    tail=st.integers(0, 600),
)
def test_gaps_of_any_length(gaps, tail):
    indices = np.cumsum(np.array(gaps, int) + 1) - 1
    data = _sparse_codec._encode_gaps(indices) + bytes(tail)
    found, taken = _sparse_codec._decode_gaps(data, len(indices))
    np.testing.assert_array_equal(found, indices)
    assert taken == len(data) - tail


def small_file(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(40)])
    kb.sparsify(model, 0.1, seed=0)
    kb.save_sparse(model, tmp_path / "w.kbs")
    return model, tmp_path / "w.kbs", (tmp_path / "w.kbs").read_bytes()


def assert_refused(model, path, content, match):
    """Refused by name, and the model stays as it was."""
    path.write_bytes(content)
    before = weights(model)
    with pytest.raises(ValueError, match=match) as caught:
        kb.load_sparse(path, model)
    assert str(path) in str(caught.value)
    assert_weights(model, before)


def read_by_the_book(path):
    """By path each weight's encoding and values, from the format's text."""
    content = path.read_bytes()
    assert content[:12] == b"KBSPARSE" + bytes([1, 0, 0, 0])
    assert content[-32:] == hashlib.sha256(content[:-32]).digest()
    length = int.from_bytes(content[12:20], "little")
    header = json.loads(zlib.decompress(content[20 : 20 + length]))
    data = content[20 + length : -32]
    found = {}
    for entry in header["weights"]:
        size, n = math.prod(entry["shape"]), entry["nonzero"]
        where, at = [], 0
        if entry["encoding"] == "bitmap":
            for i in range(size):
                if data[i // 8] >> (7 - i % 8) & 1:
                    where.append(i)
            at = -(-size // 8)
        elif entry["encoding"] == "gaps":
            i = -1
            for _ in range(n):
                while data[at] == 255:
                    i, at = i + 255, at + 1
                i, at = i + data[at] + 1, at + 1
                where.append(i)
        else:
            where, n = list(range(size)), size
        stored = np.dtype(entry["stored"]).newbyteorder("<")
        values = np.frombuffer(data, stored, n, at)
        data = data[at + n * stored.itemsize :]
        array = np.zeros(size, stored)
        array[where] = values
        found[entry["path"]] = entry["encoding"], array.reshape(entry["shape"])
    assert not data
    return found


def test_the_format_is_what_its_text_says(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((90,)),
            keras.layers.Dense(90, name="few"),
            keras.layers.Dense(70, name="many"),
            keras.layers.Dense(5, name="all"),
        ]
    )
    for layer, share in zip(model.layers, (0.003, 0.4, 1.0), strict=True):
        rng = np.random.default_rng(0)
        value = rng.normal(size=layer.kernel.shape)
        layer.kernel.assign(value * (rng.random(value.shape) < share))
    kb.save_sparse(model, tmp_path / "model.kbs")
    found = read_by_the_book(tmp_path / "model.kbs")
    encodings = {
        path.split("/", 1)[1]: encoding for path, (encoding, _) in found.items()
    }
    assert encodings["few/kernel"] == "gaps"
    assert encodings["many/kernel"] == "bitmap"
    assert encodings["all/kernel"] == "dense"
    assert set(found) == {weight.path for weight in model.weights}
    for weight in model.weights:
        np.testing.assert_array_equal(found[weight.path][1], array(weight))


def test_a_truncated_or_changed_file_is_refused(tmp_path):
    model, path, content = small_file(tmp_path)
    for end in range(len(content)):
        assert_refused(model, path, content[:end], "w.kbs")
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        assert_refused(model, path, bytes(changed), "w.kbs")


def rewritten(content, change):
    """A file whose header was changed by someone who knows the format."""
    start = sparse_file._START
    magic, version, length = start.unpack_from(content)
    packed = content[start.size : start.size + length]
    header = json.loads(zlib.decompress(packed))
    data = content[start.size + length : -32]
    data = change(header, data) or data
    packed = zlib.compress(json.dumps(header).encode())
    content = start.pack(magic, version, len(packed)) + packed + data
    return content + hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("shape", [3, 41], "does not fit the model"),
        ("shape", [-3, -40], "no readable header"),
        ("shape", "ab", "no readable header"),
        ("nonzero", 10**12, "no readable header"),
        ("nonzero", 119, "wrong gaps"),
        ("nonzero", 2, "holds more"),
        ("encoding", "pickle", "no readable header"),
        ("encoding", "dense", "ends within"),
        ("encoding", "bitmap", "wrong bitmap"),
        ("stored", "object", "no readable header"),
        ("stored", "float64", "ends within|holds more"),
        ("path", "x/bias", "does not fit the model"),
    ],
)
def test_a_forged_header_is_refused(tmp_path, key, value, match):
    model, path, content = small_file(tmp_path)

    def change(header, data):
        header["weights"][0][key] = value

    assert_refused(model, path, rewritten(content, change), match)


def test_foreign_files_are_refused(tmp_path):
    model, path, content = small_file(tmp_path)
    assert_refused(model, path, b"PK\x03\x04 and so on", "no file of sparse")
    newer = content[:8] + b"\x02" + content[9:]
    assert_refused(model, path, newer, "version 2")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not fit the model: it holds 2"):
        kb.load_sparse(path, keras.Sequential([keras.Input((3,)), layers.Dense(
            40, use_bias=False)]))  # fmt: skip
    with pytest.raises(FileNotFoundError):
        kb.load_sparse(tmp_path / "none.kbs", model)


def test_a_lambda_in_a_file_is_not_run(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Lambda(lambda x: x), layers.Dense(2)]
    )
    kb.save_sparse(model, tmp_path / "w.kbs")
    with pytest.raises(Exception, match=r"safe_mode|lambda"):
        kb.load_sparse(tmp_path / "w.kbs")
    kb.load_sparse(tmp_path / "w.kbs", model)


def test_what_the_model_was_compiled_with_is_not_needed(tmp_path):
    model = network()
    model.compile(kb.LinBreg(0.1), lambda y, z: keras.ops.mean(z))
    kb.save_sparse(model, tmp_path / "w.kbs")
    assert not kb.load_sparse(tmp_path / "w.kbs").compiled


def test_normalization_is_as_it_was_adapted(tmp_path):
    normal = layers.Normalization()
    normal.adapt(3 + 2 * np.random.default_rng(0).normal(size=(50, 6)))
    model = keras.Sequential([keras.Input((6,)), normal, layers.Dense(2)])
    kb.save_sparse(model, tmp_path / "w.kbs")
    loaded = kb.load_sparse(tmp_path / "w.kbs")
    x = np.ones((2, 6), "float32")
    np.testing.assert_allclose(array(loaded(x)), array(model(x)), atol=1e-6)


@pytest.mark.parametrize("config", ["5", "[]", "[" * 20_000, '{"a": 1}'])
def test_an_architecture_that_is_none_is_refused(tmp_path, config):
    _, path, content = small_file(tmp_path)

    def change(header, data):
        header["config"] = config

    path.write_bytes(rewritten(content, change))
    with pytest.raises(ValueError, match=r"w\.kbs"):
        kb.load_sparse(path)
    with pytest.raises(ValueError, match="`model` must be a built model"):
        kb.load_sparse(path, "net")


class Bare(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        raise NotImplementedError


def test_a_model_without_a_config_is_loaded_into_a_built_one(tmp_path):
    model = Bare()
    with pytest.raises(ValueError, match="`model` must be a built model"):
        kb.save_sparse(model, tmp_path / "w.kbs")
    model(np.zeros((1, 3), "float32"))
    kb.save_sparse(model, tmp_path / "w.kbs")
    with pytest.raises(ValueError, match="Pass a freshly built one"):
        kb.load_sparse(tmp_path / "w.kbs")
    kb.load_sparse(tmp_path / "w.kbs", model)


def dense(dtype, *values):
    model = keras.Sequential(
        [keras.Input((1,)), layers.Dense(len(values), dtype=dtype)]
    )
    model.layers[0].kernel.assign(np.array([values]))
    return model


def test_numbers_too_large_for_the_model_s_dtype_are_refused(tmp_path):
    path = tmp_path / "w.kbs"
    kb.save_sparse(dense("float32", 1e5, np.inf), path)
    half = dense("float16", 1.0, 2.0)
    with pytest.raises(ValueError, match=r"too large for '.*kernel'.*float16"):
        kb.load_sparse(path, half)
    np.testing.assert_array_equal(array(half.layers[0].kernel), [[1, 2]])
    kb.save_sparse(dense("float32", 6e4, np.inf), path)
    kb.load_sparse(path, half)  # what is infinite already is no worse there
    np.testing.assert_array_equal(
        array(half.layers[0].kernel), np.array([[6e4, np.inf]], "float16")
    )


@pytest.mark.parametrize("dtypes", [("float32", "int32"), ("int32", "bool")])
def test_another_kind_of_numbers_is_refused(tmp_path, dtypes):
    class Table(layers.Layer):
        def __init__(self, dtype):
            super().__init__()
            self.table = self.add_weight(
                name="table",
                shape=(2,),
                dtype=dtype,
                initializer="ones",
                trainable=False,
            )

        def call(self, x):
            return x

    def model(dtype):
        return keras.Sequential([keras.Input((1,)), Table(dtype)])

    here, there = map(model, dtypes)
    kb.save_sparse(here, tmp_path / "w.kbs")
    message = f"of dtype {dtypes[0]}, the model has .* of dtype {dtypes[1]}"
    with pytest.raises(ValueError, match=message):
        kb.load_sparse(tmp_path / "w.kbs", there)


def test_float16_rounds_and_refuses_what_it_cannot_hold(tmp_path):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    kernel = model.layers[0].kernel
    kernel.assign([[0.1, 1e-9], [0.0, 3.0]])
    kb.save_sparse(model, tmp_path / "w.kbs", values="float16")
    loaded = array(kb.load_sparse(tmp_path / "w.kbs").layers[0].kernel)
    assert loaded.tolist() == [[float(np.float16(0.1)), 0.0], [0.0, 3.0]]
    kernel.assign([[0.1, 7e4], [0.0, 3.0]])
    with pytest.raises(ValueError, match=r"kernel.*beyond 65504"):
        kb.save_sparse(model, tmp_path / "w.kbs", values="float16")
    with pytest.raises(ValueError, match="`values` must be None or 'float16'"):
        kb.save_sparse(model, tmp_path / "w.kbs", values="int8")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_every_precision_comes_back(tmp_path, dtype, float64):
    layer = layers.Dense(20, dtype=dtype)
    model = keras.Sequential([keras.Input((30,), dtype=dtype), layer])
    kb.sparsify(model, 0.1, seed=0)
    kb.save_sparse(model, tmp_path / "w.kbs")
    before = weights(model)
    layer.kernel.assign(np.zeros((30, 20)))
    kb.load_sparse(tmp_path / "w.kbs", model)
    assert_weights(model, before)


def test_bfloat16_takes_no_more_than_it_has(tmp_path):
    layer = layers.Dense(200, dtype="bfloat16")
    model = keras.Sequential([keras.Input((300,), dtype="bfloat16"), layer])
    kb.save_sparse(model, tmp_path / "w.kbs")
    assert (tmp_path / "w.kbs").stat().st_size < 1.02 * 2 * 300 * 200


def test_learned_boundaries_are_kept(tmp_path):
    bins = layers.Discretization(num_bins=4)
    bins.adapt(np.random.default_rng(0).normal(size=(50, 6)))
    model = keras.Sequential([keras.Input((6,)), bins, layers.Dense(2)])
    kb.save_sparse(model, tmp_path / "w.kbs")
    loaded = kb.load_sparse(tmp_path / "w.kbs").layers[0]
    np.testing.assert_allclose(loaded.bin_boundaries, bins.bin_boundaries)
    # and are no weight that could be set
    others = (
        layers.Discretization(num_bins=4),
        layers.Discretization([0.0, 1.0, 2.0]),
    )
    for other in others:
        given = keras.Sequential([keras.Input((6,)), other, layers.Dense(2)])
        before = array(given.layers[-1].kernel)
        with pytest.raises(ValueError, match=r"fit the model: layer .*bin_bou"):
            kb.load_sparse(tmp_path / "w.kbs", given)
        np.testing.assert_array_equal(array(given.layers[-1].kernel), before)
    same = layers.Discretization(list(bins.bin_boundaries))
    given = keras.Sequential([keras.Input((6,)), same, layers.Dense(2)])
    kb.load_sparse(tmp_path / "w.kbs", given)


@pytest.mark.parametrize("kind", ("embedding", "wrapper"))
def test_weights_that_layers_share_are_loaded_as_one(tmp_path, kind):
    for name in ("w.kbs", "again.kbs"):
        keras.utils.clear_session()  # and have the same names again
        keras.utils.set_random_seed(0)
        model = tied(kind)
        kb.save_sparse(model, tmp_path / name)
    loaded = kb.load_sparse(tmp_path / "w.kbs")
    assert len(loaded.weights) == len(model.weights)
    x = np.ones((2, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )
    first, again = (tmp_path / n for n in ("w.kbs", "again.kbs"))
    assert first.read_bytes() == again.read_bytes()


def _with_lora():
    x = keras.Input((5, 8))
    attend = layers.MultiHeadAttention(2, 4)
    model = keras.Model(x, attend(x, x))
    attend._query_dense.enable_lora(2)
    return model


def _in_float8():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
    model.quantize("float8")
    return model


@pytest.mark.parametrize("made", (_with_lora, _in_float8))
def test_what_its_config_does_not_tell_is_loaded_into_its_like(tmp_path, made):
    model, other = made(), made()
    kb.save_sparse(model, tmp_path / "w.kbs")
    with pytest.raises(ValueError, match="holds weights only"):
        kb.load_sparse(tmp_path / "w.kbs")
    kb.load_sparse(tmp_path / "w.kbs", other)
    assert_same_weights(other, model)


def test_weights_alone_where_the_layers_cannot_be_described(tmp_path):
    class Own(layers.Dense):
        def get_config(self):
            raise AttributeError("forgotten")

    model = keras.Sequential([keras.Input((3,)), Own(2)])
    kb.save_sparse(model, tmp_path / "w.kbs")
    before = array(model.layers[0].kernel)
    model.layers[0].kernel.assign(np.zeros((3, 2)))
    kb.load_sparse(tmp_path / "w.kbs", model)
    np.testing.assert_array_equal(array(model.layers[0].kernel), before)


def test_complex_weights_are_refused(tmp_path):
    class Phase(layers.Layer):
        def build(self, shape):
            self.phase = self.add_weight(
                shape=(2,), dtype="complex64", initializer="zeros"
            )

        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((3,)), Phase()])
    with pytest.raises(ValueError, match="holds complex numbers"):
        kb.save_sparse(model, tmp_path / "w.kbs")


def test_memory_is_that_of_the_weights(tmp_path):
    rows = keras.Input((3,), dtype="int32")
    x = keras.Input((400,))
    table = layers.Embedding(20_000, 100)
    model = keras.Model([x, rows], [layers.Dense(100)(x), table(rows)])
    kb.sparsify(model, 0.01, seed=0)
    path = tmp_path / "w.kbs"
    kb.save_sparse(model, path)
    tracemalloc.start()
    kb.load_sparse(path, model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # the file and the weights, on a CPU's backend perhaps twice
    assert peak < 4 * path.stat().st_size


def test_a_full_disk_leaves_the_old_file(tmp_path, file_size_limit):
    _, path, content = small_file(tmp_path)
    with file_size_limit(100), pytest.raises(OSError, match=r"w\.kbs"):
        kb.save_sparse(network(), path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["w.kbs"]


@settings(deadline=None, max_examples=30)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "w.kbs"
    for start in (b"", b"KBSPARSE", b"KBSPARSE\x01\x00\x00\x00"):
        path.write_bytes(start + content)
        with pytest.raises(ValueError, match=r"w\.kbs"):
            kb.load_sparse(path)
