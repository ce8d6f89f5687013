"""What no argument may be is said in a sentence, whatever was given."""

import json
import math
import sys

import keras
import numpy as np
import pytest
from helpers import array, compiled, data, mlp
from tools import fuzz, fuzz_targets
from tools.fuzz import why_broken
from tools.fuzz_targets import Unfriendly

import keras_bregman as kb
from keras_bregman import cli, plots, regularizers, sparsity
from keras_bregman._checks import shown

HUGE = 10**5000  # Python does not print it
ENDLESS = []
ENDLESS.append(ENDLESS)
ODD = [
    *(None, HUGE, math.nan, "x", "\0", "[", [], {"a": 1}, Unfriendly(), len),
    ENDLESS,
    *(np.array([0.1, 0.2]), np.array(["a"]), np.array([None]), b"x"),
]
ONES = np.ones((2, 3), "float32")


def built(cls=kb.LinBreg):
    optimizer = cls(0.1, 0.1)
    optimizer.build(mlp().trainable_variables)
    return optimizer


def images():
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)])


def entry():
    return built().regularized()[0]


def rethreshold(optimizer, **arguments):
    optimizer.rethreshold(optimizer.regularized()[0], 1, **arguments)


# what is called with what is odd, for the argument of that name; and what is
# good all the same
CALLS = {
    "learning_rate": (lambda x: kb.LinBreg(x), (len, Unfriendly)),
    "regularizer": (lambda x: kb.AdaBreg(regularizer=x), (None, ODD[7])),
    "delta": (lambda x: kb.LinBreg(delta=x), ()),
    "momentum": (lambda x: kb.LinBreg(momentum=x), ()),
    "nesterov": (lambda x: kb.LinBreg(momentum=0.9, nesterov=x), ()),
    "weight_decay": (lambda x: kb.ProxGD(weight_decay=x), (None,)),
    "clipnorm": (lambda x: kb.ProxGD(clipnorm=x), (None,)),
    "ema_momentum": (lambda x: kb.LinBreg(ema_momentum=x), (None,)),
    "beta_1": (lambda x: kb.AdaBreg(beta_1=x), ()),
    "epsilon": (lambda x: kb.AdaBreg(epsilon=x), ()),
    "variables": (lambda x: kb.LinBreg().build(x), (ODD[6],)),
    "lam": (lambda x: built().set_lambda(x), ()),
    "expression": (lambda x: built().set_lambda(1, x), ()),
    "frozen": (lambda x: built().freeze_support(x), ()),
    "entry": (lambda x: built().critical_lambda(x), ()),
    "hard": (lambda x: rethreshold(built(), hard=x), ()),
    "x": (lambda x: regularizers.L1(1).prox(x), (ODD[11],)),
    "v": (lambda x: regularizers.GroupLasso(1).project(ONES, x), ()),
    "step": (lambda x: regularizers.L1(1).prox(ONES, x), ()),
    "groups": (lambda x: regularizers.GroupLasso(1, x), (ODD[6],)),
    "alpha": (lambda x: regularizers.SparseGroupLasso(1, alpha=x), ()),
    "model": (lambda x: kb.density(x), ()),
    "density": (lambda x: kb.sparsify(mlp(), x), ()),
    "method": (lambda x: kb.sparsify(mlp(), 0.1, x), ()),
    "seed": (lambda x: kb.sparsify(mlp(), 0.1, seed=x), (None, HUGE)),
    "variance": (lambda x: kb.sparsify(mlp(), 0.1, variance=x), ()),
    "scale": (lambda x: kb.sparsify(mlp(), 0.1, scale=x), ()),
    "bias_scale": (lambda x: kb.sparsify(mlp(), 0.1, bias_scale=x), (None,)),
    "zeros": (lambda x: kb.flops(mlp(), zeros=x), ()),
    "return_report": (lambda x: kb.compact(mlp(), return_report=x), ()),
    "samples": (lambda x: kb.compact(mlp(), samples=x), (None,)),
    "values": (lambda x: kb.save_sparse(mlp(), "a\0", values=x), (None,)),
    "distribution": (
        lambda x: kb.callbacks.TargetDensity(0.1, distribution=x),
        (),
    ),
    "ramp": (lambda x: kb.callbacks.TargetDensity(0.1, ramp=x), ()),
    "every": (lambda x: kb.callbacks.TargetDensity(0.1, every=x), (None, HUGE)),
    "monitor": (lambda x: kb.callbacks.PlateauDecay(x), ("x", "\0", "[")),
    "factor": (lambda x: kb.callbacks.PlateauDecay(factor=x), ()),
    "patience": (lambda x: kb.callbacks.PlateauDecay(patience=x), (HUGE,)),
    "mode": (lambda x: kb.callbacks.PlateauDecay(mode=x), ()),
    "per_layer": (lambda x: kb.callbacks.SparsityLogger(per_layer=x), ()),
    "layer": (lambda x: plots.draw_filters(images(), "a.png", x), (None,)),
    "file": (lambda x: kb.callbacks.LiveView(file=x), (None,)),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_that_is_wrong_is_named(name):
    call, good = CALLS[name]
    for odd in ODD:
        if any(odd is x or type(odd) is x for x in good):
            continue
        with pytest.raises((ValueError, TypeError)) as caught:
            call(odd)
        assert why_broken(caught.value, [f"`{name}`"]) is None, shown(odd)
        assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "kind",
    (
        regularizers.L1,
        regularizers.NonNegativeL1,
        regularizers.GroupLasso,
        regularizers.SparseGroupLasso,
    ),
)
@pytest.mark.parametrize(
    ("what", "others"),
    [
        *((name, ()) for name in ("value", "prox", "critical", "subgradient")),
        ("project", (ONES,)),
    ],
)
def test_what_is_regularized_is_a_tensor(kind, what, others):
    for odd in (None, "x", [1.0], np.array(["a"]), np.array([[1, 2], [3, 4]])):
        with pytest.raises(ValueError, match="`x` must be a tensor of floats"):
            getattr(kind(1), what)(odd, *others)


@pytest.mark.parametrize("path", [None, 3, b"x", "a\0b", "\ud800", ["a"]])
@pytest.mark.parametrize(
    "call",
    [
        lambda path: kb.save_sparse(mlp(), path),
        lambda path: kb.load_sparse(path),
        lambda path: kb.export(mlp(), path),
        lambda path: plots.draw_density(mlp(), path),
        lambda path: plots.draw_masks(mlp(), path),
    ],
)
def test_a_path_that_is_none(call, path):
    with pytest.raises(ValueError, match="`path` must be a path, as a string"):
        call(path)


def test_an_image_file_of_no_kind_that_is_known(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must be an image.*png"):
        plots.draw_density(mlp(), tmp_path / "density.kbs")


def test_a_folder_that_is_not_there_is_made(tmp_path):
    plots.draw_density(mlp(), tmp_path / "new" / "density.png")
    kb.save_sparse(mlp(), tmp_path / "newer" / "model.kbs")
    assert (tmp_path / "new" / "density.png").stat().st_size
    in_the_way = tmp_path / "newer" / "model.kbs" / "again.kbs"
    with pytest.raises(OSError, match=r"Not a directory.*again\.kbs"):
        kb.save_sparse(mlp(), in_the_way)


def test_a_flag_is_no_number():
    with pytest.raises(ValueError, match=r"`density` must be.*True"):
        kb.prune(mlp(), True)
    with pytest.raises(ValueError, match="`gradient_accumulation_steps`"):
        kb.AdaBreg(0.1, 0.1, gradient_accumulation_steps=True)
    with pytest.raises(ValueError, match="`verbose` must be 0 or 1"):
        kb.callbacks.PlateauDecay(verbose=7)
    assert kb.callbacks.PlateauDecay(verbose=True).verbose


def test_what_has_the_shape_of_another():
    bad = np.ones((3, 2), "float32")
    for regularizer in (regularizers.L1(1), regularizers.NonNegativeL1(1)):
        with pytest.raises(ValueError, match=r"`v` must be .* shape \(2, 3\)"):
            regularizer.project(ONES, bad)
    with pytest.raises(ValueError, match=r"`v` must be .* float32"):
        regularizers.GroupLasso(1).project(ONES, ONES.astype("float64"))


def test_a_step_of_another_dtype_is_taken_for_what_it_is():
    step = keras.ops.convert_to_tensor(2, "int32")
    ones = keras.ops.convert_to_tensor(ONES)  # torch mixes no arrays in
    for regularizer in (regularizers.L1(0.25), regularizers.GroupLasso(0.1)):
        np.testing.assert_array_equal(
            array(regularizer.prox(ones, step)),
            array(regularizer.prox(ones, 2.0)),
        )


def test_a_kernel_without_entries_has_no_groups():
    empty = np.zeros((0, 2), "float32")
    found = regularizers.GroupLasso(1, "unit").critical(empty)
    assert tuple(found.shape) == (0, 2)


def test_a_kernel_with_more_axes_than_backends_broadcast():
    many = np.zeros((1,) * 30, "float32")
    for call in (
        lambda: regularizers.GroupLasso(1).prox(many),
        lambda: regularizers.SparseGroupLasso(1).project(many, many),
    ):
        with pytest.raises(ValueError, match=r"`x` must be .* at most 8 axes"):
            call()
    eight = keras.ops.zeros((1,) * 8)
    assert regularizers.GroupLasso(1).prox(eight).shape == eight.shape


def test_an_entry_of_another_optimizer():
    ours, others = built(), built(kb.ProxGD).regularized()[0]
    with pytest.raises(ValueError, match="`entry` must be one of this opt"):
        ours.critical_lambda(others)
    with pytest.raises(ValueError, match="`entry` must be one of this opt"):
        ours.rethreshold(entry(), 0.2)


def test_a_0_with_a_sign_is_0():
    # numpy finds an interval that ends there to be the wrong way round
    model = mlp()
    kb.sparsify(model, 0.5, "balanced", bias_scale=-0.0)
    assert not any(array(layer.bias).any() for layer in model.layers)


def test_a_model_that_is_none():
    for function in (sparsity.count, sparsity.supports, kb.summary):
        with pytest.raises(ValueError, match=r"`model` must be a built"):
            function(len)


@pytest.mark.tensorflow
def test_a_board_in_the_place_of_a_file(tmp_path):
    (tmp_path / "file").touch()
    board = kb.callbacks.SparsityBoard(tmp_path / "file")
    model = compiled(kb.LinBreg(0.1, 0.1))
    with pytest.raises(OSError, match="file"):
        model.fit(*data(), verbose=0, callbacks=[board])


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_damaged_model_file_is_named(tmp_path, capsys, ending):
    path = tmp_path / f"model{ending}"
    mlp().save(path)
    content = path.read_bytes()
    for part in (0, 10, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:part])
        assert cli.main(["inspect", str(path)]) == 1
        assert f"'{path}'" in capsys.readouterr().err


class TestContract:
    """Of what `tools.fuzz` asks."""

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("`lam` must be 0 or greater. Received: lam=-1"),
            FileNotFoundError(2, "No such file or directory", "x"),
        ],
    )
    def test_good(self, error):
        assert why_broken(error, ["`lam`"]) is None

    @pytest.mark.parametrize(
        ("error", "why"),
        [
            (KeyError("`lam` must be 0 or greater. Received"), "KeyError"),
            (UnicodeDecodeError("a", b"`lam` b", 0, 1, "c d e"), "Unicode"),
            (json.JSONDecodeError("`lam` is not in a b c", "", 0), "JSON"),
            (ValueError("bad `lam`"), "too little"),
            (ValueError("the truth value of an array is ambiguous"), "names"),
            (OSError("the file is not there and so on"), "names no file"),
            (
                TypeError("`lam`() got an unexpected keyword argument 'x'"),
                "does not have",
            ),
        ],
    )
    def test_bad(self, error, why):
        assert why in why_broken(error, ["`lam`"])

    @pytest.mark.parametrize("error", [KeyError("a"), ValueError("no"), None])
    def test_a_call_is_told_of(self, monkeypatch, error):
        def function(world, lam):
            if error is not None:
                raise error

        target = fuzz_targets.Target("call", function, {"lam": lambda w: 1})
        monkeypatch.setattr(fuzz_targets, "TARGETS", [target])
        told = fuzz.one(0, "", lambda call: None)
        assert told["outcome"] == ("refused" if error else "returned")
        assert bool(told["finding"]) == bool(error)

    @pytest.mark.once  # waits for seconds
    @pytest.mark.parametrize(
        ("end", "finding", "returns"),
        [
            ("os.abort()", "kills its process: -6", False),
            ("time.sleep(60)", "takes longer than 1 s", False),
            (
                "print(json.dumps(told), flush=True); time.sleep(60)",
                "takes longer than 1 s",
                True,
            ),
        ],
    )
    def test_a_crash_and_a_hang_are_noticed(
        self, tmp_path, monkeypatch, capsys, end, finding, returns
    ):
        worker = tmp_path / "worker.py"
        worker.write_text(
            "import json, os, time\n"
            "print(json.dumps({'case': 7, 'call': 'f(x=1)'}), flush=True)\n"
            "told = {'outcome': 'returned', 'finding': ''}\n"
            f"{end}\n"
        )
        monkeypatch.setattr(fuzz, "_WORKER", [sys.executable, str(worker)])
        monkeypatch.setattr(fuzz, "LIMIT", 1)
        told = fuzz.watch(7, "", 3 / 60)
        assert bool(told["returned"]) == returns and told["refused"] == 0
        (found,) = told["findings"].values()
        assert (found["case"], found["call"]) == (7, "f(x=1)")
        assert found["text"] == finding and found["times"] >= 1
        out = capsys.readouterr().out
        assert "7: f(x=1)" in out and finding in out
