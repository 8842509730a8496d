"""`torchperf-ci fastrnns`: the RNN and CNN micro-benchmark, with the options and outputs of PyTorch's script."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.interrupt import Interrupted, signals_interrupt
from torchperf_ci.cli.options import ManyValues, option, split_list
from torchperf_ci.core.errors import ExitCode, NothingToJudge, UsageProblem
from torchperf_ci.run.plan import unknown_names
from torchperf_ci.suites.fastrnns.catalog import VARIANTS, Executor, Fuser, Group, Sizes

if TYPE_CHECKING:
    from torchperf_ci.pytorch.fastrnns.results import Row
    from torchperf_ci.pytorch.fastrnns.run import Settings

_POSITIVE = click.IntRange(min=1)
_SLOW_LOOPS = 30
_RNNS = ", ".join(VARIANTS[Group.RNNS])
_DEFAULT = Sizes()


@click.command(cls=ManyValues, short_help="Measure LSTMs in many forms, and ResNets, forward and backward.")
@option("--seqLength", "seq_length", type=_POSITIVE, default=_DEFAULT.seq_length, help="Steps of a sequence.")
@option("--numLayers", "num_layers", type=_POSITIVE, default=_DEFAULT.num_layers, help="Layers of an LSTM.")
@option("--inputSize", "input_size", type=_POSITIVE, default=_DEFAULT.input_size, help="Features of a step.")
@option("--hiddenSize", "hidden_size", type=_POSITIVE, default=_DEFAULT.hidden_size, help="Size of the hidden state.")
@option(
    "--miniBatch",
    "mini_batch",
    type=_POSITIVE,
    default=_DEFAULT.mini_batch,
    help=f"Sequences at a time. ResNets get as many images, and {_DEFAULT.images} at the most.",
)
@option("--warmup", type=click.IntRange(min=0), default=10, help="Passes before the timed ones.")
@option("--nloops", type=_POSITIVE, default=100, help="Timed passes, forward and backward.")
@option("--device", help="cpu, cuda, cuda:1, xpu or mps.  [default: cuda where there is one, else cpu]")
@option("--rnns", multiple=True, metavar="NAME…", help=f"Only these: {_RNNS}; or one of the group vl.")
@option("--cnns", multiple=True, metavar="NAME…", help=f"Only these: {', '.join(VARIANTS[Group.CNNS])}.")
@option(
    "--group",
    "groups",
    multiple=True,
    default=(Group.CNNS.value, Group.RNNS.value),
    metavar="NAME…",
    help="Groups to run: cnns, rnns, vl. --rnns and --cnns choose within theirs.",
)
@option(
    "--variable-lstms",
    is_flag=True,
    help="Also the group vl, LSTMs over sequences of 30 to 99 steps, whatever --seqLength says. Some are very slow.",
)
@option("--fuser", type=click.Choice([fuser.value for fuser in Fuser]), default="te", help="TorchScript's fuser.")
@option(
    "--executor",
    type=click.Choice([executor.value for executor in Executor]),
    help="TorchScript's executor.  [default: what the fuser implies]",
)
@option("--cuda-pointwise-loop-level", "loop_level", type=_POSITIVE, help="Loop levels of the fuser te's kernels.")
@option("--cuda-pointwise-block-count", "block_count", type=_POSITIVE, help="Block count of the fuser te's kernels.")
@option("--cuda-pointwise-block-size", "block_size", type=_POSITIVE, help="Block size of the fuser te's kernels.")
@option("--sep", default=" ", show_default="a space", help="What stands between the table's columns.")
@option(
    "--print-json",
    type=click.Choice(["oss", "pep"]),
    is_flag=False,
    flag_value="oss",
    metavar="[oss|pep]",
    help="Print JSON: oss, the means by group and name, or pep, a line per pass.  [without a value: oss]",
)
@option(
    "--profile",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a Chrome trace of one pass of every variant to DIR/NAME.json.",
)
@option(
    "--compare",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    nargs=2,
    metavar="OLD.json NEW.json",
    help="Measure nothing: print two files of --print-json oss side by side.",
)
@option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "csv", "json"]),
    default="table",
    help="How --compare prints.",
)
@option("--threads", "-t", type=_POSITIVE, help="Threads of torch on the CPU, at most the CPUs there are.")
@option("--seed", type=int, default=0, help="Seed of weights and inputs.")
@option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=1800.0,
    help="Seconds a variant may take.",
)
@option("--python", default=sys.executable, show_default="this one", help="The Python to measure; it needs torch.")
def fastrnns(**options: Any) -> int:  # noqa: ANN401 - click's values
    """Measure LSTMs in many forms, and ResNets, forward and backward.

    Every variant is measured in a process of its own, with warm-up passes and then timed ones. The table is in
    milliseconds and grows on stderr; --print-json prints JSON on stdout at the end. A variant that fails is a row
    with the reason, and the others go on.

    \b
    Examples:
      torchperf-ci fastrnns --rnns cudnn aten jit --group rnns --print-json > new.json
      torchperf-ci fastrnns --compare old.json new.json
    """
    if options["compare"]:
        _compare(*options["compare"], form=options["form"])
        return int(ExitCode.OK)
    variants = chosen(
        groups=_names(options["groups"], "group", [group.value for group in Group]),
        rnns=_names(options["rnns"], "variant for --rnns", [*VARIANTS[Group.RNNS], *VARIANTS[Group.VL]]),
        cnns=_names(options["cnns"], "variant for --cnns", VARIANTS[Group.CNNS]),
        variable=options["variable_lstms"],
    )
    settings = _settings(options)
    _warn(variants, settings)
    try:
        with signals_interrupt():
            rows = _measure(variants, settings, python=options["python"], separator=options["sep"])
    except Interrupted as error:
        click.echo(f"\nInterrupted by {signal.Signals(error.number).name}.", err=True)
        return 128 + error.number
    _print_json(rows, options["print_json"])
    return int(ExitCode.SOME_FAILED if any(row.failure for row in rows) else ExitCode.OK)


def chosen(
    *, groups: Sequence[str], rnns: Sequence[str], cnns: Sequence[str], variable: bool = False
) -> tuple[str, ...]:
    """The variants to measure, in order: sequences of different lengths first, then LSTMs, then ResNets."""
    names = [*VARIANTS[Group.VL]] if variable or Group.VL in groups else []
    if Group.RNNS in groups:
        names += rnns or VARIANTS[Group.RNNS]
    if Group.CNNS in groups:
        names += cnns or VARIANTS[Group.CNNS]
    return tuple(dict.fromkeys(names))


def _names(given: Sequence[str], what: str, choices: Sequence[str]) -> list[str]:
    """The names in `given`, each a list of them. Raises `UsageProblem` listing every one that is not a choice."""
    names = [name for text in given for name in split_list(text)]
    if problems := unknown_names(what, names, choices):
        raise UsageProblem("\n".join(problems))
    return names


def _settings(options: dict[str, Any]) -> Settings:
    from torchperf_ci.pytorch.fastrnns.run import Settings

    sizes = ("seq_length", "num_layers", "input_size", "hidden_size", "mini_batch")
    pointwise = ("loop_level", "block_count", "block_size")
    return Settings(
        sizes=Sizes(**{name: options[name] for name in sizes}, images=min(options["mini_batch"], _DEFAULT.images)),
        warmup=options["warmup"],
        nloops=options["nloops"],
        device=options["device"],
        fuser=Fuser(options["fuser"]),
        executor=Executor(options["executor"]) if options["executor"] else None,
        pointwise={name: options[name] for name in pointwise if options[name] is not None},
        seed=options["seed"],
        threads=options["threads"],
        timeout=options["timeout"],
        traces=_writable(options["profile"]) if options["profile"] else None,
    )


def _writable(folder: Path) -> Path:
    """`folder`, made if need be, by its absolute path. Raises `UsageProblem` when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.absolute()
    except OSError as error:
        raise UsageProblem(f"--profile {folder} cannot be written ({error.strerror}); choose another folder") from error


def _warn(variants: Sequence[str], settings: Settings) -> None:
    if any(name in VARIANTS[Group.VL] for name in variants) and settings.nloops + settings.warmup > _SLOW_LOOPS:
        click.echo(
            "Warning: some LSTMs of the group vl are very slow; --warmup 3 --nloops 10 does with less.", err=True
        )
    undropped = [name for name in variants if name.endswith("_dropout")]
    if undropped and settings.sizes.num_layers == 1:
        click.echo(
            f"Warning: dropout lies between layers, so with --numLayers 1 there is none in {', '.join(undropped)}.",
            err=True,
        )


def _measure(variants: Sequence[str], settings: Settings, *, python: str, separator: str) -> list[Row]:
    """Measure, printing the table row by row; the rows."""
    from torchperf_ci.core.text import one_line
    from torchperf_ci.github.workflow_commands import commands_stopped
    from torchperf_ci.pytorch.fastrnns.report import Table
    from torchperf_ci.pytorch.fastrnns.run import Bench
    from torchperf_ci.run.run import python_under_test

    rows: list[Row] = []
    table = Table(variants, separator=separator)
    with (
        commands_stopped(os.environ),
        tempfile.TemporaryDirectory(prefix="torchperf-log-") as logs,
        python_under_test(
            python, os.environ, threads=settings.threads, extra={}, log=Path(logs) / "preload.log"
        ) as under_test,
        Bench(under_test, settings) as bench,
    ):
        click.echo(bench.description, err=True)
        for row in bench.measure(variants):
            if not rows or rows[-1].group != row.group:
                click.echo(f"\n{row.group}, milliseconds\n{table.header()}", err=True)
            click.echo(table.row(row), err=True)
            for line in row.log:
                click.echo(f"    | {one_line(line)}", err=True)
            rows.append(row)
    return rows


def _print_json(rows: Sequence[Row], form: str | None) -> None:
    from torchperf_ci.pytorch.fastrnns.results import averages, observations

    if form == "oss":
        click.echo(json.dumps(averages(rows)))
    elif form == "pep":
        for observation in observations(rows):
            click.echo(f"Caffe2Observer {json.dumps(observation)}")


def _compare(old: Path, new: Path, *, form: str) -> None:
    from torchperf_ci.pytorch.fastrnns.report import Format, compared
    from torchperf_ci.pytorch.fastrnns.results import pairs, read_averages

    found = pairs(
        *(read_averages(path.read_text(encoding="utf-8", errors="replace"), str(path)) for path in (old, new))
    )
    if not found:
        raise NothingToJudge(f"neither {old} nor {new} holds a variant")
    click.echo(compared(found, Format(form)))
