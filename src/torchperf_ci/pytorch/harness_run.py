"""Runs the commands of a PyTorch checkout's harness one after another, and asks its suites what they leave out.

Every planned command ends as one line of commands.jsonl, whatever its script does; the CSV files stay as it wrote them.
"""

from __future__ import annotations

import json
import re
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
from torchperf_ci.pytorch.harness import SUITES_FOLDER, Command, Request
from torchperf_ci.run.session import package_path
from torchperf_ci.run.supervised import run_supervised

_QUESTION_LIMIT = 300.0


class CommandProgress(Protocol):
    """Is told what happens, in order: how much there is to do, each command as it starts and as it has ended."""

    def begin(self, *, total: int, already: int) -> None: ...

    def start(self, command: Command) -> None: ...

    def finish(self, result: CommandResult) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A PyTorch checkout, and the variables its scripts get."""

    folder: Path
    environ: Mapping[str, str]

    def suites(self) -> list[str]:
        """The names of its suites' scripts, and of whatever other module is beside them."""
        return sorted(path.stem for path in (self.folder / SUITES_FOLDER).glob("*.py"))


def ask_skips(checkout: Checkout, request: Request, suite: str) -> tuple[dict[str, list[str]], str]:
    """By device the models that `suite` wants left out, asked in the Python under test; and why it could not be asked.

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
            limit=_QUESTION_LIMIT,
        )
        if not reply.is_file():
            return {}, ended.reason or "it gave no answer"
        answer = json.loads(reply.read_text(encoding="utf-8"))
        return answer.get("skips", {}), answer.get("error", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutRun:
    """A planned run of a checkout's scripts. timeout: seconds a command may take; budget: all of them together."""

    commands: tuple[Command, ...]
    checkout: Checkout
    folder: ResultsFolder
    build: Build
    timeout: float
    budget: float | None = None

    def measure(self, progress: CommandProgress) -> None:
        """Run what the folder does not hold the results of yet, adding a line for each command as it ends."""
        done = read_command_log(self.folder.path).results
        todo = [command for command in self.commands if not self._is_done(command, done.get(command.csv))]
        self.folder.append_lines(COMMANDS, [to_line(self.build), plan_line([item.csv for item in self.commands])])
        progress.begin(total=len(todo), already=len(self.commands) - len(todo))
        ends = time.monotonic() + self.budget if self.budget is not None else float("inf")
        for command in todo:
            progress.start(command)
            result = self._run(command, ends)
            self.folder.append_lines(COMMANDS, [result_line(result)])
            progress.finish(result)

    def _is_done(self, command: Command, result: CommandResult | None) -> bool:
        return (
            result is not None
            and result.status is Status.PASS
            and result.argv == command.argv
            and (self.folder.path / command.csv).is_file()
        )

    def _run(self, command: Command, ends: float) -> CommandResult:
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
            self._claim_sidecars(csv)
        ended_so = replace(planned, status=ended.status, reason=ended.reason, seconds=ended.seconds)
        return _judged(ended_so, rows=_models_with_rows(command, csv), begun=_models_begun(command, log))

    def _claim_sidecars(self, csv: Path) -> None:
        """Name the files that a script wrote beside its CSV file as ours."""
        for path in self.folder.path.glob(f"{csv.stem}_*"):
            self.folder.claim(path.name)


def _judged(result: CommandResult, *, rows: Sequence[str], begun: Sequence[str]) -> CommandResult:
    """`result` with what its files say: how many rows there are, which models have none."""
    judged = replace(result, rows=len(rows), lost=tuple(name for name in begun if name not in rows))
    if judged.status is Status.PASS and not rows:
        return replace(judged, status=Status.FAIL_TO_RUN, reason="ended with exit code 0 and wrote no rows")
    return judged


def _models_begun(command: Command, log: Path) -> list[str]:
    """The models that a script said it begins with: a line each of device, mode and name, padded to columns."""
    word = {Mode.TRAINING: "train", Mode.INFERENCE: "eval"}[command.case.mode]
    line = re.compile(rf"^{re.escape(command.case.device)} +{word} +(\S+) *$", re.MULTILINE)
    return list(dict.fromkeys(line.findall(log.read_text(encoding="utf-8", errors="replace"))))


def _models_with_rows(command: Command, csv: Path) -> Sequence[str]:
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
