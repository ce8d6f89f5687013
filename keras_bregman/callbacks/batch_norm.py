"""Averages of batch normalization that belong to the present weights."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import keras

from keras_bregman._checks import check, check_integer, shown
from keras_bregman._graph import is_graph
from keras_bregman._keras import sublayers, without_functions
from keras_bregman._state import remembered, restored
from keras_bregman._wrappers import inner_optimizers


class PreciseBatchNorm(keras.callbacks.Callback):
    """Takes batch normalization's averages anew before every validation.

    In inference batch normalization uses moving averages of its training. They
    lag behind the weights, and where a large learning rate or a rising lambda
    changes these quickly, validation says little of a network that is good:
    with `LinBreg` it may stand at chance until the learning rate has fallen.
    This callback passes n batches through the network, in training mode and
    with the weights as they are, and sets

        moving_mean     <- 1/n sum_k mean(batch k)
        moving_variance <- 1/n sum_k variance(batch k)

    (over all calls, where a layer is called more than once for a batch; with
    `renorm` the deviation is averaged in place of the variance, as Keras does)
    before each validation in `fit`, at the end of each epoch without one, and
    when an optimizer's `use_ema` has replaced the weights by their averages.
    So validation, what is saved at the end of an epoch, and the trained network
    all have averages of their own weights. Training itself is what it would be
    without: batches are normalized by their own statistics there, and every
    other state, such as a dropout's seed, is put back.

    Put it behind `TargetDensity`, which may change weights before a validation,
    and before callbacks that save the model. Layers with `trainable=False`
    normalize by their averages in training, too, and keep them.

    Reference: Wu, Johnson, "Rethinking 'Batch' in BatchNorm",
    arXiv:2105.07576, 2021, section 3.

    Args:
        data: Training inputs, augmented as in training. Arrays in the
            structure of the model's inputs, of which whole batches are used,
            from the first example on; or something that yields batches each
            time it is iterated over, as `fit` takes them: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch
            `DataLoader`. Labels are ignored.
        batches: n, the number of batches, 1 or greater; fewer are used where
            there are fewer.
        batch_size: Examples in a batch of arrays, 2 or greater. Of the size
            that `fit` has, the statistics are those of training.

    Raises:
        ValueError: For an argument out of range; when `fit` begins, for a model
            without batch normalization that is trained, and for data that
            yield nothing, or what the model does not take. A model with layers
            that are not built yet is looked at before its first validation,
            or after its first epoch.
    """

    def __init__(self, data: Any, *, batches: int = 20, batch_size: int = 128):
        super().__init__()
        try:
            good = _is_arrays(data) or isinstance(data, keras.utils.PyDataset)
            good |= hasattr(data, "__iter__") and not isinstance(data, Iterator)
        except RecursionError:  # a list within itself
            good = False
        bound = (
            "arrays, or something that yields batches each time it is iterated "
            "over; of a generator make a `keras.utils.PyDataset`"
        )
        check("data", data, good, bound)
        self.data = data
        self.batches = check_integer("batches", batches, 1)
        self.batch_size = check_integer("batch_size", batch_size, 2)

    def on_train_begin(self, logs=None):
        self._is_precise = False
        # with a layer that is not built yet it is known after an epoch
        if not all(layer.built for layer in sublayers(self.model)):
            return
        self._check_that_some_follow(layers_that_follow(self.model))
        try:
            first = next(self._inputs())
            self._check_number(first)
            with restored(remembered(self.model)), _aside():
                self.model(first, training=False)
        # a model says in many ways that it cannot do with something
        except Exception as error:
            raise ValueError(
                "`data` must yield batches of inputs that the model takes. "
                f"Received: data={shown(self.data)} "
                f"({type(error).__name__}: {error})"
            ) from error

    def _check_that_some_follow(self, layers):
        if not layers:
            raise ValueError(
                f"`model` '{self.model.name}' has no batch normalization that "
                "is trained. Leave `PreciseBatchNorm` out."
            )

    def _check_number(self, batch):
        # of a list of batches Keras would take the first array alone
        if isinstance(batch, (list, tuple)) and is_graph(self.model):
            given, wanted = len(keras.tree.flatten(batch)), self.model.inputs
            if given != len(wanted):
                raise ValueError(
                    f"{given} arrays for {len(wanted)} inputs; a list is taken "
                    "for the inputs, and not for batches, of which make one "
                    "array or a `keras.utils.PyDataset`"
                )

    def on_epoch_begin(self, epoch, logs=None):
        self._is_precise = False

    def on_test_begin(self, logs=None):
        self._refresh()

    def on_epoch_end(self, epoch, logs=None):
        if not self._is_precise:
            self._refresh()

    def on_train_end(self, logs=None):
        # the weights have just been replaced by their moving averages
        optimizers = inner_optimizers(self.model.optimizer)
        if any(getattr(o, "use_ema", False) for o in optimizers):
            self._refresh()

    def _refresh(self):
        self._is_precise = True
        layers = layers_that_follow(self.model)
        self._check_that_some_follow(layers)
        averages = [v for layer in layers for v in _averages(layer)]
        ids = set(map(id, averages))
        kept = [*self.model.trainable_variables, *remembered(self.model)]
        others = [v for v in kept if id(v) not in ids]
        for average in averages:  # as infinity times 0 is none
            value = keras.ops.convert_to_tensor(average)
            good = keras.ops.isfinite(value)
            average.assign(keras.ops.where(good, value, 0.0))
        with restored(others), _aside(), contextlib.ExitStack() as stack:
            for layer in layers:
                stack.enter_context(_averaging(layer))
            # not by islice, which takes no number beyond a machine's
            for _, batch in zip(
                range(self.batches), self._inputs(), strict=False
            ):
                with without_functions():  # traced with other averages
                    self.model(batch, training=True)

    def _inputs(self):
        """Batches of inputs, as the model takes them."""
        if _is_arrays(self.data):
            size = len(keras.tree.flatten(self.data)[0])
            for begin in range(0, size, self.batch_size):
                end = begin + self.batch_size
                # a few examples at the end would count as much as a batch
                if begin > 0 and size < end:
                    return
                yield keras.tree.map_structure(
                    lambda x, i=begin, j=end: x[i:j], self.data
                )
        elif isinstance(self.data, keras.utils.PyDataset):
            count = self.data.num_batches
            for index in itertools.count() if count is None else range(count):
                yield _inputs_of(self.data[index])
        else:
            yield from map(_inputs_of, self.data)


def layers_that_follow(
    model: keras.Model,
) -> list[keras.layers.BatchNormalization]:
    """The layers whose averages follow the batches of training."""
    return [
        layer
        for layer in sublayers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and layer.built
    ]


def _averages(layer):
    """The variables that follow the statistics of batches."""
    names = ["moving_mean", "moving_variance"]
    if getattr(layer, "renorm", False):  # older Keras has none
        names.append("moving_stddev")
    return [getattr(layer, name) for name in names]


@contextlib.contextmanager
def _averaging(layer):
    """Has a layer's averages be the plain means over all of its calls."""
    momentum, call, calls = layer.momentum, layer.call, itertools.count()

    def call_and_count(*args, **kwargs):
        if kwargs.get("training"):  # else it updates nothing
            seen = next(calls)
            layer.momentum = seen / (seen + 1)
        return call(*args, **kwargs)

    layer.call = call_and_count
    try:
        yield
    finally:
        layer.momentum = momentum
        del layer.call


def _is_arrays(data):
    """Whether it is an array or arrays, of more than no dimension."""
    leaves = keras.tree.flatten(data)
    return bool(leaves) and all(getattr(x, "shape", ()) for x in leaves)


def _inputs_of(batch):
    # Keras would take a list for the inputs alone
    batch = tuple(batch) if isinstance(batch, list) else batch
    return keras.utils.unpack_x_y_sample_weight(batch)[0]


@contextlib.contextmanager
def _aside():
    """PyTorch notes down what a gradient needs, and has one random state."""
    if keras.config.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad(), torch.random.fork_rng():
        yield
