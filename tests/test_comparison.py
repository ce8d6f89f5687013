"""Every method gets the same chances."""

import pytest

from experiments import comparison
from experiments.catalog import EXPERIMENTS
from experiments.recipes import Recipe
from experiments.reporting.cells import Archive

pytestmark = pytest.mark.once

BASE = Recipe("Adam", "lenet300", "mnist", "Adam", 1e-3, start=1.0)
SEARCHES = {
    "search-lenet": (comparison.LENET_METHODS, comparison.SEARCHED_AT),
    "search-convnet": (comparison.CONVNET_METHODS, 0.023),
}
every_method = pytest.mark.parametrize(
    ("name", "method", "density"),
    [
        pytest.param(name, method, density, id=f"{name}-{method.label}")
        for name, (methods, density) in SEARCHES.items()
        for method in methods
    ],
)


@every_method
def test_as_many_trials_as_the_others(name, method, density):
    trials = method.trials(BASE, density)
    assert len({repr(t) for t in trials}) == comparison.TRIALS
    assert len({t.slug for t in trials}) == comparison.TRIALS
    assert {t.density for t in trials} == {density}


@every_method
def test_what_was_chosen_was_tried(name, method, density):
    chosen = method.at(BASE, density).changed(label="")
    trials = method.trials(BASE, density)
    assert chosen in [t.changed(label="") for t in trials]


@every_method
def test_what_was_chosen_is_best_on_validation_data(name, method, density):
    rows = {r.label: r for r in Archive().rows(name, "full")}
    base = EXPERIMENTS[name].recipes[0]
    trials = [rows[t.label] for t in method.trials(base, density)]
    if not all(row.results for row in trials):
        pytest.skip("not all of its trials are trained")
    best = max(trials, key=lambda row: (_reaches(row), _accuracy(row)))
    for field, value in zip(method.grid, method.chosen, strict=True):
        assert getattr(best.recipe, field) == value


def _reaches(row):
    """Whether a trial had the density before it was cut down to it."""
    (result,) = row.results.values()
    density = result["history"]["density"][result["best_epoch"] - 1]
    return density <= 1.02 * row.recipe.density


def _accuracy(row):
    return row.cell("val_accuracy").mean
