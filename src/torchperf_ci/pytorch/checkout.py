"""A PyTorch checkout: its commit, the models that its suites leave out, and a run of its harness's commands.

Every planned command ends as one line of commands.jsonl, whatever its script does; the CSV files stay as it wrote them.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from torchperf_ci.core.csv_files import CsvFile, parse_csv
from torchperf_ci.core.records import Build, Mode, Status, to_line
from torchperf_ci.core.result_files import CommandResult, plan_line, read_command_log, result_line
from torchperf_ci.core.results import COMMANDS, ResultsFolder
from torchperf_ci.pytorch.harness import SUITES_FOLDER, HarnessCommand, HarnessRequest
from torchperf_ci.report.model import SourceTree
from torchperf_ci.run.session import package_path
from torchperf_ci.run.supervisor import run_supervised

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


class CommandProgress(Protocol):
    """Is told what happens, in order: how much there is to do, each command as it starts and as it has ended."""

    def begin(self, *, total: int, already: int) -> None: ...

    def start(self, command: HarnessCommand) -> None: ...

    def finish(self, result: CommandResult) -> None: ...


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

    def measure(self, progress: CommandProgress) -> None:
        """Run what the folder does not hold the results of yet, adding a line for each command as it ends."""
        done = read_command_log(self.folder.path).results
        todo = []
        for command in self.commands:
            result = done.get(command.csv)
            is_done = result is not None and result.status is Status.PASS and result.argv == command.argv
            if not is_done or not (self.folder.path / command.csv).is_file():
                todo.append(command)
        self.folder.append_lines(COMMANDS, [to_line(self.build), plan_line([item.csv for item in self.commands])])
        progress.begin(total=len(todo), already=len(self.commands) - len(todo))
        ends = time.monotonic() + self.budget if self.budget is not None else float("inf")
        for command in todo:
            progress.start(command)
            result = self._run(command, ends)
            self.folder.append_lines(COMMANDS, [result_line(result)])
            progress.finish(result)

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
