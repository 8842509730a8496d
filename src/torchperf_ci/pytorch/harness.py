"""What a PyTorch checkout's own harness (benchmarks/dynamo) is told to do: its commands, and the script of them.

Pure: a `Request` in, command lines out. Order, flags and file names are those of PyTorch's own suite runner, so that
its results and these can stand in one table.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from types import MappingProxyType

from torchperf_ci.core.csv_files import KNOWN_SUITES
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import DEFAULT_COMPILERS, Case, Mode, Testing
from torchperf_ci.core.results import LOGS, csv_name
from torchperf_ci.core.text import safe_name, short_name
from torchperf_ci.run.plan import unknown_names
from torchperf_ci.worker.protocol import SECRET

SUITES_FOLDER = "benchmarks/dynamo"
"""Where a checkout keeps its suites, each a script of that name."""

DEFAULT_SUITES = KNOWN_SUITES
DEFAULT_DEVICES = ("cuda",)
DTYPES = ("float32", "float16", "bfloat16", "amp")
TESTINGS = (Testing.PERFORMANCE, Testing.ACCURACY)
"""In the order they are run."""

COMPILERS: Mapping[Mode, Mapping[str, str]] = MappingProxyType(
    {
        Mode.TRAINING: {
            "ts_nnc": "--training --speedup-ts",
            "ts_nvfuser": "--training --nvfuser --speedup-dynamo-ts",
            "eager": "--training --backend=eager",
            "aot_eager": "--training --backend=aot_eager",
            "cudagraphs": "--training --backend=cudagraphs",
            "aot_nvfuser": "--training --nvfuser --backend=aot_ts_nvfuser",
            "nvprims_nvfuser": "--training --backend=nvprims_nvfuser",
            "inductor": "--training --inductor",
            "inductor_no_cudagraphs": "--training --inductor --disable-cudagraphs",
            "inductor_max_autotune": "--training --inductor --inductor-compile-mode max-autotune",
            "inductor_max_autotune_no_cudagraphs": "--training --inductor "
            "--inductor-compile-mode max-autotune-no-cudagraphs --disable-cudagraphs",
        },
        Mode.INFERENCE: {
            "aot_eager": "--inference --backend=aot_eager",
            "eager": "--inference --backend=eager",
            "ts_nnc": "--inference --speedup-ts",
            "ts_nvfuser": "--inference -n100 --speedup-ts --nvfuser",
            "trt": "--inference -n100 --speedup-trt",
            "ts_nvfuser_cudagraphs": "--inference --backend=cudagraphs_ts",
            "inductor": "--inference -n50 --inductor",
            "inductor_no_cudagraphs": "--inference -n50 --inductor --disable-cudagraphs",
            "inductor_max_autotune": "--inference -n50 --inductor --inductor-compile-mode max-autotune",
            "inductor_max_autotune_no_cudagraphs": "--inference -n50 --inductor "
            "--inductor-compile-mode max-autotune-no-cudagraphs --disable-cudagraphs",
            "torchscript-onnx": "--inference -n5 --torchscript-onnx",
            "dynamo-onnx": "--inference -n5 --dynamo-onnx",
        },
    }
)
"""Per mode every compiler and the flags that choose it."""

COLD_START_COMPILERS = frozenset({"inductor", "inductor_no_cudagraphs"})
QUICK: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"torchbench": ("resnet..$",), "huggingface": ("Albert",), "timm_models": ("^resnet", "^inception")}
)
"""Per suite the filters of a quick look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask of the scripts. None leaves the choice to them.

    python: the interpreter as it is written into the commands; launcher: arguments of torch's CPU launcher, which
    then stands between it and the script. filters and exclude are regular expressions of model names, as the scripts
    take them; extra are arguments for every command.
    """

    mode: Mode
    python: str = "python"
    suites: tuple[str, ...] = DEFAULT_SUITES
    devices: tuple[str, ...] = DEFAULT_DEVICES
    dtypes: tuple[str, ...] = ("float32",)
    compilers: tuple[str, ...] = DEFAULT_COMPILERS
    testings: tuple[Testing, ...] = TESTINGS
    quick: bool = False
    filters: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    log_operator_inputs: bool = False
    cold_start: bool = True
    batch_size: int | None = None
    threads: int | None = None
    repeat: int | None = None
    total_partitions: int | None = None
    partition_id: int | None = None
    inductor_mode: str | None = None
    extra: tuple[str, ...] = ()
    launcher: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One line of the script: one testing of a suite with a compiler. `case` has no model, since it stands for all."""

    case: Case
    testing: Testing
    argv: tuple[str, ...]

    def __str__(self) -> str:
        case = self.case
        return f"{case.suite} {case.compiler} {case.mode} {case.dtype} {case.device} {self.testing}"

    @property
    def csv(self) -> str:
        """The file it writes, in the results folder."""
        return csv_name(self.case, self.testing)

    @property
    def log(self) -> str:
        """Its log, below the results folder."""
        return f"{LOGS}/{self.csv.removesuffix('.csv')}.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and with what commands run.

    output: the results folder as they see it. checkout: the folder to go to first, None for a script that is meant
    to be started there. extra_env: variables to set. module_paths: folders to put before what is in PYTHONPATH.
    """

    output: str
    checkout: str | None = None
    extra_env: Mapping[str, str] = field(default_factory=dict)
    module_paths: tuple[str, ...] = ()


Skips = Mapping[tuple[str, str], Sequence[str]]
"""By suite and device the names that the suite wants left out."""


def check(request: Request, suites_there: Sequence[str]) -> None:
    """Raise `UsageProblem` listing everything that the checkout's harness cannot do. `suites_there`: its scripts."""
    known = [suite for suite in DEFAULT_SUITES if suite in suites_there] or suites_there
    problems = [
        *unknown_names("suite", [suite for suite in request.suites if suite not in suites_there], known),
        *unknown_names("compiler", request.compilers, tuple(COMPILERS[request.mode])),
        *unknown_names("dtype", request.dtypes, DTYPES),
        *(
            f"--quick knows no filters for the suite {suite!r}; give them with --filter"
            for suite in request.suites
            if request.quick and suite not in QUICK
        ),
    ]
    if problems:
        raise UsageProblem("\n".join(problems))


def commands(request: Request, *, output: str, skips: Skips) -> tuple[Command, ...]:
    """Every command in order. `output`: the folder of the CSV files, as the commands see it."""
    cases = [
        Case(suite=suite, model="", mode=request.mode, device=device, dtype=dtype, compiler=compiler)
        for suite, device, dtype, compiler in product(
            *(dict.fromkeys(items) for items in (request.suites, request.devices, request.dtypes, request.compilers))
        )
    ]
    return tuple(
        Command(case=case, testing=testing, argv=tuple(_argv(request, case, testing, output=output, skips=skips)))
        for testing, case in product(request.testings, cases)
    )


def script_name(request: Request) -> str:
    """`run_{mode}_{devices}_{dtypes}_{suites}_{compilers}.sh`."""
    lists = (request.devices, request.dtypes, request.suites, request.compilers)
    parts = [safe_name(item) for items in lists for item in dict.fromkeys(items)]
    return short_name("_".join(["run", request.mode.value, *parts])) + ".sh"


def script(made: Sequence[Command], place: Place, *, keep: bool) -> str:
    """`made` as a bash script. Where a command fails it says so, goes on, and ends with exit code 6."""
    setup = [
        "#!/bin/bash",
        "set -x",
        "failed=0",
        "trap 'failed=6; echo \"Failed: $BASH_COMMAND\" >&2' ERR",
        *([f"cd {_path(place.checkout)} || exit 2"] if place.checkout is not None else []),
        *(_export(name, value) for name, value in place.extra_env.items()),
        *(f'export PYTHONPATH={shlex.quote(path)}"${{PYTHONPATH:+:$PYTHONPATH}}"' for path in place.module_paths),
        "# The folder of the results",
        *([] if keep else [f"rm -rf {_path(place.output)}"]),
        f"mkdir -p {_path(place.output)}",
    ]
    return "\n".join([*setup, "", *_blocks(made), 'exit "$failed"', ""])


def _export(name: str, value: str) -> str:
    """A variable with its value. That of a secret has to be there already: the script is kept with the results."""
    if SECRET.search(name):
        return f"export {shlex.quote(name)}"
    return f"export {shlex.quote(f'{name}={value}')}"


def _blocks(made: Sequence[Command]) -> Iterator[str]:
    """The commands, with a comment above those that differ in the compiler only."""
    for (testing, case), block in groupby(made, key=lambda item: (item.testing, replace(item.case, compiler=""))):
        text = f"{testing} of {case.suite}: {case.mode}, {case.dtype}, {case.device}"
        yield "# " + " ".join(text.split())  # a line end would end the comment
        yield from (shlex.join(item.argv) for item in block)
        yield ""


def _path(text: str) -> str:
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _argv(request: Request, case: Case, testing: Testing, *, output: str, skips: Skips) -> Iterator[str]:
    yield from _launch(request)
    yield f"{SUITES_FOLDER}/{case.suite}.py"
    yield from (f"--{testing}", f"--{case.dtype}", f"-d{case.device}", f"--output={output}/{csv_name(case, testing)}")
    yield from COMPILERS[case.mode][case.compiler].split()
    yield from request.extra
    yield from ("--no-skip", "--dashboard")
    yield from _repeated("-x", dict.fromkeys([*skips.get((case.suite, case.device), ()), *request.exclude]))
    if request.log_operator_inputs:
        yield "--log-operator-inputs"
    yield from _repeated("-k", [*(QUICK[case.suite] if request.quick else ()), *request.filters])
    if request.cold_start and case.compiler in COLD_START_COMPILERS:
        yield "--cold-start-latency"
    yield from _given("--batch-size", request.batch_size)
    yield from _given("--threads", request.threads)
    yield from _given("--total-partitions", request.total_partitions)
    yield from _given("--partition-id", request.partition_id)
    yield from _given("--inductor-compile-mode", request.inductor_mode)
    yield from _given("--repeat", request.repeat)


def _launch(request: Request) -> list[str]:
    if request.launcher is None:
        return [request.python]
    return [request.python, "-m", "torch.backends.xeon.run_cpu", *request.launcher]


def _repeated(flag: str, values: Iterable[str]) -> Iterator[str]:
    for value in values:
        yield from (flag, value)


def _given(flag: str, value: int | str | None) -> list[str]:
    return [] if value is None else [flag, str(value)]
