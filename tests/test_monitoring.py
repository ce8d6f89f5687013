"""What a training is seen to do: logs, warnings, histograms, pictures."""

import copy
import importlib.util
import io
import itertools
import sys
import warnings

import keras
import numpy as np
import pytest
from helpers import (
    Crash,
    array,
    compiled,
    data,
    fed,
    heard,
    mlp,
    train,
    unwarned,
)
from keras import layers
from sklearn.datasets import load_digits

import keras_bregman as kb
from experiments.data import load
from keras_bregman import plots
from keras_bregman.callbacks import LiveView, SparsityLogger, SparsityWatch
from keras_bregman.kernels import kernels

pytestmark = pytest.mark.usefixtures("compiled_in_haste")


def _started(optimizer, density=0.3, **how):
    model = compiled(optimizer)
    kb.sparsify(model, density, seed=0, **how)
    return model


class TestPerLayer:
    def test_flips_are_the_entries_that_changed_sides(self):
        model = _started(kb.AdaBreg(0.02, 0.05))
        kernel = model.get_layer("hidden").kernel
        masks = [keras.ops.convert_to_numpy(kernel) != 0]

        class Keep(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                kernel = self.model.get_layer("hidden").kernel
                masks.append(keras.ops.convert_to_numpy(kernel) != 0)

        callbacks = [SparsityLogger(per_layer=True), Keep()]
        history = train(model, 4, callbacks=callbacks).history
        wanted = [(a != b).mean() for a, b in itertools.pairwise(masks)]
        assert history["flips/net/hidden/kernel"] == pytest.approx(wanted)
        assert max(wanted) > 0
        sizes = {"net/hidden/kernel": 48, "net/out/kernel": 16}
        for i, share in enumerate(history["flips"]):
            parts = [n * history[f"flips/{p}"][i] for p, n in sizes.items()]
            assert share == pytest.approx(sum(parts) / 64)

    def test_strengths_and_duals_of_what_is_regularized(self):
        model = _started(
            kb.LinBreg(0.05, regularizer={"hidden/kernel": 0.25}), 0.5
        )
        callbacks = [SparsityLogger(per_layer=True)]
        history = train(model, 2, callbacks=callbacks).history
        assert history["lambda/net/hidden/kernel"] == [0.25, 0.25]
        (entry,) = model.optimizer.regularized()
        dual = keras.ops.convert_to_numpy(entry.dual)
        rms = np.sqrt(np.mean(np.square(dual)))
        assert history["dual/net/hidden/kernel"][-1] == pytest.approx(rms)
        assert "lambda/net/out/kernel" not in history

    def test_without_our_optimizer_there_are_no_strengths(self):
        model = compiled(keras.optimizers.SGD(0.1))
        history = train(
            model, 1, callbacks=[SparsityLogger(per_layer=True)]
        ).history
        assert history["density/net/hidden/kernel"] == [1.0]
        assert not any(key.startswith(("lambda", "dual")) for key in history)


class TestWatch:
    def warned(self, model, epochs=2, *callbacks, steps=1):
        """What a training is told, of so many steps an epoch."""
        x, y = (np.tile(a, (steps, 1)) for a in data())
        watch = [*callbacks, SparsityWatch()]
        with heard() as found:
            batches = fed(x, y, len(x) // steps)
            model.fit(**batches, epochs=epochs, verbose=0, callbacks=watch)
        return [text for text in found if "eights" in text]

    def test_all_is_switched_on_in_a_few_steps(self):
        model = _started(kb.AdaBreg(0.5, 0.05), 0.2, method="balanced")
        (text,) = self.warned(model, 12)
        assert "of the weights are on after 10 steps" in text
        assert "learning rate (0.5) is too large against lambda (0.05)" in text
        assert "TargetDensity" in text

    def test_a_step_as_large_as_lambda_is_too_large(self, recwarn):
        x, y = load_digits(return_X_y=True)
        sizes = ((200, "relu"), (80, "relu"), (10, None))
        denses = [layers.Dense(*size) for size in sizes]
        model = keras.Sequential([keras.Input((64,)), *denses])
        kb.sparsify(model, 0.01, seed=0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(kb.AdaBreg(0.1, 0.1), loss)
        model.fit(x / 16, y, verbose=0, callbacks=[SparsityWatch()])
        said = [str(w.message) for w in recwarn]
        assert any("weights are on after 10 steps" in s for s in said)

    @pytest.mark.parametrize(
        ("start", "then", "warns"),
        [(0.45, 0.8, True), (0.55, 0.8, False), (0.45, 0.6, False)],
    )
    def test_everything_is_more_than_most(self, start, then, warns, recwarn):
        class Switch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                kb.sparsify(self.model, then, seed=1)

        model = _started(kb.LinBreg(0.0, 0.05), start)
        train(model, 1, callbacks=[Switch(), SparsityWatch()])
        said = [str(w.message) for w in recwarn]
        assert any("weights are on after 1 steps" in s for s in said) == warns

    @pytest.mark.parametrize("until", (2, 3))
    def test_a_layer_is_dead_from_the_second_epoch_on(self, until, recwarn):
        class Kill(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                kernel = self.model.get_layer("hidden").kernel
                dead = 1 <= epoch < until
                kernel.assign(np.full(kernel.shape, 0.0 if dead else 0.1))

        model = _started(kb.LinBreg(0.0, 0.05), 1.0)
        train(model, 5, callbacks=[Kill(), SparsityWatch()])
        said = [str(w.message) for w in recwarn]
        assert any("passes nothing on" in s for s in said) == (until == 3)

    def test_nothing_is_ever_switched_on(self):
        model = _started(kb.LinBreg(1e-4, 5.0), 0.2, method="balanced")
        assert self.warned(model, 11, steps=9) == []
        model = _started(kb.LinBreg(1e-4, 5.0), 0.2, method="balanced")
        (text,) = self.warned(model, 12, steps=10)
        assert "No weight was switched on in 100 steps" in text
        assert "% of the threshold. Lower lambda (5)" in text

    @pytest.mark.parametrize("regularizer", (None, 0.5))
    def test_an_optimizer_without_regularizer(self, regularizer):
        model = _started(kb.AdaBreg(1e-3, regularizer), 0.2)
        texts = self.warned(model, 3)
        told = ["Nothing is regularized" in text for text in texts]
        assert told == ([True] if regularizer is None else [])

    def test_batches_of_one_step_are_no_steps(self):
        """Gradients are added up over them."""

        def model():
            optimizer = kb.LinBreg(1e-4, 5.0, gradient_accumulation_steps=5)
            return _started(optimizer, 0.2, method="balanced")

        assert self.warned(model(), 12, steps=10) == []
        (text,) = self.warned(model(), 50, steps=10)
        assert "No weight was switched on in 100 steps" in text

    def test_a_penalty_has_no_threshold(self):
        model = _started(kb.ProxGD(1e-4, 5.0), 0.2, method="balanced")
        texts = self.warned(model, 12, steps=10)
        (text,) = (t for t in texts if "switched on" in t)
        assert "steps. Lower lambda (5)" in text

    def test_every_dead_layer_is_named_and_may_die_late(self):
        model = compiled(kb.LinBreg(0.0, 0.5))

        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                name = {1: "hidden", 4: "out"}.get(epoch)
                if name:
                    kernel = self.model.get_layer(name).kernel
                    kernel.assign(np.zeros(kernel.shape))

        texts = self.warned(model, 3, Kill())
        assert ["net/hidden/kernel have been 0" in t for t in texts] == [True]
        texts = self.warned(model, 6, Kill())
        assert len(texts) == 2
        assert "All weights of net/out/kernel have been 0" in texts[1]

    @pytest.mark.parametrize("use_bias", (True, False))
    def test_a_dead_filter_whose_bias_moves(self, use_bias):
        dataset = load("digits")
        image = keras.Input(dataset.inputs.shape)
        # rounding moves one too, but not on every machine
        conv = layers.Conv2D(
            16,
            3,
            use_bias=use_bias,
            bias_initializer="ones",
            bias_regularizer=keras.regularizers.L2(0.01),
            name="conv",
        )
        norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        x = layers.ReLU()(norm(conv(image)))
        model = keras.Model(image, layers.Dense(10)(layers.Flatten()(x)))
        kernel = array(conv.kernel)
        kernel[..., :8] = 0
        conv.kernel.assign(kernel)
        optimizer = kb.AdaBreg(0.003, {"conv/kernel": 0.01})
        optimizer.freeze_support()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
        with heard() as found:
            batches = fed(dataset.x_train, dataset.y_train, 32)
            model.fit(
                **batches, epochs=4, verbose=0, callbacks=[SparsityWatch()]
            )
        told = [text for text in found if "use_bias" in text]
        assert len(told) == use_bias
        assert all("Units of conv/kernel are dead" in text for text in told)

    @pytest.mark.parametrize(
        ("biases", "warns"),
        [((3.0, 3.0), True), ((3.0, 0.5), False), ((0.5, 0.5), False)],
    )
    def test_a_bias_strays_for_two_epochs_and_far(self, biases, warns):
        dense = layers.Dense(4, name="dense")
        norm = layers.BatchNormalization(momentum=1.0)  # 0 and 1 for ever
        model = keras.Sequential(
            [keras.Input((6,)), dense, norm, layers.Dense(2, name="out")]
        )
        kernel = array(dense.kernel)
        kernel[:, 0] = 0
        dense.kernel.assign(kernel)

        class Stray(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                dense.bias.assign(np.full(4, biases[epoch]))

        model.compile(kb.LinBreg(0.0, 0.1), "mse")
        with heard() as found:
            train(model, 2, callbacks=[Stray(), SparsityWatch()])
        told = [text for text in found if "use_bias" in text]
        assert len(told) == warns

    def test_a_bias_that_dead_units_share_is_not_theirs(self):
        inputs = keras.Input((6, 4))
        heads = layers.EinsumDense("abc,chd->abhd", (6, 3, 5), bias_axes="d")
        x = layers.BatchNormalization()(heads(inputs))
        model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
        kernel = array(heads.kernel)
        kernel[:, :2] = 0
        heads.kernel.assign(kernel)
        model.compile(kb.AdaBreg(0.001, 0.1), "mse")
        x, y = np.ones((8, 6, 4)), np.ones((8, 2))
        with heard() as found:
            model.fit(x, y, epochs=3, verbose=0, callbacks=[SparsityWatch()])
        assert not any("use_bias" in text for text in found)

    def test_a_frozen_layer_of_zeros_is_meant(self):
        model = mlp()
        model.layers[0].trainable = False
        model.compile(kb.LinBreg(0.01, 0.01), "mse")
        model.layers[0].kernel.assign(np.zeros((6, 8)))
        assert self.warned(model, 3) == []

    def test_weights_that_are_not_finite(self):
        model = compiled(keras.optimizers.SGD(0.01))
        kernel = model.get_layer("hidden").kernel
        kernel.assign(np.full((6, 8), np.nan))
        texts = self.warned(model, 2, keras.callbacks.TerminateOnNaN())
        assert ["net/hidden/kernel hold NaN" in text for text in texts] == [
            True
        ]

    def test_a_training_that_goes_well_is_left_alone(self):
        model = _started(kb.LinBreg(0.05, 0.05), 0.3, method="balanced")
        assert self.warned(model, 12, steps=10) == []
        # nor when it goes on, with all switched on that will be
        model.optimizer.learning_rate = 1e-9
        assert self.warned(model, 12, steps=10) == []

    def test_weights_of_another_name(self):
        class Scores(keras.layers.Layer):
            def build(self, shape):
                self.scores = self.add_weight((shape[-1], 2), name="scores")

            def call(self, x):
                return x @ self.scores

        inputs = keras.Input((6,))
        model = keras.Model(inputs, Scores()(inputs))
        model.compile(kb.LinBreg(0.0, {"scores": 0.05}), "mse")
        model.layers[1].scores.assign(np.zeros((6, 2)))
        x, y = np.ones((8, 6)), np.ones((8, 2))
        with pytest.raises(ValueError, match="by of='regularized'"):
            model.fit(x, y, verbose=0, callbacks=[SparsityWatch()])
        assert int(model.optimizer.iterations) == 0  # nothing is lost
        watch = SparsityWatch(of="regularized")
        with pytest.warns(UserWarning, match="scores have been 0 for"):
            model.fit(x, y, epochs=3, verbose=0, callbacks=[watch])

    def test_other_optimizers_are_not_to_blame(self):
        model = _started(keras.optimizers.Adam(), 0.2, method="balanced")
        assert self.warned(model, 12, steps=10) == []

    def test_a_frozen_support_switches_nothing_on(self):
        optimizer = kb.AdaBreg(0.01, 1.0)
        optimizer.freeze_support()
        model = _started(optimizer, 0.3, method="balanced")
        assert self.warned(model, 12, steps=10) == []

    def test_a_target_density_raises_no_alarm(self):
        for start in (0.1, 1.0):
            model = _started(kb.AdaBreg(0.01, 1.0), start, method="balanced")
            target = kb.callbacks.TargetDensity(0.3, freeze=0.5)
            assert self.warned(model, 12, target, steps=10) == []

    @pytest.mark.skipif(
        keras.config.backend() == "torch", reason="one step an execution"
    )
    def test_several_steps_in_one_execution(self):
        model = _started(kb.AdaBreg(0.5, 0.05), 0.2, method="balanced")
        model.compile(model.optimizer, model.loss, steps_per_execution=4)
        x, y = data()
        with pytest.warns(UserWarning, match="on after (4|12) steps"):
            model.fit(x, y, 8, 2, verbose=0, callbacks=[SparsityWatch()])


def test_kernels_without_entries_raise_no_alarm():
    inputs = [keras.Input((0,)), keras.Input((1,))]
    x = keras.layers.Dense(2)(inputs[0]) + inputs[1]
    model = keras.Model(inputs, x)
    model.compile(kb.LinBreg(0.1, 0.1), "mse")
    data = [np.zeros((4, 0)), np.ones((4, 1))]
    model.fit(data, np.ones((4, 2)), verbose=0, callbacks=[SparsityWatch()])


def test_what_was_not_mended_is_told_again():
    texts = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")  # as in a script
        for _ in range(2):
            model = compiled(kb.LinBreg(0.0, 0.05))
            model.get_layer("hidden").kernel.assign(np.zeros((6, 8)))
            train(model, 3, callbacks=[SparsityWatch()])
            texts.append([w for w in found if "passes nothing" in str(w)])
    assert [len(told) for told in texts] == [1, 2]


@pytest.mark.parametrize("killed_at", (2, 3))
def test_flips_go_on_where_a_backup_was_made(tmp_path, killed_at):
    def run(*callbacks):
        model = _started(kb.AdaBreg(0.03, 0.05), 0.1, method="balanced")
        callbacks = [SparsityLogger(per_layer=True), *callbacks]
        return train(model, 6, callbacks=callbacks).history

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    whole = run()["flips"]
    assert len(set(whole)) > 3
    with pytest.raises(KeyboardInterrupt):
        run(backup(), Crash(killed_at))
    assert run(backup())["flips"] == pytest.approx(whole[killed_at:])


def test_what_a_callback_restores_was_not_switched_on():
    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for kernel in kernels(self.model):
                kernel.variable.assign(np.ones(kernel.variable.shape))

    model = _started(kb.AdaBreg(0.001, 0.05), 0.1)
    with unwarned():
        train(model, 2, callbacks=[SparsityWatch(), Restore()])


def test_twins_are_told_apart(tmp_path):
    """Kernels of nested models may have one path."""

    def block(name):
        dense = layers.Dense(6, name="d")
        inner = keras.Sequential([keras.Input((6,)), dense], name="s")
        return keras.Sequential([keras.Input((6,)), inner], name=name), dense

    (one, killed), (two, _) = block("one"), block("two")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, two(one(inputs)))
    model.compile(kb.LinBreg(0.0, 0.05), "mse")
    model.optimizer.build(model.trainable_variables)
    first, second = model.optimizer.lambdas
    assert second == f"{first}#2"
    model.optimizer.lambdas[second].assign(0.7)

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                killed.kernel.assign(np.zeros((6, 6)))

    logger = SparsityLogger(per_layer=True)
    x = np.ones((4, 6), "float32")
    history = model.fit(
        x, x, epochs=2, verbose=0, callbacks=[Kill(), logger]
    ).history
    assert history[f"density/{first}"] == [1.0, 0.0]
    assert history[f"density/{second}"] == [1.0, 1.0]
    assert history[f"flips/{first}"] == [0.0, 1.0]
    assert history["flips"] == [0.0, 0.5]
    assert history[f"lambda/{second}"][-1] == pytest.approx(0.7)

    # nor is a strength another's where the optimizer knows the second alone
    model.get_layer("one").trainable = False
    model.compile(kb.LinBreg(0.0, 0.05), "mse")
    history = model.fit(x, x, verbose=0, callbacks=[logger]).history
    assert f"lambda/{first}" not in history
    assert history[f"lambda/{second}"] == [pytest.approx(0.05)]


class TestLiveView:
    @pytest.fixture(autouse=True)
    def wide(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("LINES", "30")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def watched(self, out, epochs):
        """A model whose training `out` has shown."""
        model = _started(kb.LinBreg(0.05, 0.05))
        train(model, epochs, callbacks=[LiveView(file=out)])
        return model

    def test_what_does_not_fit_is_cut_or_left_out(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "40")
        out = self.Terminal()
        self.watched(out, 1)
        lines = out.getvalue().splitlines()
        assert len(lines) == 3
        assert max(map(len, lines)) == 39
        monkeypatch.setenv("LINES", "3")
        out = self.Terminal()
        self.watched(out, 2)
        assert len(out.getvalue().splitlines()) == 2
        assert "\x1b" not in out.getvalue()

    def test_a_figure_for_each_class(self):
        class Log(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs["f1"] = np.array([0.25, 0.5])

        out = io.StringIO()
        model = _started(kb.LinBreg(0.05, 0.05))
        train(model, 1, callbacks=[Log(), LiveView(file=out)])
        assert "f1 0.375" in out.getvalue()

    def test_a_terminal_without_blocks(self):
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding="ascii")
        out.isatty = lambda: True  # type: ignore[method-assign]
        self.watched(out, 1)
        assert b"#..." in raw.getvalue()

    def test_nan_is_left_to_others(self):
        model = compiled(keras.optimizers.SGD(0.01))
        model.get_layer("out").kernel.assign(np.full((8, 2), np.nan))
        out = io.StringIO()
        train(model, 1, callbacks=[LiveView(file=out)])
        assert "weights are NaN" in out.getvalue()

    def test_behind_nan_it_begins_anew(self):
        out = self.Terminal()
        model = self.watched(io.StringIO(), 1)
        kernel = model.get_layer("out").kernel
        view = LiveView(file=out)
        view.set_model(model)
        view.set_params({"epochs": 3})
        view.on_train_begin()
        good = keras.ops.convert_to_numpy(kernel)
        for epoch, value in enumerate((good, np.nan * good, good)):
            kernel.assign(value)
            view.on_epoch_end(epoch)
        assert "\x1b" not in out.getvalue()
        assert len(out.getvalue().splitlines()) == 3 + 1 + 3

    def test_shows_what_is_regularized_instead(self):
        out = self.Terminal()
        model = _started(kb.AdaBreg(0.01, {"hidden/bias": 0.01}))
        view = LiveView(file=out, of="regularized")
        train(model, 2, callbacks=[view])
        last = out.getvalue().splitlines()[-1]
        assert "hidden/bias" in last
        assert f"{kb.density(model, of='regularized'):.2%}" in last
        assert "out/kernel" not in out.getvalue()

    def test_a_line_an_epoch_where_nothing_can_be_redrawn(self):
        out = io.StringIO()
        self.watched(out, 3)
        lines = out.getvalue().splitlines()
        assert [line.split("  ")[0] for line in lines] == [
            f"epoch {i}/3" for i in (1, 2, 3)
        ]
        assert all("loss" in line and "density" in line for line in lines)

    def test_a_loop_need_not_say_how_many_epochs_it_has(self):
        out = io.StringIO()
        callbacks = keras.callbacks.CallbackList(
            [LiveView(file=out)], model=compiled(kb.LinBreg(0.05, 0.05))
        )
        callbacks.on_train_begin()
        callbacks.on_epoch_end(0)
        assert out.getvalue().startswith("epoch 1  density")

    def test_each_epoch_replaces_the_last_on_a_terminal(self):
        out = self.Terminal()
        model = self.watched(out, 2)
        first, second = out.getvalue().split("\x1b[3F\x1b[J")
        assert len(first.splitlines()) == len(second.splitlines()) == 3
        shares = {c.name: f"{c.density:.2%}" for c in kb.sparsity.count(model)}
        for path, share in shares.items():
            (line,) = (ln for ln in second.splitlines() if path in ln)
            assert share in line
            assert "lambda 0.05" in line

    def test_a_bar_is_empty_only_if_the_kernel_is(self):
        out = self.Terminal()
        model = mlp()
        kernel = np.zeros((6, 8))
        kernel[0, 0] = 1
        model.layers[0].kernel.assign(kernel)
        model.layers[1].kernel.assign(np.zeros((8, 2)))
        view = LiveView(file=out)
        model.compile(kb.LinBreg(0.1, 0.1), "mse")
        view.set_model(model)
        view.set_params({"epochs": 1})
        view.on_train_begin()
        view.on_epoch_end(0, {})
        _, one, none = out.getvalue().splitlines()
        assert one.count("█") == 1
        assert none.count("█") == 0


@pytest.mark.tensorflow
def test_histograms_reach_tensorboard(tmp_path):
    import tensorflow as tf
    from tensorboard.backend.event_processing import event_accumulator

    model = _started(kb.AdaBreg(0.02, 0.05))
    board = kb.callbacks.SparsityBoard(tmp_path, histogram_freq=2)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:  # the last that is written
                for entry in self.model.optimizer.regularized():
                    seen.append((array(entry.variable), array(entry.dual)))

    train(model, 4, callbacks=[board, Look()])
    events = event_accumulator.EventAccumulator(
        str(tmp_path / "sparsity"), size_guidance={"tensors": 0}
    )
    events.Reload()
    tags = set(events.Tags()["tensors"])
    paths = ("net/hidden/kernel", "net/out/kernel")
    assert tags == {f"{k}/{p}" for k in ("dual", "weights") for p in paths}
    steps = [e.step for e in events.Tensors("dual/net/hidden/kernel")]
    assert steps == [0, 2]
    for entry, last in zip(model.optimizer.regularized(), seen, strict=True):
        weights, v = last
        lam = float(entry.lam)
        for tag, values in (
            (f"dual/{entry.name}", v / lam),
            (f"weights/{entry.name}", weights[weights != 0]),
        ):
            # a line a bin: left, right, how many
            bins = tf.make_ndarray(events.Tensors(tag)[-1].tensor_proto)
            assert bins[:, 2].sum() == values.size
            assert bins[0, 0] == pytest.approx(values.min(), rel=1e-5)
            assert bins[-1, 1] == pytest.approx(values.max(), rel=1e-5)
    assert copy.deepcopy(board).log_dir == tmp_path  # as tuners do
    with pytest.raises(
        ValueError, match="`histogram_freq` must be 1 or greater"
    ):
        kb.callbacks.SparsityBoard(tmp_path, histogram_freq=0)


def test_a_board_without_tensorflow_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match="pip install tensorflow"):
        kb.callbacks.SparsityBoard(tmp_path)


class TestPictures:
    def network(self):
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(5, 3, name="conv"),
                layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
                layers.Flatten(),
                layers.Dense(4, name="dense"),
            ]
        )
        kb.sparsify(model, 0.3, seed=0)
        return model

    @pytest.mark.parametrize(
        "draw", [plots.draw_density, plots.draw_masks, plots.draw_filters]
    )
    def test_any_model(self, draw, tmp_path):
        draw(self.network(), tmp_path / "picture.png")
        draw(self.network(), tmp_path / "picture.svg")
        png = (tmp_path / "picture.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / "picture.svg").read_bytes()

    def drawn(self, draw, monkeypatch, *arguments):
        """The figure, as it would be written."""
        figures = []
        monkeypatch.setattr(plots, "write", lambda f, path: figures.append(f))
        draw(*arguments)
        return figures[0]

    def test_bars_are_as_long_as_kernels_are_dense(self, monkeypatch):
        model = self.network()
        figure = self.drawn(plots.draw_density, monkeypatch, model, "d.png")
        (axis,) = figure.axes
        lengths = [bar.get_width() for bar in axis.patches]
        counts = kb.sparsity.count(model)
        densities = [100 * c.density for c in counts] + [
            100 * kb.density(model)
        ]
        assert lengths == [100.0] * len(densities) + densities
        assert len(set(densities)) > 2

    def test_a_mask_is_dark_where_weights_are_on(self, monkeypatch):
        model = self.network()
        figure = self.drawn(plots.draw_masks, monkeypatch, model, "m.png")
        images = [axis.images[0] for axis in figure.axes if axis.images]
        kernel = array(model.get_layer("conv").kernel)
        shown = images[0].get_array()
        np.testing.assert_array_equal(shown, kernel.reshape(27, 5) != 0)
        off, on = images[0].cmap([0, 1])[:, :3].sum(axis=1)
        assert on < off

    def test_filters_are_red_blue_and_grey(self, monkeypatch):
        model = self.network()
        layer = model.get_layer("conv")
        kernel = np.zeros(layer.kernel.shape)
        kernel[0, 0, :, 0] = 1, 1, 1
        kernel[1, 1, :, 0] = -1, -1, -1
        layer.kernel.assign(kernel)
        path = layer.kernel.path  # by path as by name
        figure = self.drawn(
            plots.draw_filters, monkeypatch, model, "f.png", path
        )
        image = figure.axes[0].images[0]
        red, green, blue, _ = np.moveaxis(
            image.cmap(image.norm(image.get_array())), -1, 0
        )
        assert red[0, 0] > 2 * blue[0, 0]
        assert blue[1, 1] > 2 * red[1, 1]
        assert red[2, 2] == green[2, 2] == blue[2, 2]

    def test_a_mask_has_a_column_for_each_unit(self):
        found = {k.layer.name: k for k in kb.kernels.kernels(self.network())}
        kernel = found["conv"]
        value = keras.ops.convert_to_numpy(kernel.variable)
        matrix = plots._by_unit(kernel)
        np.testing.assert_array_equal(matrix, value.reshape(27, 5))
        assert plots._by_unit(found["depthwise"]).shape == (9, 10)

    def test_filters_are_those_of_a_convolution(self, tmp_path):
        model = self.network()
        plots.draw_filters(model, tmp_path / "d.png", "depthwise")
        with pytest.raises(ValueError, match="`layer` must be a convolution"):
            plots.draw_filters(model, tmp_path / "d.png", "dense")
        with pytest.raises(
            ValueError, match=r"`model` .* holds no convolution"
        ):
            plots.draw_filters(mlp(), tmp_path / "d.png")

    @pytest.mark.parametrize(
        "draw", [plots.draw_density, plots.draw_masks, plots.draw_filters]
    )
    def test_without_matplotlib(self, draw, tmp_path, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match="pip install matplotlib"):
            draw(self.network(), tmp_path / "p.png")
