"""The command `keras-bregman`."""

import importlib
import importlib.util
import pathlib
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from helpers import array
from keras import layers

import keras_bregman as kb
from keras_bregman.cli import main


@pytest.fixture
def file(tmp_path):
    """A model with two dead units, in Keras' own format."""
    model = keras.Sequential(
        [
            keras.Input((30,)),
            layers.Dense(20, "relu", name="hidden"),
            layers.Dense(3, name="out"),
        ],
        name="net",
    )
    kb.sparsify(model, 0.3, "balanced", seed=0)
    kernel = array(model.layers[0].kernel)
    kernel[:, [4, 7]] = 0
    model.layers[0].kernel.assign(kernel)
    model.compile(kb.LinBreg(0.1, regularizer=0.1), "mse")
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "keras_bregman", *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_inspect_and_density(file, capsys):
    assert main(["inspect", str(file)]) == 0
    said = capsys.readouterr().out
    model = keras.models.load_model(file)
    on = kb.flops(model, zeros=False)
    flops = f"{kb.flops(model):,} ({on:,} without zeros)"
    for line in ("net (Sequential)", "? x 30", "683", "2 of 23", flops):
        assert line in said
    assert main(["density", str(file)]) == 0
    said = capsys.readouterr().out
    assert "hidden/kernel" in said
    assert "30x20" in said


def test_layers_of_ones_own_come_from_a_module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    twice = importlib.import_module("mine").Twice
    model = keras.Sequential(
        [keras.Input((3,)), twice(), layers.Dense(2, name="last")]
    )
    model.save("model.keras")
    kb.save_sparse(model, "model.kbs")
    for file in ("model.keras", "model.kbs"):
        status, _, said = run("density", file)
        assert status == 1
        assert "Could not locate class 'Twice'" in said
        assert "--import MODULE" in said
        assert "'config':" not in said  # pages of it
        status, said, _ = run("density", file, "--import", "mine")
        assert status == 0
        assert "last/kernel" in said
    status, _, said = run("density", file, "--import", "other")
    assert status == 1
    assert "`--import` must be a module" in said and "'other'" in said
    pathlib.Path("bad.py").write_text("1 / 0")
    status, _, said = run("density", file, "--import", "bad")
    assert status == 1
    assert "`--import bad` ends in ZeroDivisionError" in said


def test_compact_writes_both_kinds_of_file(file, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(4, 30)).astype("float32")
    model = keras.models.load_model(file)
    for name in ("small.keras", "small.kbs"):
        assert main(["compact", str(file), str(tmp_path / name)]) == 0
        said = capsys.readouterr().out
        assert "620 ->" in said
        assert "bytes ->" in said
        assert main(["inspect", str(tmp_path / name)]) == 0
        assert re.search(r" 0 of \d+", capsys.readouterr().out)
    small = kb.load_sparse(tmp_path / "small.kbs")
    units = small.get_layer("hidden").units
    assert units <= 18
    even = tmp_path / "even.kbs"
    arguments = ["compact", str(file), str(even), "--multiple-of", "10"]
    assert main(arguments) == 0
    filled = kb.load_sparse(even).get_layer("hidden").units
    assert filled == 10 * -(-units // 10)
    np.testing.assert_allclose(
        small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
    )


def test_compact_writes_what_a_name_of_keras_says(file, tmp_path):
    there = tmp_path / "small.h5"
    assert main(["compact", str(file), str(there)]) == 0
    small = keras.models.load_model(there)
    assert small.get_layer("hidden").units <= 18


def test_compact_may_replace_its_file_and_makes_folders(file, tmp_path, capsys):
    size = file.stat().st_size
    there = tmp_path / "new" / "folder" / "small.keras"
    assert main(["compact", str(file), str(there)]) == 0
    assert main(["compact", str(file), str(file)]) == 0
    assert f"{size:,} bytes -> {file}: " in capsys.readouterr().out
    assert file.stat().st_size == there.stat().st_size < size


@pytest.mark.parametrize(
    "command, name, other",
    [
        ("compact", "m.tflite", "export"),
        ("compact", "m.onnx", "export"),
        ("export", "m.keras", "compact"),
        ("export", "m.kbs", "compact"),
    ],
)
def test_a_file_of_the_other_command_is_not_written(
    file, tmp_path, capfd, command, name, other
):
    assert main([command, str(file), str(tmp_path / name)]) == 1
    said = capfd.readouterr().err
    assert f"`{command}` writes no {name[1:]} file" in said
    assert f"`{other}`" in said
    assert not (tmp_path / name).exists()


def test_export_without_tensorflow_says_so(file, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "tensorflow" else find(name),
    )
    assert main(["export", str(file), str(tmp_path / "m")]) == 1
    said = capsys.readouterr().err
    assert "needs tensorflow. Install it with `pip install tensorflow`" in said


@pytest.mark.once
def test_export_works_from_any_backend(file, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 30), "float32"))
    code, said, error = run(
        "export",
        file,
        tmp_path / "int8.tflite",
        "--precision=int8",
        f"--samples={tmp_path / 'x.npy'}",
    )
    assert code == 0, error
    assert "litert" in said


def test_compact_takes_samples(tmp_path, capsys):
    x = keras.Input((None, 1))
    y = keras.layers.Conv1D(4, 40)(x)
    keras.Model(x, layers.GlobalMaxPooling1D()(y)).save(tmp_path / "m.keras")
    files = [str(tmp_path / name) for name in ("m.keras", "small.keras")]
    assert main(["compact", *files]) == 1
    assert "as `--samples`" in capsys.readouterr().err
    some = tmp_path / "x.npy"
    some.touch()
    assert main(["compact", *files, "--samples", str(some)]) == 1
    assert "x.npy' cannot be read as arrays" in capsys.readouterr().err
    np.save(some, np.ones((2, 50, 1), "float32"))
    assert main(["compact", *files, "--samples", str(some)]) == 0


def test_several_inputs_take_their_samples_from_one_file(tmp_path, capsys):
    # each refuses what the other takes
    a, b = keras.Input((None, 1), name="a"), keras.Input((None, 2), name="b")
    x = layers.Conv1D(4, 40)(a) + layers.Conv1D(4, 30)(b)
    y = layers.GlobalMaxPooling1D()(x)
    first, second = (
        np.ones((2, n, m), "float32") for n, m in ((50, 1), (40, 2))
    )
    some = tmp_path / "x.npz"
    files = [str(tmp_path / name) for name in ("m.keras", "small.keras")]
    command = ["compact", *files, "--samples", str(some)]

    def status(*arrays, **named):
        np.savez_compressed(some, *arrays, **named)
        return main(command)

    keras.Model([a, b], y).save(files[0])
    assert status(b=second, a=first) == 0
    assert status(first, second) == 0
    assert status(b=second, A=first) == 1
    said = capsys.readouterr().err
    assert (
        "the arrays ['A', 'b'], and the model has the inputs ['a', 'b']" in said
    )
    assert status(first) == 1
    some.write_bytes(some.read_bytes()[:60] + b"?" * 20)
    assert main(command) == 1
    assert "x.npz' cannot be read as arrays" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="must match"):
        crossed = keras.Model({"x": b, "y": a}, y)
        crossed.save(files[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert status(y=first, x=second) == 0


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    def build(self, shape):
        self.dense = layers.Dense(3)
        self.dense.build(shape)
        super().build(shape)

    def call(self, x):
        return self.dense(x)


def test_inspect_says_what_it_can_of_a_model_without_a_graph(tmp_path, capsys):
    model = Own()
    model(np.zeros((1, 4), "float32"))
    model.save(tmp_path / "own.keras")
    assert main(["inspect", str(tmp_path / "own.keras")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"parameters +15\b", said) and "inputs" not in said


def test_a_layer_is_no_model(tmp_path, capsys):
    layer = layers.Dense(3)
    layer.build((None, 4))
    keras.saving.save_model(layer, tmp_path / "layer.keras")
    for command in ("inspect", "density"):
        assert main([command, str(tmp_path / "layer.keras")]) == 1
        assert "holds a Dense, and no model" in capsys.readouterr().err


def test_weights_alone_are_no_model(file, tmp_path, capsys):
    keras.models.load_model(file).save_weights(tmp_path / "a.weights.h5")
    assert main(["inspect", str(tmp_path / "a.weights.h5")]) == 1
    said = capsys.readouterr().err
    assert "weights alone: load them into the model, save it." in said
    assert ".." not in said.replace("...", "")


def test_a_file_that_keras_does_not_know_by_its_name(file, tmp_path, capsys):
    other = tmp_path / "model.zip"
    other.write_bytes(file.read_bytes())
    assert main(["inspect", str(other)]) == 1
    assert "Call a .keras or .h5 file so" in capsys.readouterr().err


def test_inspect_without_kernels(tmp_path, capsys):
    model = keras.Sequential([keras.Input((5,)), layers.Embedding(9, 3)])
    model.save(tmp_path / "m.keras")
    assert main(["inspect", str(tmp_path / "m.keras")]) == 0
    said = capsys.readouterr().out
    assert "27" in said and "no kernel" in said


def test_inspect_without_weights(tmp_path, capsys):
    keras.Sequential([layers.Dense(3)]).save(tmp_path / "m.keras")
    assert main(["inspect", str(tmp_path / "m.keras")]) == 0
    said = capsys.readouterr().out
    assert re.search("parameters +0\n", said) and "no weights yet" in said


def test_errors_are_one_line_and_a_status(file, tmp_path, capsys):
    assert main(["density", str(tmp_path / "none.keras")]) == 1
    assert "none.keras" in capsys.readouterr().err
    (tmp_path / "bad.kbs").write_bytes(b"KBSPARSE and nothing else" * 4)
    assert main(["inspect", str(tmp_path / "bad.kbs")]) == 1
    assert capsys.readouterr().err.startswith("keras-bregman: '")
    model = keras.models.load_model(file)
    model.layers[0].bias.assign(np.full(20, np.nan))
    model.save(tmp_path / "nan.keras")
    small = str(tmp_path / "small.keras")
    assert main(["compact", str(tmp_path / "nan.keras"), small]) == 1
    assert "hidden/bias" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compact", str(file)])
