"""The datasets: facts, splits, cache, and what happens when one is missing."""

import errno
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from experiments import data

pytestmark = pytest.mark.once

ROOT = Path(data.__file__).parents[1]
PREPARED = os.environ.get("TFDS_DATA_DIR")
SPLITS = ("train", "val", "test")

# mean and standard deviation over 255 and examples per class of the official
# training split, per class of the test split, first labels in TFDS' order
FACTS = {
    "mnist": (
        [0.1307],
        [0.3081],
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        [4, 1, 0, 7, 8, 1, 2, 7],
    ),
    "fashion_mnist": (
        [0.2860],
        [0.3530],
        [6000] * 10,
        [1000] * 10,
        [2, 1, 8, 4, 1, 9, 2, 2],
    ),
    "cifar10": (
        [0.4914, 0.4822, 0.4465],
        [0.2470, 0.2435, 0.2616],
        [5000] * 10,
        [1000] * 10,
        [7, 8, 4, 4, 6, 5, 2, 9],
    ),
}


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, strict=True)
        else:
            assert a == b


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch, tmp_path):
    """No test touches the user's own folders; there is no Keras to reset."""
    monkeypatch.setenv("KERAS_BREGMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


class TestDigits:
    def test_sizes_types_and_range(self):
        digits = data.load("digits")
        assert digits.name == "digits"
        assert digits.inputs.shape == (8, 8, 1)
        pixels = digits.x_train / 255
        assert digits.inputs.mean == pytest.approx([pixels.mean()], abs=5e-5)
        assert digits.inputs.deviation == pytest.approx(
            [pixels.std()], abs=5e-5
        )
        for split, n in zip(SPLITS, (1297, 200, 300), strict=True):
            x, y = getattr(digits, f"x_{split}"), getattr(digits, f"y_{split}")
            assert x.shape == (n, 8, 8, 1) and x.dtype == np.uint8
            assert y.shape == (n,) and y.dtype == np.int64
        # 17 levels of ink
        levels = np.rint(np.arange(17) * 255 / 16)
        np.testing.assert_array_equal(np.unique(digits.x_train), levels)

    def test_every_split_holds_every_class_in_its_proportion(self):
        digits = data.load("digits")
        labels = [digits.y_train, digits.y_val, digits.y_test]
        counts = np.array([np.bincount(y, minlength=10) for y in labels])
        whole = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        np.testing.assert_array_equal(counts.sum(0), whole)
        share = np.array([1297, 200, 300])[:, None] / 1797
        assert np.abs(counts - share * whole).max() <= 1

    def test_no_image_is_in_two_splits(self):
        digits = data.load("digits")
        images = np.concatenate([digits.x_train, digits.x_val, digits.x_test])
        assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797

    def test_the_split_is_the_same_everywhere(self):
        first = data.load("digits")
        np.random.seed(1)
        assert_same(first, data.load("digits"))
        assert zlib.crc32(first.x_train.tobytes()) == 1972869892
        assert zlib.crc32(first.y_test.tobytes()) == 1387021991

    def test_without_scikit_learn(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(data.DatasetUnavailable, match="pip install sciki"):
            data.load("digits")


@pytest.mark.parametrize("name", ["MNIST", "", None, ["mnist"]])
def test_unknown_name(name):
    with pytest.raises(ValueError, match="'digits', 'mnist', 'fashion_mnist'"):
        data.load(name)


SMALL = data.Inputs((4, 4, 1), (0.5,), (0.5,))


class Source:
    """Stands in for TensorFlow Datasets, with a small mnist."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.arrays = [
            random.integers(0, 256, (60, 4, 4, 1), "uint8"),
            random.integers(0, 10, 60),
            random.integers(0, 256, (10, 4, 4, 1), "uint8"),
            random.integers(0, 10, 10),
        ]
        self.calls = []

    def __call__(self, name, data_dir):
        self.calls.append((name, data_dir))
        if self.arrays is None:
            raise FileNotFoundError("nothing there")
        return self.arrays


@pytest.fixture
def source(monkeypatch):
    source = Source()
    monkeypatch.setattr(data, "_from_tfds", source)
    spec = data._Spec(60, 10, 5, SMALL)
    monkeypatch.setitem(data._SPECS, "mnist", spec)
    return source


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "mnist.npz"


@pytest.fixture
def unwarned(recwarn):
    yield
    assert not recwarn.list


def truncated(path):
    os.truncate(path, os.path.getsize(path) - 100)


def cut_short(path):
    os.truncate(path, 1000)


def emptied(path):
    os.truncate(path, 0)


def garbled(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def pickled(path):
    path.write_bytes(b"\x80\x04]\x94.")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1  # among the training images
    path.write_bytes(content)


def of_keras(path):
    """What `keras.datasets.mnist` downloads."""
    keys = ("x_train", "y_train", "x_test", "y_test")
    np.savez(path, **dict.fromkeys(keys, np.zeros(3, "uint8")))


def repacked(path, **changes):
    """The file with other arrays in it."""
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, **arrays)


def of_other_dataset(path):
    repacked(path, format=f"{data._FORMAT} fashion_mnist")


def of_objects(path):
    repacked(path, y_test=np.array([{}, 1], dtype=object))


def of_other_shape(path):
    repacked(path, x_train=np.zeros((59, 4, 4, 1), "uint8"))


def folder_instead(path):
    path.unlink()
    path.mkdir()


DAMAGES = [
    truncated,
    cut_short,
    emptied,
    garbled,
    pickled,
    flipped,
    of_keras,
    of_other_dataset,
    of_objects,
    of_other_shape,
]


class TestCache:
    @pytest.mark.usefixtures("unwarned")
    def test_splits_and_second_load(self, source, cache):
        first = data.load("mnist")
        x, y, x_test, y_test = source.arrays
        expected = (x[:55], y[:55], x[55:], y[55:], x_test, y_test)
        assert_same(first, ("mnist", *expected, SMALL))
        assert_same(first, data.load("mnist"))
        assert len(source.calls) == 1
        assert os.listdir(cache.parent) == ["mnist.npz"]

    def test_folders(self, source, tmp_path, monkeypatch):
        data.load("mnist")
        assert (tmp_path / "cache" / "mnist.npz").exists()
        monkeypatch.delenv("TFDS_DATA_DIR")
        monkeypatch.delenv("KERAS_BREGMAN_CACHE")
        monkeypatch.setenv("HOME", str(tmp_path))
        data.load("mnist")
        assert (tmp_path / ".cache/keras_bregman/mnist.npz").exists()
        assert source.calls == [
            ("mnist", tmp_path / "tfds"),
            ("mnist", tmp_path / "tensorflow_datasets"),
        ]

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_damage_is_reported_and_mended(self, source, cache, damage):
        first = data.load("mnist")
        damage(cache)
        with pytest.warns(UserWarning, match=str(cache)) as record:
            assert_same(first, data.load("mnist"))
        assert record[0].filename == __file__
        # numpy advises to allow pickle: not for a file of unknown origin
        assert "load it unsafely" not in str(record[0].message)
        assert len(source.calls) == 2
        assert_same(first, data.load("mnist"))
        assert len(source.calls) == 2

    @pytest.mark.parametrize("damage", [*DAMAGES, folder_instead])
    def test_damage_without_a_source(self, source, cache, damage):
        data.load("mnist")
        damage(cache)
        source.arrays = None
        unavailable = pytest.raises(data.DatasetUnavailable)
        with pytest.warns(UserWarning, match=str(cache)), unavailable as error:
            data.load("mnist")
        assert f"{cache} (unreadable)" in str(error.value)

    @pytest.mark.filterwarnings("ignore:The cache file")
    def test_no_flipped_byte_changes_the_data(self, source, cache):
        data.load("mnist")
        content = cache.read_bytes()
        noticed = 0
        for i in range(0, len(content), 5):
            flipped = bytearray(content)
            flipped[i] ^= 1 << i % 8
            cache.write_bytes(flipped)
            arrays = data._read_cache("mnist", cache)
            if arrays is None:
                noticed += 1
            else:  # a date or an attribute of the archive
                assert_same(arrays, source.arrays)
        assert noticed > 0.7 * len(content) / 5

    def test_unwritable_folder(self, source, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        folder = tmp_path / "file" / "cache"
        monkeypatch.setenv("KERAS_BREGMAN_CACHE", str(folder))
        with pytest.warns(UserWarning, match=f"{folder}.*KERAS_BREGMAN_CACHE"):
            first = data.load("mnist")
        np.testing.assert_array_equal(first.y_test, source.arrays[3])

    @pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
    def test_half_a_file_is_never_left(self, source, cache, monkeypatch, error):
        def savez(file, **arrays):
            file.write(b"PK")
            raise error(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(np, "savez", savez)
        if error is OSError:
            with pytest.warns(UserWarning, match="No space left on device"):
                first = data.load("mnist")
            np.testing.assert_array_equal(first.y_test, source.arrays[3])
        else:
            with pytest.raises(KeyboardInterrupt):
                data.load("mnist")
        assert os.listdir(cache.parent) == []

    def test_a_failed_write_spares_the_old_file(
        self, source, cache, monkeypatch
    ):
        data.load("mnist")
        of_other_dataset(cache)
        old = cache.read_bytes()

        def replace(source, target):
            raise OSError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "replace", replace)
        with pytest.warns(UserWarning) as record:
            data.load("mnist")
        assert "Permission denied" in str(record[-1].message)
        assert cache.read_bytes() == old
        assert os.listdir(cache.parent) == ["mnist.npz"]


class TestMissing:
    def test_every_remedy_is_named(self, source, cache, tmp_path):
        source.arrays = None
        with pytest.raises(data.DatasetUnavailable) as error:
            data.load("mnist")
        message = str(error.value)
        assert "'mnist'" in message and "nothing there" in message
        assert f"{cache} (missing)" in message
        assert str(tmp_path / "tfds" / "mnist") in message
        for remedy in ("TFDS_DATA_DIR", "copy mnist.npz", '"digits"'):
            assert remedy in message
        assert "half-written" not in message
        assert isinstance(error.value.__cause__, FileNotFoundError)

    def test_a_source_with_other_images(self, source):
        source.arrays[0] = source.arrays[0][1:]
        with pytest.raises(data.DatasetUnavailable, match=r"\(59, 4, 4, 1\)"):
            data.load("mnist")

    @pytest.mark.parametrize("name", data.NAMES[1:])
    def test_without_tensorflow_datasets(self, monkeypatch, name):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        with pytest.raises(data.DatasetUnavailable, match="pip install tensor"):
            data.load(name)

    @pytest.mark.tensorflow
    @pytest.mark.parametrize("name", data.NAMES[1:])
    def test_no_network(self, monkeypatch, tmp_path, name):
        import requests
        import tensorflow_datasets as tfds

        def get(url, timeout, **kwargs):
            assert timeout <= 10
            raise requests.ConnectTimeout(f"no way to {url}")

        def retry(*args, **kwargs):
            raise AssertionError("TFDS would try for minutes")

        monkeypatch.setattr(requests, "get", get)
        builder = tfds.core.DatasetBuilder
        monkeypatch.setattr(builder, "download_and_prepare", retry)
        with pytest.raises(data.DatasetUnavailable, match="no way to http"):
            data.load(name)
        assert not (tmp_path / "tfds" / name).exists()

    @pytest.mark.tensorflow
    def test_half_written_folder(self, tmp_path):
        folder = tmp_path / "tfds" / "mnist"
        (folder / "3.0.1").mkdir(parents=True)
        with pytest.raises(data.DatasetUnavailable, match=f"delete {folder}"):
            data.load("mnist")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Loads a prepared dataset once; gives it and its cache folder."""
    if not PREPARED:
        pytest.skip("TFDS_DATA_DIR names no folder of prepared datasets")
    folder = tmp_path_factory.mktemp("real")
    loaded = {}

    def load(name):
        if name not in loaded:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TFDS_DATA_DIR", PREPARED)
                patch.setenv("KERAS_BREGMAN_CACHE", str(folder))
                loaded[name] = data.load(name)
        return loaded[name], folder

    yield load
    shutil.rmtree(folder)  # 300 MB, which pytest would keep


@pytest.mark.tensorflow
class TestReal:
    @pytest.mark.parametrize("name", FACTS)
    def test_facts(self, real, name):
        dataset, _ = real(name)
        mean, std, train, test, first = FACTS[name]
        n = {"cifar10": 2500}.get(name, 5000)
        assert len(dataset.x_val) == len(dataset.y_val) == n
        assert len(dataset.x_train) == len(dataset.y_train) == sum(train) - n
        assert len(dataset.x_test) == len(dataset.y_test) == 10_000
        y = np.concatenate([dataset.y_train, dataset.y_val])
        np.testing.assert_array_equal(np.bincount(y), train)
        np.testing.assert_array_equal(np.bincount(dataset.y_test), test)
        np.testing.assert_array_equal(y[:8], first)
        shape = (32, 32, 3) if name == "cifar10" else (28, 28, 1)
        assert dataset.inputs.shape == shape
        if name == "fashion_mnist":  # the authors' round numbers
            assert dataset.inputs[1:] == ((0.5,), (0.5,))
        else:
            assert dataset.inputs[1:] == (tuple(mean), tuple(std))
        for x in (dataset.x_train, dataset.x_val, dataset.x_test):
            assert x.shape[1:] == shape and x.dtype == np.uint8
        for channel in range(shape[-1]):
            counts = sum(
                np.bincount(part[..., channel].ravel(), minlength=256)
                for x in (dataset.x_train, dataset.x_val)
                for part in np.array_split(x, 10)  # bincount makes int64
            )
            levels = np.arange(256) / 255
            average = np.average(levels, weights=counts)
            variance = np.average((levels - average) ** 2, weights=counts)
            assert abs(average - mean[channel]) < 6e-5
            assert abs(np.sqrt(variance) - std[channel]) < 6e-5

    @pytest.mark.parametrize("name", FACTS)
    def test_second_load_without_tensorflow(self, real, name, tmp_path):
        dataset, folder = real(name)
        for package in ("tensorflow", "tensorflow_datasets"):
            stub = tmp_path / "stub" / package / "__init__.py"
            stub.parent.mkdir(parents=True)
            stub.write_text("raise RuntimeError('imported')")
        script = (
            "import sys, zlib; from experiments.data import load\n"
            f"for part in load({name!r})[1:7]:\n"
            "    print(part.dtype, part.shape, zlib.crc32(part))\n"
            "assert not {'tensorflow', 'keras'} & set(sys.modules)"
        )
        path = os.pathsep.join([str(tmp_path / "stub"), str(ROOT)])
        lines = subprocess.run(
            [sys.executable, "-c", script],
            env={
                **os.environ,
                "PYTHONPATH": path,
                "KERAS_BREGMAN_CACHE": str(folder),
            },
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        assert lines == [
            f"{part.dtype} {part.shape} {zlib.crc32(part)}"
            for part in dataset[1:7]
        ]

    def test_truncated_record_file(self, real, tmp_path):
        real("mnist")
        folder = tmp_path / "tfds" / "mnist"
        shutil.copytree(Path(PREPARED, "mnist"), folder)
        (records,) = folder.glob("3.*/mnist-train.tfrecord*")
        os.truncate(records, records.stat().st_size // 2)
        with pytest.raises(data.DatasetUnavailable, match=f"delete {folder}"):
            data.load("mnist")
