"""`torchperf-ci fastrnns`: the RNN and CNN micro-benchmark, with the options and outputs of PyTorch's script."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.finish import Interrupted, signals_interrupt
from torchperf_ci.cli.options import PYTHON, ManyValues, Number, command, command_options, option, split_list, takes
from torchperf_ci.core.errors import ExitCode, NothingToJudge, UsageProblem
from torchperf_ci.core.text import count, one_line
from torchperf_ci.github.job import stop_commands
from torchperf_ci.run.plan import unknown_names
from torchperf_ci.suites.fastrnns.catalog import VARIANTS, Executor, Fuser, Sizes, VariantGroup

if TYPE_CHECKING:
    from torchperf_ci.pytorch.fastrnns import FastrnnsSettings, VariantTimes

_POSITIVE = click.IntRange(min=1)
_SLOW_LOOPS = 30
_RNNS = ", ".join(VARIANTS[VariantGroup.RNNS])
_DEFAULT = Sizes()


@command_options("Variants")
class FastrnnsVariantOptions:
    rnns: tuple[str, ...] = option(metavar="NAME…", help=f"Only these: {_RNNS}; or one of the group vl.")
    cnns: tuple[str, ...] = option(metavar="NAME…", help=f"Only these: {', '.join(VARIANTS[VariantGroup.CNNS])}.")
    groups: tuple[str, ...] = option(
        "--group",
        default=(VariantGroup.CNNS.value, VariantGroup.RNNS.value),
        metavar="NAME…",
        help="Groups to run: cnns, rnns, vl. --rnns and --cnns choose within theirs.",
    )
    variable_lstms: bool = option(
        help="Also the group vl, LSTMs over sequences of 30 to 99 steps, whatever --seqLength says. Some are very slow."
    )

    def variants(self) -> tuple[str, ...]:
        """List the variants to measure, in order: sequences of different lengths first, then LSTMs, then ResNets.

        Raises `UsageProblem` naming every one that there is not.
        """
        groups = _names(self.groups, "group", [group.value for group in VariantGroup])
        rnns = _names(self.rnns, "variant for --rnns", [*VARIANTS[VariantGroup.RNNS], *VARIANTS[VariantGroup.VL]])
        cnns = _names(self.cnns, "variant for --cnns", VARIANTS[VariantGroup.CNNS])
        names = [*VARIANTS[VariantGroup.VL]] if self.variable_lstms or VariantGroup.VL in groups else []
        if VariantGroup.RNNS in groups:
            names += rnns or VARIANTS[VariantGroup.RNNS]
        if VariantGroup.CNNS in groups:
            names += cnns or VARIANTS[VariantGroup.CNNS]
        return tuple(dict.fromkeys(names))


def _names(given: Sequence[str], kind: str, choices: Sequence[str]) -> list[str]:
    """Split each text into names. Raises `UsageProblem` listing every one that is not a choice."""
    names = [name for text in given for name in split_list(text)]
    if problems := unknown_names(kind, names, choices):
        raise UsageProblem("\n".join(problems))
    return names


@command_options("Sizes")
class SizeOptions:
    seq_length: int = option("--seqLength", type=_POSITIVE, default=_DEFAULT.seq_length, help="Steps of a sequence.")
    num_layers: int = option("--numLayers", type=_POSITIVE, default=_DEFAULT.num_layers, help="Layers of an LSTM.")
    input_size: int = option("--inputSize", type=_POSITIVE, default=_DEFAULT.input_size, help="Features of a step.")
    hidden_size: int = option(
        "--hiddenSize", type=_POSITIVE, default=_DEFAULT.hidden_size, help="Size of the hidden state."
    )
    mini_batch: int = option(
        "--miniBatch",
        type=_POSITIVE,
        default=_DEFAULT.mini_batch,
        help=f"Sequences at a time. ResNets get as many images, and {_DEFAULT.images} at the most.",
    )


@command_options("TorchScript")
class TorchScriptOptions:
    fuser: str = option(type=click.Choice([each.value for each in Fuser]), default="te", help="TorchScript's fuser.")
    executor: str | None = option(
        type=click.Choice([each.value for each in Executor]),
        help="TorchScript's executor.  [default: what the fuser implies]",
    )
    loop_level: int | None = option(
        "--cuda-pointwise-loop-level", type=_POSITIVE, help="Loop levels of the fuser te's kernels."
    )
    block_count: int | None = option(
        "--cuda-pointwise-block-count", type=_POSITIVE, help="Block count of the fuser te's kernels."
    )
    block_size: int | None = option(
        "--cuda-pointwise-block-size", type=_POSITIVE, help="Block size of the fuser te's kernels."
    )


@command_options("Measuring")
class MeasureOptions:
    warmup: int = option(type=click.IntRange(min=0), default=10, help="Passes before the timed ones.")
    nloops: int = option(type=_POSITIVE, default=100, help="Timed passes, forward and backward.")
    device: str | None = option(help="cpu, cuda, cuda:1, xpu or mps.  [default: cuda where there is one, else cpu]")
    threads: int | None = option("-t", type=_POSITIVE, help="Threads of torch on the CPU, at most the CPUs there are.")
    seed: int = option(type=int, default=0, help="Seed of weights and inputs.")
    timeout: float = option(type=Number(min=0, min_open=True), default=1800, help="Seconds a variant may take.")
    python: str = PYTHON


@command_options("Output")
class OutputOptions:
    separator: str = option("--sep", default=" ", show_default="a space", help="Separator of the table's columns.")
    print_json: str | None = option(
        type=click.Choice(["oss", "pep"]),
        is_flag=False,
        flag_value="oss",
        metavar="[oss|pep]",
        help="Print JSON: oss, the means by group and name, or pep, a line per pass.  [without a value: oss]",
    )
    profile: Path | None = option(
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Write a Chrome trace of one pass of every variant to DIR/NAME.json.",
    )
    compare: tuple[Path, Path] | None = option(
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        nargs=2,
        metavar="OLD.json NEW.json",
        help="Measure nothing: print two files of --print-json oss side by side.",
    )
    form: str | None = option(
        "--format",
        type=click.Choice(["table", "markdown", "csv", "json"]),
        help="Print all results at the end as such a table; with --compare, how to print.  [default: nothing; with "
        "--compare: table]",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FastrnnsOptions:
    """Say what is measured, how, and what is printed."""

    variants: FastrnnsVariantOptions
    sizes: SizeOptions
    measuring: MeasureOptions
    torchscript: TorchScriptOptions
    output: OutputOptions

    def settings(self) -> FastrnnsSettings:
        """Return how every variant is measured. Raises `UsageProblem` when no trace can be written."""
        from torchperf_ci.pytorch.fastrnns import FastrnnsSettings

        sizes, script, measuring = self.sizes, self.torchscript, self.measuring
        pointwise = {
            "loop_level": script.loop_level,
            "block_count": script.block_count,
            "block_size": script.block_size,
        }
        folder = self.output.profile
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    folder = folder.absolute()
            except OSError as error:
                raise UsageProblem(
                    f"--profile {folder} cannot be written ({error.strerror}); choose another folder"
                ) from error
        return FastrnnsSettings(
            sizes=Sizes(
                seq_length=sizes.seq_length,
                num_layers=sizes.num_layers,
                input_size=sizes.input_size,
                hidden_size=sizes.hidden_size,
                mini_batch=sizes.mini_batch,
                images=min(sizes.mini_batch, _DEFAULT.images),
            ),
            warmup=measuring.warmup,
            nloops=measuring.nloops,
            device=measuring.device,
            fuser=Fuser(script.fuser),
            executor=Executor(script.executor) if script.executor else None,
            pointwise={name: value for name, value in pointwise.items() if value is not None},
            seed=measuring.seed,
            threads=measuring.threads,
            timeout=measuring.timeout,
            traces=folder,
        )


@command(cls=ManyValues, short_help="Measure LSTMs in many forms, and ResNets, forward and backward.")
@takes(FastrnnsOptions)
def fastrnns(options: FastrnnsOptions) -> int:
    """Measure LSTMs in many forms, and ResNets, forward and backward.

    Every variant is measured in a process of its own, with warm-up passes and then timed ones. The table is in
    milliseconds and grows on stderr; --print-json prints JSON on stdout at the end. A variant that fails is a row
    with the reason, and the others go on.

    \b
    Examples:
      torchperf-ci fastrnns --rnns cudnn aten jit --group rnns --print-json > new.json
      torchperf-ci fastrnns --compare old.json new.json
    """
    from torchperf_ci.pytorch.fastrnns import (
        TableFormat,
        averages,
        compare_pairs,
        observations,
        pair_averages,
        read_averages,
        write_rows,
    )

    output = options.output
    if output.compare:
        old, new = output.compare
        pairs = pair_averages(*(read_averages(path.read_bytes(), str(path)) for path in (old, new)))
        if not pairs:
            raise NothingToJudge(f"neither {old} nor {new} holds a variant")
        click.echo(compare_pairs(pairs, TableFormat(output.form or "table")))
        return int(ExitCode.OK)
    variants, settings = options.variants.variants(), options.settings()
    if any(name in VARIANTS[VariantGroup.VL] for name in variants) and settings.nloops + settings.warmup > _SLOW_LOOPS:
        click.echo(
            "Warning: some LSTMs of the group vl are very slow; --warmup 3 --nloops 10 does with less.", err=True
        )
    undropped = [name for name in variants if name.endswith("_dropout")]
    if undropped and settings.sizes.num_layers == 1:
        click.echo(
            f"Warning: dropout lies between layers, so with --numLayers 1 there is none in {', '.join(undropped)}.",
            err=True,
        )
    try:
        with signals_interrupt():
            rows = _measure(variants, settings, python=options.measuring.python, separator=output.separator)
    except Interrupted as error:
        click.echo(f"\nInterrupted by {signal.Signals(error.number).name}.", err=True)
        return 128 + error.number
    failed = [row.variant for row in rows if row.failure]
    click.echo(
        f"\n{len(rows) - len(failed)} of {count(len(rows), 'variant')} measured"
        + (f"; failed: {', '.join(failed)}" if failed else ""),
        err=True,
    )
    if output.print_json == "oss":
        click.echo(json.dumps(averages(rows)))
    elif output.print_json == "pep":
        for observation in observations(rows):
            click.echo(f"Caffe2Observer {json.dumps(observation)}")
    elif output.form:
        click.echo(write_rows(rows, TableFormat(output.form)))
    return int(ExitCode.SOME_FAILED if failed else ExitCode.OK)


def _measure(variants: Sequence[str], settings: FastrnnsSettings, *, python: str, separator: str) -> list[VariantTimes]:
    """Measure, printing the table row by row; return the rows."""
    from torchperf_ci.pytorch.fastrnns import FastrnnsBench, VariantTable
    from torchperf_ci.run.survey import python_under_test

    rows: list[VariantTimes] = []
    table = VariantTable(variants, separator=separator)
    with (
        stop_commands(os.environ),
        python_under_test(python, os.environ, threads=settings.threads, extra={}) as under_test,
        FastrnnsBench(under_test, settings) as bench,
    ):
        click.echo(bench.description, err=True)
        for row in bench.measure(variants):
            if not rows or rows[-1].group != row.group:
                click.echo(f"\n{row.group}, milliseconds\n{table.header()}", err=True)
            click.echo(table.row(row), err=True)
            for line in row.log:
                indent = " " * (len(line) - len(line.lstrip()))
                click.echo(f"    | {indent}{one_line(line)}", err=True)
            rows.append(row)
    return rows
