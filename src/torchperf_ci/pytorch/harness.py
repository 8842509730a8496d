"""A PyTorch checkout and its own harness (benchmarks/dynamo): its commit, commands, script, and a run of them.

Pure: a `HarnessRequest` in, command lines out. Order, flags and file names are those of PyTorch's own suite runner, so
that its results and these can stand in one table.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from pathlib import Path

from torchperf_ci.core.csv_files import KNOWN_SUITES, CsvFile, parse_csv
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Build, Case, Mode, Status, Testing, to_line
from torchperf_ci.core.result_files import CommandResult, plan_line, read_command_log, result_line
from torchperf_ci.core.results import COMMANDS, LOGS, ResultsFolder, csv_name
from torchperf_ci.core.text import count, one_line, safe_name, short_name
from torchperf_ci.report.model import SourceTree
from torchperf_ci.run.plan import unknown_names
from torchperf_ci.run.session import package_path
from torchperf_ci.run.supervisor import run_supervised
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

COMPILERS: Mapping[Mode, Mapping[str, str]] = {
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
"""Per mode every compiler and the flags that choose it."""

COLD_START_COMPILERS = frozenset({"inductor", "inductor_no_cudagraphs"})
QUICK: Mapping[str, tuple[str, ...]] = {
    "torchbench": ("resnet..$",),
    "huggingface": ("Albert",),
    "timm_models": ("^resnet", "^inception"),
}
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


_QUESTION_SECONDS = 300.0
_GIT_SECONDS = 20


def read_checkouts(*, pytorch_dir: Path | None, torchbench_dir: Path | None, base_sha: str) -> tuple[SourceTree, ...]:
    """Ask git for PyTorch's and torchbench's commits. A `base_sha` is believed, not looked up."""
    pytorch = SourceTree(name="pytorch", commit=base_sha) if base_sha else _source_tree("pytorch", pytorch_dir)
    return (pytorch, _source_tree("torchbench", torchbench_dir))


def _source_tree(name: str, path: Path | None) -> SourceTree:
    if path is None or not path.is_dir():
        return SourceTree(name=name)
    try:
        done = subprocess.run(
            ["git", "-C", str(path), "log", "-1", "--format=%H %cI"],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return SourceTree(name=name)
    commit, _, date = done.stdout.strip().partition(" ")
    return SourceTree(name=name, commit=commit, date=date)


@dataclass(frozen=True, slots=True, kw_only=True)
class PyTorchCheckout:
    """A PyTorch checkout, and the variables its scripts get."""

    folder: Path
    environ: Mapping[str, str]

    def suites(self) -> list[str]:
        """List the names of its suites' scripts, and of whatever other module is beside them."""
        return sorted(path.stem for path in (self.folder / SUITES_FOLDER).glob("*.py"))


def ask_skips(checkout: PyTorchCheckout, request: HarnessRequest, suite: str) -> tuple[dict[str, list[str]], str]:
    """Ask in the Python under test, by device, which models `suite` wants left out; and why it could not be asked.

    With a reason no skips are known, and none is assumed.
    """
    with tempfile.TemporaryDirectory(prefix="torchperf-skips-") as scratch, package_path(checkout.environ) as environ:
        reply = Path(scratch) / "reply.json"
        folder = checkout.folder / SUITES_FOLDER
        ended = run_supervised(
            [
                *(request.python, "-m", "torchperf_ci.worker.dynamo_skips"),
                *(str(reply), str(folder), suite, request.mode.value, *request.devices),
            ],
            cwd=checkout.folder,
            environ=environ,
            log=Path(scratch) / "log",
            limit=_QUESTION_SECONDS,
        )
        if not reply.is_file():
            return {}, ended.reason or "it gave no answer"
        answer = json.loads(reply.read_text(encoding="utf-8"))
        return answer.get("skips", {}), answer.get("error", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutRun:
    """A planned run of a checkout's scripts. timeout: seconds a command may take; budget: all of them together."""

    commands: tuple[HarnessCommand, ...]
    checkout: PyTorchCheckout
    folder: ResultsFolder
    build: Build
    timeout: float
    budget: float | None = None

    def measure(self, say: Callable[[str], None]) -> list[CommandResult]:
        """Run what the folder does not hold the results of yet, adding a line for each command as it ends.

        say: is told when a command starts, since it may take hours, and when it has ended. Return what was run.
        """
        done = read_command_log(self.folder.path).results
        todo = []
        for command in self.commands:
            result = done.get(command.csv)
            is_done = result is not None and result.status is Status.PASS and result.argv == command.argv
            if not is_done or not (self.folder.path / command.csv).is_file():
                todo.append(command)
        self.folder.append_lines(COMMANDS, [to_line(self.build), plan_line([item.csv for item in self.commands])])
        if already := len(self.commands) - len(todo):
            say(f"{count(already, 'command')} done already; {len(todo):,} left.")
        results = []
        ends = time.monotonic() + self.budget if self.budget is not None else float("inf")
        for number, command in enumerate(todo, start=1):
            say(f"[{number}/{len(todo)}] {one_line(str(command))} …")
            result = self._run(command, ends)
            self.folder.append_lines(COMMANDS, [result_line(result)])
            results.append(result)
            say(f"    {result.summary}{f': {one_line(result.trouble)}' if result.trouble else ''}")
        return results

    def _run(self, command: HarnessCommand, ends: float) -> CommandResult:
        planned = CommandResult(csv=command.csv, log=command.log, argv=command.argv, status=Status.NOT_RUN)
        left = ends - time.monotonic()
        if left <= 0:
            return replace(planned, log="", reason=f"not run: the run's budget of {self.budget:g} s was spent")
        log, csv = self.folder.claim(command.log), self.folder.claim(command.csv)
        for stale in (log, csv):
            stale.unlink(missing_ok=True)  # of a command that was interrupted
        try:
            ended = run_supervised(
                command.argv,
                cwd=self.checkout.folder,
                environ=self.checkout.environ,
                log=log,
                limit=min(self.timeout, left),
            )
        finally:
            for path in self.folder.path.glob(f"{csv.stem}_*"):
                self.folder.claim(path.name)  # what a script wrote beside its CSV file
        rows = _models_with_rows(command, csv)
        lost = tuple(name for name in _models_begun(command, log) if name not in rows)
        result = replace(
            planned, status=ended.status, reason=ended.reason, seconds=ended.seconds, rows=len(rows), lost=lost
        )
        if result.status is Status.PASS and not rows:
            return replace(result, status=Status.FAIL_TO_RUN, reason="ended with exit code 0 and wrote no rows")
        return result


def _models_begun(command: HarnessCommand, log: Path) -> list[str]:
    """List the models that a script said it begins with: a line each of device, mode and name, padded to columns."""
    word = {Mode.TRAINING: "train", Mode.INFERENCE: "eval"}[command.case.mode]
    line = re.compile(rf"^{re.escape(command.case.device)} +{word} +(\S+) *$", re.MULTILINE)
    return list(dict.fromkeys(line.findall(log.read_text(encoding="utf-8", errors="replace"))))


def _models_with_rows(command: HarnessCommand, csv: Path) -> Sequence[str]:
    if not csv.is_file():
        return ()
    case = command.case
    file = CsvFile(
        name=command.csv,
        compiler=case.compiler,
        suite=case.suite,
        dtype=case.dtype,
        mode=case.mode,
        device=case.device,
        testing=command.testing,
    )
    records, _ = parse_csv(file, csv.read_bytes().decode("utf-8-sig", errors="replace"))
    return [record.case.model for record in records]
