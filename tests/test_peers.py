"""The methods to compare with: each follows its paper's rule."""

import itertools
from functools import partial

import keras
import numpy as np
import pytest
from helpers import array, data, mlp, train, weights
from tiny import TINY

import keras_bregman as kb
from experiments import training
from experiments.data import load
from experiments.peers import learned_threshold
from experiments.peers.lasso import penalize
from experiments.peers.masked import MaskedAdam, MaskedProxGD, MaskedSGD
from experiments.peers.pruning import MagnitudePruning
from experiments.peers.rewiring import SET, RigL
from experiments.works import outcome

pytestmark = pytest.mark.once

DENSITY = 0.3
PEERS = {
    "pruning": {"steering": {"every": 3, "end": 0.7}},
    "rigl": {"steering": {"every": 3}},
    "set": {"steering": {"every": 3}},
    "lasso": {"lam": 1e-3},
    "proximal": {
        "method": "lasso",
        "optimizer": "ProxGD",
        "learning_rate": 0.1,
        "lam": 1e-3,
    },
    "thresholds": {"steering": {"start": -1.3, "decay": 1e-3}},
}


def recipe(method):
    peer = TINY.changed(
        optimizer="Adam",
        learning_rate=0.01,
        momentum=0.0,
        lam=0.0,
        start=1.0,
        start_scale=1.0,
        width=0.3,
        augment=False,
        threshold=0.05,
        epochs=5,
        density=DENSITY,
    )
    return peer.changed(**{"method": method, **PEERS[method]})


def masked(optimizer=None):
    """A compiled model and its masked kernels."""
    model = mlp()
    sgd = MaskedSGD(0.1, momentum=0.9, keep_gradients=True)
    model.compile(optimizer or sgd, "mse")
    model.optimizer.build(model.trainable_variables)
    return model, model.optimizer.masked


def steered_by(callback):
    """The masked kernels of a model in a training of 40 steps."""
    model, kernels = masked()
    callback.set_model(model)
    callback.set_params({"epochs": 8, "steps": 5})
    return kernels


def fit(callback):
    model, kernels = masked()
    train(model, 10, callbacks=[callback])
    return model, kernels


class TestMaskedOptimizers:
    @pytest.mark.parametrize(
        ("masked_one", "plain"),
        [
            (MaskedAdam, keras.optimizers.Adam),
            (MaskedSGD, keras.optimizers.SGD),
            (
                partial(MaskedProxGD, regularizer=0.1),
                partial(kb.ProxGD, regularizer=0.1),
            ),
        ],
    )
    def test_with_full_masks_they_are_the_plain_ones(self, masked_one, plain):
        found = []
        for optimizer in (masked_one(0.01), plain(0.01)):
            keras.utils.set_random_seed(1)
            model = mlp()
            model.compile(optimizer, "mse")
            train(model, 5)
            found.append(weights(model))
        for path, expected in found[1].items():
            np.testing.assert_allclose(
                found[0][path], expected, rtol=1e-6, atol=1e-8
            )

    @pytest.mark.parametrize("make", (MaskedAdam, MaskedSGD))
    def test_outside_the_mask_all_stays_0(self, make):
        model, kernels = masked(make(0.1, weight_decay=0.1))
        rng = np.random.default_rng(0)
        masks = [rng.random(k.variable.shape) < 0.5 for k in kernels]
        for kernel, mask in zip(kernels, masks, strict=True):
            kernel.remask(mask)
        train(model, 5)
        for kernel, mask in zip(kernels, masks, strict=True):
            np.testing.assert_array_equal(array(kernel.variable) != 0, mask)
            for slot in kernel.slots:
                assert not array(slot)[~mask].any()

    def test_what_comes_or_goes_starts_from_0(self):
        model, kernels = masked()
        train(model, 3)
        first = kernels[0]
        assert len(first.slots) == 1
        before, momentum = array(first.variable), array(first.slots[0])
        mask = np.random.default_rng(0).random(before.shape) < 0.5
        first.remask(mask)
        np.testing.assert_array_equal(array(first.variable), mask * before)
        np.testing.assert_array_equal(array(first.slots[0]), mask * momentum)
        first.remask(np.ones_like(mask))
        np.testing.assert_array_equal(array(first.variable), mask * before)
        np.testing.assert_array_equal(array(first.slots[0]), mask * momentum)


class TestMagnitudePruning:
    def test_the_largest_stay_and_nothing_comes_back(self):
        begin, end, epochs = 2, 8, 10
        callback = MagnitudePruning(DENSITY, begin / 10, end / 10, every=1)
        model, _ = masked()
        seen = []

        class Watch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                kernels = _kernels(self.model)
                seen.append(np.concatenate([w.ravel() for w in kernels]))

        train(model, epochs, callbacks=[Watch(), callback, Watch()])
        before, after = seen[::2], seen[1::2]
        size, on = before[0].size, before[0].size
        for step in range(1, epochs + 1):
            # Zhu and Gupta's schedule, in their words for sparsities
            t = min(max(step, begin), end)
            sparsity = (1 - DENSITY) * (
                1 - (1 - (t - begin) / (end - begin)) ** 3
            )
            kept = round((1 - sparsity) * size)
            old, new = before[step - 1], after[step - 1]
            assert np.count_nonzero(new) == kept
            order = np.argsort(-np.abs(old), kind="stable")[:kept]
            assert set(np.flatnonzero(new)) == set(order)
            assert np.count_nonzero(old) == on  # nothing grew in the step
            on = kept

    def test_the_end_may_lie_between_two_prunings(self):
        _, kernels = fit(MagnitudePruning(DENSITY, end=0.7, every=4))
        model, _ = fit(MagnitudePruning(DENSITY, end=1.0, every=7))
        assert kb.density(model) == pytest.approx(DENSITY, abs=0.5 / 64)
        assert sum(array(k.mask).sum() for k in kernels) == round(64 * DENSITY)


class TestRigL:
    def test_one_update_is_the_papers(self):
        # 16 weights, 8 on; after 5 of 20 steps until the end
        rng = np.random.default_rng(2)
        callback = RigL(0.5, every=5, fraction=0.5, end=0.5)
        kernels = steered_by(callback)
        cases = []
        for kernel in kernels:
            shape = tuple(kernel.variable.shape)
            mask = np.zeros(np.prod(shape), bool)
            mask[rng.permutation(mask.size)[: mask.size // 2]] = True
            w = rng.normal(size=mask.size) * mask
            gradient = rng.normal(size=mask.size)
            kernel.mask.assign(mask.reshape(shape).astype("float32"))
            kernel.variable.assign(w.reshape(shape))
            kernel.gradient.assign(gradient.reshape(shape))
            cases.append((mask, array(kernel.variable).ravel(), gradient))
        callback.remask(5)
        share = 0.5 / 2 * (1 + np.cos(5 * np.pi / 20))
        regrown = 0
        for kernel, (mask, w, gradient) in zip(kernels, cases, strict=True):
            n = int(share * mask.sum())
            on = sorted(np.flatnonzero(mask), key=lambda i: abs(w[i]))
            dropped, kept = on[:n], set(on[n:])
            off = [i for i in range(mask.size) if i not in kept]
            grown = sorted(off, key=lambda i: -abs(gradient[i]))[:n]
            new = array(kernel.mask).ravel()
            assert n and set(np.flatnonzero(new)) == kept | set(grown)
            np.testing.assert_array_equal(  # what grows elsewhere begins at 0
                array(kernel.variable).ravel(), np.where(new, w, 0)
            )
            regrown += len(set(dropped) & set(grown))
        assert regrown  # the dropped may grow at once

    def test_the_gradient_is_that_of_all_weights(self):
        model, kernels = masked(MaskedSGD(0.1, keep_gradients=True))
        inputs = data()
        dense = mlp()
        for kernel in kernels:
            mask = np.random.default_rng(0).random(kernel.variable.shape) < 0.5
            kernel.remask(mask)
        dense.set_weights(model.get_weights())
        dense.compile(keras.optimizers.SGD(1.0), "mse")
        before = weights(dense)
        train(dense, 1, inputs)
        train(model, 1, inputs)
        after = weights(dense)
        for kernel in kernels:
            path = kernel.variable.path
            np.testing.assert_allclose(
                array(kernel.gradient),
                before[path] - after[path],
                rtol=1e-4,
                atol=1e-6,
            )

    @pytest.mark.parametrize("make", (RigL, SET))
    def test_the_density_never_changes_and_masks_do_until_the_end(self, make):
        counts, masks = [], []

        class Watch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                now = [array(k.mask) for k in self.model.optimizer.masked]
                counts.append([mask.sum() for mask in now])
                masks.append(np.concatenate([m.ravel() for m in now]))

        model, _ = masked()
        callback = make(DENSITY, every=2, fraction=0.5, end=0.6, seed=3)
        train(model, 10, callbacks=[callback, Watch()])
        # Erdos-Renyi: densities as (6 + 8) / (6 * 8) to (8 + 2) / (8 * 2)
        factor = DENSITY * 64 / (14 + 10)
        assert counts[0] == [round(14 * factor), round(10 * factor)]
        assert all(count == counts[0] for count in counts)
        changed = [(a != b).any() for a, b in itertools.pairwise(masks)]
        assert changed == [step in (2, 4) for step in range(2, 11)]

    def test_seeds_settle_the_first_mask(self):
        def first(seed):
            _, kernels = fit(RigL(DENSITY, every=100, seed=seed))
            return [array(k.mask) for k in kernels]

        for a, b in zip(first(1), first(1), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (first(1)[0] != first(2)[0]).any()


class TestSET:
    def test_one_update_is_the_papers(self):
        rng = np.random.default_rng(2)
        callback = SET(0.5, every=5, fraction=0.4, end=0.5, seed=1)
        kernels = steered_by(callback)
        cases = []
        for kernel in kernels:
            shape = tuple(kernel.variable.shape)
            mask = rng.random(shape) < 0.5
            kernel.mask.assign(mask.astype("float32"))
            # some have stayed where they began
            values = rng.normal(size=shape) * (rng.random(shape) < 0.8)
            kernel.variable.assign(values * mask)
            cases.append((mask, array(kernel.variable)))
        callback.remask(5)
        for kernel, (mask, w) in zip(kernels, cases, strict=True):
            positive, negative = np.sort(w[w > 0]), np.sort(w[w < 0])
            gone = {
                0.0,
                *positive[: int(0.4 * positive.size)],
                *negative[negative.size - int(0.4 * negative.size) :],
            }
            new, after = array(kernel.mask) != 0, array(kernel.variable)
            assert gone and set(w[mask & ~new]) == gone
            assert new.sum() == mask.sum()
            np.testing.assert_array_equal(after, np.where(new, w, 0))


def test_the_penalty_is_the_l1_norm():
    model = mlp()
    norm = sum(
        np.abs(array(w)).sum() for w in model.weights if "kernel" in w.path
    )
    penalize(model, 0.25)
    model.compile("sgd", "mse")
    x, y = data()
    plain = np.mean((model.predict(x, verbose=0) - y) ** 2)
    total = model.evaluate(x, y, verbose=0)
    assert total == pytest.approx(plain + 0.25 * norm, rel=1e-5)


class TestLearnedThresholds:
    def build(self, start=-1.0, decay=0.0):
        plain = mlp()
        model = learned_threshold.learn_thresholds(plain, start, decay)
        return plain, model

    def test_kernels_pass_a_soft_threshold(self):
        plain, model = self.build()
        x, _ = data()
        least = 1 / (1 + np.exp(1.0))
        hidden = x
        for i, name in enumerate(("hidden", "out")):
            w, bias = map(array, plain.get_layer(name).weights)
            w = np.sign(w) * np.maximum(np.abs(w) - least, 0)
            hidden = hidden @ w + bias
            hidden = np.tanh(hidden) if i == 0 else hidden
        np.testing.assert_allclose(
            model.predict(x, verbose=0), hidden, rtol=1e-4, atol=1e-5
        )

    def test_thresholds_learn_by_the_loss_gradient_and_decay(self):
        _, model = self.build(decay=0.5)
        model.compile(keras.optimizers.SGD(1.0), "mse")
        x, y = data()
        first, second = (w for w in model.weights if "threshold" in w.path)

        def loss(s):
            first.assign(s)
            return model.evaluate(x, y, verbose=0)

        slope = (loss(-0.99) - loss(-1.01)) / 0.02
        first.assign(-1.0)
        other = float(array(second))
        train(model, 1, (x, y))
        assert -1.0 - float(array(first)) == pytest.approx(slope, rel=2e-2)
        assert float(array(second)) != other

    def test_density_and_flops_are_those_behind_the_thresholds(self):
        _, model = self.build()
        kernels = [
            array(layer.kernel) for layer in model.layers if layer.weights
        ]
        on = sum(np.count_nonzero(kernel) for kernel in kernels)
        size = sum(kernel.size for kernel in kernels)
        assert 0 < on < size
        assert kb.density(model) == on / size
        # dense layers, each kernel used once
        assert kb.flops(model, zeros=False) == 2 * on
        assert kb.flops(model) == 2 * size

    def test_the_plain_model_computes_the_same(self):
        _, model = self.build()
        fixed = learned_threshold.fix_thresholds(model, 1.0)
        assert {type(layer) for layer in fixed.layers} == {keras.layers.Dense}
        x, _ = data()
        np.testing.assert_allclose(
            fixed.predict(x, verbose=0),
            model.predict(x, verbose=0),
            rtol=1e-5,
            atol=1e-6,
        )
        assert 0 < kb.density(fixed) < 1
        one = learned_threshold.fix_thresholds(model, 1e-9)
        assert sum(map(np.count_nonzero, _kernels(one))) == 1
        cut = learned_threshold.fix_thresholds(model, 0.125)
        assert kb.density(cut) == 0.125
        least = min(np.abs(w[w != 0]).min() for w in _kernels(cut))
        gone = [
            np.abs(a[(a != 0) & (b == 0)])
            for a, b in zip(_kernels(fixed), _kernels(cut), strict=True)
        ]
        assert np.concatenate(gone).max() <= least


def _kernels(model):
    return [array(w) for w in model.weights if "kernel" in w.path]


@pytest.mark.parametrize("method", PEERS)
def test_a_run_has_the_density_and_survives_a_kill(method, tmp_path):
    dataset = load("digits")
    model, whole = training.train(
        recipe(method), 0, dataset, tmp_path / "whole.npz"
    )
    size = sum(w.size for w in _kernels(model))
    assert kb.density(model) == whole["test"]["density"]
    assert whole["test"]["density"] <= DENSITY + 0.51 / size
    if method in ("pruning", "lasso", "proximal"):
        assert whole["test"]["density"] >= DENSITY - 0.51 / size
    elif method in ("rigl", "set"):
        # what grows at a pixel that is always black stays 0
        assert whole["test"]["density"] >= 0.95 * DENSITY
    assert whole["test"]["accuracy"] > 0.25  # chance is 0.1
    # both of the network as it is used, also if that was cut at the end
    for part in ("val", "test"):
        x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        found = np.mean(model.predict(x, verbose=0).argmax(axis=1) == y)
        said = whole["validation" if part == "val" else "test"]["accuracy"]
        assert said == pytest.approx(found)
    # what was chosen is what is reported: only the density asked for counts
    best = whole["best_epoch"] - 1
    assert whole["history"]["density"][best] <= 1.02 * DENSITY
    assert len(whole["history"]["flops"]) == 5
    held = {"rigl": 5, "lasso": 4, "pruning": 4, "set": 4, "thresholds": 3}
    if method in held:  # weights, two moments, mask, gradient
        share = whole["floats"]["optimizer"] / whole["floats"]["weights"]
        assert share == pytest.approx(held[method] - 1, abs=0.1)

    def interrupt(line):
        if "epoch   3/5" in line:
            raise KeyboardInterrupt

    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        training.train(recipe(method), 0, dataset, path, progress=interrupt)
    _, resumed = training.train(recipe(method), 0, dataset, path)
    assert resumed["sessions"] == 2
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize(
    "changes", [{"density": None}, {"optimizer": "LinBreg"}]
)
def test_a_peer_needs_a_density_and_an_optimizer_without_a_dual(changes):
    with pytest.raises(
        ValueError, match="'rigl' takes a `density` and one of SGD, A"
    ):
        recipe("rigl").changed(**changes)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: RigL(0.0), "density"),
        (lambda: SET(0.1, every=0), "every"),
        (lambda: SET(0.1, fraction=1.5), "fraction"),
        (lambda: RigL(0.1, end=75), "end"),
        (lambda: MagnitudePruning(5), "density"),
        (lambda: MagnitudePruning(0.1, begin=0.8, end=0.7), "begin"),
        (lambda: MagnitudePruning(0.1, end=2.0), "end"),
    ],
)
def test_an_argument_out_of_range_is_named(make, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        make()
