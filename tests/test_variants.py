"""What the ablation tries does what it says."""

import keras
import numpy as np
import pytest
from helpers import array, compiled, data, train, weights

import keras_bregman as kb
from experiments import building, variants
from experiments.recipes import Recipe

pytestmark = pytest.mark.once

PAIRS = [(kb.AdaBreg, variants.AdaBreg), (kb.LinBreg, variants.LinBreg)]


def trained(optimizer, steps=6, **kernel):
    keras.utils.set_random_seed(0)
    model = compiled(optimizer, **kernel)
    kb.sparsify(model, 0.5, seed=0)
    train(model, steps)
    return model


def assert_alike(a, b, **tolerance):
    first, second = weights(a), weights(b)
    for path, value in first.items():
        np.testing.assert_allclose(value, second[path], **tolerance)


@pytest.mark.parametrize(("plain", "variant"), PAIRS)
def test_without_its_arguments_it_is_the_librarys(plain, variant):
    assert_alike(trained(plain(0.05, 0.05)), trained(variant(0.05, 0.05)))


@pytest.mark.parametrize(("plain", "variant"), PAIRS)
def test_coupled_decay_is_an_l2_penalty_in_the_loss(plain, variant):
    penalty = keras.regularizers.L2(0.05)
    assert_alike(
        trained(plain(0.05, 0.05), kernel_regularizer=penalty),
        trained(variant(0.05, 0.05, coupled_decay=0.1)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_a_leak_forgets_a_share_of_the_dual():
    found = {}
    for leak in (0.0, 0.25):
        keras.utils.set_random_seed(0)
        model = compiled(variants.LinBreg(0.05, 0.3, leak=leak))
        kb.sparsify(model, 0.5, seed=0)
        theta = array(model.get_layer("hidden").kernel)
        train(model, 1)
        (dual, *_) = model.optimizer.regularized()[0].state
        found[leak] = array(dual)
    before = theta + 0.3 * np.sign(theta)
    np.testing.assert_allclose(
        found[0.0] - found[0.25], 0.25 * before, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("plain", "variant"), PAIRS)
def test_in_a_cycle_the_support_changes_at_full_steps_only(plain, variant):
    supports, moved = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            theta = array(self.model.get_layer("hidden").kernel)
            supports.append(theta != 0)
            moved.append(theta)

    keras.utils.set_random_seed(0)
    model = compiled(variant(0.05, 0.02, cycle=3))
    kb.sparsify(model, 0.3, seed=0)
    theta = array(model.get_layer("hidden").kernel)
    supports.append(theta != 0)
    moved.append(theta)
    train(model, 9, data(), callbacks=[Watch()])
    changed = [(supports[i] != supports[i - 1]).any() for i in range(1, 10)]
    assert not any(changed[i - 1] for i in (1, 2, 4, 5, 7, 8))
    assert any(changed)
    # and in between the weights that are on move
    assert all((moved[i] != moved[i - 1]).any() for i in range(1, 10))


def test_a_recipe_takes_a_variant_where_its_arguments_ask_for_it():
    recipe = Recipe("", "mlp", "digits", "AdaBreg", 0.1, lam=0.5)
    assert type(building.optimizer_of(recipe, 9)) is kb.AdaBreg
    optimizer = building.optimizer_of(recipe.changed(options={"leak": 0.1}), 9)
    assert type(optimizer) is variants.AdaBreg and optimizer.leak == 0.1
    by_layer = {"dense1/kernel": 0.1, "dense2/kernel": 0.2}
    optimizer = recipe.changed(options={"regularizer": by_layer})
    optimizer = building.optimizer_of(optimizer, 9)
    assert optimizer.regularizer["dense2/kernel"].lam == 0.2


def test_tau_rises_before_the_cosine():
    recipe = Recipe("", "mlp", "digits", "Adam", 0.1, schedule="cosine")
    rate = building.optimizer_of(recipe.changed(warmup=0.25), 80)._learning_rate
    found = [float(rate(step)) for step in (0, 10, 20, 50, 80)]
    np.testing.assert_allclose(found, [0, 0.05, 0.1, 0.05, 0], atol=1e-6)
