"""Every method gets the same chances."""

import pytest

from experiments.archive import Archive
from experiments.catalog import EXPERIMENTS, methods
from experiments.recipes import Recipe

pytestmark = pytest.mark.once

BASE = Recipe("Adam", "lenet300", "mnist", "Adam", 1e-3, start=1.0)
SEARCHES = {
    "search-lenet": (methods.LENET_METHODS, methods.SEARCHED_AT),
    "search-lenet-5": (
        methods.LENET_METHODS_AGAIN,
        methods.SEARCHED_AGAIN_AT,
    ),
    "search-convnet": (methods.CONVNET_METHODS, 0.023),
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
    others = SEARCHES[name][0]
    trials = method.trials(BASE, density)
    (n,) = {len(other.trials(BASE, density)) for other in others}
    assert len({repr(t.changed(label="")) for t in trials}) == n
    assert len({t.slug for t in trials}) == n
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
    trials = method.trials(base, density)
    tried = [rows[trial.label] for trial in trials]
    if not all(row.is_whole for row in tried):
        pytest.skip("not all of its trials are trained")
    for n in range(len(method.rounds) + 1):  # each begins where the last led
        so_far = method._replace(rounds=method.rounds[:n])
        best = max(
            so_far.trials(base, density), key=lambda t: _merit(rows[t.label])
        )
        expected = so_far.at(base, density).changed(label="")
        assert best.changed(label="") == expected


def _merit(row):
    """Whether a trial came to the density without a cut, then its accuracy."""
    reaches = all(
        result["history"]["density"][result["best_epoch"] - 1]
        <= 1.02 * row.recipe.density
        for result in row.results.values()
    )
    return reaches, row.cell("val_accuracy").mean
