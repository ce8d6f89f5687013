"""The README's code runs as printed."""

import pathlib
import re

import keras_bregman as kb

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_example_trains_a_sparse_model(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    names: dict = {}
    exec(code, names)
    assert "total" in capsys.readouterr().out
    assert kb.density(names["model"]) < 0.2
    assert names["model"].history.history["val_accuracy"][-1] > 0.9
