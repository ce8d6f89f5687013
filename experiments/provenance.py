"""What made a result: the code, its versions, the hardware and the command."""

from __future__ import annotations

import functools
import importlib
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

from experiments.results import ROOT


def remember_commit() -> None:
    """Notes the commit of the code, to be called when the code is loaded.

    What is committed while the process works it does not run.
    """
    _commit()


def of_process() -> dict[str, Any]:
    """Commit, versions, hardware and command, as a result file has them."""
    import keras

    import keras_bregman as kb

    names = ("keras", keras.config.backend(), "numpy")
    # as the package that is installed may have another name
    modules = {name: importlib.import_module(name) for name in names}
    return {
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            "keras_bregman": kb.__version__,
            **{name: m.__version__ for name, m in modules.items()},
        },
        "hardware": {
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": _cores(),
            "devices": _devices(),
        },
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


@functools.cache
def _commit() -> str | None:
    """The commit of the code, with a + if files differ from it.

    As it was when the process first asked.
    """
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _devices() -> list[str]:
    import keras

    if keras.config.backend() == "jax":
        import jax

        return [d.device_kind for d in jax.devices()]
    if keras.config.backend() != "torch":
        return [str(d) for d in keras.distribution.list_devices()]
    import torch

    count = torch.cuda.device_count()
    return [torch.cuda.get_device_name(i) for i in range(count)] or ["cpu"]


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
