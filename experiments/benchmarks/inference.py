"""What a network costs where it is used: bytes on disk, time of a call.

Every network is exported to each format and timed by the format's own runtime
on one core, all in turn. What else a machine does only ever adds to a time, so
the fastest of several measurements counts.
"""

from __future__ import annotations

import gzip
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_bregman as kb
from experiments import zoo
from experiments.archive import Archive
from experiments.catalog import COMPACTED, EXPERIMENTS
from experiments.data import load
from experiments.jobs import plan
from experiments.progress import say

BATCHES = (1, 64)
_SHORTEST = 0.02  # seconds that a measurement takes at least

Call = Callable[[], Any]


class Format(NamedTuple):
    """A way to write and to run a network.

    Attributes:
        title: In tables.
        name: `format` of `keras_bregman.export`.
        precision: Its `precision`.
        file: Name of the file or folder that is written.
        load: From the file and a batch of inputs to a call.
    """

    title: str
    name: str
    precision: str
    file: str
    load: Callable[[pathlib.Path, np.ndarray], Call]


def _tensorflow(path, inputs):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    given = tf.constant(inputs)

    serve = loaded.serve
    return lambda: (loaded, serve(given))  # which holds what it reads


def _litert(path, inputs):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], inputs)
    return interpreter.invoke


def _onnx(path, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    given = {session.get_inputs()[0].name: inputs}
    return lambda: session.run(None, given)


FORMATS = (
    Format("TensorFlow", "saved_model", "float32", "saved", _tensorflow),
    Format("LiteRT", "litert", "float32", "float32.tflite", _litert),
    Format("LiteRT float16", "litert", "float16", "float16.tflite", _litert),
    Format("LiteRT int8", "litert", "int8", "int8.tflite", _litert),
    Format("ONNX Runtime", "onnx", "float32", "model.onnx", _onnx),
)


class Subject(NamedTuple):
    """A network to measure.

    Attributes:
        network: Networks of one name are compared.
        variant: Its name among them.
        model: With one input.
        images: For that input, 64 or more.
        facts: What else its rows say.
    """

    network: str
    variant: str
    model: keras.Model
    images: np.ndarray
    facts: dict[str, Any]


def measure(
    subjects: list[Subject],
    repeats: int,
    formats: tuple[Format, ...] = FORMATS,
) -> list[dict[str, Any]]:
    """Exports, checks and times networks.

    Args:
        subjects: The networks; the first of a name is what the others of
            that name are held to. Those that share a model are measured once.
        repeats: Measurements of every call.
        formats: What each is exported to.

    Returns:
        One dict for every network and format: `network`, `variant`, `format`,
        `bytes` and `gzip` (of the files, raw and compressed), `milliseconds`
        of a call with one example and `rate`, examples a second in batches of
        64, `faster_1` and `faster_64`, how many times as fast as the first
        variant in the same format, the outputs' relative `difference` from the
        model's; and the subject's facts with its `flops`.

    Raises:
        RuntimeError: If an artifact answers otherwise than its model.
    """
    rows: list[dict[str, Any]] = []
    sizes: dict[tuple[int, Format], dict[str, Any]] = {}
    calls: dict[tuple[int, Format], dict[int, Call]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for subject, form in itertools.product(subjects, formats):
            model, images = subject.model, subject.images
            key = id(model), form
            if key not in calls:
                path = pathlib.Path(folder, str(len(calls)), form.file)
                found = kb.export(
                    model,
                    path,
                    form.name,
                    precision=form.precision,
                    samples=images,
                )
                raw, zipped = _sizes(path)
                sizes[key] = {
                    "bytes": raw,
                    "gzip": zipped,
                    "flops": kb.flops(model),
                    "difference": found,
                }
                calls[key] = {n: form.load(path, images[:n]) for n in BATCHES}
            rows.append(
                {
                    "network": subject.network,
                    "variant": subject.variant,
                    "format": form.title,
                    **sizes[key],
                    **subject.facts,
                }
            )
        fast = fastest(list(calls.values()), repeats)
        seconds = dict(zip(calls, fast, strict=True))
    first: dict[tuple[str, str], dict[int, float]] = {}
    pairs = itertools.product(subjects, formats)
    for row, (subject, form) in zip(rows, pairs, strict=True):
        took = seconds[id(subject.model), form]
        reference = first.setdefault((row["network"], row["format"]), took)
        row["milliseconds"] = 1000 * took[1]
        row["rate"] = 64 / took[64]
        for n in BATCHES:
            row[f"faster_{n}"] = reference[n] / took[n]
    return rows


def experiments(
    repeats: int, names: Iterable[str] = COMPACTED
) -> list[dict[str, Any]]:
    """`measure` on all that is trained of the experiments on compaction."""
    return measure([s for n in names for s in subjects(n)], repeats)


def subjects(experiment: str) -> list[Subject]:
    """The networks of an experiment, sparse ones also when compacted.

    They are compacted as far as it goes, and to multiples of 8 channels where
    that makes another size. Of every recipe that has a result the first seed
    is taken. Of a dense network the start will do, whose values make no
    difference here: one for all of a width. A sparse network whose weights are
    not at hand, as it was trained elsewhere, is left out, which is printed.
    The list is empty without the first dense network, to which the others are
    held, or without a sparse one.

    Raises:
        DatasetUnavailable: If there are no images to calibrate int8 by.
    """
    archive = Archive()
    # not the model's: one experiment has it at a quarter of its width
    network = experiment.removeprefix("compact-")
    dense, *others = plan([EXPERIMENTS[experiment]], "full", seeds=[0])
    if not _row(archive, dense).results:
        return []
    images = load(dense.recipe.data).x_val[:100]
    found: list[Subject] = []
    by_width: dict[float, keras.Model] = {}
    has_sparse = False
    for job in (dense, *others):
        recipe, row = job.recipe, _row(archive, job)
        if not row.results:
            continue
        facts = {"accuracy": row.cell("test_accuracy").mean}
        is_dense = recipe.is_dense
        try:
            if not is_dense:
                model = zoo.trained(job)
            elif recipe.width in by_width:
                model = by_width[recipe.width]
            else:
                model = by_width[recipe.width] = zoo.untrained(recipe)
        except FileNotFoundError as error:
            say(f"left out: {error}")
            continue
        has_sparse |= not is_dense
        variants = {recipe.label: model}
        if not is_dense:
            small = variants[f"{recipe.label}, compact"] = kb.compact(model)
            # whose numbers of channels runtimes like better
            even = kb.compact(model, multiple_of=8)
            if even.count_params() != small.count_params():
                variants[f"{recipe.label}, compact by 8"] = even
        for variant, made in variants.items():
            known = {**facts, "density": kb.density(made)}
            found.append(Subject(network, variant, made, images, known))
    return found if has_sparse else []


def _row(archive, job):
    return archive.row(job.experiment, job.recipe.label, job.scale)


def fastest(
    calls: list[dict[int, Call]], repeats: int
) -> list[dict[int, float]]:
    """Seconds of every call, the fastest of some measurements in turn."""
    seconds = [dict.fromkeys(group, float("inf")) for group in calls]
    counts = [dict.fromkeys(group, 1) for group in calls]
    for repeat in range(repeats + 1):
        for group, best, count in zip(calls, seconds, counts, strict=True):
            for n, call in group.items():
                call()  # not in another network's cache
                begun = time.perf_counter()
                for _ in range(count[n]):
                    call()
                took = (time.perf_counter() - begun) / count[n]
                if repeat:
                    best[n] = min(best[n], took)
                # the first round compiles, and says how long a call is
                elif took < _SHORTEST:
                    count[n] = round(_SHORTEST / took)
    return seconds


def _sizes(path):
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    contents = [file.read_bytes() for file in files if file.is_file()]
    return (
        sum(map(len, contents)),
        sum(len(gzip.compress(content)) for content in contents),
    )
