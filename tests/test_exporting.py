"""Exported models: read by their own runtimes, and small."""

import gzip
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_bregman as kb
from keras_bregman import _runtimes, _signature, exporting
from keras_bregman._comparing import difference


def network(density=0.02):
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3), name="images"),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(150, "relu"),
            layers.Dense(10),
        ]
    )
    kb.sparsify(model, density, seed=0)
    return model


def samples(n=40):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 12, 12, 3)).astype("float32")


def size(path, zipped=False):
    files = [path] if path.is_file() else path.rglob("*")
    contents = [f.read_bytes() for f in files if f.is_file()]
    return sum(len(gzip.compress(c) if zipped else c) for c in contents)


@pytest.fixture
def asked_here(monkeypatch):
    """TensorFlow is asked in this process: a fresh one takes long to import it.

    Others ask fresh ones: `test_tensorflow_serving_finds_its_signature`, and
    all of the other formats.
    """
    fresh = exporting._by_runtime

    def by_runtime(format, path, *arguments):
        if format != "saved_model":
            return fresh(format, path, *arguments)
        return _runtimes.answers(format, str(path), *arguments)

    monkeypatch.setattr(exporting, "_by_runtime", by_runtime)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
def test_a_saved_model_is_as_small_as_it_is_sparse(tmp_path):
    made = {}
    for density in (0.02, 1.0):
        made[density] = tmp_path / f"{density}"
        model = network(density)
        model.compile(kb.AdaBreg(0.001, regularizer=0.1), "mse")
        model.fit(samples(4), np.zeros((4, 10)), verbose=0)
        assert kb.export(model, made[density]) <= 1e-5
    # without the dual variable and both moments
    dense = 4 * network().count_params()
    assert size(made[1.0]) < 1.2 * dense
    assert size(made[0.02], zipped=True) < 0.15 * size(made[1.0], zipped=True)


@pytest.mark.tensorflow
def test_tensorflow_serving_finds_its_signature(tmp_path):
    import tensorflow as tf

    model = network()
    # what is there is replaced
    _signature.write_saved_model(network(1.0), tmp_path / "served")
    kb.export(model, tmp_path / "served")
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    signature = loaded.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    (answer,) = signature(**{name: tf.constant(samples())}).values()
    expected = model.predict(samples(), verbose=0)
    np.testing.assert_allclose(answer.numpy(), expected, atol=1e-4)


@pytest.mark.tensorflow
def test_litert_stores_zeros_sparse_where_that_is_smaller(tmp_path):
    sparse, full = tmp_path / "sparse.tflite", tmp_path / "full.tflite"
    assert kb.export(network(0.02), sparse, "litert") <= 1e-5
    assert kb.export(network(1.0), full, "litert") <= 1e-5
    dense = 4 * network().count_params()
    assert size(sparse) < 0.2 * dense
    assert size(full) < 1.1 * dense


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("precision", "share", "error"),
    [("float16", 0.55, 5e-3), ("int8", 0.3, 0.2)],
)
def test_litert_in_less_precision(tmp_path, precision, share, error):
    path = tmp_path / "model.tflite"
    given = {"samples": samples()} if precision == "int8" else {}
    model = network(1.0)
    found = kb.export(model, path, "litert", precision=precision, **given)
    assert 0 < found <= error
    assert size(path) < share * 4 * model.count_params()
    # calibrated, what goes from layer to layer is in int8 too
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    hidden = [
        t["dtype"]
        for t in interpreter.get_tensor_details()
        if tuple(t["shape"]) == (1, 150)
    ]
    assert hidden
    assert (np.int8 in hidden) == (precision == "int8")


@pytest.mark.tensorflow
@pytest.mark.parametrize("bad", (np.inf, np.nan))
def test_int8_takes_no_sample_that_is_not_finite(tmp_path, bad):
    """TensorFlow's converter would take the whole process with it."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    inputs = np.ones((3, 4), "float32")
    inputs[1, 0] = bad
    path = tmp_path / "m.tflite"
    with pytest.raises(ValueError, match="`samples` must be "):
        kb.export(model, path, "litert", precision="int8", samples=inputs)
    assert not path.exists()


@pytest.mark.tensorflow
@pytest.mark.parametrize("sizes", ((4, 4), (4, 5)))
def test_int8_is_calibrated_by_each_input_s_own_samples(tmp_path, sizes):
    """A SavedModel has them in the order of their names, not the model's."""
    ends = [
        keras.Input((n,), name=name)
        for n, name in zip(sizes, "za", strict=True)
    ]
    parts = [layers.Dense(6)(x) for x in ends]
    model = keras.Model(ends, layers.Dense(3)(layers.Concatenate()(parts)))
    rng = np.random.default_rng(0)
    samples = [
        (scale * rng.normal(size=(40, n))).astype("float32")
        for n, scale in zip(sizes, (0.02, 2.0), strict=True)
    ]
    path = tmp_path / "model.tflite"
    assert (
        kb.export(model, path, "litert", precision="int8", samples=samples)
        < 0.2
    )


@pytest.mark.tensorflow
def test_words_are_looked_up_in_the_artifact(tmp_path):
    import tensorflow as tf

    words = keras.Input((1,), dtype="string")
    number = layers.StringLookup(vocabulary=["sparse", "dense"])(words)
    model = keras.Model(words, layers.Embedding(3, 2)(number))
    given = tf.constant([["dense"], ["other"]])
    _signature.write_saved_model(model, tmp_path / "words")
    served = tf.saved_model.load(str(tmp_path / "words"))
    np.testing.assert_array_equal(served.serve(given), model(given))


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
def test_words_may_come_as_objects(tmp_path):
    import tensorflow as tf

    words = keras.Input((2,), dtype="string")
    lookup = layers.StringLookup(vocabulary=["a", "ü"], output_mode="count")
    model = keras.Model(words, layers.Dense(3)(lookup(words)))
    given = [["a", "other"], ["ü", "a"]]
    for samples in (np.array(given, dtype=object), tf.constant(given)):
        assert kb.export(model, tmp_path / "words", samples=samples) == 0
    with pytest.raises(ValueError, match="`samples` must be"):
        kb.export(model, tmp_path / "words", samples=np.ones((2, 2)))


FORMATS = pytest.mark.parametrize(
    ("format", "name"),
    [("saved_model", "model"), ("litert", "model.tflite"), ("onnx", "m.onnx")],
)


@pytest.mark.tensorflow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("format", "name"), [("litert", "m.tflite"), ("onnx", "m.onnx")]
)
def test_mixed_precision(tmp_path, format, name, policy):
    keras.config.set_dtype_policy(policy)
    model = network()
    x = samples(2)
    before = keras.ops.convert_to_numpy(model(x))
    assert kb.export(model, tmp_path / name, format) < 1e-5
    assert {layer.dtype_policy.name for layer in model.layers} == {policy}
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), before)


@pytest.mark.tensorflow
def test_bfloat16(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    model = network()
    assert kb.export(model, tmp_path / "model") < 0.02
    with pytest.raises(ValueError, match="weights in float32 for format='on"):
        kb.export(model, tmp_path / "m.onnx", "onnx")
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.quantize("int8")
    with pytest.raises(ValueError, match="not quantized in half precision"):
        kb.export(model, tmp_path / "m.tflite", "litert")


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
@FORMATS
@pytest.mark.parametrize(
    "names",
    (("my input", "größe"), ("x", "X"), ("a-b", "a_b"), ("self", "1"), "_ü"),
)
def test_names_that_a_signature_cannot_have(tmp_path, format, name, names):
    inputs = [keras.Input((4,), name=name) for name in names]
    less = layers.Subtract()(inputs)
    model = keras.Model(inputs, layers.Dense(2)(less))
    assert kb.export(model, tmp_path / name, format) < 1e-5


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
@FORMATS
def test_recurrent_layers(tmp_path, format, name):
    x = keras.Input((None, 4))
    y = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
    model = keras.Model(x, layers.LSTM(5)(y))
    assert kb.export(model, tmp_path / name, format) < 1e-5
    x = keras.Input(batch_shape=(2, 3, 4))
    model = keras.Model(x, layers.LSTM(3, stateful=True)(x))
    assert kb.export(model, tmp_path / name, format) < 1e-5
    # a batch of the size that it takes at a time
    model = keras.Model(x, layers.LSTM(3)(x))
    given = np.random.default_rng(0).normal(size=(4, 3, 4))
    assert kb.export(model, tmp_path / name, format, samples=given) < 1e-5


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
@FORMATS
def test_samples_where_random_inputs_do_not_fit(tmp_path, format, name):
    x = keras.Input((None, 4))
    model = keras.Model(x, layers.Dense(2)(layers.Reshape((64,))(x)))
    given = np.random.default_rng(0).normal(size=(3, 16, 4))
    assert kb.export(model, tmp_path / name, format, samples=given) < 1e-5


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
@FORMATS
def test_several_inputs_and_outputs(tmp_path, format, name):
    words = keras.Input((5,), dtype="int32", name="words")
    numbers = keras.Input((3,), name="numbers")
    x = layers.Flatten()(layers.Embedding(9, 4)(words))
    x = layers.Concatenate()([x, numbers])
    outputs = [layers.Dense(2)(x), layers.Dense(3, "tanh")(x)]
    for inputs, answers in (
        ([words, numbers], outputs),
        (
            {"words": words, "numbers": numbers},
            {"out_9": outputs[0], "out_10": outputs[1]},
        ),
    ):
        model = keras.Model(inputs, answers)
        assert kb.export(model, tmp_path / name, format) <= 1e-5


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
def test_an_artifact_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    model = network()

    def write(model, *arguments):
        _signature.write_saved_model(network(0.5), *arguments)

    monkeypatch.setattr(exporting, "write_saved_model", write)
    with pytest.raises(RuntimeError, match="outputs differ by"):
        kb.export(model, tmp_path / "other")


@pytest.mark.tensorflow
@pytest.mark.parametrize("which", (0, 1))
def test_a_small_error_in_any_output_is_found(tmp_path, which, monkeypatch):
    x = keras.Input((4,))
    outputs = [layers.Dense(2)(x), layers.Dense(3)(x)]
    model = keras.Model(x, outputs)
    given = np.random.default_rng(0).normal(size=(300, 4))

    def spoilt(format, path, *arguments):
        found = _runtimes.answers(format, str(path), *arguments)
        found[which][-1] += 1e-3  # ten times what is let pass
        return found

    monkeypatch.setattr(exporting, "_by_runtime", spoilt)
    with pytest.raises(RuntimeError, match="outputs differ by"):
        kb.export(model, tmp_path / "other", samples=given)


@pytest.mark.tensorflow
def test_an_artifact_that_its_runtime_cannot_use(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_litert", lambda *_: b"nonsense")
    with pytest.raises(RuntimeError, match="runtime cannot use what"):
        kb.export(network(), tmp_path / "a.tflite", "litert")


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
@FORMATS
def test_samples_are_cast_and_outputs_may_have_no_batch(tmp_path, format, name):
    inputs = keras.Input((3,))
    x = layers.Dense(2)(inputs)
    model = keras.Model(inputs, [x, keras.ops.mean(x)])
    given = np.random.default_rng(0).normal(size=(300, 3))
    assert given.dtype == "float64"
    found = kb.export(model, tmp_path / name, format, samples=given)
    assert found <= 1e-5


@pytest.mark.tensorflow
@FORMATS
def test_layers_that_are_random_or_keep_statistics(tmp_path, format, name):
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 6, 1))
    norm = layers.Normalization()
    norm.adapt(3 + 5 * rng.normal(size=(20, 6, 6, 1)))
    x = layers.RandomFlip()(layers.RandomContrast(0.5)(norm(inputs)))
    x = layers.GaussianNoise(1.0)(layers.Dropout(0.5)(x))
    model = keras.Model(inputs, layers.Flatten()(x))
    given = 3 + 5 * rng.normal(size=(4, 6, 6, 1))
    assert kb.export(model, tmp_path / name, format, samples=given) < 1e-5


@pytest.mark.tensorflow
@FORMATS
def test_outputs_within_outputs(tmp_path, format, name):
    inputs = keras.Input((3,))
    a, b = layers.Dense(2)(inputs), layers.Dense(4)(inputs)
    model = keras.Model(inputs, {"x": [a, b], "y": (b, {"z": a})})
    assert kb.export(model, tmp_path / name, format) < 1e-5
    names = ["x_0", "x_1", "y_0", "y_1_z"]
    assert _signature.output_names(model) == names
    if format == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        found = onnxruntime.InferenceSession(tmp_path / name).get_outputs()
        assert [output.name for output in found] == names


@pytest.mark.tensorflow
def test_operations_that_onnx_has_not(tmp_path):
    """Exact GELU, CELU, and convolutions in groups, which Keras compiles."""
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(8, 3, groups=2, activation="celu")(inputs)
    model = keras.Model(inputs, layers.Dense(3, "gelu")(x))
    assert kb.export(model, tmp_path / "m.onnx", "onnx") < 1e-5


@pytest.mark.tensorflow
@FORMATS
def test_classes_may_come_out(tmp_path, format, name):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3)(inputs)
    classes = keras.ops.argmax(x, -1), keras.ops.argmin(x, -1)
    assert kb.export(keras.Model(inputs, classes), tmp_path / name, format) == 0


def test_of_integers_the_share_that_differs_counts():
    one, other = np.array([0, 9, 3, 4]), np.array([9, 9, 3, 4])
    assert difference([one], [other]) == 0.25
    assert difference([one], [one]) == 0
    assert difference([one / 1.0], [other / 1.0]) == 1


@pytest.mark.tensorflow
def test_what_fails_leaves_the_former_file(tmp_path):
    inputs = keras.Input((6,))
    x = layers.Dense(4)(inputs)
    path = tmp_path / "m.onnx"
    kb.export(keras.Model(inputs, x), path, "onnx")
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="Nothing is written"):
        kb.export(keras.Model(inputs, keras.ops.erfinv(x)), path, "onnx")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    quantized = keras.Sequential([inputs, layers.Dense(4)])
    quantized.quantize("int8")
    with pytest.raises(RuntimeError, match="exported before `quantize`"):
        kb.export(quantized, tmp_path / "m.tflite", "litert")


@pytest.mark.tensorflow
def test_int8_takes_recurrent_layers_that_are_unrolled(tmp_path):
    given = {"precision": "int8", "samples": np.ones((3, 5, 6))}
    path = tmp_path / "m.tflite"
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, layers.Bidirectional(layers.GRU(4))(inputs))
    with pytest.raises(ValueError, match="without `unroll=True`"):
        kb.export(model, path, "litert", **given)
    model = keras.Model(inputs, layers.GRU(4, unroll=True)(inputs))
    assert kb.export(model, path, "litert", **given) < 0.1


@pytest.mark.tensorflow
@pytest.mark.usefixtures("asked_here")
def test_states_are_as_they_were_and_batches_whole(tmp_path):
    inputs = keras.Input(batch_shape=(2, 5, 6))
    layer = layers.LSTM(4, stateful=True)
    model = keras.Model(inputs, layer(inputs))
    x = np.ones((2, 5, 6), "float32")
    model(x)
    before = [np.array(state) for state in layer.states]
    samples = np.ones((4, 5, 6), "float32")
    kb.export(model, tmp_path / "model", samples=x)
    for state, value in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(state, value)
    with pytest.raises(ValueError, match="`samples` must be one or more"):
        kb.export(model, tmp_path / "model", samples=samples[:3])


@pytest.mark.tensorflow
def test_words_may_come_out(tmp_path):
    inputs = keras.Input((4,))
    names = layers.StringLookup(vocabulary=["a", "b"], invert=True)
    number = keras.ops.argmax(layers.Dense(3)(inputs), -1)
    model = keras.Model(inputs, names(number))
    assert kb.export(model, tmp_path / "model") == 0
    small = kb.compact(model)
    x = np.random.default_rng(0).normal(size=(20, 4))
    assert (small(x).numpy() == model(x).numpy()).all()


@pytest.mark.tensorflow
def test_double_precision_is_not_for_litert(tmp_path):
    keras.config.set_dtype_policy("float64")
    with pytest.raises(ValueError, match="weights in float32 for format='lit"):
        kb.export(network(), tmp_path / "m.tflite", "litert")
    assert kb.export(network(), tmp_path / "model") < 1e-5


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((0, 12, 12, 3)),
        np.zeros((2, 12, 12)),
        np.zeros((2, 12, 11, 3)),
        [np.zeros((2, 12, 12, 3))] * 2,
        np.float32(1),
    ],
    ids=["none", "rank", "size", "structure", "number"],
)
def test_samples_that_do_not_fit_are_said_so_first(tmp_path, samples):
    with pytest.raises(ValueError, match=r"`samples` must be one or more ex"):
        kb.export(network(), tmp_path / "model", samples=samples)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"format": "pickle"}, "`format` must be one of"),
        ({"precision": "int4"}, "`precision` must be 'float32', or"),
        # with which no string can be compared
        ({"precision": keras.ops.ones((), "int32")}, "`precision` must be"),
        ({"format": "onnx", "precision": "float16"}, "`precision` must be"),
        ({"format": "litert", "precision": "int8"}, "`samples` must be"),
        ({"format": "litert"}, r"`path` must be a \.tflite file"),
        ({"path": "m.TFLITE"}, "for a file give `format`"),
        ({"format": "onnx"}, r"`path` must be an \.onnx file"),
        ({"model": keras.Sequential([layers.Dense(2)])}, "`model` must be"),
    ],
)
def test_arguments_are_checked_before_anything_is_written(
    tmp_path, given, match
):
    given = {"model": network(), "path": tmp_path / "model"} | given
    with pytest.raises(ValueError, match=match):
        kb.export(**given)
    assert not any(tmp_path.iterdir())


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "saved_model.pb").write_text("and this")
    with pytest.raises(ValueError, match="`path` must be a new folder"):
        kb.export(network(), tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"
    site = tmp_path / "site" / "assets"
    site.mkdir(parents=True)
    with pytest.raises(ValueError, match="`path` must be a new folder"):
        kb.export(network(), site.parent)


def test_a_missing_package_and_backend_are_named(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    if keras.config.backend() != "tensorflow":
        with pytest.raises(ValueError, match="keras-bregman export FILE"):
            kb.export(network(), path, "onnx")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    monkeypatch.setattr(
        exporting.importlib.util, "find_spec", lambda name: name != "tf2onnx"
    )
    with pytest.raises(ImportError, match=r"needs tf2onnx.*install tf2onnx"):
        kb.export(network(), path, "onnx")
