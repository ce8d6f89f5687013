"""Every method gets the same chances."""

import pytest

from experiments import comparison
from experiments.catalog import EXPERIMENTS
from experiments.recipes import Recipe
from experiments.reporting.cells import Archive

BASE = Recipe("Adam", "lenet300", "mnist", "Adam", 1e-3, start=1.0)
every_method = pytest.mark.parametrize(
    "method", comparison.LENET_METHODS, ids=lambda method: method.label
)


@every_method
def test_as_many_trials_as_the_others(method):
    trials = method.trials(BASE)
    assert len({repr(t) for t in trials}) == comparison.TRIALS
    assert len({t.slug for t in trials}) == comparison.TRIALS
    assert {t.density for t in trials} == {comparison.SEARCHED_AT}


@every_method
def test_what_was_chosen_was_tried(method):
    chosen = method.at(BASE, comparison.SEARCHED_AT).changed(label="")
    assert chosen in [t.changed(label="") for t in method.trials(BASE)]


@every_method
def test_what_was_chosen_is_best_on_validation_data(method):
    rows = {r.label: r for r in Archive().rows("search-lenet", "full")}
    base = EXPERIMENTS["search-lenet"].recipes[0]
    trials = [rows[t.label] for t in method.trials(base)]
    if not all(row.results for row in trials):
        pytest.skip("not all of its trials are trained")
    best = max(trials, key=lambda row: row.cell("val_accuracy").mean)
    for field, value in zip(method.grid, method.chosen, strict=True):
        assert getattr(best.recipe, field) == value
