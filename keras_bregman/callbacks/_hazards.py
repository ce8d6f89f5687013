"""What goes wrong beside a density that is asked for, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_bregman._scalars import to_float
from keras_bregman._warning import warn
from keras_bregman._wrappers import inner_optimizers
from keras_bregman.callbacks.batch_norm import (
    PreciseBatchNorm,
    layers_that_follow,
)
from keras_bregman.callbacks.plateau_decay import PlateauDecay

_FORGOTTEN = 0.02  # of the averages before the ramp, what may be left at last
_FALLEN = 0.101  # by one cut to a tenth, in float32


def warn_of_late_averages(
    model: keras.Model,
    callbacks: Sequence[keras.callbacks.Callback],
    steps: int,
) -> None:
    """Warns if batch normalization will not know the final weights.

    What soft thresholds leave of a kernel is much smaller than what it was, and
    its outputs vary as much less. Of the variance from before, an average of
    momentum m still holds m^n after n steps.

    Args:
        model: A model in training.
        callbacks: Those of its `fit`.
        steps: n, those that are left when the ramp is over.
    """
    if any(isinstance(c, PreciseBatchNorm) for c in callbacks):
        return
    momenta = [layer.momentum for layer in layers_that_follow(model)]
    if momenta and max(momenta) ** steps > _FORGOTTEN:
        warn(
            f"Batch normalization averages with momentum {max(momenta):g}, and "
            f"in the {steps} steps behind the ramp it does not forget the "
            "weights before soft thresholds shrank them: the model may be at "
            "chance in validation and inference. Put "
            "`callbacks.PreciseBatchNorm` behind TargetDensity, take "
            '`threshold="hard"`, or train longer.'
        )


class PlateauAlarm:
    """Warns, once, if tau falls on what only looks like a plateau.

    Args:
        model: A model in training.
        callbacks: Those of its `fit`.
    """

    def __init__(
        self,
        model: keras.Model,
        callbacks: Sequence[keras.callbacks.Callback],
    ):
        kinds = (PlateauDecay, keras.callbacks.ReduceLROnPlateau)
        names = [type(c).__name__ for c in callbacks if isinstance(c, kinds)]
        self._name = names[0] if names else None
        self._optimizer = inner_optimizers(model.optimizer)[0]
        # to fall from; None without such a callback, and once it was said
        self._rate = to_float(self._optimizer.learning_rate) if names else None

    def look(self) -> None:
        """To be called while the ramp goes on."""
        if self._rate is None:
            return
        rate = to_float(self._optimizer.learning_rate)
        if rate <= _FALLEN * self._rate:
            warn(
                f"{self._name} has taken the learning rate from "
                f"{self._rate:g} to {rate:g} while the density is on its way: "
                "the loss rises as weights are switched off, which is no "
                "plateau. Take a schedule, as "
                "`keras.optimizers.schedules.CosineDecay`, or more `patience`."
            )
            self._rate = None
