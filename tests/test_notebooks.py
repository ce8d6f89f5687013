"""The examples run from a clean kernel, on a part of their data."""

import inspect
import os
import pathlib

import nbformat
import pytest
from helpers import on_part, param_of_page
from nbclient import NotebookClient

pytestmark = pytest.mark.once

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

# `make notebooks` runs them on all of it
PART = f"""
import keras

{inspect.getsource(on_part)}
for name in ("fit", "evaluate", "predict"):
    setattr(keras.Model, name, on_part(getattr(keras.Model, name), 256))
"""


@pytest.mark.parametrize("path", map(param_of_page, NOTEBOOKS))
def test_a_notebook_runs_from_a_clean_kernel(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    needs_data = any("tfds.load" in cell.source for cell in notebook.cells)
    if needs_data and not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("TFDS_DATA_DIR is not set")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PART))
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()


def test_there_are_examples():
    assert len(NOTEBOOKS) >= 5
