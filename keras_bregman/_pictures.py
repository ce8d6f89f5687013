"""Pictures by matplotlib, without a display."""

from __future__ import annotations

import importlib.util

from keras_bregman._checks import check, check_path
from keras_bregman._files import replacing


def figure_of(width: float, height: float, path):
    """An empty figure, if matplotlib is there and can write `path`.

    Args:
        width: In inches.
        height: Likewise.
        path: The image file.

    Raises:
        ImportError: Without matplotlib.
        ValueError: If it does not know the suffix.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("Pictures need matplotlib: pip install matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    known = sorted(figure.canvas.get_supported_filetypes())
    is_known = check_path("path", path).suffix[1:].lower() in known
    kinds = ", ".join(f".{suffix}" for suffix in known)
    check("path", path, is_known, f"an image file, one of {kinds}")
    return figure


def write(figure, path) -> None:
    """Writes an image file, whole or not at all."""
    with replacing(check_path("path", path)) as made:
        figure.savefig(made, dpi=160)
