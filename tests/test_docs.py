"""Every block of the documentation that can run does, page by page."""

import pathlib
import re

import keras
import pytest
from helpers import on_part, param_of_page

pytestmark = pytest.mark.once

PAGES = sorted((pathlib.Path(__file__).parent.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("page", [param_of_page(p) for p in PAGES])
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page, tmp_path, monkeypatch
):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    if not blocks:
        pytest.skip("no code")
    monkeypatch.chdir(tmp_path)
    for name in ("fit", "evaluate", "predict"):
        method = on_part(getattr(keras.Model, name), 512)
        monkeypatch.setattr(keras.Model, name, method)
    keras.utils.set_random_seed(0)
    names: dict = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
