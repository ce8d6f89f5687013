"""The regularizers against their definitions.

J is computed by numpy here, from axes spelled out by hand. What a proximal
operator, a projection and a subgradient are is checked by the inequalities
that characterize them, on small kernels in float64.
"""

import json
import math
from typing import NamedTuple

import keras
import numpy as np
import pytest
from helpers import BACKEND
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_bregman import regularizers
from keras_bregman.kernels import Layout, layout_of
from keras_bregman.regularizers import (
    L1,
    GroupLasso,
    NonNegativeL1,
    SparseGroupLasso,
)

TOLERANCE = 1e-11  # numbers are of size 10 at most

# axes inside a group, from the end, so that leading axes may be added
LAYOUTS = {
    "dense": ((3, 2), {"unit": (-2,), "input": (-1,), "kernel": ()}),
    "conv1d": (
        (2, 3, 2),
        {"unit": (-3, -2), "input": (-3, -1), "kernel": (-3,)},
    ),
    "conv2d": (
        (2, 1, 3, 2),
        {"unit": (-4, -3, -2), "input": (-4, -3, -1), "kernel": (-4, -3)},
    ),
    "depthwise_conv2d": (
        (2, 2, 2, 2),
        {"unit": (-4, -3), "input": (-4, -3, -1), "kernel": (-4, -3)},
    ),
}
GROUPS = ("unit", "input", "kernel", (0, -1))
KINDS = [
    (L1, None),
    (NonNegativeL1, None),
    *((GroupLasso, groups) for groups in GROUPS),
    *((SparseGroupLasso, groups) for groups in GROUPS),
]


def kind_name(kind):
    return kind[0].__name__ + ("" if kind[1] is None else f"-{kind[1]}")


every_kind = pytest.mark.parametrize("kind", KINDS, ids=kind_name)
checked = settings(
    deadline=None,
    # an example takes milliseconds by torch, which compiles nothing
    max_examples=25 if BACKEND == "torch" else 8,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
pytestmark = pytest.mark.usefixtures("float64", "compiled_in_haste")


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def to_tensor(array):
    return keras.ops.convert_to_tensor(array, dtype="float64")


class Problem(NamedTuple):
    """A regularizer on kernels of one shape, with numpy in and out."""

    regularizer: regularizers.Regularizer
    shape: tuple[int, ...]
    layout: Layout | None
    axes: tuple[int, ...] | None

    def J(self, y):
        """The value by hand, over all but the leading axes."""
        kernel_axes = tuple(range(-len(self.shape), 0))
        singles = np.abs(y).sum(axis=kernel_axes)
        lam = self.regularizer.lam
        if isinstance(self.regularizer, NonNegativeL1):
            return np.where(
                (y < 0).any(axis=kernel_axes), np.inf, lam * singles
            )
        if self.axes is None:
            return lam * singles
        norms = np.sqrt((y**2).sum(axis=self.axes, keepdims=True))
        size = math.prod(self.shape[a] for a in self.axes)
        groups = math.sqrt(size) * norms.sum(axis=kernel_axes)
        alpha = getattr(self.regularizer, "alpha", 0)
        return lam * (alpha * singles + (1 - alpha) * groups)

    def value(self, x):
        x = to_tensor(x)
        return to_numpy(self.regularizer.value(x, layout=self.layout))

    def prox(self, x, step=1.0):
        x = to_tensor(x)
        return to_numpy(self.regularizer.prox(x, step, layout=self.layout))

    def project(self, x, v):
        x, v = to_tensor(x), to_tensor(v)
        return to_numpy(self.regularizer.project(x, v, layout=self.layout))

    def subgradient(self, x):
        x = to_tensor(x)
        return to_numpy(self.regularizer.subgradient(x, layout=self.layout))


# rounded, as the square of a denormal number is none
numbers = st.one_of(st.just(0.0), st.floats(-3, 3).map(lambda x: round(x, 4)))
strengths = st.sampled_from((0.0, 0.2, 0.5, 1.3))
steps = st.sampled_from((0.1, 1.0, 2.5))


class Draw:
    """Draws a problem of one kind and points for it."""

    def __init__(self, data, kind):
        self.data = data
        cls, groups = kind
        name = data.draw(st.sampled_from(list(LAYOUTS)))
        shape, axes = LAYOUTS[name]
        layout = None
        if name.startswith("depthwise"):
            layout = layout_of(shape, f"{name}/kernel")
        arguments = [data.draw(strengths)]
        if groups is not None:
            axes = axes[groups] if groups in axes else (-len(shape), -1)
            arguments.append(groups)
        if cls is SparseGroupLasso:
            arguments.append(data.draw(st.sampled_from((0.0, 0.3, 1.0))))
        self.problem = Problem(
            cls(*arguments), shape, layout, axes if groups else None
        )

    def point(self):
        return self.data.draw(
            hnp.arrays("float64", self.problem.shape, elements=numbers)
        )

    def weights(self):
        """A point of J's domain, with whole groups 0 half the time."""
        x = self.point()
        if isinstance(self.problem.regularizer, NonNegativeL1):
            x = np.abs(x)
        return self.problem.prox(x) if self.data.draw(st.booleans()) else x

    def around(self, *points):
        """The points and many near them, stacked along a new first axis."""
        seed = self.data.draw(st.integers(0, 2**32 - 1))
        noise = np.random.default_rng(seed).normal(
            size=(60, *self.problem.shape)
        )
        noise *= np.logspace(-4, 1, 60).reshape(-1, *[1] * len(points[0].shape))
        stacked = np.concatenate(
            [p[None] + f * noise for p in points for f in (0, 1)]
        )
        return np.concatenate([stacked, np.abs(stacked)])

    def subdifferential(self, x):
        """Points of the subdifferential at `x`, stacked as in `around`."""
        seed = self.data.draw(st.integers(0, 2**32 - 1))
        generator = np.random.default_rng(seed)
        _, shape, _, axes = self.problem
        regularizer = self.problem.regularizer
        signs = np.clip(generator.normal(size=(60, *shape)), -1, 1)
        if isinstance(regularizer, NonNegativeL1):
            signs = 1 - 3 * (1 - abs(signs))
        signs = regularizer.lam * np.where(x != 0, np.sign(x), signs)
        if axes is None:
            return signs
        balls = generator.normal(size=(60, *shape))
        length = np.sqrt((balls**2).sum(axis=axes, keepdims=True))
        balls /= np.maximum(length, 1)
        norm = np.sqrt((x**2).sum(axis=axes, keepdims=True))
        balls = np.where(norm > 0, x / np.where(norm > 0, norm, 1), balls)
        radius = regularizer.lam * math.sqrt(math.prod(shape[a] for a in axes))
        alpha = getattr(regularizer, "alpha", 0)
        return alpha * signs + (1 - alpha) * radius * balls


def product(a, b):
    return (a * b).reshape(*a.shape[: a.ndim - b.ndim], -1).sum(-1)


@every_kind
@checked
@given(data=st.data())
def test_an_entry_is_0_from_its_critical_strength_on(kind, data):
    draw = Draw(data, kind)
    x = draw.point()
    regularizer, layout = draw.problem.regularizer, draw.problem.layout
    critical = to_numpy(regularizer.critical(to_tensor(x), layout))
    assert critical.shape == x.shape and (critical >= 0).all()
    for lam in np.unique(critical):
        at, below = (
            to_numpy(regularizer.prox(to_tensor(x), 1.0, value, layout))
            for value in (lam, lam * (1 - 1e-9))
        )
        assert (at[critical <= lam] == 0).all()
        assert (below[critical > lam] != 0).all()
        if lam > 1e-6:
            assert (below[critical == lam] != 0).all()


def test_no_single_weight_outlasts_its_critical_strength():
    """Alpha times the quotient by alpha may round to less."""
    regularizer = regularizers.SparseGroupLasso(1.0, "unit", 0.9)
    x = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
    critical = to_numpy(regularizer.critical(to_tensor(x)))
    left = sum(
        to_numpy(regularizer.prox(to_tensor(x), 1.0, float(lam)))[i] != 0
        for i, lam in np.ndenumerate(critical)
    )
    assert left == 0


def test_the_critical_strength_of_groups_of_one():
    # of which J is lam |x|, however it is shared between the two norms
    x = np.array([[2.0, -3.0], [0.0, 0.5]], "float32")
    for alpha in (0.0, 0.25, 0.5, 1.0):
        regularizer = regularizers.SparseGroupLasso(1, "kernel", alpha)
        found = to_numpy(regularizer.critical(to_tensor(x)))
        np.testing.assert_allclose(found, np.abs(x), rtol=1e-5)


@every_kind
@checked
@given(data=st.data())
def test_value(kind, data):
    draw = Draw(data, kind)
    for x in (draw.point(), draw.weights()):
        np.testing.assert_allclose(
            draw.problem.value(x), draw.problem.J(x), rtol=1e-14
        )


@every_kind
@checked
@given(data=st.data(), step=steps)
def test_prox_minimizes(kind, data, step):
    draw = Draw(data, kind)
    x = draw.point()
    z = draw.problem.prox(x, step)

    def objective(y):
        axes = tuple(range(-x.ndim, 0))
        return ((y - x) ** 2).sum(axis=axes) / 2 + step * draw.problem.J(y)

    others = draw.around(z, x, draw.point(), np.zeros_like(x))
    # the objective is strongly convex, so it grows away from its minimum
    growth = ((others - z) ** 2).sum(axis=tuple(range(1, others.ndim))) / 2
    assert (objective(others) - objective(z) >= growth - TOLERANCE * 100).all()


@every_kind
def test_prox_of_a_scalar_against_a_grid(kind):
    cls, groups = kind
    regularizer = cls(0.5) if groups is None else cls(0.5, groups)
    grid = np.linspace(-3, 3, 60001)
    for x in (-1.7, -0.5, -0.1, 0.0, 0.3, 0.5, 2.2):
        objective = (grid - x) ** 2 / 2 + 0.5 * np.abs(grid)
        if cls is NonNegativeL1:
            objective[grid < 0] = np.inf
        z = to_numpy(regularizer.prox(to_tensor([[x]])))
        assert abs(z.item() - grid[objective.argmin()]) <= 1e-4


@every_kind
@checked
@given(data=st.data(), step=steps)
def test_prox_is_firmly_non_expansive(kind, data, step):
    draw = Draw(data, kind)
    x, y = draw.point(), draw.point()
    moved = draw.problem.prox(x, step) - draw.problem.prox(y, step)
    assert product(moved, moved) <= product(moved, x - y) + TOLERANCE


@every_kind
@checked
@given(data=st.data(), step=steps)
def test_moreau_and_homogeneity(kind, data, step):
    draw = Draw(data, kind)
    x = draw.point()
    zero = np.zeros_like(x)
    z = draw.problem.prox(x, step)
    close = {"rtol": 0, "atol": TOLERANCE}
    np.testing.assert_allclose(z, step * draw.problem.prox(x / step), **close)
    np.testing.assert_allclose(
        x, z + step * draw.problem.project(zero, x / step), **close
    )


@every_kind
@checked
@given(data=st.data())
def test_subgradients_lie_below(kind, data):
    draw = Draw(data, kind)
    x = draw.weights()
    ys = draw.around(draw.point(), x, 2 * x, np.zeros_like(x))
    for p in (
        draw.problem.project(x, draw.point()),
        draw.problem.subgradient(x),
    ):
        below = draw.problem.J(x) + product(ys - x, p)
        assert (draw.problem.J(ys) >= below - TOLERANCE * 100).all()


@every_kind
@checked
@given(data=st.data())
def test_project_finds_the_nearest_subgradient(kind, data):
    draw = Draw(data, kind)
    x, v = draw.weights(), draw.point()
    p = draw.problem.project(x, v)
    again = draw.problem.project(x, p)
    np.testing.assert_allclose(again, p, rtol=0, atol=TOLERANCE)
    smallest = draw.problem.subgradient(x)
    for near, best in (v, p), (0 * v, smallest):
        others = draw.subdifferential(x)
        # the way on to any other one starts at an angle of 90 degrees or more
        assert (product(others - best, near - best) <= TOLERANCE * 100).all()


@every_kind
@checked
@given(data=st.data(), delta=steps)
def test_prox_gives_back_weights_from_any_dual(kind, data, delta):
    draw = Draw(data, kind)
    theta, v = draw.weights(), draw.point()
    dual = theta / delta + draw.problem.project(theta, v)
    again = delta * draw.problem.prox(dual)
    np.testing.assert_allclose(again, theta, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(again[theta == 0], 0)  # exactly


@every_kind
@checked
@given(data=st.data(), step=steps)
def test_prox_is_exactly_zero_below_the_threshold(kind, data, step):
    draw = Draw(data, kind)
    x = draw.point()
    regularizer, axes = draw.problem.regularizer, draw.problem.axes
    lam, alpha = regularizer.lam, getattr(regularizer, "alpha", 0)
    z = draw.problem.prox(x, step)
    if axes is None:
        off = x <= step * lam
        if not isinstance(regularizer, NonNegativeL1):
            off &= x >= -step * lam
        # next to the threshold rounding decides
        sure = abs(abs(x) - step * lam) > TOLERANCE
    else:
        size = math.prod(draw.problem.shape[a] for a in axes)
        soft = np.sign(x) * np.maximum(abs(x) - step * lam * alpha, 0)
        norm = np.sqrt((soft**2).sum(axis=axes, keepdims=True))
        threshold = step * lam * (1 - alpha) * math.sqrt(size)
        off = (soft == 0) | (norm <= threshold)
        sure = (abs(norm - threshold) > TOLERANCE) & (
            abs(abs(x) - step * lam * alpha) > TOLERANCE
        )
    np.testing.assert_array_equal((z == 0)[sure], off[sure])


@every_kind
@checked
@given(data=st.data())
def test_other_strength_given_as_tensor(kind, data):
    draw = Draw(data, kind)
    x, v = draw.weights(), draw.point()
    lam = data.draw(strengths)
    regularizer, layout = draw.problem.regularizer, draw.problem.layout
    config = {**regularizer.get_config(), "lam": lam}
    other = draw.problem._replace(regularizer=type(regularizer)(**config))
    x_, v_, lam_ = to_tensor(x), to_tensor(v), to_tensor(lam)
    for ours, theirs in (
        (regularizer.value(x_, lam_, layout), other.value(x)),
        (regularizer.prox(v_, 2.0, lam_, layout), other.prox(v, 2.0)),
        (regularizer.project(x_, v_, lam_, layout), other.project(x, v)),
        (regularizer.subgradient(x_, lam_, layout), other.subgradient(x)),
    ):
        np.testing.assert_array_equal(to_numpy(ours), theirs)


@pytest.mark.parametrize("kind", KINDS[:2], ids=kind_name)
@checked
@given(data=st.data())
def test_a_strength_for_every_entry_is_each_entry_s_own(kind, data):
    draw = Draw(data, kind)
    x, v = draw.weights(), draw.point()
    lams = data.draw(hnp.arrays(float, x.shape, elements=strengths))
    regularizer = draw.problem.regularizer
    x_, v_, lams_ = to_tensor(x), to_tensor(v), to_tensor(lams)
    found = {
        "prox": to_numpy(regularizer.prox(v_, 2.0, lams_)),
        "project": to_numpy(regularizer.project(x_, v_, lams_)),
    }
    total = 0.0
    for entry in np.ndindex(x.shape):
        alone = type(regularizer)(lams[entry])
        at, dual = x_[entry], v_[entry]
        assert found["prox"][entry] == to_numpy(alone.prox(dual, 2.0))
        assert found["project"][entry] == to_numpy(alone.project(at, dual))
        total += float(alone.value(at))
    value = float(regularizer.value(x_, lams_))
    assert value == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("cls", [GroupLasso, SparseGroupLasso])
def test_a_group_has_one_strength(cls):
    x = to_tensor(np.ones((3, 2)))
    with pytest.raises(ValueError, match="`lam`"):
        cls(0.1).prox(x, lam=x)


@pytest.mark.parametrize(
    "regularizer, x, expected",
    [
        (L1(0.2), [[0.3, -0.1]], [[0.1, 0.0]]),
        (L1(0.25), [[-0.5, 0.25], [-0.25, 2.0]], [[-0.25, 0], [0, 1.75]]),
        (L1(0.0), [[-0.5, 0.0]], [[-0.5, 0.0]]),
        (NonNegativeL1(0.2), [[0.3, 0.1, -0.5]], [[0.1, 0.0, 0.0]]),
        # two units of 4 weights, of norms 5 and 1: threshold 1 sqrt(4)
        (
            GroupLasso(1.0, "unit"),
            [[3, 0.5], [4, 0.5], [0, 0.5], [0, 0.5]],
            [[1.8, 0], [2.4, 0], [0, 0], [0, 0]],
        ),
        (
            GroupLasso(1.0, "input"),
            [[3, 4, 0, 0], [0.5, -0.5, 0.5, 0.5]],
            [[1.8, 2.4, 0, 0], [0, 0, 0, 0]],
        ),
        (GroupLasso(2.5), [[3], [4], [0], [0]], [[0], [0], [0], [0]]),
        # single weights
        (
            GroupLasso(0.5, "kernel"),
            [[2, -0.5], [-1, 0]],
            [[1.5, 0], [-0.5, 0]],
        ),
        (GroupLasso(0.5, ()), [[2, -0.5], [-1, 0]], [[1.5, 0], [-0.5, 0]]),
        # all in one, of norm 5
        (GroupLasso(1.0, (0, 1)), [[3, 0], [0, -4]], [[1.8, 0], [0, -2.4]]),
        # soft thresholding to (3, 4, 0, 0), then threshold 0.5 sqrt(4)
        (
            SparseGroupLasso(1.0, "unit", alpha=0.5),
            [[3.5, 0.6], [-4.5, 0.6], [0.5, 0.6], [-0.2, 0.6]],
            [[2.4, 0], [-3.2, 0], [0, 0], [0, 0]],
        ),
    ],
)
def test_prox_by_hand(regularizer, x, expected):
    expected = np.array(expected, "float64")
    z = to_numpy(regularizer.prox(to_tensor(x)))
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(z == 0, expected == 0)


@pytest.mark.parametrize(
    "regularizer, x, v, expected",
    [
        (L1(0.5), [[2, 0, 0, -1]], [[9, 0.3, -9, 9]], [[0.5, 0.3, -0.5, -0.5]]),
        (
            NonNegativeL1(0.5),
            [[2, 0, 0, -1]],
            [[9, 9, -9, 9]],
            [[0.5, 0.5, -9, -0.5]],
        ),
        # first unit x / |x| sqrt(4), second v on the ball of radius sqrt(4)
        (
            GroupLasso(1.0),
            [[3, 0], [-4, 0], [0, 0], [0, 0]],
            [[9, 3], [9, 0], [9, -4], [9, 0]],
            [[1.2, 1.2], [-1.6, 0], [0, -1.6], [0, 0]],
        ),
        # half of it, and a box of 0.5 where weights are 0
        (
            SparseGroupLasso(1.0, alpha=0.5),
            [[3], [-4], [0], [0]],
            [[9], [9], [9], [-0.1]],
            [[1.1], [-1.3], [0.5], [-0.1]],
        ),
    ],
)
def test_project_by_hand(regularizer, x, v, expected):
    p = to_numpy(regularizer.project(to_tensor(x), to_tensor(v)))
    # from outside, `project` stays 16 ulp short of the boundary
    np.testing.assert_allclose(p, expected, rtol=4e-15, atol=1e-15)


@pytest.mark.parametrize(
    "regularizer",
    (L1(0.5), NonNegativeL1(0.5), GroupLasso(0.5), SparseGroupLasso(0.5)),
    ids=repr,
)
def test_a_dual_variable_within_the_threshold_keeps_every_digit(regularizer):
    v = np.array([[0.1, -0.2], [0.3, 1 / 30]])
    p = to_numpy(regularizer.project(to_tensor(0 * v), to_tensor(v)))
    np.testing.assert_array_equal(p, v)


@pytest.mark.parametrize(
    "path, shape, sizes",
    [
        ("dense/kernel", (6, 5), {"unit": 6, "input": 5, "kernel": 1}),
        ("conv1d/kernel", (3, 4, 8), {"unit": 12, "input": 24, "kernel": 3}),
        ("conv2d/kernel", (3, 3, 4, 8), {"unit": 36, "input": 72, "kernel": 9}),
        (
            "conv2d_transpose/kernel",
            (3, 3, 8, 4),
            {"unit": 36, "input": 72, "kernel": 9},
        ),
        (
            "depthwise_conv2d/kernel",
            (3, 3, 4, 2),
            {"unit": 9, "input": 18, "kernel": 9},
        ),
        ("a/query/kernel", (6, 2, 3), {"unit": 6, "input": 6, "kernel": 1}),
        ("conv2d/kernel", (3, 3, 4, 8), {(0, -1): 24, (2,): 4, (): 1}),
    ],
)
def test_a_group_weighs_the_root_of_its_size(path, shape, sizes):
    layout = layout_of(shape, path)
    one = np.zeros(shape)
    one[(0,) * len(shape)] = 1
    for groups, size in sizes.items():
        for regularizer in (
            GroupLasso(0.5, groups),
            SparseGroupLasso(0.5, groups, alpha=0.0),
        ):
            value = regularizer.value(to_tensor(one), layout=layout)
            assert float(value) == pytest.approx(0.5 * size**0.5, rel=1e-14)
            # in a kernel of ones, a group weighs as much as its entries
            value = regularizer.value(to_tensor(np.ones(shape)), layout=layout)
            assert float(value) == pytest.approx(
                0.5 * math.prod(shape), rel=1e-14
            )


@pytest.mark.parametrize("groups", GROUPS)
@checked
@given(data=st.data(), step=steps)
def test_sparse_group_lasso_joins_its_ends(groups, data, step):
    draw = Draw(data, (GroupLasso, groups))
    x, v = draw.weights(), draw.point()
    lam = draw.problem.regularizer.lam
    close = {"rtol": 0, "atol": TOLERANCE}
    for alpha, end in (1, L1(lam)), (0, GroupLasso(lam, groups)):
        mixed = draw.problem._replace(
            regularizer=SparseGroupLasso(lam, groups, alpha)
        )
        end = draw.problem._replace(regularizer=end)
        np.testing.assert_allclose(mixed.value(v), end.value(v), **close)
        np.testing.assert_allclose(
            mixed.prox(v, step), end.prox(v, step), **close
        )
        np.testing.assert_allclose(
            mixed.project(x, v), end.project(x, v), **close
        )


EXAMPLES = [
    L1(0.1),
    NonNegativeL1(2),
    GroupLasso(0.1),
    GroupLasso(0.1, "input"),
    GroupLasso(0.1, (0, -1)),
    SparseGroupLasso(0.1),
    SparseGroupLasso(0.1, (0, -1), 0.25),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_weight_that_is_on_has_one_subgradient(dtype):
    largest = 5e4 if dtype == "float16" else 1e38
    x = np.array([1e-3, -1e-3, 2.0, -2.0, 0.0, 0.0])
    v = largest * np.array([-1.0, 1.0, 1.0, -1.0, 1.0, -1.0])
    x, v = (keras.ops.convert_to_tensor(a, dtype) for a in (x, v))
    p = keras.ops.convert_to_numpy(L1(0.5).project(x, v)).astype("float32")
    np.testing.assert_array_equal(p, [0.5, -0.5, 0.5, -0.5, 0.5, -0.5])


@pytest.mark.parametrize("floatx", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_are_kept(dtype, floatx):
    keras.config.set_floatx(floatx)
    x = keras.ops.convert_to_tensor(np.arange(-2.0, 4).reshape(3, 2), dtype)
    for regularizer in (L1(1), NonNegativeL1(1), SparseGroupLasso(1)):
        for result in (
            regularizer.value(x),
            regularizer.prox(x),
            regularizer.project(x, x),
            regularizer.subgradient(x),
        ):
            assert keras.backend.standardize_dtype(result.dtype) == dtype


@pytest.mark.parametrize("regularizer", EXAMPLES, ids=repr)
def test_arrays_are_taken_as_tensors_are(regularizer):
    x, v = np.random.default_rng(0).normal(size=(2, 4, 3))
    x[:, 1] = x[0, 0] = 0
    for method, arguments in (
        ("value", (x,)),
        ("prox", (x, 0.1)),
        ("project", (x, v)),
        ("critical", (v,)),
        ("subgradient", (x,)),
    ):
        call = getattr(regularizer, method)
        of_arrays = call(*arguments)
        assert keras.ops.is_tensor(of_arrays)
        of_tensors = call(*map(to_tensor, arguments))
        np.testing.assert_array_equal(to_numpy(of_arrays), to_numpy(of_tensors))


@pytest.mark.parametrize("regularizer", EXAMPLES, ids=repr)
def test_serialization_and_repr_give_it_back(regularizer):
    text = json.dumps(keras.saving.serialize_keras_object(regularizer))
    copies = (
        keras.saving.deserialize_keras_object(json.loads(text)),
        type(regularizer).from_config(regularizer.get_config()),
        eval(repr(regularizer), vars(regularizers)),
    )
    for copy in copies:
        assert type(copy) is type(regularizer)
        assert copy == regularizer
        assert hash(copy) == hash(regularizer)
        assert copy.get_config() == regularizer.get_config()


def test_config_and_repr_by_hand():
    regularizer = SparseGroupLasso(1, [0, -1], 0.25)
    assert regularizer.get_config() == {
        "lam": 1.0,
        "groups": (0, -1),
        "alpha": 0.25,
    }
    assert repr(regularizer) == (
        "SparseGroupLasso(lam=1.0, groups=(0, -1), alpha=0.25)"
    )


def test_equal_only_if_all_is():
    different = [
        *EXAMPLES,
        L1(0.2),
        NonNegativeL1(0.1),
        GroupLasso(0.1, "kernel"),
        SparseGroupLasso(0.1, "unit", 0.25),
        0.1,
        None,
    ]
    for i, one in enumerate(different):
        assert [one == other for other in different] == [
            i == j for j in range(len(different))
        ]
    assert len({*different, L1(0.1), GroupLasso(0.1, [0, -1])}) == len(
        different
    )


def test_get():
    regularizer = GroupLasso(0.1)
    assert regularizers.get(regularizer) is regularizer
    assert regularizers.get(None) is None
    for number in (1, 1.0, np.float32(1)):
        assert regularizers.get(number) == L1(1.0)


@pytest.mark.parametrize(
    "lam", [-0.1, math.nan, math.inf, -math.inf, None, "much", "0.1", [0.1]]
)
def test_bad_strength(lam):
    for cls in (L1, NonNegativeL1, GroupLasso, SparseGroupLasso):
        with pytest.raises(ValueError, match="`lam`") as error:
            cls(lam)
        assert repr(lam) in str(error.value)


@pytest.mark.parametrize(
    "groups", ["units", "", 3, None, ("unit",), (0.5,), (0, None)]
)
def test_bad_groups(groups):
    for cls in (GroupLasso, SparseGroupLasso):
        with pytest.raises(ValueError, match="`groups`") as error:
            cls(0.1, groups)
        assert repr(groups) in str(error.value)


@pytest.mark.parametrize(
    "groups", [(2,), (-3,), (0, -3), (0, 2), (0, 0), (1, -1)]
)
def test_axes_that_a_kernel_does_not_have(groups):
    x = to_tensor(np.ones((3, 2)))
    regularizer = GroupLasso(0.1, groups)
    for use in (regularizer.value, regularizer.prox, regularizer.subgradient):
        with pytest.raises(
            ValueError, match="`groups` must name axes"
        ) as error:
            use(x)
        assert str(groups) in str(error.value)
        assert "(3, 2)" in str(error.value)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, math.inf, "half", None])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match="`alpha`") as error:
        SparseGroupLasso(0.1, alpha=alpha)
    assert repr(alpha) in str(error.value)


@pytest.mark.parametrize(
    "identifier, reason",
    [
        (keras.regularizers.L1(0.1), "Keras one is a term of the loss"),
        ("l1", "dict"),
        (-1.0, "0 or greater"),
        (math.nan, "finite"),
        (math.inf, "finite"),
        ([L1(0.1)], "dict"),
        (L1, "object"),
    ],
)
def test_get_of_something_else(identifier, reason):
    with pytest.raises(ValueError, match="`regularizer`") as error:
        regularizers.get(identifier)
    assert reason in str(error.value)
    assert repr(identifier) in str(error.value)


@pytest.mark.parametrize("alpha", (0.0, 0.5))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_a_group_is_0_where_the_squares_of_its_entries_are(dtype, alpha):
    small = {"float32": 1e-24, "float64": 1e-170}[dtype]
    x = np.full((4, 3), small, dtype)
    regularizer = SparseGroupLasso(0.1, alpha=alpha)
    np.testing.assert_array_equal(to_numpy(regularizer.prox(x)), 0)
    np.testing.assert_array_equal(to_numpy(regularizer.critical(x)), 0)
    # and nothing is, without a strength
    np.testing.assert_array_equal(to_numpy(regularizer.prox(x, lam=0.0)), x)


def test_arguments_of_its_own_need_a_config():
    class Scaled(L1):
        def __init__(self, lam, by):
            super().__init__(lam)
            self.by = by

    with pytest.raises(TypeError, match=r"Scaled takes .*a `get_config` that"):
        Scaled(0.1, 2)

    class Told(Scaled):
        def get_config(self):
            return {**super().get_config(), "by": self.by}

    assert Told(0.1, 2) != Told(0.1, 3)
