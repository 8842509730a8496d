"""Count a case's instructions in a process of its own, where hashes are not random: they would move the counts."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import Word
from torchperf_ci.run.case_worker import CaseSettings, Counted
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.session import Preloaded, Python, WorkerError
from torchperf_ci.run.survey import Survey
from torchperf_ci.run.world import start_case
from torchperf_ci.worker.instructions import CALLGRIND_VARIABLE


class InstructionMethod(Word):
    """The ways to count instructions. Auto: by the processor where its counter works, else not at all."""

    AUTO = "auto"
    NEVER = "never"
    PMU = "pmu"
    CALLGRIND = "callgrind"


def choose_method(asked: InstructionMethod, surveyed: Survey, cases: Iterable[PlannedCase]) -> InstructionMethod:
    """Choose how instructions are counted. Raises `UsageProblem` where what was asked for cannot be done here."""
    problem = surveyed.no_instruction_counter
    match asked:
        case InstructionMethod.AUTO:
            return InstructionMethod.NEVER if problem else InstructionMethod.PMU
        case InstructionMethod.PMU if problem:
            raise UsageProblem(
                f"--instructions pmu: {problem}; --instructions callgrind counts without it, on x86-64 and a CPU"
            )
        case InstructionMethod.CALLGRIND if shutil.which("valgrind") is None:
            raise UsageProblem(
                "--instructions callgrind needs the program valgrind: apt-get install valgrind (Debian, Ubuntu), or "
                "your system's package of that name"
            )
        case InstructionMethod.CALLGRIND if not any(case.device.startswith("cpu") for case in cases):
            raise UsageProblem("--instructions callgrind counts on a CPU alone; give --devices cpu, or leave it out")
    return asked


class InstructionCounting:
    """Counts instructions with one method. Its process is started when the first case asks; leaving it ends that."""

    def __init__(self, python: Python, method: InstructionMethod) -> None:
        self._python, self._method = python, method
        self._stack = ExitStack()
        self._lock = threading.Lock()  # cases on several devices share the process
        self._preloaded: Preloaded | None = None

    def __enter__(self) -> InstructionCounting:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; also from another thread than the one that works with it."""
        self._stack.close()

    def count(self, planned: PlannedCase, settings: CaseSettings, logs: Sequence[Path], *, arm: str) -> Counted:
        """Count what an iteration of an arm takes, and what compiling takes where the method allows. It never raises:
        what cannot be counted has a remark."""
        if self._method in {InstructionMethod.NEVER, InstructionMethod.AUTO}:
            return Counted()
        if planned.world > 1 or (self._method is InstructionMethod.CALLGRIND and not planned.device.startswith("cpu")):
            return Counted(remarks=("instructions are counted of cases in one process, by callgrind on a CPU alone",))
        deadline = time.monotonic() + settings.timeout
        try:
            with (
                self._lock,
                tempfile.TemporaryDirectory(prefix="torchperf-cache-", ignore_cleanup_errors=True) as cache,
                start_case(self._process(), planned, settings, logs, deadline=deadline) as worker,
            ):
                worker.load(cache_dir=cache)
                reply = worker.ask("instructions", arm=arm, method=self._method.value)
        except (WorkerError, UsageProblem) as error:
            return Counted(remarks=(f"instructions could not be counted: {error}",))
        return Counted(metrics=reply["metrics"])

    def _process(self) -> Preloaded:
        if self._preloaded is None or not self._preloaded.alive:
            self._stack.close()
            under: list[str] = []
            variables = {"PYTHONHASHSEED": "0"}
            if self._method is InstructionMethod.CALLGRIND:
                folder = self._stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="torchperf-callgrind-", ignore_cleanup_errors=True)
                )
                variables[CALLGRIND_VARIABLE] = f"{folder}/counts"
                under = [
                    "valgrind",
                    "--tool=callgrind",
                    "--instr-atstart=no",
                    f"--callgrind-out-file={folder}/counts.%p",
                ]
            self._preloaded = self._stack.enter_context(Preloaded(self._python, under=under, variables=variables))
        return self._preloaded
