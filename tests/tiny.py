"""A run of seconds: all happens that a resumed one must not miss."""

from experiments.works import RECIPE, SMALL

TINY = RECIPE.changed(label="Tiny", epochs=4, **SMALL)
