"""Shared fixtures. `KERAS_BACKEND` chooses the backend of a whole run."""

import contextlib
import gc
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:
    # there is one for each core; torch is six times slower if every worker
    # takes all of them
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# every test traces a step of its own, but most are one and the same: what JAX
# compiles in one test, worker or process is there for all others
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(__file__).parent.parent / "build" / "compiled"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest

# a step that is traced leaves objects by the ten thousand, and looking through
# them as often as Python would takes a tenth of the time
gc.set_threshold(100_000, 50, 100)

# Keras is imported where it is used: pytest-xdist's first process, for which
# the others wait, only hands out tests
_BACKEND = os.environ["KERAS_BACKEND"]


def pytest_collection_modifyitems(items):
    if _BACKEND != "tensorflow":
        skip = pytest.mark.skip(reason="needs the TensorFlow backend")
        for item in items:
            if "tensorflow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def fresh_state():
    """Every test starts from the same seed and layer names."""
    import keras

    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx("float32")
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def compiled_in_haste():
    """JAX compiles in half the time what then runs slower.

    For tests of something else than the arithmetic of a step: models of all
    shapes are built and cut there, and every layer of each is compiled.
    """
    if _BACKEND != "jax":
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def float64():
    """Computation in float64; JAX has to be told."""
    import keras

    keras.config.set_floatx("float64")
    if _BACKEND == "jax":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield


@pytest.fixture
def file_size_limit():
    """A context in which no file can grow beyond a size: a full disk."""
    resource = pytest.importorskip("resource")  # not on Windows

    @contextlib.contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """The model and the result of `tiny.TINY`, trained in one go."""
    from tiny import TINY

    from experiments.data import load
    from experiments.training import train

    path = tmp_path_factory.mktemp("unbroken") / "run.npz"
    return train(TINY, 0, load("digits"), path)
