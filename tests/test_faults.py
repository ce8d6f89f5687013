"""A full disk, files that nobody should trust, and numbers that are none."""

import json
import os
import pickle
import tempfile
import zipfile

import keras
import numpy as np
import pytest
from helpers import (
    assert_weights,
    compiled,
    data,
    fed,
    mlp,
    param_once,
    train,
    weights,
)
from test_sparse_file import rewritten

import keras_bregman as kb
from experiments.checkpoint import Checkpoint
from keras_bregman import cli, plots

REMEDY = r"kernel' holds NaN.* Check the data .*`learning_rate`.*clipnorm"


def compacted(model, path):
    """By the command line, whose errors are a line and a status."""
    with tempfile.TemporaryDirectory() as folder:
        source = f"{folder}/model.keras"
        model.save(source)
        if cli.main(["compact", source, str(path)]):
            raise OSError(str(path))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.kbs", kb.save_sparse),
        ("a.png", plots.draw_density),
        ("a.keras", compacted),
    ],
)
def test_a_folder_in_the_way_of_a_file_stays(tmp_path, name, write):
    inside = tmp_path / name / "important.txt"
    inside.parent.mkdir()
    inside.write_text("mine")
    with pytest.raises(OSError, match=name):
        write(mlp(), inside.parent)
    assert inside.read_text() == "mine"
    assert os.listdir(tmp_path) == [name]


def test_what_a_link_points_to_is_replaced_and_not_the_link(tmp_path):
    target, link = tmp_path / "target.png", tmp_path / "link.png"
    target.touch()
    link.symlink_to(target)
    plots.draw_density(mlp(), link)
    assert link.is_symlink() and target.stat().st_size


class TestFullDisk:
    @pytest.mark.parametrize(
        ("name", "write"),
        [
            ("a.kbs", kb.save_sparse),
            ("a.png", plots.draw_density),
            ("a.svg", plots.draw_masks),
            *(
                pytest.param(
                    name,
                    lambda model, path, kind=kind: kb.export(model, path, kind),
                    marks=pytest.mark.tensorflow,
                )
                for name, kind in (
                    ("saved", "saved_model"),
                    ("a.tflite", "litert"),
                    ("a.onnx", "onnx"),
                )
            ),
        ],
    )
    def test_what_was_there_stays_and_the_file_is_named(
        self, tmp_path, file_size_limit, name, write
    ):
        if name == "a.onnx":
            pytest.importorskip("tf2onnx")
        path = tmp_path / "new" / name
        path.parent.mkdir()
        write(mlp(), path)
        before = contents(path)
        for size in (0, 200):
            with (
                file_size_limit(size),
                pytest.raises(OSError) as caught,
            ):
                write(mlp(), path)
            # the fresh process that compares may come first
            assert caught.value.filename is not None
            assert contents(path) == before
            assert os.listdir(path.parent) == [name]

    @pytest.mark.parametrize("name", ["small.keras", "small.kbs"])
    def test_on_the_command_line(self, tmp_path, capsys, file_size_limit, name):
        (tmp_path / "new").mkdir()
        small = tmp_path / "new" / name
        mlp().save(tmp_path / "model.keras")
        with file_size_limit(200):
            status = cli.main(
                ["compact", str(tmp_path / "model.keras"), str(small)]
            )
        assert status == 1
        assert f"File too large: '{small}'" in capsys.readouterr().err
        assert not list(small.parent.iterdir())


def contents(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return {f: f.read_bytes() for f in files if f.is_file()}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class TestUntrustedFiles:
    """Reading a file runs nothing that is in it."""

    @pytest.fixture
    def mark(self, tmp_path):
        mark = tmp_path / "it ran"
        pickle.loads(pickle.dumps(Payload(mark)))
        assert mark.exists()  # it does what it says
        mark.rmdir()
        yield mark
        assert not mark.exists()

    def configs(self, mark):
        """Layers that are calls, in the ways Keras names functions."""
        call = {"args": [str(mark)], "name": str(mark)}
        for module, name in (
            *(("os", "mkdir"), ("posix", "mkdir"), (None, "os.mkdir")),
            ("builtins", "exec"),
            ("keras.layers", "Lambda"),
        ):
            yield {
                "module": module,
                "class_name": name,
                "registered_name": name,
                "config": {**call, "function": _lambda(mark)},
                "build_config": None,
            }

    def test_a_sparse_file(self, tmp_path, mark):
        path = tmp_path / "a.kbs"
        kb.save_sparse(mlp(), path)
        content = path.read_bytes()
        for layer in self.configs(mark):

            def change(header, data, layer=layer):
                config = json.loads(header["config"])
                config["config"]["layers"][1] = layer
                header["config"] = json.dumps(config)

            path.write_bytes(rewritten(content, change))
            with pytest.raises(ValueError, match=r"a\.kbs"):
                kb.load_sparse(path)

    def test_a_keras_file(self, tmp_path, mark, capsys):
        path = tmp_path / "a.keras"
        compiled(kb.AdaBreg(0.1, 0.1)).save(path)
        loaded = keras.models.load_model(path)
        assert loaded.optimizer.regularizer == kb.regularizers.L1(0.1)
        with zipfile.ZipFile(path) as archive:
            parts = {n: archive.read(n) for n in archive.namelist()}
        good = json.loads(parts["config.json"])
        for layer in self.configs(mark):
            for change in (_as_layer, _as_regularizer):
                config = json.loads(json.dumps(good))
                change(config, layer)
                parts["config.json"] = json.dumps(config).encode()
                with zipfile.ZipFile(path, "w") as archive:
                    for name, part in parts.items():
                        archive.writestr(name, part)
                with pytest.raises((TypeError, ValueError)):
                    keras.models.load_model(path)
        assert cli.main(["inspect", str(path)]) in (0, 1)  # not compiled

    def test_a_checkpoint(self, tmp_path, mark):
        path = tmp_path / "run.npz"
        state = np.array([Payload(mark)], object)
        np.savez(path, allow_pickle=True, state=state, now0=state)
        model = compiled(kb.LinBreg(0.1, 0.1))
        before = weights(model)
        with pytest.warns(UserWarning, match=f"{path} is not used"):
            Checkpoint(path, {}, None).restore(model)
        assert_weights(model, before)


def _lambda(mark):
    path = str(mark)
    return keras.saving.serialize_keras_object(lambda x: os.mkdir(path))


def _as_layer(config, layer):
    config["config"]["layers"][1] = layer


def _as_regularizer(config, layer):
    config["compile_config"]["optimizer"]["config"]["regularizer"] = layer


class TestNotFinite:
    @pytest.mark.parametrize(
        "bad", [np.nan, param_once(np.inf), param_once(-np.inf)]
    )
    @pytest.mark.parametrize(
        "callback",
        [
            lambda: [],
            lambda: [
                keras.callbacks.TerminateOnNaN(),
                kb.callbacks.SparsityLogger(),
                kb.callbacks.LiveView(),
            ],
            lambda: [kb.callbacks.TargetDensity(0.5)],
        ],
        ids=["none", "observers", "target"],
    )
    def test_inputs(self, bad, callback):
        x, y = data()
        x[3, 2] = bad
        model = compiled(kb.AdaBreg(0.01, 0.1))
        with pytest.raises(FloatingPointError, match=REMEDY):
            model.fit(**fed(x, y, 4), epochs=2, verbose=0, callbacks=callback())

    # on JAX fit ends there when it fails, too, and that error goes first
    @pytest.mark.skipif(keras.config.backend() == "jax", reason="not on JAX")
    def test_in_a_second_attempt(self):
        x, y = data()
        x[3, 2] = np.nan
        model = compiled(kb.AdaBreg(0.01, 0.1))
        try:
            raise KeyError
        except KeyError:
            with pytest.raises(FloatingPointError, match=REMEDY):
                train(model, 1, (x, y))

    def test_an_exploding_gradient_and_its_remedy(self):
        x, y = data(64)
        given = {**fed(100 * x, y, 4), "epochs": 20, "verbose": 0}
        for remedy in ({}, {"global_clipnorm": 1e-3}):
            model = compiled(kb.LinBreg(30.0, 0.01, momentum=0.9, **remedy))
            if not remedy:
                with pytest.raises(FloatingPointError, match=REMEDY):
                    model.fit(**given)
            else:
                losses = model.fit(**given)
                assert np.isfinite(losses.history["loss"]).all()

    def test_terminate_on_nan_stops_at_the_batch(self):
        x, y = data(64)
        x[10] = np.nan
        seen = []
        count = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(batch)
        )
        model = compiled(kb.LinBreg(0.01, 0.1))
        stop = keras.callbacks.TerminateOnNaN()
        with pytest.raises(FloatingPointError, match=REMEDY):
            model.fit(**fed(x, y, 4), verbose=0, callbacks=[count, stop])
        assert seen == [0, 1, 2]

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_the_watch_names_the_layer_and_the_remedy(self, bad):
        x, y = data()
        model = compiled(kb.LinBreg(0.0, 0.1))

        class Break(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                kernel = self.model.layers[0].kernel
                kernel.assign(np.full(kernel.shape, bad))

        watch = kb.callbacks.SparsityWatch()
        message = r"hidden/kernel hold NaN or infinity.*Check the data"
        with (
            pytest.warns(UserWarning, match=message),
            pytest.raises(FloatingPointError),
        ):
            model.fit(x, y, verbose=0, callbacks=[Break(), watch])
