"""Training batches as an endless stream that can start at any epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def batches(
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int,
    seed: int,
    augment: bool = False,
    first_epoch: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields shuffled batches, epoch after epoch, without end.

    Order and augmentation of epoch k depend on `seed` and k alone. So a run
    that resumes at epoch k sees what it would have seen, however far a reader
    had run ahead.

    Args:
        x: uint8 images, shape (n, height, width, channels).
        y: Labels, shape (n,).
        batch_size: Examples per batch, at most n; the last batch of an epoch
            is smaller where it does not divide n.
        seed: A non-negative integer.
        augment: Whether to shift by up to 4 pixels and mirror at random.
        first_epoch: The epoch to start with, from 0.
    """
    epoch = first_epoch
    while True:
        generator = np.random.default_rng((seed, epoch))
        order = generator.permutation(len(x))
        for start in range(0, len(x), batch_size):
            chosen = order[start : start + batch_size]
            images = x[chosen]
            if augment:
                images = crop_and_flip(images, generator)
            yield images, y[chosen]
        epoch += 1


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Number of batches in an epoch, a smaller last one included."""
    return -(-examples // batch_size)


def crop_and_flip(
    images: np.ndarray, generator: np.random.Generator, padding: int = 4
) -> np.ndarray:
    """Shifts each image by up to `padding` pixels, mirrors every other one.

    Pixels from outside the image are black. The usual augmentation of CIFAR,
    also the paper's.

    Args:
        images: Shape (n, height, width, channels).
        generator: Draws the shifts and the mirrors.
        padding: Largest shift in pixels.
    """
    n, height, width, _ = images.shape
    edges = (padding, padding)
    padded = np.pad(images, ((0, 0), edges, edges, (0, 0)))
    # views of all crops: (n, 2p + 1, 2p + 1, channels, height, width)
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (height, width), axis=(1, 2)
    )
    down, right = generator.integers(0, 2 * padding + 1, (2, n))
    crops = windows[np.arange(n), down, right].transpose(0, 2, 3, 1)
    mirrored = generator.random(n) < 0.5
    crops[mirrored] = crops[mirrored, :, ::-1]
    return np.ascontiguousarray(crops)
