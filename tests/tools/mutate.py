"""Mutation tests: each small fault in what trains has to fail a test.

    KERAS_BACKEND=jax python -m tests.tools.mutate --sample 100 --seed 0

Faults are other comparisons, operators, numbers and conditions, and missing
statements. Those that no test notices are listed; the status is 1 if more than
a tenth are left. mutmut forks after it has run tests, where JAX and TensorFlow
may hang, and cosmic-ray starts a process for each fault, which takes longer to
import Keras than to test. Here processes are forked before Keras computes.
"""

import argparse
import ast
import importlib.abc
import importlib.util
import os
import random
import resource
import sys
import time

from experiments import provenance, results
from experiments.arguments import add_out
from experiments.results import ROOT

# the tests of each module, the likeliest to fail first
TESTS = {
    "_paths": ("kernels", "optimizers", "keras_features", "sparse_file"),
    "_quantized": ("sparsity", "sparse_file"),
    "kernels": ("kernels", "optimizers"),
    "regularizers": ("golden", "regularizers", "optimizers", "checks"),
    "optimizers": ("golden", "optimizers", "healing", "checks"),
    "choice": ("golden", "optimizers", "keras_features", "checks"),
    "base_optimizer": (
        *("golden", "optimizers", "healing", "keras_features"),
        *("target_density", "checks"),
    ),
    "stepping": (
        *("golden", "optimizers", "healing", "keras_features"),
        *("freezing", "target_density", "checks"),
    ),
    "_support": ("freezing", "keras_features", "target_density"),
    "allocation": ("pruning", "sparse_start", "target_density"),
    "callbacks._clock": ("target_density",),
    "callbacks._strengths": ("target_density",),
}
OTHER = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.USub: ast.UAdd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def faults(tree):
    """Every fault of a module, as (line, what it is, how to make it)."""
    for node in _running(tree):
        if isinstance(node, ast.Compare):
            for i in range(len(node.ops)):
                yield _swapped(node, node.ops, i)
        elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.UnaryOp)):
            if type(node.op) in OTHER:
                yield _swapped(node, vars(node), "op")
        elif isinstance(node, ast.Constant) and (
            isinstance(node.value, (bool, int, float))
        ):
            value = node.value
            other = not value if isinstance(value, bool) else value + 1
            yield _set(node, f"{other}", vars(node), "value", other)
        elif isinstance(node, (ast.If, ast.IfExp)):
            test = ast.UnaryOp(ast.Not(), node.test)
            yield _set(node, "if not", vars(node), "test", test)
        elif isinstance(node, ast.Return) and node.value is not None:
            yield _set(node, "None", vars(node), "value", ast.Constant(None))
        for body in (getattr(node, "body", ()), getattr(node, "orelse", ())):
            for i, statement in enumerate(body if type(body) is list else ()):
                if _can_go(statement):
                    yield _set(statement, "without", body, i, ast.Pass())


def _running(node):
    """All nodes but annotations, and guards that hold whatever is tested.

    Those are `zip(strict=True)`, and methods without a body.
    """
    yield node
    for name, part in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in part if isinstance(part, list) else [part]:
            guard = isinstance(child, ast.keyword) and (
                child.arg in ("strict", "stacklevel")
            )
            if isinstance(child, ast.AST) and not guard:
                yield from _running(child)


def _can_go(statement):
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)  # a docstring
    if isinstance(statement, ast.Raise):
        return getattr(statement.exc, "id", "") != "NotImplementedError"
    return isinstance(statement, ast.AugAssign)


def _swapped(node, holder, key):
    other = OTHER[type(holder[key])]()
    return _set(node, type(other).__name__, holder, key, other)


def _set(node, what, holder, key, value):
    said = f"{what}: {' '.join(ast.unparse(node).split())[:60]}"

    def make():
        holder[key] = value

    return node.lineno, said, make


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a tree instead of its file."""

    def __init__(self, name, tree):
        self.name, self.tree = name, tree

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            return importlib.util.spec_from_loader(name, self)
        return None

    def exec_module(self, module):
        ast.fix_missing_locations(self.tree)
        exec(compile(self.tree, self.name, "exec"), vars(module))


def read(name):
    path = ROOT.joinpath("keras_bregman", *name.split("."))
    return ast.parse(path.with_suffix(".py").read_text())


def passes(name, index=None, limit=None):
    """Whether the tests of a module pass in spite of its fault `index`.

    A fault that makes them take more than `limit` seconds of the processor is
    noticed, too.
    """
    child = os.fork()
    if child == 0:
        if limit:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = "build/hypothesis"
        if index is not None:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            tree = read(name)
            _, _, make = list(faults(tree))[index]
            make()
            sys.meta_path.insert(0, Mutated(f"keras_bregman.{name}", tree))
        import pytest

        files = [str(ROOT / f"tests/test_{test}.py") for test in TESTS[name]]
        status = 1
        try:
            status = pytest.main(["-qx", "-p", "no:cacheprovider", *files])
        finally:
            os._exit(int(status))
    return os.waitpid(child, 0)[1] == 0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sample", type=int, help="try so many faults only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", nargs="+", default=list(TESTS))
    add_out(parser, "mutation")
    options = parser.parse_args()
    todo = [
        (name, i, line, what)
        for name in options.modules
        for i, (line, what, _) in enumerate(faults(read(name)))
    ]
    possible = len(todo)
    print(f"{possible} faults in {', '.join(options.modules)}")
    if options.sample is not None:
        todo = random.Random(options.seed).sample(todo, options.sample)
        print(f"{len(todo)} of them, chosen by seed {options.seed}")

    provenance.remember_commit()
    import keras  # noqa: F401  once for all, before the processes are forked

    seconds = {}
    for name in sorted({name for name, *_ in todo}):
        start = time.monotonic()
        if not passes(name):
            sys.exit(f"the tests of {name} fail without a fault")
        seconds[name] = time.monotonic() - start
    left = []
    for name, i, line, what in todo:
        if passes(name, i, limit=int(3 * seconds[name]) + 60):
            left.append(f"{name}.py:{line}: {what}")
            print(left[-1], flush=True)
    print(f"{len(todo) - len(left)} of {len(todo)} noticed")
    result = {
        "possible": possible,
        "tried": len(todo),
        "left": left,
        "seed": options.seed,
    }
    results.save({**result, **provenance.of_process()}, options.out)
    return int(len(left) > len(todo) / 10)


if __name__ == "__main__":
    sys.exit(main())
