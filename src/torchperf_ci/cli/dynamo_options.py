"""The options of `run --harness dynamo`, and what they and the shared ones ask of a PyTorch checkout."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from torchperf_ci.bench.dynamo import DEFAULT_DEVICES, DEFAULT_SUITES, TESTINGS, Request
from torchperf_ci.cli.case_options import selection_from, settings_from
from torchperf_ci.cli.options import Decorated, option, shell_words

DEFAULT_TIMEOUT = 24 * 3600.0
"""Seconds for a command, that is, for all models of a suite with a compiler."""

_FOLDER = click.Path(path_type=Path)

_OPTIONS = (
    option(
        "--harness",
        type=click.Choice(["torchperf", "dynamo"]),
        default="torchperf",
        help="torchperf: measure as docs/method.md says; dynamo: run the scripts of a PyTorch checkout "
        "(benchmarks/dynamo), with the commands of PyTorch's own suite runner.",
    ),
    option(
        "--pytorch-dir", type=_FOLDER, help="dynamo: the PyTorch checkout to run in.  [default: the working folder]"
    ),
    option("--print-run-commands", is_flag=True, help="dynamo: write and print the script of the commands; run none."),
    option("--log-operator-inputs", is_flag=True, help="dynamo: let the scripts log the operators' inputs."),
    option("--extra-args", metavar="ARGS", help="dynamo: more arguments for the scripts, quoted as in a shell."),
    option("--enable-cpu-launcher", is_flag=True, help="dynamo: start the scripts with torch.backends.xeon.run_cpu."),
    option("--cpu-launcher-args", metavar="ARGS", help="dynamo: arguments of that launcher, quoted as in a shell."),
)
_ONLY_DYNAMO = (
    "pytorch_dir",
    "print_run_commands",
    "log_operator_inputs",
    "extra_args",
    "enable_cpu_launcher",
    "cpu_launcher_args",
)
_ONLY_TORCHPERF = ("warmup", "seed", "scale", "compile_scope", "cold_l2")


def dynamo_options(function: Decorated) -> Decorated:
    """The options that only this harness has, and the one that chooses it."""
    return functools.reduce(lambda decorated, decorate: decorate(decorated), reversed(_OPTIONS), function)


def refuse_other_harness(context: click.Context, harness: str) -> None:
    """Raise `click.UsageError` for options on the command line that the harness does not know.

    Those of the environment may be meant for another command, and stay unused.
    """
    other = _ONLY_TORCHPERF if harness == "dynamo" else _ONLY_DYNAMO
    typed = [name for name in other if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if typed:
        names = ", ".join("--" + name.replace("_", "-") for name in typed)
        advice = "; the scripts' own options go into --extra-args" if harness == "dynamo" else ""
        raise click.UsageError(f"{names}: not an option of --harness {harness}{advice}")


def request_from(context: click.Context, options: dict[str, Any]) -> Request:
    """What is asked of the checkout. Raises `click.UsageError` for what cannot be meant."""
    selection, settings = selection_from(options), settings_from(options)
    if options["cpu_launcher_args"] and not options["enable_cpu_launcher"]:
        raise click.UsageError("--cpu-launcher-args without --enable-cpu-launcher has no effect; give both")
    launcher = shell_words(options["cpu_launcher_args"] or "", name="--cpu-launcher-args")
    partitioned = selection.total_partitions > 1
    return Request(
        mode=selection.mode,
        python=python_from(options["python"]),
        suites=selection.suites if _is_given(context, "suites") else DEFAULT_SUITES,
        devices=selection.devices or DEFAULT_DEVICES,
        dtypes=selection.dtypes,
        compilers=selection.compilers,
        testings=tuple(testing for testing in TESTINGS if testing in settings.testings),
        quick=selection.quick,
        filters=tuple(pattern.pattern for pattern in selection.filters),
        exclude=selection.exclude,
        log_operator_inputs=options["log_operator_inputs"],
        cold_start=settings.cold_start,
        batch_size=settings.batch_size,
        threads=settings.threads,
        repeat=settings.rule.repeat,
        total_partitions=selection.total_partitions if partitioned else None,
        partition_id=selection.partition_id if partitioned else None,
        inductor_mode=settings.inductor_mode,
        extra=tuple(shell_words(options["extra_args"] or "", name="--extra-args")),
        launcher=tuple(launcher) if options["enable_cpu_launcher"] else None,
    )


def python_from(text: str) -> str:
    """The Python to start from within the checkout: a path from here stays one; a name is looked up as ever."""
    return str(Path(text).absolute()) if "/" in text else text


def script_python(context: click.Context, request: Request) -> str:
    """How the script calls Python: by the path that was given, else `python`, whichever that is where it is run."""
    return request.python if _is_given(context, "python") else "python"


def timeout_from(context: click.Context, options: dict[str, Any]) -> float:
    """Seconds for a command. The default of other harnesses is that of a single model."""
    given: float = options["timeout"]
    return given if _is_given(context, "timeout") else DEFAULT_TIMEOUT


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}
