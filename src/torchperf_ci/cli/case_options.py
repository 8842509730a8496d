"""The options that choose and measure cases, shared by every command that measures.

Values are completed in a shell without importing torch: only the Python under test knows what it really has, so the
usual names are offered, and others work as well.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from torchperf_ci.cli.options import PYTHON, KeyValues, LineItem, Number, PatternItem, command_options, option
from torchperf_ci.core.records import DEFAULT_COMPILERS, Mode, Testing

if TYPE_CHECKING:
    from torchperf_ci.run.case_worker import CaseSettings
    from torchperf_ci.run.plan import Selection


COMPILERS = (
    *("eager", "inductor", "aot_eager", "inductor_no_cudagraphs"),
    *("inductor_max_autotune", "inductor_max_autotune_no_cudagraphs", "cudagraphs", "ts_nnc", "trt"),
    *("torchscript-onnx", "dynamo-onnx"),
)
DEVICES = ("cpu", "cuda", "xpu", "mps", "all")
DTYPES = ("float32", "float16", "bfloat16", "amp")

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_list(choices: Iterable[str] | Callable[[click.Context], Iterable[str]]) -> Completer:
    """Return a completer for an option whose values may be a list with commas: it completes the last one."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
        before, comma, last = incomplete.rpartition(",")
        written = before.split(",")
        names = choices(context) if callable(choices) else choices
        return [
            CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(last) and name not in written
        ]

    return complete


def complete_suites(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of suites, and paths, which the shell completes."""
    from torchperf_ci.suites.registry import known

    names = complete_list(known())(context, parameter, incomplete)
    return names or [CompletionItem(incomplete, type="file")]


def list_models(context: click.Context) -> list[str]:
    """List the models of the suites that are typed already, of `tiny` where there are none, as far as files tell."""
    suites: Sequence[str] = context.params.get("suites") or ("tiny",)
    return list(dict.fromkeys(model for suite in suites for model in _models_of(str(suite))))


def _models_of(suite: str) -> list[str]:
    from torchperf_ci.suites.fastrnns.catalog import VARIANTS

    folder = Path(__file__).parents[1] / "suites"
    if suite == "fastrnns":
        return [variant for variants in VARIANTS.values() for variant in variants]
    if suite == "huggingface":
        return list(json.loads((folder / "data" / "huggingface.json").read_text(encoding="utf-8"))["models"])
    if suite == "timm_models":
        with (folder / "data" / "timm_models.csv").open(newline="", encoding="utf-8") as stream:
            return [row["name"] for row in csv.DictReader(stream)]
    try:
        tree = ast.parse((folder / "tiny.py" if suite == "tiny" else Path(suite)).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return []
    # The keys that MODELS spells out; else the functions that take a batch size.
    for node in tree.body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "MODELS" and isinstance(value, ast.Dict):
            return [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return [each.name for each in functions if each.args.args and each.args.args[0].arg == "batch_size"]


class Seconds(Number):
    """A time that has a length: more than 0, and a number."""

    name = "seconds"


def _clock(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001 - click's signature
    """Check a clock: in MHz, or `default`."""
    if value in {None, "", "default"} or (str(value).isdigit() and 100 <= int(str(value)) <= 10_000):
        return value or None
    raise click.BadParameter(f"{value!r} is neither a clock in MHz nor `default`")


_PARAMETERS = re.compile(r"(?P<model>[\w./-]+)\[(?P<parameters>\w+=[^\[\]]*)\]?")

_POSITIVE = click.IntRange(min=1)
_SECONDS = Seconds(min=0, min_open=True)
_SEED = click.IntRange(min=0, max=2**63 - 1)


@command_options("What to measure")
class ModelOptions:
    suites: tuple[str, ...] = option(
        shell_complete=complete_suites,
        help="Suite: a built-in one (see `suites list`), a path to a .py file with MODELS, or a module. Repeatable.  "
        "[default: tiny, unless --pytest or --asv is given]",
    )
    pytest: tuple[str, ...] = option(
        type=LineItem(),
        metavar="PATH",
        help="Tests with pytest-benchmark's fixture `benchmark`, as they are: a folder, a file, or a test's id. "
        "Repeatable.",
    )
    asv: tuple[str, ...] = option(
        type=LineItem(),
        metavar="PATH",
        help="Benchmarks of asv, as they are: their folder, or the one with asv.conf.json. Repeatable.",
    )
    inference: bool = option(
        help="Measure the forward pass.  [this or --training]",
    )
    training: bool = option(
        help="Measure forward, loss and backward.  [this or --inference]",
    )
    mode: str | None = option(
        type=click.Choice([mode.value for mode in Mode]), help="Another way to say --inference or --training."
    )
    filters: tuple[str, ...] = option(
        "--filter",
        "-k",
        type=PatternItem(),
        metavar="REGEX",
        shell_complete=complete_list(list_models),
        help="Only models whose name matches, or a group's name; with a / in it: suite/model. Repeatable.",
    )
    exclude: tuple[str, ...] = option(
        "-x", metavar="NAME", shell_complete=complete_list(list_models), help="Leave out this model. Repeatable."
    )
    quick: bool = option(help="Only the few models that each suite names for a quick look.")

    def selection(self) -> Selection:
        """Return the models that are asked for. Raises `click.UsageError` for what cannot be meant."""
        from torchperf_ci.run.plan import Selection
        from torchperf_ci.worker.protocol import ASV_SPEC, PYTEST_SPEC

        refuse_missing_files(self.suites)
        for name, paths in (("--pytest", self.pytest), ("--asv", self.asv)):
            for path in paths:
                if not Path(path.partition("::")[0]).exists():
                    raise click.UsageError(f"{name} {path}: there is no such file or folder here")
        existing = (*(f"{PYTEST_SPEC}{path}" for path in self.pytest), *(f"{ASV_SPEC}{path}" for path in self.asv))
        return Selection(
            suites=(*self.suites, *existing) or ("tiny",),
            mode=self.one_mode(),
            filters=tuple(_pattern(text) for text in self.filters),
            exclude=self.exclude,
            quick=self.quick,
        )

    def one_mode(self) -> Mode:
        """Return the one mode that is asked for. Raises `click.UsageError` when it is none or both."""
        asked = {Mode.INFERENCE: self.inference, Mode.TRAINING: self.training}
        modes = {mode for mode in Mode if asked[mode] or self.mode == mode.value}
        if not modes and not self.suites and (self.pytest or self.asv):  # they run as they are
            return Mode.INFERENCE
        if len(modes) != 1:
            raise click.UsageError("give exactly one of --inference and --training")
        return modes.pop()


@command_options("Where to measure")
class PythonOptions:
    python: str = PYTHON
    torchbench_dir: Path | None = option(
        type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
        help="A checkout of pytorch/benchmark for the suite torchbench.  [default: the installed torchbenchmark]",
    )

    def variables(self) -> dict[str, str]:
        """Return the environment variables that these options give to the measured processes."""
        return {"TORCHPERF_TORCHBENCH_DIR": str(self.torchbench_dir)} if self.torchbench_dir else {}


@command_options("What to measure")
class VariantOptions:
    compilers: tuple[str, ...] = option(
        default=DEFAULT_COMPILERS,
        shell_complete=complete_list(COMPILERS),
        help="Compiler to measure: a name of docs/glossary.md, or a backend of torch.compile. For `run` eager is "
        "dynamo's backend of that name, for `compare` the uncompiled module. Repeatable.",
    )
    devices: tuple[str, ...] = option(
        shell_complete=complete_list(DEVICES),
        help="cpu, cuda, cuda:1, xpu, mps, or all for every accelerator. Repeatable.  [default: the accelerator; the "
        "CPU where there is no sign of one]",
    )
    dtypes: tuple[str, ...] = option(
        default=("float32",),
        shell_complete=complete_list(DTYPES),
        help="float32, float16, bfloat16, or amp for autocast. Repeatable.",
    )
    accuracy: bool = option("--accuracy/--no-accuracy", default=True, help="Check that compiled results are right.")
    performance: bool = option("--performance/--no-performance", default=True, help="Measure time and memory.")


@command_options("How to measure")
class MethodOptions:
    batch_size: int | None = option(type=_POSITIVE, help="Batch size of every model.  [default: the model's own]")
    threads: int | None = option(
        "-t", type=_POSITIVE, help="Threads of torch on the CPU.  [default: torch's own choice]"
    )
    repeat: int | None = option(
        "-n", type=_POSITIVE, help="Measure exactly N pairs of iterations.  [default: until precise enough]"
    )
    warmup: int | None = option(
        type=click.IntRange(min=0), help="Warm up with exactly N pairs.  [default: until steady]"
    )
    cold_l2: bool = option(help="Empty an accelerator's L2 cache before every reading, to time a first use.")
    timeout: float = option(type=_SECONDS, default=1800, help="Seconds that one case may take before it is stopped.")
    budget: float | None = option(
        type=_SECONDS, help="Seconds for all cases together; those that no time is left for are listed."
    )
    no_cold_start_latency: bool = option(
        help="Let compilers use their caches: compile times are then not those of a first use."
    )
    compile_scope: str = option(
        type=click.Choice(["auto", "step", "module"]),
        default="auto",
        help="What is compiled: the whole step (forward, loss, backward), or the module alone; auto: the step for "
        "huggingface, timm_models and torchbench in training, as PyTorch's scripts do, else the module.",
    )
    inductor_compile_mode: str | None = option(help="torch.compile's mode for inductor, for example max-autotune.")
    count: bool = option(
        "--count/--no-count",
        default=True,
        help="Count what an iteration does as well: operators, generated kernels, allocations. Takes a few iterations.",
    )
    instructions: str = option(
        type=click.Choice(["auto", "never", "pmu", "callgrind"]),
        default="auto",
        help="Count instructions in a process of its own: pmu by the processor's counter, callgrind by valgrind (on a "
        "CPU; takes minutes); auto: pmu where the counter works, as it seldom does in virtual machines.",
    )
    dynamic: str = option(
        type=click.Choice(["auto", "true", "false"]),
        default="auto",
        help="Whether torch.compile takes sizes as unknown from the start (true), compiles for each anew (false), or "
        "finds out (auto); for cases that run inputs of several shapes.",
    )
    seed: int = option(type=_SEED, default=0, help="Seed of weights, inputs and the order of measurements.")
    scale: str = option(
        type=click.Choice(["full", "small"]), default="full", help="Size of the models, in suites that have both."
    )


@command_options("Where to measure")
class MachineOptions:
    extra_env: tuple[tuple[str, str], ...] = option(
        type=KeyValues(), metavar="KEY=VALUE", help="Environment variable for the measured processes. Repeatable."
    )
    parallel: bool = option(help="Spread the cases over the devices (default: all accelerators), one process on each.")
    lock_clocks: str | None = option(
        is_flag=False,
        flag_value="default",
        callback=_clock,
        metavar="[MHZ]",
        help="Lock the clocks of NVIDIA GPUs while measuring, where that is permitted.  [without a value: to the "
        "GPU's default for applications]",
    )
    runner_labels: tuple[str, ...] = option(
        metavar="LABEL",
        help="Labels of the job's runner: one that promises a GPU makes measuring the CPU in its place an error. "
        "Repeatable.",
    )
    total_partitions: int = option(type=_POSITIVE, default=1, help="Split every suite's models into N parts …")
    partition_id: int = option(type=click.IntRange(min=0), default=0, help="… and run this one, counted from 0.")
    shard_name: str = option(
        "--shard",
        metavar="I-N",
        help="Name of this part in records and the artifact: I of N, as `plan` gives it.  [default: as partitioned]",
    )


@command_options
class TalkOptions:
    """Say how much the command tells on stderr."""

    quiet: bool = option("-q", help="Print only results and errors.")
    verbose: bool = option("-v", help="Print versions and the log of every case as well.")

    def say(self, text: str) -> None:
        """Print a line on stderr, unless the command is to be quiet."""
        if not self.quiet:
            click.echo(text, err=True)

    def explain(self, text: str) -> None:
        """Print a line on stderr where everything is to be told."""
        if self.verbose and not self.quiet:
            click.echo(text, err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseOptions:
    """Choose and measure cases: what every command that measures takes."""

    models: ModelOptions
    variants: VariantOptions
    method: MethodOptions
    interpreter: PythonOptions
    machine: MachineOptions

    def selection(self) -> Selection:
        """Return what is asked for. Raises `click.UsageError` for what cannot be meant."""
        variants, machine = self.variants, self.machine
        if machine.partition_id >= machine.total_partitions:
            raise click.UsageError(
                f"--partition-id {machine.partition_id} is not below --total-partitions {machine.total_partitions}; "
                "partitions count from 0"
            )
        return replace(
            self.models.selection(),
            devices=variants.devices,
            dtypes=variants.dtypes,
            compilers=variants.compilers,
            partition_id=machine.partition_id,
            total_partitions=machine.total_partitions,
            shard_name=_shard(machine.shard_name),
            parallel=machine.parallel,
            runner_labels=machine.runner_labels,
        )

    def settings(self) -> CaseSettings:
        """Return how it is measured. Raises `click.UsageError` when nothing would be."""
        from torchperf_ci.run.case_worker import BOTH, CaseSettings
        from torchperf_ci.run.sampler import StopRule

        asked = {Testing.ACCURACY: self.variants.accuracy, Testing.PERFORMANCE: self.variants.performance}
        if not any(asked.values()):
            raise click.UsageError("--no-accuracy and --no-performance together leave nothing to do")
        method = self.method
        return CaseSettings(
            testings=tuple(testing for testing in BOTH if asked[testing]),
            batch_size=method.batch_size,
            threads=method.threads,
            warmup=method.warmup,
            rule=StopRule(repeat=method.repeat),
            timeout=method.timeout,
            budget=method.budget,
            cold_start=not method.no_cold_start_latency,
            inductor_mode=method.inductor_compile_mode,
            seed=method.seed,
            scale=method.scale,
            compile_scope=method.compile_scope,
            cold_l2=method.cold_l2,
            counts=method.count,
            instructions=method.instructions if method.count else "never",
            dynamic={"true": True, "false": False}.get(method.dynamic),
        )

    def variables(self) -> dict[str, str]:
        """Return the environment variables that the options give to the measured processes."""
        return {**self.interpreter.variables(), **dict(self.machine.extra_env)}


def refuse_missing_files(suites: Iterable[str]) -> None:
    """Raise `click.UsageError` for files of suites that are not there, before anything is started or set up."""
    from torchperf_ci.suites.registry import missing_file

    problems = [problem for suite in suites if suite.endswith(".py") and (problem := missing_file(Path(suite)))]
    if problems:
        raise click.UsageError("\n".join(problems))


def _shard(text: str) -> str:
    """Return the name of a shard, if it is one. Raises `click.UsageError`."""
    if not text:
        return ""
    from torchperf_ci.shards.uploads import MAX_SHARDS, parse_shard_name

    if (shard := parse_shard_name(text)) is None:
        raise click.UsageError(f"--shard {text!r} is not I-N, e.g. 2-3 for the second of three, at most {MAX_SHARDS}")
    return f"{shard[0]}-{shard[1]}"


def _pattern(text: str) -> re.Pattern[str]:
    """Return the compiled pattern. Raises `click.UsageError`.

    `matmul[n=128` and `matmul[n=128,dtype=float32]` are names of cases, or the beginning of one: the parameters in
    brackets must be there, in any order, and no others need to be.
    """
    from torchperf_ci.run.plan import spelled_as

    if named := _PARAMETERS.fullmatch(text):
        given = filter(None, named["parameters"].split(","))
        wanted = "".join(rf"(?=[^\]]*(?<=[\[,]){re.escape(each)}(?=[,\]]))" for each in given)
        return re.compile(rf"{re.escape(named['model'])}\[{wanted}{spelled_as(text)}")
    try:
        return re.compile(text)
    except re.error as error:
        hint = "; a case with parameters is chosen by matmul[n=128]" if "[" in text and "=" in text else ""
        raise click.UsageError(f"--filter {text!r} is not a regular expression: {error}{hint}") from error
