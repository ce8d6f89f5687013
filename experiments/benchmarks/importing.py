"""What `import keras_bregman` adds to `import keras`: `bench import`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from experiments.results import ROOT

_PROGRAM = """
import json, time
moments = [time.perf_counter()]
import keras
moments.append(time.perf_counter())
import keras_bregman
moments.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip(moments, moments[1:])]))
"""


def measure(repeats: int) -> list[dict[str, Any]]:
    """Imports both in fresh processes, one after the other.

    Args:
        repeats: Processes, after one that leaves compiled files behind.

    Returns:
        A dict for each package: its `package`, and the median, least and most
        `seconds`, `least` and `most`.
    """
    pairs = [_import() for _ in range(repeats + 1)][1:]
    return [
        {
            "package": package,
            "seconds": statistics.median(seconds),
            "least": min(seconds),
            "most": max(seconds),
        }
        for package, seconds in zip(
            ("keras", "keras_bregman"), zip(*pairs, strict=True), strict=True
        )
    ]


def _import():
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
