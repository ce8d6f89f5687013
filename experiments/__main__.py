"""`python -m experiments COMMAND`; `--help` explains each."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
import time

from experiments import search
from experiments.catalog import COMPACTED, EXPERIMENTS, SCALES
from experiments.data import NAMES, DatasetUnavailable
from experiments.recipes import MODELS, parse_change
from experiments.results import RESULTS, ROOT, add_out

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


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
    if options.only and options.what != "inference":
        print(
            f"--only is for bench inference. Received: bench {options.what}",
            file=sys.stderr,
        )
        return 2
    # read by TensorFlow when it starts; one core, as the other runtimes
    if options.what in ("inference", "zeros"):
        os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if options.what == "scaling":  # as its workers
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["JAX_PLATFORMS"] = "cpu"
    from experiments.bench import report

    report(options.what, options.out, options.repeats, options.only)
    return 0


def _soak(options) -> int:
    from experiments import soak

    return 0 if soak.report(options.times, options.seed, options.out) else 1


def _publish(options) -> int:
    from experiments import zoo

    unknown = set(options.names) - {saved.name for saved in zoo.SAVED}
    if unknown:
        known = ", ".join(saved.name for saved in zoo.SAVED)
        print(
            f"error: no network is called {', '.join(sorted(unknown))}; there "
            f"are {known}",
            file=sys.stderr,
        )
        return 2
    for saved in zoo.SAVED:
        if not options.names or saved.name in options.names:
            try:
                print(zoo.publish(saved))
            except (DatasetUnavailable, OSError, RuntimeError) as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
    return 0


def _list(options) -> int:
    from experiments.listing import describe, overview

    if options.names:
        for name in options.names:
            print(describe(EXPERIMENTS[name], options.scale))
    else:
        print(overview())
    return 0


def _report(options) -> int:
    from experiments.reporting.write import write

    if not options.results.is_dir():
        print(
            f"error: {options.results} is no folder of result files, and "
            "without any the report would be empty. Nothing was written.",
            file=sys.stderr,
        )
        return 1
    try:
        damaged = write(options.results, options.out)
    except OSError as error:
        print(
            f"error: the report could not be written: {error}. Files that were "
            "there before are whole; make room and repeat the command.",
            file=sys.stderr,
        )
        return 1
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Report: {options.out / 'index.html'}, report.md and report.json")
    return 1 if damaged else 0


def _run(options) -> int:
    from experiments import runner

    changes = dict(options.set or ())
    out = options.out
    if out is None:
        # changed recipes are no part of the report
        out = ROOT / "build" / "changed" if changes else RESULTS
    try:
        jobs = runner.plan(
            [EXPERIMENTS[name] for name in options.names],
            options.scale,
            options.seeds,
            options.only,
            changes,
            out,
            options.checkpoints
            or (out / "checkpoints" if changes else runner.CHECKPOINTS),
            options.networks
            or (out / "networks" if changes else runner.NETWORKS),
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.jobs > 1:
        failed = runner.run_side_by_side(jobs, options.jobs, options.arguments)
    else:
        deadline = options.minutes and time.time() + 60 * options.minutes
        failed = runner.run(jobs, deadline)
    return 1 if failed else 0


def _search(options) -> int:
    fields = {f.name for f in dataclasses.fields(search.Search)}
    wanted = search.Search(
        **{k: v for k, v in vars(options).items() if k in fields}
    )
    out = options.out or (
        ROOT / "build" / f"search-{wanted.model}-{wanted.data}-{wanted.tuner}"
    )
    try:
        search.run(wanted, out, options.workers, options.arguments)
    except (
        DatasetUnavailable,
        ImportError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
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
    demo.add_argument("--seeds", type=_seed, nargs="+")
    demo.add_argument("--epochs", type=_positive)
    demo.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder for results and figure (default: build/demo-DATA)",
    )
    demo.set_defaults(run=_demo)
    bench = commands.add_parser(
        "bench", help="time the optimizers, and networks where they are used"
    )
    bench.add_argument(
        "what",
        choices=("step", "fit", "scaling", "inference", "zeros", "import"),
        help="an optimizer step alone; whole trainings; trainings by two "
        "processes; size and speed of trained networks in every format; where "
        "zeros make networks faster; what importing takes",
    )
    bench.add_argument("--repeats", type=_positive, default=5)
    bench.add_argument(
        "--only",
        choices=COMPACTED,
        help="inference: the networks of one experiment",
    )
    bench.add_argument(
        "--out", type=pathlib.Path, help="result file to write as well"
    )
    bench.set_defaults(run=_bench)
    soak = commands.add_parser(
        "soak",
        help="kill a run and a search at random moments, and see that nothing "
        "is lost",
    )
    soak.add_argument(
        "--times", type=_positive, default=20, help="kills of each process"
    )
    soak.add_argument("--seed", type=_seed, default=0, help="of the moments")
    add_out(soak, "soak")
    soak.set_defaults(run=_soak)
    publish = commands.add_parser(
        "publish",
        help="put trained networks and their cards into saved_models",
    )
    publish.add_argument(
        "names", nargs="*", metavar="NAME", help="by default all"
    )
    publish.set_defaults(run=_publish)
    listing = commands.add_parser(
        "list", help="what there is to run, and with which settings"
    )
    listing.add_argument("names", nargs="*", metavar="NAME", type=_experiment)
    listing.add_argument("--scale", default="full", choices=SCALES)
    listing.set_defaults(run=_list)
    report = commands.add_parser(
        "report",
        help="write the report's tables, figures and verdicts from the result "
        "files; trains nothing",
    )
    report.add_argument(
        "--results",
        type=pathlib.Path,
        default=RESULTS,
        help="folder of the result files (default: experiments/results)",
    )
    report.add_argument(
        "--out",
        type=pathlib.Path,
        default=ROOT / "experiments" / "report",
        help="folder to write to (default: experiments/report)",
    )
    report.set_defaults(run=_report)
    run = commands.add_parser(
        "run",
        help="train an experiment's runs, or go on where they were stopped",
        description="Trains every run that has no result file yet. Stopped or "
        "killed at any moment, the same command goes on from the last epoch. "
        "Several such commands may work on the same experiment at once.",
    )
    run.add_argument("names", nargs="+", metavar="NAME", type=_experiment)
    run.add_argument(
        "--scale",
        default="full",
        choices=SCALES,
        help="small: what two CPU cores can afford",
    )
    run.add_argument(
        "--seeds",
        type=_seed,
        nargs="+",
        help="instead of the experiment's own",
    )
    run.add_argument(
        "--only", nargs="+", metavar="LABEL", help="only these recipes"
    )
    run.add_argument(
        "--set",
        action="append",
        type=_change,
        metavar="FIELD=VALUE",
        help="change a field of every recipe; results go to build/changed",
    )
    run.add_argument(
        "--jobs", type=_positive, default=1, help="runs side by side"
    )
    run.add_argument(
        "--minutes",
        type=_minutes,
        help="stop in time, at the end of an epoch; the next call goes on",
    )
    run.add_argument(
        "--out", type=pathlib.Path, help="folder for the result files"
    )
    run.add_argument(
        "--checkpoints",
        type=pathlib.Path,
        help="folder for the checkpoints (default: build/checkpoints)",
    )
    run.add_argument(
        "--networks",
        type=pathlib.Path,
        help="folder for the trained networks, as sparse files (default: "
        "build/networks)",
    )
    run.set_defaults(run=_run)
    _add_search(commands)
    return parser


def _add_search(commands) -> None:
    default = search.Search()
    parser = commands.add_parser(
        "search",
        help="let keras-tuner find an optimizer's settings",
        description="Tries settings on the validation split and prints those "
        "that no other beats in accuracy and density. Stopped or killed, the "
        "same command goes on after the last finished trial; with more "
        "--trials it goes on from there.",
    )
    parser.add_argument(
        "--model", default=default.model, choices=MODELS, help="the network"
    )
    parser.add_argument("--data", default=default.data, choices=NAMES)
    parser.add_argument(
        "--optimizer", default=default.optimizer, choices=("AdaBreg", "LinBreg")
    )
    parser.add_argument(
        "--density",
        type=float,
        help="best accuracy at this density, in (0, 1]; without it lambda is "
        "searched, for the front of accuracy and density",
    )
    parser.add_argument(
        "--tuner",
        default=default.tuner,
        choices=search.TUNERS,
    )
    parser.add_argument("--trials", type=_positive, default=default.trials)
    parser.add_argument(
        "--epochs", type=_positive, default=default.epochs, help="of a trial"
    )
    parser.add_argument(
        "--width",
        type=_width,
        default=default.width,
        help="factor on hidden widths",
    )
    parser.add_argument(
        "--examples", type=_positive, help="train on the first so many only"
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=default.batch_size
    )
    parser.add_argument("--seed", type=_seed, default=default.seed)
    parser.add_argument(
        "--workers", type=_positive, default=1, help="processes side by side"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder of this search alone (default: build/search-...)",
    )
    parser.set_defaults(run=_search)


def _experiment(name: str) -> str:
    if name not in EXPERIMENTS:
        raise argparse.ArgumentTypeError(
            f"no experiment is called {name!r}; there are "
            f"{', '.join(EXPERIMENTS)}"
        )
    return name


def _change(text: str):
    try:
        return parse_change(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be 0 or greater, not {text}")
    return int(text)


def _width(text: str) -> float:
    number = float(text)
    if not 0 < number < 100:
        raise argparse.ArgumentTypeError(f"must be greater than 0, not {text}")
    return number


def _minutes(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"must be greater than 0, not {text}")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or greater, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
