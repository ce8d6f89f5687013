"""Processes joined by Keras, and `model.fit` in each of them."""

import keras


def join():
    """Finds the other processes; before all else."""
    keras.distribution.initialize()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )


def fit(model, x, y, batch_size, epochs, callbacks=(), shuffle=True):
    """Gives each process its share of every batch, the rest is left out."""
    workers = keras.distribution.distribution()
    rank, count = workers.data_shard_id, workers.num_processes
    batch_size -= batch_size % count  # or shares would not be alike
    share = slice(rank, len(x) // batch_size * batch_size, count)
    return model.fit(
        x[share],
        y[share],
        batch_size=batch_size // count,
        epochs=epochs,
        callbacks=list(callbacks),
        shuffle=shuffle,
        verbose=0,
    )


def leave():
    """From here on each process is alone, and may save the model."""
    keras.distribution.set_distribution(None)
