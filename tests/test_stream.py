"""The stream of batches: every epoch a permutation, from any epoch on."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.stream import batches, crop_and_flip, steps_per_epoch

pytestmark = pytest.mark.once

SIZES = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(1, n))
)
SEEDS = st.integers(0, 2**31)


def numbered(n):
    """Images all of whose pixels are their label, which is 1 to n."""
    y = np.arange(1, n + 1)
    return np.broadcast_to(y[:, None, None, None], (n, 9, 9, 1)).astype(
        "uint8"
    ), y


def epochs_of(n, batch_size, seed, count, **options):
    """The batches of some epochs, epoch by epoch."""
    stream = batches(*numbered(n), batch_size, seed, **options)
    steps = steps_per_epoch(n, batch_size)
    return [list(itertools.islice(stream, steps)) for _ in range(count)]


def labels(epoch):
    return np.concatenate([y for _, y in epoch])


@given(SIZES, SEEDS, st.booleans())
def test_every_epoch_is_a_permutation_in_whole_batches(sizes, seed, augment):
    n, batch_size = sizes
    for epoch in epochs_of(n, batch_size, seed, 3, augment=augment):
        np.testing.assert_array_equal(
            np.sort(labels(epoch)), np.arange(1, n + 1)
        )
        *whole, last = [len(y) for _, y in epoch]
        assert set(whole) <= {batch_size} and 1 <= last <= batch_size


@given(SIZES, SEEDS, st.integers(0, 4), st.booleans())
def test_an_epoch_depends_on_seed_and_number_alone(sizes, seed, k, augment):
    through = epochs_of(*sizes, seed, k + 2, augment=augment)
    from_k = epochs_of(*sizes, seed, 2, augment=augment, first_epoch=k)
    for (x, y), (x_k, y_k) in zip(
        itertools.chain(*through[k:]), itertools.chain(*from_k), strict=True
    ):
        np.testing.assert_array_equal(x, x_k, strict=True)
        np.testing.assert_array_equal(y, y_k, strict=True)


@given(SEEDS, st.integers(0, 5))
def test_epochs_and_seeds_differ(seed, k):
    def order(seed, k):
        (epoch,) = epochs_of(40, 7, seed, 1, first_epoch=k)
        return labels(epoch).tolist()

    assert order(seed, k) != order(seed, k + 1)
    assert order(seed, k) != order(seed + 1, k)


@given(SIZES, SEEDS)
def test_augmentation_leaves_order_and_labels(sizes, seed):
    (plain,) = epochs_of(*sizes, seed, 1)
    (augmented,) = epochs_of(*sizes, seed, 1, augment=True)
    for (x, y), (x_plain, y_plain) in zip(augmented, plain, strict=True):
        np.testing.assert_array_equal(y, y_plain)
        np.testing.assert_array_equal(x_plain[:, 4, 4, 0], y)
        # shifted, an image is its label and black: pixel (4, 4) is inside
        np.testing.assert_array_equal(x.max((1, 2, 3)), y)
        np.testing.assert_array_equal(x[:, 4, 4, 0], y)
        assert (np.isin(x, 0) | (x == y[:, None, None, None])).all()


def crop(image, down, right, mirror, padding):
    """One way to shift and mirror an image, pixel by pixel."""
    out = np.zeros_like(image)
    height, width, _ = image.shape
    for i, j in np.ndindex(height, width):
        row = i + down - padding
        column = (width - 1 - j if mirror else j) + right - padding
        if 0 <= row < height and 0 <= column < width:
            out[i, j] = image[row, column]
    return out


@settings(max_examples=20)
@given(
    st.integers(0, 2).flatmap(
        lambda padding: st.tuples(
            st.just(padding),
            st.integers(padding + 1, 6),
            st.integers(padding + 1, 6),
            st.integers(1, 3),
        )
    ),
    SEEDS,
)
def test_crops_are_shifts_and_mirrors(sizes, seed):
    padding, *shape = sizes
    generator = np.random.default_rng(seed)
    images = generator.integers(1, 256, (10, *shape), "uint8")
    before = images.copy()
    crops = crop_and_flip(images, generator, padding)
    assert crops.shape == images.shape and crops.dtype == np.uint8
    np.testing.assert_array_equal(images, before)
    shifts = range(2 * padding + 1)
    for image, got in zip(images, crops, strict=True):
        assert any(
            np.array_equal(got, crop(image, *how, padding))
            for how in itertools.product(shifts, shifts, (False, True))
        )


def test_every_shift_and_mirror_is_as_likely():
    generator = np.random.default_rng(0)
    image = generator.integers(1, 256, (9, 9, 1), "uint8")
    ways = {
        crop(image, *how, 4).tobytes(): how
        for how in itertools.product(range(9), range(9), (False, True))
    }
    n = 100 * len(ways)
    crops = crop_and_flip(np.repeat(image[None], n, 0), generator)
    drawn = [ways[c.tobytes()] for c in crops]
    for values in zip(*drawn, strict=True):
        counts = np.unique(values, return_counts=True)[1]
        expected = n / len(counts)
        assert len(counts) in (9, 2)
        # five standard deviations of a binomial count
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert len(set(drawn)) == len(ways)
