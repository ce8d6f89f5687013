"""A density that the user asks for, instead of a strength lambda."""

from __future__ import annotations

import math

import keras

from keras_bregman import sparsity
from keras_bregman._checks import (
    check_choice,
    check_integer,
    check_number,
)
from keras_bregman._finite import check_finite
from keras_bregman._scalars import to_float, to_floats
from keras_bregman._warning import warn
from keras_bregman._wrappers import inner_optimizers
from keras_bregman.allocation import DISTRIBUTIONS, allocate
from keras_bregman.base_optimizer import NOT_BEGUN
from keras_bregman.callbacks._clock import Clock
from keras_bregman.callbacks._hazards import PlateauAlarm, warn_of_late_averages
from keras_bregman.callbacks._list import list_that_calls, to_front
from keras_bregman.callbacks._strengths import (
    Scope,
    counts,
    feed_back,
    let_go,
    make_exact,
    nonzero,
)
from keras_bregman.freezing import freeze_in
from keras_bregman.optimizers import BregmanOptimizer

_METHODS = ("exact", "feedback")
_THRESHOLDS = ("soft", "hard")


class TargetDensity(keras.callbacks.Callback):
    """Steers lambda so that the model gets, and ends with, a density.

    The density is that of `keras_bregman.density`: the share of all kernel
    entries, or of what `of` says, that are not 0. From where it stands when
    training begins, d_0, it is led to the requested d along a cubic ramp,

        d(t) = d + (d_0 - d) (1 - (t - begin) / ramp)^3,

    with t the share of training that is over, from `begin` on and for `ramp` of
    it; and in the last `freeze` of it the weights that are on are trained to
    the end, while the others stay 0.

    method="exact"     lambda becomes an order statistic of the dual variable,
                       the strength at which just d(t) of the weights are on
    method="feedback"  lambda is multiplied by (density / d(t))^gain; the last
                       correction is exact

    Either way the weights are then read anew off the dual variable
    (`LinBreg.rethreshold`): every so many steps, before validation and at the
    end of every epoch. Where all weights are wanted, before the ramp, in a
    layer or by `density=1.0`, lambda is 0. Weights that are alike to the last
    bit, as scales of batch normalization that all begin at 1, stay on until
    they differ. Under `NonNegativeL1` those that begin negative are 0 at any
    strength, half of them as a rule. Layers with `trainable=False` are left as
    they are.

    Strengths given to the regularizers matter relative to each other, within
    `distribution="global"`: under twice the strength a kernel needs dual
    variables twice as large. From a dense start they are also how far a dual
    variable goes before its weight, once off, returns. Those of groups should
    be small, see `regularizers.GroupLasso`.

    How far training is follows from `epoch` and `fit`'s `epochs`; all else is
    kept in variables of the optimizer. So a `fit` that is resumed with
    `initial_epoch`, from a saved model or by `BackupAndRestore`, goes on as if
    it had never stopped. After epochs without this callback the density is
    from the first step on what the ramp has come to by then: number the epochs
    from 0 for the whole ramp.

    When `fit` ends, the support is released. Broken off in its last phase it
    stays frozen, as in what was saved in that phase, until another `fit` with
    this callback or `keras_bregman.freeze_support(model, False)`.

    Args:
        density: The wanted density d, a float in (0, 1].
        method: `"exact"` or `"feedback"`.
        distribution: `"global"`: one lambda, and layers share the weights as
            the data asks for. `"uniform"`: every regularized layer gets the
            same. `"erdos-renyi"`: densities proportional to sum(shape) /
            prod(shape) of the kernels, small layers being denser. Kernels that
            are not regularized count with all that they have on, and the
            others get what is left of `density`, unless `of` says otherwise.
        begin: Share of training before the ramp, in [0, 1], at density d_0;
            `begin + ramp + freeze` is at most 1.
        ramp: Share of training that the ramp takes, in [0, 1]; 0 asks for d
            at once.
        freeze: Share of training on the frozen support at the end, in [0, 1].
        every: Steps between two corrections, 1 or greater; by default a
            thousandth of the training and at least 20.
        gain: Exponent of `"feedback"`, in (0, 1].
        threshold: What a rising lambda does to the weights that stay on:
            `"soft"` shrinks them by as much, as the proximal operator does;
            `"hard"` leaves them as they are, better in fine-tuning, in other
            short trainings, and behind batch normalization for groups: those
            that start dense are much alike in norm, and what soft thresholds
            leave of them is small.
        of: What is counted: `"kernels"`, all of the model's, or
            `"regularized"`, the variables that its optimizers regularize,
            kernels or not: embeddings, or the scales of batch normalization,
            of which each that becomes 0 takes a channel with it. d_0 is then
            their density after the first step. Either way frozen ones count.

    Raises:
        ValueError: For an argument out of range; when training begins, in a
            loop that does not say how many epochs it has, and for an optimizer
            of another model; after the first step, for one without a dual
            variable, without a regularized variable that is trained, with a
            strength of 0, if the density is less than one weight, or if the
            kernels that are not regularized or not trained alone exceed it.
        FloatingPointError: When a regularized kernel became NaN, infinite or
            too large for a finite strength.

    Reference: the cubic ramp is that of Zhu, Gupta, "To prune, or not to
    prune", 2017; the densities by layer are those of Evci et al., "Rigging the
    Lottery", ICML 2020.
    """

    def __init__(
        self,
        density: float,
        *,
        method: str = "exact",
        distribution: str = "global",
        begin: float = 0.0,
        ramp: float = 0.5,
        freeze: float = 0.25,
        every: int | None = None,
        gain: float = 0.2,
        threshold: str = "soft",
        of: str = "kernels",
    ):
        super().__init__()
        self.density = check_number("density", density, "(0, 1]")
        self.method = check_choice("method", method, _METHODS)
        self.distribution = check_choice(
            "distribution", distribution, ("global", *DISTRIBUTIONS)
        )
        self.ramp = check_number("ramp", ramp, "[0, 1]")
        self.freeze = check_number("freeze", freeze, "[0, 1]")
        self.every = every
        if every is not None:
            self.every = check_integer("every", every, 1)
        self.gain = check_number("gain", gain, "(0, 1]")
        self.threshold = check_choice("threshold", threshold, _THRESHOLDS)
        self.of = check_choice("of", of, sparsity.OF)
        self.begin = check_number("begin", begin, "[0, 1]")
        # which binary fractions round
        if self.begin + self.ramp + self.freeze > 1 + 1e-9:
            raise ValueError(
                "`begin`, `ramp` and `freeze` are shares of training, one "
                "after the other, and must not be more than all of it. "
                f"Received: begin={begin!r}, ramp={ramp!r}, freeze={freeze!r}"
            )
        self._clock: Clock  # of a `fit`
        self._training = self._is_restored = False
        self._made: list[float] = []
        self._corrected_at: float | None = None
        self._steers, self._has_warned = False, False
        self._list: keras.callbacks.CallbackList | None = None
        self._alarm: PlateauAlarm | None = None
        self._given: dict[int, float] = {}  # strengths, until they are set

    def __getstate__(self):
        # of a `fit` that is no concern of a copy, and cannot be pickled
        return {**super().__getstate__(), "_list": None}

    def set_model(self, model):
        super().set_model(model)
        self._list = callbacks = list_that_calls()
        if callbacks is not None:
            found = callbacks.callbacks
            if sum(isinstance(c, TargetDensity) for c in found) > 1:
                raise ValueError(
                    "`fit` takes one TargetDensity, as two would each set "
                    "what the other has set. For a density by layer see "
                    "`distribution`, and a dict as the optimizer's "
                    "`regularizer`."
                )
            # what restores weights when training ends may come behind this one
            judge = keras.callbacks.LambdaCallback(
                on_train_end=lambda logs: self._judge()
            )
            callbacks.callbacks = [*found, judge]
            # and what reads or saves them at the end of an epoch before it
            to_front(callbacks, self)

    def on_train_begin(self, logs=None):
        found = inner_optimizers(self.model.optimizer)
        # a MultiOptimizer may know its parts only from the first step on
        if found and not self._optimizers():
            raise ValueError(
                "TargetDensity steers the lambda of LinBreg, AdaBreg or "
                "another BregmanOptimizer, and the model is compiled with "
                f"{_names(found)}. Compile it "
                "with `keras_bregman.AdaBreg(regularizer=1.0)`."
            )
        # on JAX Keras takes it all the same, by the places of its variables
        entries, weights = self._entries(), set(map(id, self.model.weights))
        if entries and not any(id(e.variable) in weights for e in entries):
            raise ValueError(
                f"{_names(found)} was built for another model, and has none of "
                "this one's variables. Compile each model with an optimizer of "
                "its own."
            )
        # in a loop of one's own nobody has told it
        if "epochs" not in (self.params or {}):
            raise ValueError(
                "TargetDensity goes by the share of training that is over, and "
                "does not know how long that is. Call it by "
                "`keras.callbacks.CallbackList([...], model=model, epochs=10, "
                "steps=100)`, the numbers of epochs and of steps in each."
            )
        self._training = True
        self._made = self._steps_made()
        self._steers = self._has_warned = False
        self._clock = Clock(self.params)
        self._set_frozen(False)  # or have been broken off
        self._begun_at = None

    def on_train_end(self, logs=None):
        self._training = False
        self._set_frozen(False)
        if self._list is None:
            self._judge()

    def _judge(self):
        """Warns if training ends with another density than was asked for."""
        steers, self._steers = self._steers, False
        if not steers or self._is_reached():
            return
        entries = [e for scope in self._missed() for e in scope.entries]
        if any(to_float(entry.lam) for entry in entries):
            why = (
                "What stops it early or restores the best epoch has to wait, "
                "as EarlyStopping does with `start_from_epoch`; to go on, call "
                "`fit` with `initial_epoch`."
            )
        elif any(e.shrink.regularizer.constrains for e in entries):
            why = (
                "No lambda is left to lower: the regularizer keeps the others "
                "at 0, as NonNegativeL1 those that begin negative."
            )
        else:
            why = (
                "No lambda is left to lower: the others have no gradient, as "
                "behind a layer that passes nothing on, which SparsityWatch "
                "names. Start denser, or by `sparsify(method='balanced')`."
            )
        warn(
            "Training ended before the density was reached: "
            f"{sparsity.density(self.model, of=self.of):.3g}, not "
            f"{self.density:.3g}. {why}"
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._clock.begin_epoch(epoch)
        # not before: when training begins others may set weights
        if self._begun_at is None:
            self._is_restored = self._steps_made() != self._made
            # one that its first step builds starts dense
            self._begun_at = 1.0
            if sparsity.is_known(self.model, self.of):
                self._begun_at = sparsity.density(self.model)
        if self._is_last() and self._is_reached():
            self._set_frozen(True)

    def on_train_batch_end(self, batch, logs=None):
        # on JAX whoever asks for the model makes it wait, so seldom
        is_due = self._clock.passes(batch, self._interval())
        self._corrected_at = None
        # before a strength far too small has switched everything on
        begins = not self._steers and self._begin()
        if begins or is_due:
            self._correct()

    def on_test_begin(self, logs=None):
        if self._training:
            self._clock.end_steps()  # `fit` validates when an epoch is over
            self._correct()

    def on_epoch_end(self, epoch, logs=None):
        self._clock.end_steps()
        self._clock.begin_epoch(epoch + 1)
        self._correct()
        if self._alarm and self._clock.position < self.begin + self.ramp:
            self._alarm.look()

    def _optimizers(self):
        return [
            optimizer
            for optimizer in inner_optimizers(self.model.optimizer)
            if isinstance(optimizer, BregmanOptimizer)
        ]

    def _steps_made(self):
        return [to_float(o.iterations) for o in self._optimizers()]

    def _entries(self):
        """What is steered: what the optimizers regularize and train."""
        return [
            entry
            for optimizer in self._optimizers()
            if optimizer.built  # one of several may have nothing to do
            for entry in optimizer.regularized()
            if entry.variable.trainable and math.prod(entry.variable.shape)
        ]

    def _begin(self):
        """What can be done once the optimizer is built.

        Whether the ramp begins here, and not in a `fit` that this one goes on.
        """
        entries = self._entries()
        if not entries:
            raise ValueError(
                "TargetDensity needs a regularized variable that is trained, "
                f"and {_names(inner_optimizers(self.model.optimizer))} has "
                "none. Give the optimizer `regularizer=1.0`, for variables "
                "whose path ends in kernel, or a dict that finds others, as "
                "{'gamma': 1e-3}, and the callback then of='regularized'."
            )
        for entry in entries:
            if not entry.given_lam:
                raise ValueError(
                    "TargetDensity needs strengths greater than 0, relative "
                    f"to which it sets them; that of '{entry.name}' is 0."
                )
        if not self._clock.steps:
            warn(
                "TargetDensity does not know how long the first epoch is, and "
                "leads the density nowhere before its end. Give `fit` "
                "`steps_per_epoch`, or data with a length."
            )
        self._steers = True
        self._look_beside()
        if self.of == "regularized":  # of which nothing was known before
            self._begun_at = sparsity.density(self.model, of=self.of)
        optimizer = entries[0].optimizer
        former = to_float(optimizer.initial_density)
        # BackupAndRestore may go on within the first epoch
        again = self._clock.epoch == 0 and not self._is_restored
        begins = again or former == NOT_BEGUN
        if begins:
            optimizer.initial_density.assign(self._begun_at)
        strengths = to_floats(entry.lam for entry in entries)
        self._given = {
            id(entry.lam): lam
            for entry, lam in zip(entries, strengths, strict=True)
            # or a fit that this one goes on has not set it yet
            if begins or math.isclose(lam, entry.given_lam, rel_tol=1e-6)
        }
        return begins

    def _look_beside(self):
        """Warns of what else is in this `fit`."""
        beside = self._list.callbacks if self._list else []
        self._alarm = PlateauAlarm(self.model, beside)
        if self._clock.steps and self.threshold == "soft":
            left = round((1 - self.begin - self.ramp) * self._clock.steps)
            warn_of_late_averages(self.model, beside, left)

    def _interval(self):
        """Steps between two corrections, each a few passes over all weights."""
        return self.every or max(20, self._clock.steps // 1000)

    def _correct(self):
        """Brings the density to where it is to be now."""
        # once for the end of an epoch, whoever saves the model when; frozen by
        # the user too, and without asking for the model
        position = self._clock.position
        if position == self._corrected_at:
            return
        optimizers = self._optimizers()
        if any(o.support_is_frozen for o in optimizers):
            if not any(o.step_is_stale for o in optimizers):
                return
            self._warn_of_stale_steps()
        self._corrected_at = position
        last = self._is_last()
        hard = self.threshold == "hard"
        scopes = self._scopes(self._wanted())
        check_finite([e.variable for s in scopes for e in s.entries])
        exact = []
        for scope, on in nonzero(scopes):
            if scope.wanted >= scope.size:
                let_go(scope)
            elif on == scope.wanted:
                continue
            # a strength of 0 is 0 by any factor
            elif last or self.method == "exact" or not scope.has_strengths:
                exact.append(scope)
            else:
                factor = (on / scope.wanted) ** self.gain
                feed_back(scope, factor, hard)
        make_exact(exact, hard, self._given)
        if last:
            self._set_frozen(True)

    def _warn_of_stale_steps(self):
        if not self._has_warned:
            self._has_warned = True
            warn(
                "TargetDensity has frozen the support, and steps go on that "
                "were compiled before, as in a loop of your own: weights come "
                "and go, and are corrected. Give the compiled function "
                "`optimizer.support_is_frozen` as an argument, by which it is "
                "compiled anew."
            )

    def _is_last(self):
        """Whether the next correction is the last, and the support frozen."""
        # which binary fractions round
        return self._clock.position + self.freeze >= 1 - 1e-9

    def _is_reached(self):
        """Whether the model has the density that it is to end with."""
        return bool(self._entries()) and not self._missed()

    def _missed(self):
        """What does not have as many weights on as it is to end with."""
        scopes = self._scopes(self.density) if self._entries() else []
        return [
            scope
            for scope, on in nonzero(scopes)
            if abs(on - scope.wanted) > scope.tolerance
        ]

    def _set_frozen(self, frozen):
        freeze_in(self.model, self._optimizers(), frozen)

    def _wanted(self):
        """The density of the ramp."""
        over = self._clock.position - self.begin
        left = float(over < 0)
        if self.ramp:
            left = min(1.0, max(0.0, 1 - over / self.ramp))
        begun_at = to_float(self._entries()[0].optimizer.initial_density)
        return self.density + (begun_at - self.density) * left**3

    def _scopes(self, density):
        """What shares a strength, and how many weights it gets."""
        by_id = {id(e.variable): e for e in self._entries()}
        entries, rest, size = [], [], 0
        for kernel in sparsity.counted(self.model, self.of):
            size += math.prod(kernel.variable.shape)
            if id(kernel.variable) in by_id:
                entries.append(by_id[id(kernel.variable)])
            else:  # with LoRA a frozen kernel and a product that is not
                rest.append(kernel.multiplied)
        others = sum(counts(rest))
        if round(self.density * size) <= others:
            if not others:
                why = f"it is less than one of {size:,} weights. Ask for more"
            else:
                why = (
                    f"{others:,} of {size:,} entries are on and not "
                    "regularized, or not trained. Regularize or train them too"
                )
                if self.of == "kernels":
                    why += ", or count others alone by of='regularized'"
            raise ValueError(
                f"`density` cannot be reached: {why}. "
                f"Received: density={self.density!r}"
            )
        # a ramp may begin at 0
        total = max(1, round(density * size) - others)
        if self.distribution == "global":
            return [Scope(entries, total)]
        shapes = [tuple(e.variable.shape) for e in entries]
        wanted = allocate(shapes, total, self.distribution)
        return [Scope([e], k) for e, k in zip(entries, wanted, strict=True)]


def _names(optimizers):
    return ", ".join(type(optimizer).__name__ for optimizer in optimizers)
