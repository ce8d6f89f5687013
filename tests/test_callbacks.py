"""The figures reach whoever reads the logs; plateaus are the authors'."""

import csv
import io
import math

import keras
import numpy as np
import pytest
from helpers import compiled, data, multi_optimizer, train
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_bregman as kb
from keras_bregman.callbacks import PlateauDecay, SparsityLogger


def _model(seed=0, **arguments):
    model = compiled(kb.LinBreg(0.05, 0.05, **arguments))
    kb.sparsify(model, 0.3, seed=seed)
    return model


def _arranged(order, *others):
    logger = SparsityLogger()
    return [logger, *others] if order == "first" else [*others, logger]


def _densities_in(path):
    """What Keras' `CSVLogger` has written."""
    with path.open() as file:
        return [float(row["density"]) for row in csv.DictReader(file)]


first_or_last = pytest.mark.parametrize("order", ("first", "last"))


class TestSparsityLogger:
    def test_history(self):
        model = _model()
        seen = []

        class Measure(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                seen.append(kb.density(self.model))

        logger = SparsityLogger(per_layer=True)
        history = train(model, 3, callbacks=[Measure(), logger]).history
        assert history["density"] == seen
        assert len(set(seen)) > 1
        hidden, out = (model.get_weights()[i] != 0 for i in (0, 2))
        assert history["density/net/hidden/kernel"][-1] == np.mean(hidden)
        assert history["density/net/out/kernel"][-1] == np.mean(out)
        alive = np.concatenate([hidden.any(0), out.any(0)])
        assert history["dead_units"][-1] == pytest.approx(1 - alive.mean())

    def test_a_model_that_the_first_step_builds(self):
        model = keras.Sequential([keras.layers.Dense(3)])
        model.compile(kb.LinBreg(0.05, 0.1), "mse")
        x = data()[0]
        logger = SparsityLogger(per_layer=True)
        view = kb.callbacks.LiveView(file=io.StringIO())
        callbacks = [logger, view]
        history = train(model, 2, (x, x[:, :3]), callbacks=callbacks).history
        assert history["density"][-1] == kb.density(model)
        (path,) = (k for k in history if k.startswith("flips/"))
        assert history["flips"] == history[path]

    def test_only_totals_by_default(self):
        history = train(_model(), 1, callbacks=[SparsityLogger()]).history
        assert set(history) == {"loss", "density", "dead_units"}

    @first_or_last
    def test_csv(self, order, tmp_path):
        path = tmp_path / "log.csv"
        logger = keras.callbacks.CSVLogger(path)
        history = train(_model(), 3, callbacks=_arranged(order, logger))
        assert _densities_in(path) == history.history["density"]

    @first_or_last
    def test_early_stopping(self, order):
        model = compiled(kb.LinBreg(0.0, 0.05))
        stop = keras.callbacks.EarlyStopping(
            "density", mode="min", patience=2, verbose=0
        )
        history = train(model, 9, callbacks=_arranged(order, stop))
        assert history.epoch == [0, 1, 2]

    @first_or_last
    def test_checkpoint(self, order, tmp_path):
        keep = keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch}-{density:.4f}.keras",
            monitor="density",
            mode="min",
        )
        history = train(_model(), 2, callbacks=_arranged(order, keep))
        expected = {
            f"{epoch}-{density:.4f}.keras"
            for epoch, density in enumerate(history.history["density"], 1)
        }
        assert {path.name for path in tmp_path.iterdir()} == expected

    def test_behind_another_by_a_subclass(self, tmp_path):
        class Logger(SparsityLogger):
            def set_model(self, model):
                super().set_model(model)
                self.was_set = True

        path = tmp_path / "log.csv"
        logger = Logger()
        callbacks = [keras.callbacks.CSVLogger(path), logger]
        history = train(_model(), 2, callbacks=callbacks).history
        assert _densities_in(path) == history["density"]
        assert logger.was_set

    def test_in_a_ready_callback_list(self, tmp_path):
        path = tmp_path / "log.csv"
        model = _model()
        ready = keras.callbacks.CallbackList(
            [keras.callbacks.CSVLogger(path), SparsityLogger()],
            add_history=True,
            model=model,
        )
        train(model, 2, callbacks=ready)
        assert _densities_in(path) == model.history.history["density"]
        assert len(_densities_in(path)) == 2

    @pytest.mark.tensorflow
    @first_or_last
    def test_tensorboard(self, order, tmp_path):
        import tensorflow as tf

        board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
        history = train(_model(), 2, callbacks=_arranged(order, board))
        found = {}
        for path in (tmp_path / "train").iterdir():
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    if value.tag == "epoch_density":
                        found[event.step] = tf.make_ndarray(value.tensor).item()
        assert found == {
            epoch: np.float32(density)
            for epoch, density in enumerate(history.history["density"])
        }

    def test_validation_does_not_disturb(self):
        history = train(
            _model(), 2, callbacks=[SparsityLogger()], validation_data=data()
        ).history
        assert set(history) == {"loss", "val_loss", "density", "dead_units"}

    def test_nan_is_not_counted(self):
        x, y = data()
        with pytest.raises(FloatingPointError, match="'net/hidden/kernel'"):
            train(_model(), 1, (x * np.nan, y), callbacks=[SparsityLogger()])


def _literal(values, rate, factor, patience, threshold, mode, min_lr):
    """ReduceLROnPlateau of PyTorch, relative threshold, word for word."""
    best = math.inf if mode == "min" else -math.inf
    num_bad_epochs = 0
    rates = []
    for current in values:
        if mode == "min":
            better = current < best * (1.0 - threshold)
        else:
            better = current > best * (threshold + 1.0)
        if better:
            best = current
            num_bad_epochs = 0
        else:
            num_bad_epochs += 1
        if num_bad_epochs > patience:
            rate = max(rate * factor, min_lr)
            num_bad_epochs = 0
        rates.append(rate)
    return rates


class _Stub:
    """All of a model that the callback touches."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def _rates(values, rate, optimizer=None, begin=0, callback=None, **arguments):
    """The learning rates that the callback sets, and those it logs."""
    optimizer = optimizer or kb.LinBreg(rate)
    callback = callback or PlateauDecay("figure", **arguments)
    callback.set_model(_Stub(optimizer))
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values, begin):
        callback.on_epoch_begin(epoch)
        logs = {"figure": value}
        callback.on_epoch_end(epoch, logs)
        rates.append(logs["learning_rate"])
    return rates


FIGURES = st.lists(
    st.one_of(
        st.sampled_from([1.0, 0.99, 0.98, 1.01, 0.5, 0.0, -1.0]),
        st.floats(-10, 10),
        st.just(math.nan),
    ),
    max_size=40,
)


class TestPlateauDecay:
    @settings(deadline=None, max_examples=30)
    @given(
        FIGURES,
        st.sampled_from([0.5, 0.25]),
        st.integers(0, 4),
        st.sampled_from([0.0, 0.01, 0.1]),
        st.sampled_from(["min", "max"]),
        st.sampled_from([0.0, 0.125]),
    )
    def test_the_rule_of_torch(
        self, values, factor, patience, threshold, mode, min_lr
    ):
        # powers of 2, exact in float32
        rule = {
            "factor": factor,
            "patience": patience,
            "threshold": threshold,
            "mode": mode,
            "min_lr": min_lr,
        }
        expected = _literal(values, 1.0, **rule)
        assert _rates(values, 1.0, **rule) == expected
        try:
            import torch
        except ImportError:
            return
        sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, eps=0, **rule)
        for value, rate in zip(values, expected, strict=True):
            theirs.step(value)
            assert sgd.param_groups[0]["lr"] == rate

    def test_the_authors_defaults(self):
        # five bad epochs pass, the sixth halves
        assert _rates([1.0] + [0.995] * 12, 1.0) == (
            [1.0] * 6 + [0.5] * 6 + [0.25]
        )

    def test_in_fit(self):
        model = compiled(kb.LinBreg(0.0, 0.1))
        model.optimizer.learning_rate = 1e-30
        plateau = PlateauDecay(factor=0.25, patience=1)
        history = train(model, 5, callbacks=[plateau]).history
        expected = np.float32(1e-30) * np.array([1, 1, 0.25, 0.25, 0.0625])
        np.testing.assert_allclose(history["learning_rate"], expected, 1e-6)
        rate = float(model.optimizer.learning_rate)
        assert rate == history["learning_rate"][-1]

    def test_min_lr_never_raises_the_rate(self):
        assert _rates([1.0] * 4, 0.25, patience=0, min_lr=0.5) == [0.25] * 4

    def test_through_a_loss_scale_optimizer(self):
        inner = kb.AdaBreg(1.0)
        outer = keras.optimizers.LossScaleOptimizer(inner)
        _rates([1.0] * 3, 1.0, outer, patience=0)
        assert float(inner.learning_rate) == 0.25

    @multi_optimizer
    def test_every_part_of_a_multi_optimizer(self):
        parts = keras.optimizers.OptimizerMap(keras.optimizers.SGD(1.0))
        parts[".*kernel"] = kb.LinBreg(0.5)
        outer = keras.optimizers.MultiOptimizer(parts)
        _rates([1.0] * 3, 1.0, outer, patience=0)
        rates = sorted(float(o.learning_rate) for o in outer.optimizers)
        assert rates == [0.125, 0.25]

    def test_counting_goes_on_at_a_later_epoch(self):
        plateau = PlateauDecay("figure", patience=2)
        optimizer = kb.LinBreg(1.0)
        assert _rates([1.0] * 3, 1.0, optimizer, 0, plateau)[-1] == 1.0
        assert _rates([1.0], 1.0, optimizer, 3, plateau) == [0.5]
        # and anew at epoch 0
        assert _rates([2.0] * 3, 1.0, optimizer, 0, plateau)[-1] == 0.5

    def test_fit_with_an_initial_epoch(self):
        model = compiled(kb.LinBreg(1e-30))
        plateau = PlateauDecay(patience=2)
        train(model, 3, callbacks=[plateau])
        rates = train(
            model, callbacks=[plateau], initial_epoch=3, epochs=4
        ).history["learning_rate"]
        np.testing.assert_allclose(rates, [5e-31], rtol=1e-6)

    def test_a_schedule_raises(self):
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
        model = compiled(kb.LinBreg(schedule))
        with pytest.raises(ValueError, match="LinBreg is a schedule"):
            train(model, 1, callbacks=[PlateauDecay()])

    def test_a_missing_figure_raises(self):
        with pytest.raises(ValueError, match=r"monitor='accuracy'.*\['loss'\]"):
            train(
                compiled(kb.LinBreg(0.1)),
                1,
                callbacks=[PlateauDecay("accuracy")],
            )

    def test_epochs_without_validation_do_not_count(self):
        model = compiled(kb.LinBreg(1e-30))
        plateau = PlateauDecay("val_loss", patience=1)
        with pytest.warns(UserWarning, match="waits for 'val_loss'") as told:
            history = train(
                model,
                6,
                callbacks=[plateau],
                validation_data=data(),
                validation_freq=2,
            ).history
        assert len([w for w in told if "waits" in str(w.message)]) == 1
        # the first of three figures is the best, and two bad ones are one more
        # than are let pass
        assert len(history["val_loss"]) == 3
        rates = history["learning_rate"]
        np.testing.assert_allclose(rates, [1e-30] * 5 + [5e-31], rtol=1e-6)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("factor", 0.0),
            ("factor", 1.0),
            ("factor", math.nan),
            ("patience", -1),
            ("threshold", -0.1),
            ("threshold", 1.0),
            ("mode", "auto"),
            ("min_lr", -1.0),
            ("min_lr", math.inf),
        ],
    )
    def test_bad_arguments(self, name, value):
        with pytest.raises(ValueError, match=f"`{name}`.*{name}={value!r}"):
            PlateauDecay(**{name: value})

    def test_reads_the_density(self):
        model = compiled(kb.LinBreg(0.0, 0.05))
        plateau = PlateauDecay("density", mode="min", patience=0)
        train(model, 2, callbacks=[plateau, SparsityLogger()])
        assert plateau.bad_epochs == 0
        assert plateau.best == kb.density(model) == 1.0
