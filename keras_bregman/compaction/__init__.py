"""Making a sparse model smaller."""

from keras_bregman.compaction.compacting import compact
from keras_bregman.compaction.report import CompactionReport

__all__ = ["CompactionReport", "compact"]
