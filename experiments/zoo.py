"""The trained networks of `saved_models/`, and what their cards say."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

import keras_bregman as kb
from experiments import building, results
from experiments.archive import name_of
from experiments.catalog import EXPERIMENTS
from experiments.data import Dataset, load, noise
from experiments.errors import Trouble
from experiments.evaluation import evaluate
from experiments.jobs import Job, plan
from experiments.recipes import Recipe

FOLDER = results.ROOT / "saved_models"


class Saved(NamedTuple):
    """A full run of seed 0 whose network is published.

    Attributes:
        name: Of its files.
        experiment: Name of the experiment.
        label: Of the recipe.
    """

    name: str
    experiment: str
    label: str

    @property
    def job(self) -> Job:
        experiments = [EXPERIMENTS[self.experiment]]
        (job,) = plan(experiments, "full", seeds=[0], only=[self.label])
        return job

    @property
    def command(self) -> str:
        """What trains it."""
        return (
            f"python -m experiments run {self.experiment} "
            f'--only "{self.label}" --seeds 0'
        )


SAVED: tuple[Saved, ...] = (
    Saved("mnist-lenet300", "curve-lenet", "AdaBreg at 2 %"),
    Saved("fashion-mnist-convnet", "curve-convnet", "LinBreg at 1 %"),
    Saved(
        "fashion-mnist-convnet-units",
        "compact-convnet",
        "AdaBreg, 35 % of units",
    ),
    Saved("cifar10-vgg16-units", "compact-vgg16", "AdaBreg, 50 % of units"),
    Saved("cifar10-resnet18", "table2", "LinBreg at 5 %"),
)


def trained(job: Job, precision: str = "float32") -> keras.Model:
    """A run's network as it was trained here or is published.

    Raises:
        FileNotFoundError: If it is neither.
        Trouble: If its file is damaged, or of another network.
    """
    published = [FOLDER / f"{s.name}.kbs" for s in SAVED if s.job == job]
    for file in [job.network, *published]:
        if file.exists():
            model = untrained(job.recipe, precision)
            try:
                return kb.load_sparse(file, model)
            except ValueError as error:
                raise Trouble(str(error)) from error
    raise FileNotFoundError(
        f"There is no trained network {job.network}. Train it by `python -m "
        f"experiments run {job.experiment} --scale {job.scale} --only "
        f'"{job.recipe.label}"`.'
    )


def untrained(recipe: Recipe, precision: str = "float32") -> keras.Model:
    """A recipe's network at its start, to compute in another precision."""
    dataset = noise(recipe.data, 1)
    return building.model_of(
        recipe.changed(precision=precision), dataset, seed=0
    )


def publish(saved: Saved) -> str:
    """Writes a run's network and its card to `FOLDER`, and says how good it is.

    Raises:
        FileNotFoundError: If the run or its network is not there.
        DamagedResult: If its result file is damaged or of other settings.
        DatasetUnavailable: If the test images are not.
        Trouble: If the network's accuracy is not the run's, or its file is
            damaged.
    """
    job = saved.job
    result = job.read()
    dataset = load(job.recipe.data)
    as_trained = accuracy_of(trained(job, job.recipe.precision), dataset)
    if abs(as_trained - result["test"]["accuracy"]) > 1e-3:
        raise Trouble(
            f"{job.network} has a test accuracy of {as_trained:.4f}, the "
            f"result file says {result['test']['accuracy']:.4f}: they are not "
            f"of one training. Delete both and repeat it: {saved.command}"
        )
    model = trained(job)
    accuracy = accuracy_of(model, dataset)
    file = FOLDER / f"{saved.name}.kbs"
    FOLDER.mkdir(parents=True, exist_ok=True)
    kb.save_sparse(model, file)
    card = _card(saved, job.recipe, file, accuracy)
    (FOLDER / f"{saved.name}.md").write_text(card)
    return f"{file}: {accuracy:.2%}, {file.stat().st_size:,} bytes"


def accuracy_of(model: keras.Model, dataset: Dataset) -> float:
    """On the test split."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    scores = evaluate(model, dataset.x_test, dataset.y_test)
    return float(scores["accuracy"])


def _card(saved, recipe, file, accuracy):
    model = kb.load_sparse(file)
    _, report = kb.compact(model, return_report=True)
    height, width, channels = model.input.shape[1:]
    dense = 4 * model.count_params()
    facts: list[tuple[str, Any]] = [
        ("test accuracy", f"{accuracy:.2%}, computed in float32"),
        ("trained in", recipe.precision),
        ("weights that are not 0", f"{kb.density(model):.2%}"),
        ("parameters", f"{model.count_params():,}"),
        (
            "file",
            f"{file.stat().st_size:,} bytes, 1/"
            f"{dense / file.stat().st_size:.0f} of the dense float32 weights",
        ),
        (
            "FLOPs an image",
            f"{kb.flops(model):,}; {kb.flops(model, zeros=False):,} without "
            "zeros",
        ),
        (
            "after `compact`",
            f"{report.after.parameters:,} parameters, "
            f"{report.after.flops:,} FLOPs",
        ),
        ("trained on", f"{recipe.data}, {recipe.epochs} epochs"),
        ("optimizer", f"{recipe.optimizer}, tau {recipe.learning_rate:g}"),
        ("seed", 0),
        ("result file", f"`{name_of(saved.job.result)}`"),
    ]
    return f"""# {saved.name}

{recipe.model}, width {recipe.width:g}, trained sparse by `keras_bregman` and
stored without its zeros.

```python
import keras_bregman as kb

model = kb.load_sparse("saved_models/{file.name}")
```

It takes images as they come, uint8 of shape (n, {height}, {width}, {channels}),
0 to 255, and answers with {model.output.shape[-1]} logits.

{_markdown(facts)}

Trained by

```sh
{saved.command}
```

It knows the images of {recipe.data} and no others, and has been tested on the
official test split only: not for photographs from elsewhere, and not to decide
about people.
"""


def _markdown(facts):
    lines = ["| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {a} | {b} |" for a, b in facts)])
