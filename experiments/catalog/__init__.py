"""The experiments: all that is trained.

`reported` has every table and figure of the report, `autopsy` what failed in
it, `curves` accuracy over density, `compaction` networks to be made smaller,
and `tuning` the trials of every method.

An experiment is a list of recipes, each trained once for every seed. At scale
`"small"` the same recipes run with the experiment's `small` changes, which two
CPU cores can afford; results of the two scales never mix.
"""

from experiments.catalog import (
    autopsy,
    compaction,
    curves,
    reported,
    tuning,
)
from experiments.catalog.experiment import SCALES, Experiment

__all__ = ["COMPACTED", "CURVES", "EXPERIMENTS", "SCALES", "Experiment"]

EXPERIMENTS = {
    e.name: e
    for group in (reported, autopsy, curves, compaction, tuning)
    for e in group.EXPERIMENTS
}

CURVES = tuple(e for e in EXPERIMENTS.values() if e.kind == "curve")
# whose networks are made smaller, and measured where they are used
COMPACTED = tuple(e.name for e in compaction.EXPERIMENTS)
