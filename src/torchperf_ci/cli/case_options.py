"""The options that choose and measure cases, shared by every command that measures."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from torchperf_ci.analysis.expected_shards import MAX_SHARDS, parse_shard_name
from torchperf_ci.bench.case_worker import BOTH, Settings
from torchperf_ci.bench.plan import DEFAULT_COMPILERS, Selection
from torchperf_ci.bench.sampler import StopRule
from torchperf_ci.cli.options import Decorated, KeyValues, decorated, option
from torchperf_ci.records import Mode, Testing


class Seconds(click.FloatRange):
    """A time that has a length: more than 0, and a number."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's signature
        seconds = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number of seconds", param, ctx) if math.isnan(seconds) else seconds


def _clock(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001 - click's signature
    """A clock in MHz, or `default`."""
    if value in {None, "", "default"} or (str(value).isdigit() and 100 <= int(str(value)) <= 10_000):
        return value or None
    raise click.BadParameter(f"{value!r} is neither a clock in MHz nor `default`")


_POSITIVE = click.IntRange(min=1)
_SECONDS = Seconds(min=0, min_open=True)
_SEED = click.IntRange(min=0, max=2**63 - 1)

python_option = option(
    "--python", default=sys.executable, show_default="this one", help="The Python to measure; it needs torch."
)
torchbench_option = option(
    "--torchbench-dir",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="A checkout of pytorch/benchmark for the suite torchbench.  [default: the installed torchbenchmark]",
)

_SUITES = option(
    "--suites",
    multiple=True,
    default=("tiny",),
    help="Suite: a built-in one, a path to a .py file with MODELS, or a module. Repeatable.",
)
_MODE = (
    option("--inference", is_flag=True, help="Forward passes.  [this or --training]", show_default=False),
    option("--training", is_flag=True, help="Forward, loss and backward.  [this or --inference]", show_default=False),
    option("--mode", type=click.Choice([mode.value for mode in Mode]), hidden=True),
)
_MODELS = (
    option("--quick", is_flag=True, help="Only the few models that the suite names for a quick look."),
    option(
        "--filter",
        "-k",
        "filters",
        multiple=True,
        metavar="REGEX",
        help="Keep these models, or a group; one with a / is held against suite/model. Repeatable.",
    ),
    option("--exclude", "-x", multiple=True, metavar="NAME", help="Leave out this model. Repeatable."),
)
_OPTIONS = (
    _SUITES,
    option(
        "--devices",
        multiple=True,
        help="cpu, cuda, cuda:1, xpu, mps, or all: every accelerator. Repeatable.  [default: what is there]",
    ),
    option(
        "--lock-clocks",
        is_flag=False,
        flag_value="default",
        callback=_clock,
        metavar="[MHZ]",
        help="Lock the clocks of NVIDIA GPUs while measuring, where that is permitted.  [without a value: to the GPU's "
        "default for applications]",
    ),
    option("--parallel", is_flag=True, help="Spread the cases over the devices (default: all), a worker on each."),
    option(
        "--runner-labels",
        multiple=True,
        metavar="LABEL",
        help="Labels of the job's runner: one that promises a GPU makes measuring the CPU in its place an error. "
        "Repeatable.",
    ),
    option("--dtypes", multiple=True, default=("float32",), help="float32, float16, bfloat16 or amp. Repeatable."),
    option(
        "--compilers",
        multiple=True,
        default=DEFAULT_COMPILERS,
        help="What to compare with eager: a name of docs/glossary.md or of torch._dynamo.list_backends(). Repeatable.",
    ),
    *_MODE,
    *_MODELS,
    option("--batch-size", type=_POSITIVE, help="Batch size.  [default: the model's own]"),
    option("--threads", "-t", type=_POSITIVE, help="Threads of torch on the CPU, at most the CPUs there are."),
    option(
        "--repeat", "-n", type=_POSITIVE, help="Exactly so many pairs of iterations.  [default: until precise enough]"
    ),
    option("--warmup", type=click.IntRange(min=0), help="Exactly so many pairs to warm up.  [default: until steady]"),
    option(
        "--cold-l2", is_flag=True, help="Empty an accelerator's L2 cache before every reading: the time of a first use."
    ),
    option("--timeout", type=_SECONDS, default=1800.0, help="Seconds a case may take."),
    option("--budget", type=_SECONDS, help="Seconds the whole run may take; what is left over is a row that says so."),
    python_option,
    torchbench_option,
    option("--total-partitions", type=_POSITIVE, default=1, help="Split every suite's models into so many parts …"),
    option("--partition-id", type=click.IntRange(min=0), default=0, help="… and run this one, counted from 0."),
    option(
        "--shard",
        "shard_name",
        default="",
        metavar="I-N",
        show_default=False,
        help="What records and artifact call this part: I of N, as `plan` says.  [default: as partitioned]",
    ),
    option("--no-cold-start-latency", is_flag=True, help="Let compilers use the caches that are there."),
    option(
        "--compile-scope",
        type=click.Choice(["auto", "step", "module"]),
        default="auto",
        help="What is compiled: the whole step (forward, loss, backward), or the module alone; auto: the step for "
        "huggingface, timm_models and torchbench in training, as PyTorch's scripts do, else the module.",
    ),
    option("--inductor-compile-mode", help="torch.compile's mode for inductor, say max-autotune."),
    option("--seed", type=_SEED, default=0, help="Seed of weights, inputs and the order of samples."),
    option(
        "--scale",
        type=click.Choice(["full", "small"]),
        default="full",
        help="Size of the models, for suites that have both.",
    ),
    option("--accuracy/--no-accuracy", default=True, help="Check that compiled results are right."),
    option("--performance/--no-performance", default=True, help="Measure time and memory."),
    option("--extra-env", multiple=True, type=KeyValues(), metavar="KEY=VALUE", help="For the measured processes."),
)


def case_options(function: Decorated) -> Decorated:
    """All options that choose and measure cases."""
    return decorated(function, _OPTIONS)


def model_options(function: Decorated) -> Decorated:
    """The options that choose models, for commands that do not measure."""
    return decorated(function, (_SUITES, *_MODE, *_MODELS, python_option, torchbench_option))


def models_from(options: dict[str, Any]) -> Selection:
    """The models that `model_options` ask for. Raises `click.UsageError` for what cannot be meant."""
    return Selection(
        suites=tuple(options["suites"]),
        mode=mode_from(options),
        filters=tuple(_pattern(text) for text in options["filters"]),
        exclude=tuple(options["exclude"]),
        quick=options["quick"],
    )


def selection_from(options: dict[str, Any]) -> Selection:
    """What is asked for. Raises `click.UsageError` for what cannot be meant."""
    if options["partition_id"] >= options["total_partitions"]:
        raise click.UsageError(
            f"--partition-id {options['partition_id']} is not below --total-partitions {options['total_partitions']}; "
            "partitions count from 0"
        )
    return replace(
        models_from(options),
        devices=tuple(options["devices"]),
        dtypes=tuple(options["dtypes"]),
        compilers=tuple(options["compilers"]),
        partition_id=options["partition_id"],
        total_partitions=options["total_partitions"],
        shard_name=_shard(options["shard_name"]),
        parallel=options["parallel"],
        runner_labels=tuple(options["runner_labels"]),
    )


def settings_from(options: dict[str, Any]) -> Settings:
    """How it is measured. Raises `click.UsageError` when nothing would be."""
    asked = {Testing.ACCURACY: options["accuracy"], Testing.PERFORMANCE: options["performance"]}
    if not any(asked.values()):
        raise click.UsageError("--no-accuracy and --no-performance together leave nothing to do")
    return Settings(
        testings=tuple(testing for testing in BOTH if asked[testing]),
        batch_size=options["batch_size"],
        threads=options["threads"],
        warmup=options["warmup"],
        rule=StopRule(repeat=options["repeat"]),
        timeout=options["timeout"],
        budget=options["budget"],
        cold_start=not options["no_cold_start_latency"],
        inductor_mode=options["inductor_compile_mode"],
        seed=options["seed"],
        scale=options["scale"],
        compile_scope=options["compile_scope"],
        cold_l2=options["cold_l2"],
    )


def worker_variables(*, torchbench_dir: Path | None, extra_env: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """The variables that the options give to the measured processes."""
    own = {"TORCHPERF_TORCHBENCH_DIR": str(torchbench_dir)} if torchbench_dir else {}
    return {**own, **dict(extra_env)}


def mode_from(options: dict[str, Any]) -> Mode:
    """The one mode that was asked for."""
    flags = {mode for mode in Mode if options[mode.value] or options["mode"] == mode.value}
    if len(flags) != 1:
        raise click.UsageError("give exactly one of --inference and --training")
    return flags.pop()


def _shard(text: str) -> str:
    """The name of a shard, if it is one."""
    if not text:
        return ""
    if (shard := parse_shard_name(text)) is None:
        raise click.UsageError(f"--shard {text!r} is not I-N, say 2-3 for the second of three, at most {MAX_SHARDS}")
    return f"{shard[0]}-{shard[1]}"


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise click.UsageError(f"--filter {text!r} is not a regular expression: {error}") from error
