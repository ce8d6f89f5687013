"""Warnings when a sparse training goes wrong in a way that is known."""

from __future__ import annotations

import keras
import numpy as np

from keras_bregman import sparsity
from keras_bregman._checks import check_choice
from keras_bregman._finite import REMEDY
from keras_bregman._graph import is_graph, layers_of
from keras_bregman._keras import producer
from keras_bregman._scalars import to_float
from keras_bregman._warning import warn
from keras_bregman._wrappers import inner_optimizers, regularized
from keras_bregman.base_optimizer import ProximalOptimizer

_EARLY = (1, 10)  # steps after which a jump of the density is looked for
_PATIENCE = 100  # steps that a first weight may take
# with tau = lambda AdaBreg has 75 to 83 % on after 10 steps
_SPARSE, _FULL = 0.5, 0.7


class SparsityWatch(keras.callbacks.Callback):
    """Warns when training goes wrong, and names the remedy.

    Each once in a `fit`, as a `UserWarning`:

    everything on   A network that started below 50 % has more than 70 % of
                    its weights on after 1 or 10 steps.
    nothing on      A network that started below 50 % has switched on nothing
                    by the end of the first epoch after 100 steps.
    dead layer      All weights of a kernel that is trained are 0 at the ends
                    of two epochs, so that it passes nothing on.
    stray bias      Units of a layer are dead, and have a bias that wanders in
                    front of batch normalization. In training the batch's mean
                    takes it away; in inference the moving mean lags behind,
                    and at the ends of two epochs the dead units say more than
                    units that are alive.
    not finite      A kernel holds NaN or infinity.
    all dense       An optimizer of this package has no `regularizer`, or none
                    for what is trained.

    The first two are for an optimizer of this package that has not made a step
    before; they are silent while the support is frozen.

    Args:
        of: `"kernels"`, or `"regularized"`: the variables that the model's
            optimizers regularize, kernels or not, are looked at. Those are
            known from the first step on, so that nothing is said of a first
            `fit` that switches on everything or nothing.

    Raises:
        ValueError: If `of` is neither; when training begins, if the model has
            no kernel that can be looked at.
    """

    def __init__(self, *, of: str = "kernels"):
        super().__init__()
        self.of = check_choice("of", of, sparsity.OF)

    def on_train_begin(self, logs=None):
        sparsity.check_countable(self.model, self.of)
        optimizers = inner_optimizers(self.model.optimizer)
        self._has_begun = False
        self._earlier = self._batches = 0
        # with several batches to a step, by optimizers or around them
        self._batches_to_step = max(
            getattr(o, "gradient_accumulation_steps", None) or 1
            for o in (self.model.optimizer, *optimizers)
        )
        self._looks = list(_EARLY)
        self._is_judged = False
        self._dead: set[str] = set()
        self._stray: set[str] = set()
        self._said: set[str] = set()

    def on_epoch_begin(self, epoch, logs=None):
        # not before: when training begins `BackupAndRestore` sets weights
        if self._has_begun:
            return
        self._has_begun = True
        optimizers = inner_optimizers(self.model.optimizer)
        self._is_fresh = not any(to_float(o.iterations) for o in optimizers)
        # one that its first step builds starts dense
        self._begun, self._begun_at = {}, 1.0
        if sparsity.is_known(self.model, self.of) or (
            self.of == "regularized" and regularized(self.model)
        ):
            self._begun = sparsity.supports(self.model, self.of)
            self._begun_at = _share_on(self._begun)

    @property
    def _steps(self):
        return self._batches // self._batches_to_step

    def on_train_batch_end(self, batch, logs=None):
        self._batches = self._earlier + batch + 1
        is_due = False
        # several steps may be made in one execution
        while self._looks and self._steps >= self._looks[0]:
            self._looks.pop(0)
            is_due = True
        if is_due and self._is_sparse_start():
            now = _share_on(sparsity.supports(self.model, self.of))
            if now > _FULL:
                self._say_everything(now)

    def on_epoch_end(self, epoch, logs=None):
        self._earlier = self._batches
        if self._is_unregularized():
            self._say_dense()
        found = sparsity.counted(self.model, self.of)
        values = {k.name: _array(k.variable) for k in found}
        for name, value in values.items():
            if not np.isfinite(value).all():
                self._say_not_finite(name)
        if self._steps >= _PATIENCE and not self._is_judged:
            self._is_judged = True
            if self._is_sparse_start() and not any(
                (value[~self._begun[name]] != 0).any()
                for name, value in values.items()
            ):
                self._say_nothing()
        dead = {
            k.name
            for k in found
            if k.variable.trainable
            and values[k.name].size
            and not values[k.name].any()
        }
        for name in sorted(dead & self._dead):
            self._say_dead(name)
        self._dead = dead
        stray = set(_stray_biases(self.model, found, values))
        for name in sorted(stray & self._stray):
            self._say_stray(name)
        self._stray = stray

    def _is_sparse_start(self):
        if not self._is_fresh or self._begun_at >= _SPARSE:
            return False
        frozen = any(
            getattr(o, "support_is_frozen", False)
            for o in inner_optimizers(self.model.optimizer)
        )
        return not frozen and bool(regularized(self.model))

    def _is_unregularized(self):
        optimizers = inner_optimizers(self.model.optimizer)
        ours = any(isinstance(o, ProximalOptimizer) for o in optimizers)
        return ours and not regularized(self.model)

    def _say_dense(self):
        self._warn(
            "all dense",
            "Nothing is regularized, so that all weights are switched on. Give "
            "the optimizer `regularizer=1.0`, for variables whose path ends in "
            "kernel, or a dict that finds others.",
        )

    def _say_everything(self, now):
        self._warn(
            "everything on",
            f"{now:.0%} of the weights are on after {self._steps} steps, of "
            f"{self._begun_at:.0%} at the start: the learning rate "
            f"({self._rates()}) is too large against lambda "
            f"({self._lambdas()}). Lower `learning_rate`, 0.001 is usual for "
            "AdaBreg, or raise lambda; or ask for a density with "
            "`callbacks.TargetDensity`.",
        )

    def _say_nothing(self):
        duals = [e for e in regularized(self.model) if e.dual is not None]
        come = ""
        if duals:
            reached = max(_share_of_threshold(entry) for entry in duals)
            come = (
                f"; the dual variables have come to at most {reached:.0%} of "
                "the threshold"
            )
        self._warn(
            "nothing on",
            f"No weight was switched on in {self._steps} steps{come}. Lower "
            f"lambda ({self._lambdas()}), raise `learning_rate` "
            f"({self._rates()}), or start with more weights by "
            "`keras_bregman.sparsify`; or ask for a density with "
            "`callbacks.TargetDensity`.",
        )

    def _say_dead(self, name):
        self._warn(
            f"dead layer {name}",
            f"All weights of {name} have been 0 for an epoch: it passes "
            "nothing on. Start with "
            "`keras_bregman.sparsify(model, method='balanced')`, give this "
            "kernel a smaller strength by a dict as `regularizer`, or ask for "
            "a density with `callbacks.TargetDensity(..., "
            "distribution='uniform')`.",
        )

    def _say_stray(self, name):
        self._warn(
            f"stray bias {name}",
            f"Units of {name} are dead, and in inference batch normalization "
            "makes more of their bias than of units that are alive, so that "
            "the model does worse on validation than in training. Give the "
            "layer `use_bias=False`, which batch normalization makes up for; "
            "or a larger `epsilon` to batch normalization or AdaBreg.",
        )

    def _say_not_finite(self, name):
        self._warn(
            "not finite",
            f"The weights of {name} hold NaN or infinity: a loss or gradient "
            f"was not finite. {REMEDY}, and go on from finite weights.",
        )

    def _warn(self, cause, text):
        if cause not in self._said:
            self._said.add(cause)
            warn(text)

    def _rates(self):
        optimizers = inner_optimizers(self.model.optimizer)
        return ", ".join(f"{to_float(o.learning_rate):g}" for o in optimizers)

    def _lambdas(self):
        lambdas = {to_float(entry.lam) for entry in regularized(self.model)}
        return ", ".join(f"{lam:g}" for lam in sorted(lambdas))


def _share_on(supports):
    on = sum(int(np.count_nonzero(support)) for support in supports.values())
    return on / max(1, sum(support.size for support in supports.values()))


def _share_of_threshold(entry):
    """How far the most eager of the weights that are off has come."""
    lam = to_float(entry.lam)
    dual = keras.ops.convert_to_tensor(entry.dual)
    critical = _array(entry.shrink.critical(dual))
    off = _array(entry.variable) == 0
    furthest = float(np.max(critical, where=off, initial=0.0))
    return furthest / lam if lam else 0.0


def _stray_biases(model, found, values):
    """Names of kernels with dead units whose bias is normalized to above 1."""
    suspects = {}
    # a layer's bias comes behind the last of its kernels
    for owner, kernel in {k.layer: k for k in found}.items():
        alive = values[kernel.name].any(axis=kernel.layout.over("unit"))
        if getattr(owner, "bias", None) is not None and not alive.all():
            suspects[owner] = kernel.name, ~alive.reshape(-1)
    if not suspects or not is_graph(model):
        return
    for norm, calls in layers_of(model).values():
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        layer = producer(calls[0].inputs[0])
        if layer not in suspects:
            continue
        name, dead = suspects[layer]
        if not layer.bias.shape == norm.moving_mean.shape == dead.shape:
            continue
        said = _array(layer.bias) - _array(norm.moving_mean)
        said /= np.sqrt(_array(norm.moving_variance) + norm.epsilon)
        if norm.gamma is not None:
            said *= _array(norm.gamma)
        if (np.abs(said[dead]) > 1).any():
            yield name


def _array(tensor):
    return keras.ops.convert_to_numpy(tensor)
