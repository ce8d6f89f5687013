"""`python -m experiments COMMAND`; `--help` explains each."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

from experiments.data import NAMES, DatasetUnavailable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return options.run(options)


def _demo(options) -> int:
    from experiments.demo import demo

    try:
        demo(
            options.data,
            options.seeds,
            options.out or ROOT / "build" / f"demo-{options.data}",
            ROOT / "saved_models",
            options.epochs,
        )
    except DatasetUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _bench(options) -> int:
    from experiments.bench import report

    report(options.out, options.repeats)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="train five optimizers from 1 %% of the weights and compare",
    )
    demo.add_argument("--data", default="digits", choices=NAMES)
    demo.add_argument("--seeds", type=int, nargs="+")
    demo.add_argument("--epochs", type=_positive)
    demo.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder for results and figure (default: build/demo-DATA)",
    )
    demo.set_defaults(run=_demo)
    bench = commands.add_parser(
        "bench", help="time the optimizers against Keras' own"
    )
    bench.add_argument("--repeats", type=_positive, default=30)
    bench.add_argument(
        "--out", type=pathlib.Path, help="result file to write as well"
    )
    bench.set_defaults(run=_bench)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or greater, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
