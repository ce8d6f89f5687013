"""`MultiWorkerMirroredStrategy` in a loop instead of `model.fit`."""

import keras
import numpy as np
import tensorflow as tf


def join():
    """Finds the other processes; the model is made in the strategy's scope."""
    return tf.distribute.MultiWorkerMirroredStrategy()


def fit(model, x, y, batch_size, epochs, callbacks=(), shuffle=True):
    """Gives each process its share of every batch, the rest is left out."""
    strategy, optimizer = model.distribute_strategy, model.optimizer
    variables = model.trainable_variables
    with strategy.scope():
        optimizer.build(variables)

    @tf.function
    def step(inputs, targets, frozen):
        # `frozen` only traces anew: another step is compiled then
        def on_one(inputs, targets):
            with tf.GradientTape() as tape:
                outputs = model(inputs, training=True)
                # the mean over a share, divided by the number of shares
                loss = model.compute_loss(inputs, targets, outputs)
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        losses = strategy.run(on_one, (inputs, targets))
        return strategy.reduce("SUM", losses, axis=None)

    data = tf.data.Dataset.from_tensor_slices((x, y))
    if shuffle:  # alike everywhere, as each process takes its part of it
        data = data.shuffle(len(x), seed=0)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    data = data.batch(batch_size, drop_remainder=True).with_options(options)
    shares = strategy.experimental_distribute_dataset(data)

    callbacks = keras.callbacks.CallbackList(
        list(callbacks),
        add_history=True,
        model=model,
        epochs=epochs,
        steps=len(data),
    )
    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        losses = []
        for batch, (inputs, targets) in enumerate(shares):
            callbacks.on_train_batch_begin(batch)
            frozen = getattr(optimizer, "support_is_frozen", False)
            losses.append(step(inputs, targets, frozen))
            callbacks.on_train_batch_end(batch)
        callbacks.on_epoch_end(epoch, {"loss": float(np.mean(losses))})
        if model.stop_training:
            break
    callbacks.on_train_end()
    return model.history


def leave():
    """Nothing: each process may save the model as it is."""
