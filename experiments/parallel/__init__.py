"""Training over several processes, by the backend's own means.

`docs/several-devices.md` prints these modules, one for each backend.
"""

import importlib

import keras


def backend():
    """The module of the backend in use."""
    return importlib.import_module(
        f"experiments.parallel.on_{keras.config.backend()}"
    )
