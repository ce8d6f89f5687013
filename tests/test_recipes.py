"""Recipes and the catalog: what they refuse, and what they build."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_bregman as kb
from experiments import building
from experiments.catalog import EXPERIMENTS, SCALES
from experiments.data import Dataset, Inputs
from experiments.recipes import DENSITY_TOLERANCE, Recipe, parse_change
from keras_bregman.callbacks._strengths import TOLERANCE

pytestmark = pytest.mark.once

GRAY = Inputs((28, 28, 1), (0.5,), (0.5,))
COLOR = Inputs((32, 32, 3), (0.5,) * 3, (0.25,) * 3)
PLAIN = Recipe("Some LinBreg, 0.1", "mlp", "mnist", "LinBreg", 0.1, lam=0.2)
DECLARED = [
    (experiment, scale, recipe)
    for experiment in EXPERIMENTS.values()
    for scale in SCALES
    for recipe in experiment.at(scale)[0]
]


def images(name):
    """A dataset of which only the shapes are there."""
    inputs = COLOR if name == "cifar10" else GRAY
    return Dataset(name, *(np.empty(1),) * 6, inputs)


class TestRecipe:
    def test_it_comes_back_from_a_result_file(self):
        within = PLAIN.changed(groups={"kernel": {"lam": 1.0, "groups": (0,)}})
        assert within.groups["kernel"]["groups"] == (0,)
        for recipe in (PLAIN, within, *(r for _, _, r in DECLARED)):
            fields = json.loads(json.dumps(dataclasses.asdict(recipe)))
            again = Recipe(**fields)
            assert again == recipe and repr(again) == repr(recipe)

    def test_an_epoch_has_no_more_examples_than_there_are(self):
        recipe = PLAIN.changed(examples=1000, batch_size=10)
        few = np.empty(300)
        dataset = Dataset("digits", *(few,) * 6, GRAY)
        assert recipe.steps_per_epoch(dataset) == 30

    def test_slug(self):
        assert PLAIN.slug == "some-linbreg-0.1"
        assert PLAIN.changed(label="a/../B (c)").slug == "a-..-b-c"

    def test_changed(self):
        assert PLAIN.changed(lam=0.3) == dataclasses.replace(PLAIN, lam=0.3)
        with pytest.raises(ValueError, match="no 'lambda'; it has label, mod"):
            PLAIN.changed(**{"lambda": 0.3})

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("model", "vgg19", "one of mlp, lenet300, convnet, resnet18, vgg"),
            ("data", "svhn", "one of digits, mnist"),
            ("optimizer", "sgd", "one of SGD, Adam, ProxGD"),
            ("schedule", "step", "one of plateau, cosine"),
            ("precision", "float16", "one of float32, mixed_bfloat16"),
            ("density", "low", r"of type float \| None"),
            ("density", 5, "a share and not a percentage"),
            ("epochs", 0, "greater than 0"),
            ("epochs", 2.5, "of type int"),
            ("epochs", "ten", "of type int"),
            ("epochs", True, "of type int"),
            ("batch_size", -1, "greater than 0"),
            ("width", 0.0, "greater than 0"),
            ("width", float("nan"), "greater than 0"),
            ("learning_rate", 0, "greater than 0"),
            ("lam", None, "of type float"),
            ("start", "conv", r"of type float \| dict"),
            ("augment", 1, "of type bool"),
            ("examples", 0.5, r"of type int \| None"),
            ("examples", -5, "greater than 0"),
            ("probe_steps", 5, "of type tuple"),
        ],
    )
    def test_what_no_recipe_can_have(self, field, value, message):
        with pytest.raises(ValueError, match=rf"`{field}` must be.*{message}"):
            PLAIN.changed(**{field: value})

    @pytest.mark.parametrize(
        ("text", "change"),
        [
            ("epochs=5", ("epochs", 5)),
            (" lam = 1e-3 ", ("lam", 1e-3)),
            ("data=digits", ("data", "digits")),
            (
                "start={'conv': 1.0, '': 0.01}",
                ("start", {"conv": 1.0, "": 0.01}),
            ),
            ("batch_norm=False", ("batch_norm", False)),
            ("probe_steps=(1, 10)", ("probe_steps", (1, 10))),
            ("label=a = b", ("label", "a = b")),
            ("examples=None", ("examples", None)),
        ],
    )
    def test_a_change_on_the_command_line(self, text, change):
        assert parse_change(text) == change
        PLAIN.changed(**dict([change]))

    @pytest.mark.parametrize("text", ["epochs", "=5", "epoch=5", ""])
    def test_no_change(self, text):
        with pytest.raises(ValueError, match="NAME=VALUE with a NAME of label"):
            parse_change(text)

    def test_optimizers(self):
        def built(name, **changes):
            return building.optimizer_of(
                PLAIN.changed(optimizer=name, **changes), 9
            )

        for name in ("SGD", "Adam"):
            assert isinstance(built(name), getattr(keras.optimizers, name))
        for name in ("LinBreg", "AdaBreg", "ProxGD"):
            optimizer = built(name)
            assert type(optimizer) is getattr(kb, name)
            assert optimizer.regularizer.lam == 0.2
        for name in ("SGD", "LinBreg"):
            optimizer = built(name, momentum=0.75, learning_rate=0.5)
            assert optimizer.momentum == 0.75
            assert float(optimizer.learning_rate) == 0.5

    def test_groups_share_the_strength(self):
        grouped = PLAIN.changed(
            optimizer="AdaBreg",
            groups={
                "dense1": {"lam": 2.0, "groups": "input", "alpha": 0.25},
                "dense2": {"lam": 1.0, "groups": "unit"},
                "kernel": {"lam": 1.0},
            },
        )
        chosen = building.optimizer_of(grouped, 9).regularizer
        assert list(chosen) == ["dense1", "dense2", "kernel"]
        first, second, other = chosen.values()
        assert (first.lam, first.groups, first.alpha) == (0.4, "input", 0.25)
        assert (second.lam, second.groups) == (0.2, "unit")
        assert (type(other), other.lam) == (kb.regularizers.L1, 0.2)

    def test_what_steers_a_training(self):
        asked = PLAIN.changed(
            density=0.05, ramp=0.4, freeze=0.3, schedule="cosine", epochs=5
        )
        (target,) = building.callbacks_of(asked)
        assert (target.density, target.ramp, target.freeze) == (0.05, 0.4, 0.3)
        rate = building.optimizer_of(asked, 50)._learning_rate
        assert float(rate(0)) == pytest.approx(0.1)
        assert float(rate(25)) == pytest.approx(0.05)
        assert float(rate(50)) == pytest.approx(0)
        (plateau,) = building.callbacks_of(PLAIN.changed(decay=0.3, patience=2))
        assert (plateau.factor, plateau.patience) == (0.3, 2)

    def test_precision(self):
        def built(precision):
            recipe = PLAIN.changed(precision=precision, start=0.5)
            return building.model_of(recipe, images("mnist"), 0)

        before = keras.config.dtype_policy()
        mixed, plain = built("mixed_bfloat16"), built("float32")
        assert keras.config.dtype_policy() is before
        for model, dtype in ((mixed, "bfloat16"), (plain, "float32")):
            first, last = (model.get_layer(n) for n in ("dense1", "logits"))
            assert first.compute_dtype == dtype
            assert last.compute_dtype == model.output.dtype == "float32"
        # the same start, and bfloat16's 8 bits between the logits
        x = np.random.default_rng(0).integers(0, 256, (32, 28, 28, 1), "uint8")
        for a, b in zip(mixed.get_weights(), plain.get_weights(), strict=True):
            assert a.dtype == "float32"
            np.testing.assert_array_equal(a, b)
        a, b = (m.predict(x, verbose=0) for m in (mixed, plain))
        assert 1e-6 < np.abs(a - b).max() / np.abs(b).max() < 2**-6

    def test_the_start_depends_on_the_seed_alone(self):
        def start(optimizer, seed):
            recipe = PLAIN.changed(optimizer=optimizer, width=0.1)
            return building.model_of(
                recipe, images("mnist"), seed
            ).get_weights()

        first = start("LinBreg", 0)
        for a, b in zip(first, start("SGD", 0), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(first[0], start("LinBreg", 1)[0])

    def test_the_start_is_as_described(self):
        def kernel(**changes):
            model = building.model_of(
                PLAIN.changed(**changes), images("mnist"), 0
            )
            return model.get_layer("dense1").get_weights()[0]

        once, twice = kernel(start=0.05), kernel(start=0.05, start_scale=2.0)
        assert np.mean(once != 0) == pytest.approx(0.05, rel=0.1)
        np.testing.assert_allclose(2 * once, twice, rtol=1e-6)
        balanced = kernel(start=0.05, start_method="balanced")
        assert set((balanced != 0).sum(0)) == {round(0.05 * 784)}
        assert kernel(start={"logits": 0.05}).all()


class TestCatalog:
    def test_labels_are_unique_where_they_are_read(self):
        for experiment in EXPERIMENTS.values():
            labels = [recipe.label for recipe in experiment.recipes]
            assert len(set(labels)) == len(labels)

    def test_recipes_that_share_a_file_are_the_same(self):
        files = {}
        for experiment, scale, recipe in DECLARED:
            place = scale, experiment.family, recipe.slug
            assert repr(files.setdefault(place, recipe)) == repr(recipe)
        # the perceptron's SGD and LinBreg are in two figures
        assert len(files) < len(DECLARED)

    def test_small_is_no_more_work(self):
        for experiment in EXPERIMENTS.values():
            for full, small in zip(
                experiment.recipes, experiment.at("small")[0], strict=True
            ):
                assert full.label == small.label
                assert small.epochs <= full.epochs
                assert small.width <= full.width
                assert small != full

    def test_changes_of_small_recipes_meet_one(self):
        for experiment in EXPERIMENTS.values():
            labels = {recipe.label for recipe in experiment.recipes}
            assert set(experiment.small_recipes) <= labels

    def test_every_recipe_builds(self):
        models, starts = {}, set()
        for _, _, recipe in DECLARED:
            building.optimizer_of(recipe, 9)
            building.callbacks_of(recipe)
            kind = recipe.model, recipe.batch_norm
            if kind not in models:
                tiny = recipe.changed(width=0.02)
                models[kind] = building.model_of(tiny, images(recipe.data), 0)
            start = kind, repr(recipe.start), recipe.start_method
            if start not in starts:
                # refuses expressions that take no kernel
                kb.sparsify(
                    models[kind], recipe.start, recipe.start_method, seed=0
                )
                starts.add(start)
        assert len(starts) > len(models) >= 5


def test_a_density_may_be_missed_by_as_much_everywhere():
    assert DENSITY_TOLERANCE == TOLERANCE
