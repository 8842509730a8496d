"""The commands of a PyTorch checkout's own harness (benchmarks/dynamo), and the script of them.

Pure: a `HarnessRequest` in, command lines out. Order, flags and file names are those of PyTorch's own suite runner, so
that its results and these can stand in one table.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from types import MappingProxyType

from torchperf_ci.core.csv_files import KNOWN_SUITES
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Case, Mode, Testing
from torchperf_ci.core.results import LOGS, csv_name
from torchperf_ci.core.text import safe_name, short_name
from torchperf_ci.run.plan import unknown_names
from torchperf_ci.worker.protocol import SECRET

SUITES_FOLDER = "benchmarks/dynamo"
"""Where a checkout keeps its suites, each a script of that name."""

DEFAULT_SUITES = KNOWN_SUITES
DEFAULT_DEVICES = ("cuda",)
DEFAULT_COMPILERS = ("eager", "aot_eager", "inductor", "inductor_no_cudagraphs")
"""Those of PyTorch's suite runner; ours are fewer."""
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
class HarnessRequest:
    """A request to the scripts. None leaves the choice to them.

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
class HarnessCommand:
    """One line of the script: one testing of a suite with a compiler. `case` has no model, since it stands for all."""

    case: Case
    testing: Testing
    argv: tuple[str, ...]

    def __str__(self) -> str:
        case = self.case
        return f"{case.suite} {case.compiler} {case.mode} {case.dtype} {case.device} {self.testing}"

    @property
    def csv(self) -> str:
        """Name the file it writes, in the results folder."""
        return csv_name(self.case, self.testing)

    @property
    def log(self) -> str:
        """Name its log, below the results folder."""
        return f"{LOGS}/{self.csv.removesuffix('.csv')}.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptPlace:
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


def check(request: HarnessRequest, suites_there: Sequence[str]) -> None:
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


def commands(request: HarnessRequest, *, output: str, skips: Skips) -> tuple[HarnessCommand, ...]:
    """List every command in order. `output`: the folder of the CSV files, as the commands see it."""
    cases = [
        Case(suite=suite, model="", mode=request.mode, device=device, dtype=dtype, compiler=compiler)
        for suite, device, dtype, compiler in product(
            *(dict.fromkeys(items) for items in (request.suites, request.devices, request.dtypes, request.compilers))
        )
    ]
    return tuple(
        HarnessCommand(
            case=case, testing=testing, argv=tuple(_argv(request, case, testing, output=output, skips=skips))
        )
        for testing, case in product(request.testings, cases)
    )


def script_name(request: HarnessRequest) -> str:
    """Name the script: `run_{mode}_{devices}_{dtypes}_{suites}_{compilers}.sh`."""
    lists = (request.devices, request.dtypes, request.suites, request.compilers)
    parts = [safe_name(item) for items in lists for item in dict.fromkeys(items)]
    return short_name("_".join(["run", request.mode.value, *parts])) + ".sh"


def script(items: Sequence[HarnessCommand], place: ScriptPlace, *, keep: bool) -> str:
    """Write commands as a bash script. Where one fails it says so, goes on, and ends with exit code 6."""

    def quote_path(text: str) -> str:
        return shlex.quote(f"./{text}" if text.startswith("-") else text)

    setup = ["#!/bin/bash", "set -x", "failed=0", "trap 'failed=6; echo \"Failed: $BASH_COMMAND\" >&2' ERR"]
    if place.checkout is not None:
        setup.append(f"cd {quote_path(place.checkout)} || exit 2")
    for name, value in place.extra_env.items():
        # The value of a secret has to be there already: the script is kept with the results.
        setup.append(f"export {shlex.quote(name if SECRET.search(name) else f'{name}={value}')}")
    setup += [f'export PYTHONPATH={shlex.quote(path)}"${{PYTHONPATH:+:$PYTHONPATH}}"' for path in place.module_paths]
    setup.append("# The folder of the results")
    if not keep:
        setup.append(f"rm -rf {quote_path(place.output)}")
    lines = [*setup, f"mkdir -p {quote_path(place.output)}", ""]
    # A comment stands above the commands that differ in the compiler only.
    for (testing, case), block in groupby(items, key=lambda item: (item.testing, replace(item.case, compiler=""))):
        text = f"{testing} of {case.suite}: {case.mode}, {case.dtype}, {case.device}"
        lines.append("# " + " ".join(text.split()))  # a line end would end the comment
        lines += [shlex.join(item.argv) for item in block]
        lines.append("")
    return "\n".join([*lines, 'exit "$failed"', ""])


def _argv(request: HarnessRequest, case: Case, testing: Testing, *, output: str, skips: Skips) -> list[str]:
    """Write one command, its arguments in the order of PyTorch's own suite runner."""
    launcher = [] if request.launcher is None else ["-m", "torch.backends.xeon.run_cpu", *request.launcher]
    argv = [request.python, *launcher, f"{SUITES_FOLDER}/{case.suite}.py"]
    argv += [f"--{testing}", f"--{case.dtype}", f"-d{case.device}", f"--output={output}/{csv_name(case, testing)}"]
    argv += [*COMPILERS[case.mode][case.compiler].split(), *request.extra, "--no-skip", "--dashboard"]
    for model in dict.fromkeys([*skips.get((case.suite, case.device), ()), *request.exclude]):
        argv += ["-x", model]
    if request.log_operator_inputs:
        argv.append("--log-operator-inputs")
    for pattern in [*(QUICK[case.suite] if request.quick else ()), *request.filters]:
        argv += ["-k", pattern]
    if request.cold_start and case.compiler in COLD_START_COMPILERS:
        argv.append("--cold-start-latency")
    for flag, value in (
        ("--batch-size", request.batch_size),
        ("--threads", request.threads),
        ("--total-partitions", request.total_partitions),
        ("--partition-id", request.partition_id),
        ("--inductor-compile-mode", request.inductor_mode),
        ("--repeat", request.repeat),
    ):
        if value is not None:
            argv += [flag, str(value)]
    return argv
