"""`python -m experiments COMMAND`; `--help` explains each."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time

from experiments import arguments, search
from experiments.catalog import COMPACTED, EXPERIMENTS, SCALES
from experiments.data import NAMES
from experiments.errors import Trouble
from experiments.recipes import MODELS
from experiments.results import RESULTS, ROOT

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(line: list[str] | None = None) -> int:
    line = sys.argv[1:] if line is None else line
    options = _parser().parse_args(line)
    options.line = line
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except (Trouble, ImportError, OSError) as error:
        return _fail(error)


def _fail(error: object, status: int = 1) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


def _add_demo(commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="train five optimizers from 1 %% of the weights and compare",
    )
    parser.add_argument("--data", default="digits", choices=NAMES)
    parser.add_argument("--seeds", type=arguments.seed, nargs="+")
    parser.add_argument("--epochs", type=arguments.count)
    parser.add_argument(
        "--out",
        type=arguments.folder,
        help="folder for results and figure (default: build/demo-DATA)",
    )
    parser.set_defaults(run=_demo)


def _demo(options) -> int:
    from experiments.demo import demo

    out = options.out or ROOT / "build" / f"demo-{options.data}"
    demo(options.data, options.seeds, out, options.epochs)
    return 0


def _add_bench(commands) -> None:
    parser = commands.add_parser(
        "bench", help="time the optimizers, and networks where they are used"
    )
    parser.add_argument(
        "what",
        choices=("step", "fit", "scaling", "inference", "zeros", "import"),
        help="an optimizer step alone; whole trainings; trainings by two "
        "processes; size and speed of trained networks in every format; where "
        "zeros make networks faster; what importing takes",
    )
    parser.add_argument("--repeats", type=arguments.count, default=5)
    parser.add_argument(
        "--only",
        choices=COMPACTED,
        help="inference: the networks of one experiment",
    )
    parser.add_argument(
        "--out", type=arguments.file, help="result file to write as well"
    )
    parser.set_defaults(run=_bench)


def _bench(options) -> int:
    if options.only and options.what != "inference":
        return _fail(
            f"--only is for bench inference. Received: bench {options.what}", 2
        )
    # read by TensorFlow when it starts; one core, as the other runtimes
    if options.what in ("inference", "zeros"):
        os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if options.what == "scaling":  # as its workers
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["JAX_PLATFORMS"] = "cpu"
    from experiments.benchmarks.command import run

    run(options.what, options.out, options.repeats, options.only)
    return 0


def _add_soak(commands) -> None:
    parser = commands.add_parser(
        "soak",
        help="kill a run and a search at random moments, and see that nothing "
        "is lost",
    )
    parser.add_argument(
        "--times",
        type=arguments.count,
        default=20,
        help="kills of each process",
    )
    parser.add_argument(
        "--seed", type=arguments.seed, default=0, help="of the moments"
    )
    arguments.add_out(parser, "soak")
    parser.set_defaults(run=_soak)


def _soak(options) -> int:
    from experiments import soak

    return 0 if soak.run(options.times, options.seed, options.out) else 1


def _add_publish(commands) -> None:
    parser = commands.add_parser(
        "publish",
        help="put trained networks and their cards into saved_models",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="by default all"
    )
    parser.set_defaults(run=_publish)


def _publish(options) -> int:
    from experiments import zoo

    unknown = set(options.names) - {saved.name for saved in zoo.SAVED}
    if unknown:
        known = ", ".join(saved.name for saved in zoo.SAVED)
        return _fail(
            f"no network is called {', '.join(sorted(unknown))}; there are "
            f"{known}",
            2,
        )
    for saved in zoo.SAVED:
        if not options.names or saved.name in options.names:
            print(zoo.publish(saved))
    return 0


def _add_list(commands) -> None:
    parser = commands.add_parser(
        "list", help="what there is to run, and with which settings"
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=arguments.experiment
    )
    parser.add_argument("--scale", default="full", choices=SCALES)
    parser.set_defaults(run=_list)


def _list(options) -> int:
    from experiments.listing import describe, overview

    if options.names:
        for name in options.names:
            print(describe(EXPERIMENTS[name], options.scale))
    else:
        print(overview())
    return 0


def _add_report(commands) -> None:
    parser = commands.add_parser(
        "report",
        help="write the report's tables, figures and verdicts from the result "
        "files; trains nothing",
    )
    parser.add_argument(
        "--results",
        type=arguments.folder,
        default=RESULTS,
        help="folder of the result files (default: experiments/results)",
    )
    parser.add_argument(
        "--out",
        type=arguments.folder,
        default=ROOT / "experiments" / "report",
        help="folder to write to (default: experiments/report)",
    )
    parser.set_defaults(run=_report)


def _report(options) -> int:
    from experiments.reporting.write import write

    if not any(options.results.glob("*/*/*.json")):
        return _fail(
            f"{options.results} is no folder of result files, and without any "
            "the report would be empty. Nothing was written."
        )
    try:
        damaged = write(options.results, options.out)
    except OSError as error:
        return _fail(
            f"the report could not be written: {error}. Files that were there "
            "before are whole; make room and repeat the command."
        )
    print(f"Report: {options.out / 'index.html'}, report.md and report.json")
    return 1 if damaged else 0


def _add_run(commands) -> None:
    parser = commands.add_parser(
        "run",
        help="train an experiment's runs, or go on where they were stopped",
        description="Trains every run that has no result file yet. Stopped or "
        "killed at any moment, the same command goes on from the last epoch. "
        "Several such commands may work on the same experiment at once.",
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", type=arguments.experiment
    )
    parser.add_argument(
        "--scale",
        default="full",
        choices=SCALES,
        help="small: what two CPU cores can afford",
    )
    parser.add_argument(
        "--seeds",
        type=arguments.seed,
        nargs="+",
        help="instead of the experiment's own",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="LABEL", help="only these recipes"
    )
    parser.add_argument(
        "--set",
        action="append",
        type=arguments.change,
        metavar="FIELD=VALUE",
        help="change a field of every recipe; results go to a folder of their "
        "own in build/changed",
    )
    parser.add_argument(
        "--jobs", type=arguments.count, default=1, help="runs side by side"
    )
    parser.add_argument(
        "--minutes",
        type=arguments.minutes,
        help="stop in time, at the end of an epoch; the next call goes on",
    )
    parser.add_argument(
        "--out", type=arguments.folder, help="folder for the result files"
    )
    parser.add_argument(
        "--checkpoints",
        type=arguments.folder,
        help="folder for the checkpoints (default: build/checkpoints, or with "
        "--set or --out beside the results)",
    )
    parser.add_argument(
        "--networks",
        type=arguments.folder,
        help="folder for the trained networks, as sparse files (default: "
        "build/networks, or likewise)",
    )
    parser.set_defaults(run=_run)


def _run(options) -> int:
    from experiments import runner
    from experiments.jobs import plan

    try:
        jobs = plan(
            [EXPERIMENTS[name] for name in options.names],
            options.scale,
            seeds=options.seeds,
            only=options.only,
            changes=dict(options.set or ()),
            out=options.out,
            checkpoints=options.checkpoints,
            networks=options.networks,
        )
    except ValueError as error:
        return _fail(error, 2)
    if options.jobs > 1:
        failed = runner.run_side_by_side(jobs, options.jobs, options.line)
    else:
        deadline = options.minutes and time.time() + 60 * options.minutes
        failed = runner.run(jobs, deadline)
    return 1 if failed else 0


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
        type=arguments.share,
        help="best accuracy at this density, in (0, 1]; without it lambda is "
        "searched, for the front of accuracy and density",
    )
    parser.add_argument(
        "--tuner",
        default=default.tuner,
        choices=search.TUNERS,
    )
    parser.add_argument(
        "--trials", type=arguments.count, default=default.trials
    )
    parser.add_argument(
        "--epochs",
        type=arguments.count,
        default=default.epochs,
        help="of a trial",
    )
    parser.add_argument(
        "--width",
        type=arguments.width,
        default=default.width,
        help="factor on hidden widths",
    )
    parser.add_argument(
        "--examples",
        type=arguments.count,
        help="train on the first so many only",
    )
    parser.add_argument(
        "--batch-size", type=arguments.count, default=default.batch_size
    )
    parser.add_argument("--seed", type=arguments.seed, default=default.seed)
    parser.add_argument(
        "--workers",
        type=arguments.count,
        default=1,
        help="processes side by side",
    )
    parser.add_argument(
        "--out",
        type=arguments.folder,
        help="folder of this search alone (default: build/search-...)",
    )
    parser.set_defaults(run=_search)


def _search(options) -> int:
    fields = {f.name for f in dataclasses.fields(search.Search)}
    wanted = search.Search(
        **{k: v for k, v in vars(options).items() if k in fields}
    )
    out = options.out or (
        ROOT / "build" / f"search-{wanted.model}-{wanted.data}-{wanted.tuner}"
    )
    try:
        search.run(wanted, out, options.workers, options.line)
    except ValueError as error:
        return _fail(error)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_bench,
        _add_soak,
        _add_publish,
        _add_list,
        _add_report,
        _add_run,
        _add_search,
    ):
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
