"""`DistributedDataParallel` in a loop instead of `model.fit`."""

import keras
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def join():
    """Finds the other processes."""
    on_gpu = torch.cuda.is_available()
    distributed.init_process_group("nccl" if on_gpu else "gloo")


def fit(model, x, y, batch_size, epochs, callbacks=(), shuffle=True):
    """Gives each process its share of every batch, the rest is left out."""
    count = distributed.get_world_size()
    data = TensorDataset(torch.as_tensor(x), torch.as_tensor(y))
    sampler = DistributedSampler(data, shuffle=shuffle, drop_last=True)
    shares = DataLoader(
        data, batch_size // count, sampler=sampler, drop_last=True
    )
    # whose backward pass averages the gradients
    parallel = DistributedDataParallel(model)
    variables = model.trainable_variables
    model.optimizer.build(variables)

    callbacks = keras.callbacks.CallbackList(
        list(callbacks),
        add_history=True,
        model=model,
        epochs=epochs,
        steps=len(shares),
    )
    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        callbacks.on_epoch_begin(epoch)
        losses = []
        for batch, (inputs, targets) in enumerate(shares):
            callbacks.on_train_batch_begin(batch)
            parallel.zero_grad()
            outputs = parallel(inputs, training=True)
            loss = model.compute_loss(inputs, targets, outputs)
            loss.backward()
            with torch.no_grad():
                gradients = [v.value.grad for v in variables]
                model.optimizer.apply(gradients, variables)
            losses.append(loss.detach())
            callbacks.on_train_batch_end(batch)
        # one figure for all, or callbacks would decide differently
        mean = torch.stack(losses).mean() / count
        distributed.all_reduce(mean)
        callbacks.on_epoch_end(epoch, {"loss": float(mean)})
        if model.stop_training:
            break
    callbacks.on_train_end()
    return model.history


def leave():
    """Ends the group; each process may save the model."""
    distributed.destroy_process_group()
