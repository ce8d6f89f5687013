"""The datasets, as numpy arrays with the report's splits.

`digits` is embedded in scikit-learn. The others come through TensorFlow
Datasets once; a `.npz` cache then serves them without TensorFlow.
"""

from __future__ import annotations

import os
import sys
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.errors import Trouble

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10")


class Inputs(NamedTuple):
    """What a network reads.

    Attributes:
        shape: Height, width and channels of an image.
        mean: By channel, of images over 255; subtracted.
        deviation: By channel, likewise; divided by.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Dataset(NamedTuple):
    """Images and labels in three splits.

    Images are uint8 of shape (n, height, width, channels), 0 to 255; labels
    are int64 of shape (n,), 0 to 9.

    Attributes:
        name: One of `NAMES`.
        x_train, y_train: What is trained on.
        x_val, y_val: Held out of the training split, to choose by.
        x_test, y_test: The official test split (`digits`: 300 images).
        inputs: What a network has to know of the images.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    inputs: Inputs


class DatasetUnavailable(Trouble):
    """A dataset is neither here nor to be had; the message says what helps."""


class _Spec(NamedTuple):
    train: int
    test: int
    val: int  # of train
    inputs: Inputs


# mean and deviation of the training images; the authors give Fashion-MNIST,
# whose are 0.286 and 0.353, the round ones
_SPECS = {
    "mnist": _Spec(
        60_000, 10_000, 5_000, Inputs((28, 28, 1), (0.1307,), (0.3081,))
    ),
    "fashion_mnist": _Spec(
        60_000, 10_000, 5_000, Inputs((28, 28, 1), (0.5,), (0.5,))
    ),
    "cifar10": _Spec(
        50_000,
        10_000,
        2_500,
        Inputs((32, 32, 3), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ),
}
_DIGITS = Inputs((8, 8, 1), (0.3057,), (0.3762,))
_FORMAT = "keras_bregman 1"  # of the cache
_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load(name: str) -> Dataset:
    """Loads a dataset: from the cache, a prepared folder, or the network.

    Training, validation and test images: `digits` 1,297, 200 and 300 (8x8x1;
    a fixed stratified split), `mnist` and `fashion_mnist` 55,000, 5,000 and
    10,000 (28x28x1), `cifar10` 47,500, 2,500 and 10,000 (32x32x3). Validation
    is the end of the official training split, in the order of TensorFlow
    Datasets.

    The cache, `NAME.npz`, is read first and written after another source was:
    in `KERAS_BREGMAN_CACHE` of the environment, else in
    `~/.cache/keras_bregman`. Datasets prepared by TensorFlow Datasets are in
    `TFDS_DATA_DIR`, else in `~/tensorflow_datasets`, where a download is put.

    Args:
        name: One of `NAMES`. `digits` needs neither network nor cache.

    Raises:
        ValueError: If `name` is not one of `NAMES`.
        DatasetUnavailable: If no source has the dataset. A source that cannot
            be reached is given up within seconds.

    Warns:
        UserWarning: If a cache file is damaged or not ours, and is therefore
            built anew; if the cache cannot be written.
    """
    if name not in NAMES:
        raise ValueError(
            f"`name` must be one of {', '.join(map(repr, NAMES))}. "
            f"Received: {name!r}"
        )
    if name == "digits":
        return _digits()
    data_dir = _folder("TFDS_DATA_DIR", "~/tensorflow_datasets")
    cache = _folder("KERAS_BREGMAN_CACHE", "~/.cache/keras_bregman")
    cache /= f"{name}.npz"
    arrays = _read_cache(name, cache)
    if arrays is None:
        try:
            arrays = _from_tfds(name, data_dir)
            _check(name, arrays)
        # a missing package, the network, the disk, a checksum, a half-written
        # folder: TFDS raises AssertionError and KeyError among twenty others
        except Exception as error:
            message = _unavailable(name, data_dir / name, cache, error)
            raise DatasetUnavailable(message) from error
        _write_cache(name, cache, arrays)
    x, y, x_test, y_test = arrays
    n = len(x) - _SPECS[name].val
    return Dataset(
        name,
        x[:n],
        y[:n],
        x[n:],
        y[n:],
        x_test,
        y_test,
        _SPECS[name].inputs,
    )


def _folder(variable: str, default: str) -> Path:
    """A folder that the environment may name."""
    return Path(os.path.expanduser(os.environ.get(variable) or default))


def inputs_of(name: str) -> Inputs:
    """The images of a dataset of `NAMES`, without loading it."""
    return _DIGITS if name == "digits" else _SPECS[name].inputs


def noise(name: str, examples: int) -> Dataset:
    """Random images and labels in a dataset's shapes, to time things with.

    Args:
        name: One of `NAMES`.
        examples: Number of images in each of the splits.
    """
    inputs = inputs_of(name)
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (examples, *inputs.shape), "uint8")
    y = generator.integers(0, 10, examples)
    return Dataset(name, x, y, x, y, x, y, inputs)


def _digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DatasetUnavailable(
            "Dataset 'digits' comes with scikit-learn, which cannot be "
            f"imported ({error}): pip install scikit-learn"
        ) from error
    digits = load_digits()
    # stored as 0 to 16
    x = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    y = digits.target.astype(np.int64)
    rest, test = train_test_split(
        np.arange(len(y)), test_size=300, stratify=y, random_state=0
    )
    train, val = train_test_split(
        rest, test_size=200, stratify=y[rest], random_state=0
    )
    return Dataset(
        "digits",
        x[train],
        y[train],
        x[val],
        y[val],
        x[test],
        y[test],
        _DIGITS,
    )


def _from_tfds(name: str, data_dir: Path) -> list[np.ndarray]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" not in sys.modules:
        # beside JAX or torch: TensorFlow must not take the GPU's memory
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    import tensorflow_datasets as tfds

    # any 3.x that is prepared: asked for no version, TFDS wants its newest
    builder = tfds.builder(f"{name}:3.*.*", data_dir=data_dir)
    if not builder.data_path.exists():
        _reach(builder)
        builder.download_and_prepare()
    arrays: list[np.ndarray] = []
    for split in ("train", "test"):
        whole = builder.as_dataset(
            split=split, batch_size=-1, as_supervised=True
        )
        arrays.extend(tfds.as_numpy(whole))
    return arrays


def _reach(builder) -> None:
    """Raises within seconds if a dataset's source is out of reach.

    TFDS itself sets no timeout and tries ten times, which takes minutes.
    """
    import requests  # as TFDS does: the same proxies and certificates

    for url in list(builder.url_infos)[:1]:
        with requests.get(url, stream=True, timeout=10) as response:
            response.raise_for_status()


def _unavailable(name: str, folder: Path, cache: Path, error: Exception) -> str:
    remedies = [
        "set TFDS_DATA_DIR to a folder of prepared datasets, with "
        f"{name}/3.*.* in it",
        f"copy {cache.name} from another machine's cache to {cache.parent}",
        "go online",
        'use "digits", which is embedded',
    ]
    if isinstance(error, ImportError):
        packages = "tensorflow tensorflow-datasets importlib_resources"
        remedies.insert(0, f"pip install {packages}")
    elif os.path.exists(folder):
        remedies.insert(0, f"delete {folder} if it is half-written")
    reason = f"{type(error).__name__}: {error}"
    state = "unreadable" if os.path.exists(cache) else "missing"
    return "\n".join(
        [
            f"Dataset {name!r} is not available.",
            textwrap.shorten(reason, 400, placeholder=" ..."),
            f"Looked at the cache {cache} ({state}) and the folder {folder}.",
            "Any of these helps:",
            *(f"  - {remedy}" for remedy in remedies),
        ]
    )


def _check(name: str, arrays: list[np.ndarray]) -> None:
    """Raises ValueError unless these can be the official images and labels."""
    train, test, _, inputs = _SPECS[name]
    image = inputs.shape
    want = [
        ("uint8", (train, *image)),
        ("int64", (train,)),
        ("uint8", (test, *image)),
        ("int64", (test,)),
    ]
    got = [(array.dtype.name, array.shape) for array in arrays]
    if got != want:
        raise ValueError(f"images and labels are {got} and not {want}")


def _read_cache(name: str, path: Path) -> list[np.ndarray] | None:
    if not os.path.exists(path):
        return None
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no .npz archive, or the end is cut off")
        # every read is checked against the archive's CRC-32
        with np.load(path, allow_pickle=False) as archive:
            ours = f"{_FORMAT} {name}"
            if (label := archive["format"].item()) != ours:
                raise ValueError(f"its format is {label!r} and not {ours!r}")
            arrays = [archive[key] for key in _KEYS]
        _check(name, arrays)
    # a damaged archive brings up almost anything, MemoryError included
    except Exception as error:
        warnings.warn(
            f"The cache file {path} is not used and will be built anew if the "
            f"source is at hand: {type(error).__name__}: {error}",
            stacklevel=3,
        )
        return None
    return arrays


def _write_cache(name: str, path: Path, arrays: list[np.ndarray]) -> None:
    from keras_bregman._files import replacing  # Keras takes seconds

    contents: dict[str, Any] = dict(zip(_KEYS, arrays, strict=True))
    contents["format"] = f"{_FORMAT} {name}"
    try:
        with replacing(path) as made, open(made, "wb") as file:
            np.savez(file, **contents)
    except OSError as error:
        warnings.warn(
            f"The cache file {path} cannot be written ({error}); {name!r} is "
            "loaded all the same. Set KERAS_BREGMAN_CACHE to a writable folder "
            "with room.",
            stacklevel=3,
        )
