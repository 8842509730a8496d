"""Measure candidates: by the engine of compare, or with a command of the user's own. A few are set up at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from torchperf_ci.bisect.model import Candidate, Question, Round, Scale
from torchperf_ci.compare.checkouts import Repository, SideCommit, make_environment, run_in_environment
from torchperf_ci.compare.effects import LEAST_PAIRS
from torchperf_ci.compare.live import COLD_LAUNCHES, CaseComparer
from torchperf_ci.compare.model import ACCURACY, COMPILING, LATENCY, MEMORY, CommitSummary, Header, Measured, SideResult
from torchperf_ci.compare.session import (
    CompareRequest,
    LiveSide,
    SideSpec,
    collect_cases,
    describe_request,
    running_side,
)
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import INSTRUCTIONS, Status, Testing
from torchperf_ci.core.results import LOGS, ResultsFolder
from torchperf_ci.core.text import one_line, safe_name, some_of
from torchperf_ci.machine.gpu import watched_gpu
from torchperf_ci.run.case_worker import CaseSettings
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.sampler import StopRule
from torchperf_ci.run.world import log_names, name_log

MOST_SIDES = 4
"""Candidates that stay set up: the ends, a culprit and its parent."""

SCRATCH = "torchperf-bisect-"
_LOCK = "lock"
_LONGEST_REASON = 300
_SKIP = 125
"""The exit code of a command that cannot judge a commit, as `git bisect run` has it."""

Ready = TypeVar("Ready")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for worktrees and environments, gone after the block; those that killed runs left go as well."""
    parent = Path(tempfile.gettempdir())
    for folder in parent.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the one who held it has gone
                shutil.rmtree(folder, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=SCRATCH, ignore_cleanup_errors=True) as name,
        (Path(name) / _LOCK).open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


class Shelf(Generic[Ready]):
    """Candidates that are set up, at most `MOST_SIDES`; the one that was not used for longest goes first.

    make: sets one up in a folder while its block runs. Leaving the shelf gives all of them up.
    """

    def __init__(self, make: Callable[[str, Path], AbstractContextManager[Ready]], scratch: Path) -> None:
        self._make, self._scratch = make, scratch
        self._ready: OrderedDict[str, tuple[Ready, ExitStack]] = OrderedDict()
        self._problems: dict[str, str] = {}
        self._made = 0

    def __enter__(self) -> Shelf[Ready]:
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as stack:
            for _, each in self._ready.values():
                stack.push(each)
            self._ready.clear()

    def get(self, key: str, *, beside: str = "") -> Ready:
        """Return a candidate, set up; the one it stands beside stays. Raises `UsageProblem` when it cannot be, also at
        the next call: what failed once is not tried again."""
        if key in self._problems:
            raise UsageProblem(self._problems[key])
        if key in self._ready:
            self._ready.move_to_end(key)
            return self._ready[key][0]
        while len(self._ready) >= MOST_SIDES:
            oldest = next(other for other in self._ready if other != beside)
            self._ready.pop(oldest)[1].close()
        self._made += 1
        folder = self._scratch / str(self._made)
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            try:
                ready = stack.enter_context(self._make(key, folder))
            except UsageProblem as error:
                self._problems[key] = str(error)
                raise
            self._ready[key] = ready, stack.pop_all()
        return ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The way in which candidates are set up: commits of `repository`, or without one versions of a package.

    setup: the shell command that installs it; in that of a version, `{version}` stands for it.
    """

    candidates: Mapping[str, Candidate]
    python: str
    setup: str
    repository: Repository | None
    environ: Mapping[str, str]

    def describe(self, key: str) -> SideSpec:
        """Describe the side of a candidate; of a version without its Python, which is to be made."""
        name = self.candidates[key].name if key in self.candidates else key[:12]
        known = CommitSummary(sha=key, subject=self.candidates[key].subject if key in self.candidates else "")
        commit = SideCommit(label=name, checkout=key, known=known) if self.repository else None
        return SideSpec(name=name, python=self.python, label=name, environ=self.environ, commit=commit)

    def make_version(self, version: str, folder: Path) -> str:
        """Make the environment of a version in a folder; return its Python. Raises `UsageProblem`."""
        command = self.setup.replace("{version}", shlex.quote(version))
        return make_environment(self.python, folder, setup=command, cwd=Path.cwd(), environ=os.environ, side=version)


class CaseMeasurer:
    """Measures one case of a suite. Make one with `measuring_case`.

    header: what is compared, and where. case: the one that is measured.
    """

    def __init__(
        self,
        request: CompareRequest,
        question: Question,
        shelf: Shelf[LiveSide],
        planned: PlannedCase,
        header: Header,
        folder: ResultsFolder,
    ) -> None:
        self._request, self._question, self._shelf, self._folder = request, question, shelf, folder
        self._planned, self.header, self.case = planned, header, planned.case
        self._settings = choose_settings(request.settings, question)

    def take(self, candidate: str, against: str, *, launches: int, is_check: bool, attempt: int) -> Round:
        """Measure a candidate beside another one; whatever keeps it from being measured is in the result."""
        start = time.monotonic()
        taken = Round(candidate=candidate, against=against, is_check=is_check)
        try:
            base = self._shelf.get(against, beside=candidate)
            head = self._shelf.get(candidate, beside=against)
        except UsageProblem as error:
            return replace(_give_up(taken, str(error)), seconds=time.monotonic() - start)
        if base.planned(self._planned) is None or head.planned(self._planned) is None:
            missing = candidate if head.planned(self._planned) is None else against
            return replace(taken, unusable=f"{missing[:12]} does not have the case")
        if self._question.scale is not Scale.EXACT and (attempt or is_check):
            # Processes of equal code differ: a round tells more than the one before it only with its own.
            base.processes.renew()
            head.processes.renew()
        survey = head.survey
        comparer = CaseComparer(
            {"base": base, "head": head},
            self._settings,
            partial(self._claim_logs, names={"base": against, "head": candidate}),
            watch=partial(watched_gpu, accelerators=survey.accelerators, environ=survey.build.variables),
        )
        if self._question.scale is Scale.ROUNDS:
            launches = min(launches, COLD_LAUNCHES)  # later ones compile nothing anew
        each = self._request.plan.seconds / self._question.launches
        spares = self._question.scale is Scale.TIMED and self._request.repository is not None
        plan = replace(self._request.plan, launches=launches, seconds=each * launches, stop_early=False, spares=spares)
        measured = comparer.compare(self._planned, plan, attempt=2 * attempt + is_check)
        return replace(read_measured(measured, self._question, taken), seconds=time.monotonic() - start)

    def find_pair(self, candidate: str, against: str) -> tuple[PlannedCase, LiveSide, LiveSide]:
        """Return the case and both sides, set up. Raises `UsageProblem` where one cannot be."""
        base = self._shelf.get(against, beside=candidate)
        return self._planned, base, self._shelf.get(candidate, beside=against)

    @property
    def settings(self) -> CaseSettings:
        """The way in which the case is measured."""
        return self._settings

    def _claim_logs(self, planned: PlannedCase, side: str, *, names: Mapping[str, str]) -> list[Path]:
        name = name_log(names[side][:12], planned.case.suite, planned.case.model)
        return [self._folder.claim(one) for one in log_names(name, planned.world)]


@contextmanager
def measuring_case(
    request: CompareRequest, question: Question, recipe: Recipe, folder: ResultsFolder, scratch: Path, *, case: str
) -> Iterator[CaseMeasurer]:
    """Set up both ends of `request`, and give what measures a case of theirs.

    case: its name, as far as it is needed to tell it from others. Raises `UsageProblem` when an end cannot be set up,
    or when it is not one case.
    """

    @contextmanager
    def make(key: str, at: Path) -> Iterator[LiveSide]:
        with ExitStack() as stack:
            spec = recipe.describe(key)
            caches = {"TORCHINDUCTOR_CACHE_DIR": str(at / "cache"), "TRITON_CACHE_DIR": str(at / "cache/triton")}
            if recipe.repository is None:
                spec = replace(spec, python=recipe.make_version(key, at / "env"))
            spec = replace(spec, environ={**caches, **spec.environ})
            yield stack.enter_context(running_side(request, spec, at / "side"))

    good, bad = (spec.commit.checkout if spec.commit else spec.label for spec in (request.base, request.head))
    with Shelf(make, scratch) as shelf:
        base = shelf.get(good)
        head = shelf.get(bad, beside=good)
        planned = choose_case(collect_cases(base, head, request.selection), case)
        header = describe_request(request, base, head)
        yield CaseMeasurer(request, question, shelf, planned, header, folder)


def choose_case(planned: Sequence[PlannedCase], name: str) -> PlannedCase:
    """Choose the one case that a name leaves: `suite/model`, then, as far as needed, compiler, mode, dtype, device.

    Raises `UsageProblem` that lists the cases when it is none or several.
    """
    chosen = [each for each in planned if each.case.has_words(name)]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise UsageProblem(f"there is no case {name!r}. There are: {some_of([str(each.case) for each in planned], 20)}")
    cases = some_of([str(each.case) for each in chosen], 20)
    raise UsageProblem(
        f"a bisection follows one case, and these {len(chosen)} are left: {cases}; choose one with --case"
    )


def choose_settings(settings: CaseSettings, question: Question) -> CaseSettings:
    """Choose what is measured besides times: nothing that the question does not need.

    Compilers have a cache of each candidate's own, but for times of compiling, which are those of an empty one.
    """
    wants_accuracy = question.metric == ACCURACY
    chosen = replace(
        settings,
        testings=(Testing.ACCURACY, Testing.PERFORMANCE) if wants_accuracy else (Testing.PERFORMANCE,),
        cold_start=question.metric == COMPILING,
        counts=question.metric
        not in {MEMORY, COMPILING, ACCURACY},  # of times, since they prove a program to be the same
        instructions=settings.instructions if question.metric in INSTRUCTIONS else "never",
    )
    if question.metric == LATENCY:
        return chosen
    return replace(chosen, rule=StopRule(repeat=LEAST_PAIRS), warmup=1)


def read_measured(measured: Measured, question: Question, taken: Round) -> Round:
    """Read what a question asks for from a case that was measured."""
    base, head = measured.base or SideResult(), measured.head or SideResult()
    if measured.refusals:
        return _give_up(taken, "; ".join(measured.refusals))
    if question.metric == ACCURACY:
        one, two = (side.failure or side.accuracy or Status.PASS.value for side in (base, head))
        if unjudged := next((word for word in (one, two) if word.startswith(Status.NOT_JUDGED)), ""):
            return _give_up(taken, unjudged)
        values = (float(not one.startswith("pass")), float(not two.startswith("pass")))
        return replace(taken, values=(values,), words=(one, two))
    if base.failure or head.failure:
        side, why = ("the candidate", head.failure) if head.failure else ("what it is compared with", base.failure)
        return _give_up(taken, f"{side} does not run: {why}")
    if question.scale is Scale.TIMED:
        read = replace(taken, launches=measured.launches, between=measured.between, is_same=measured.spared)
    elif question.scale is Scale.ROUNDS:
        read = replace(taken, values=tuple(zip(base.compile_seconds, head.compile_seconds, strict=False)))
    else:
        pair = _read_exact(base, question.metric), _read_exact(head, question.metric)
        if pair == (None, None) and question.metric != MEMORY:
            raise UsageProblem(
                f"there is no metric {question.metric!r} of this case; there are: "
                + ", ".join(["latency", "memory", "compile-time", "accuracy", *head.counters, *head.counted])
            )
        read = replace(taken, values=((pair[0], pair[1]),) if pair[0] is not None and pair[1] is not None else ())
    return read if read.launches or read.values else _give_up(taken, f"{question.metric} cannot be measured")


def _read_exact(side: SideResult, metric: str) -> float | None:
    return side.memory_bytes if metric == MEMORY else {**side.counters, **side.counted}.get(metric)


def _give_up(taken: Round, why: str) -> Round:
    return replace(taken, unusable=one_line(why, limit=_LONGEST_REASON))


class CommandMeasurer:
    """Asks a shell command about each candidate, with exit codes as `git bisect run` has them. Make one with
    `measuring_command`.

    shelf: of each candidate the folder where the command runs, and the environment that is active there.
    """

    def __init__(
        self, command: str, shelf: Shelf[tuple[Path, Path]], recipe: Recipe, folder: ResultsFolder, *, timeout: float
    ) -> None:
        self._command, self._shelf, self._recipe, self._folder = command, shelf, recipe, folder
        self._timeout = timeout
        self._codes: dict[str, int] = {}

    def take(self, candidate: str, against: str, *, launches: int, is_check: bool, attempt: int) -> Round:  # noqa: ARG002 - a command is asked once
        """Run the command at both, unless it was, and read its exit codes.

        Raises `UsageProblem` for codes of 128 and above: a crash of the command says nothing about a commit.
        """
        start = time.monotonic()
        taken = Round(candidate=candidate, against=against, is_check=is_check)
        codes = []
        for key, other in ((against, candidate), (candidate, against)):
            try:
                codes.append(self._codes[key] if key in self._codes else self._run(key, beside=other))
            except subprocess.TimeoutExpired:
                return _give_up(taken, f"the command took longer than {self._timeout:g} s (--timeout)")
            except UsageProblem as error:
                return _give_up(taken, str(error))
            if codes[-1] == _SKIP:
                return _give_up(taken, f"the command cannot judge it (exit code {_SKIP})")
            if not 0 <= codes[-1] < 128:
                raise UsageProblem(
                    f"--run ended with exit code {codes[-1]} at {key[:12]}, which says nothing about the commit; 0 is "
                    f"good, 1 to 127 bad, {_SKIP} skips it"
                )
        words = tuple(f"exit code {code}" for code in codes)
        values = tuple(float(code > 0) for code in codes)
        return replace(
            taken, values=((values[0], values[1]),), words=(words[0], words[1]), seconds=time.monotonic() - start
        )

    def _run(self, key: str, *, beside: str) -> int:
        folder, environment = self._shelf.get(key, beside=beside)
        environ = {**os.environ, **self._recipe.environ}
        code, output = run_in_environment(
            self._command, environment, cwd=folder, environ=environ, timeout=self._timeout
        )
        self._folder.write_text(f"{LOGS}/{safe_name(key[:12])}.log", output)
        self._codes[key] = code
        return code


@contextmanager
def measuring_command(
    command: str, recipe: Recipe, ends: Collection[str], folder: ResultsFolder, scratch: Path, *, timeout: float
) -> Iterator[CommandMeasurer]:
    """Set up both ends, and give what asks a command about candidates. Raises `UsageProblem` when an end cannot be."""

    @contextmanager
    def make(key: str, at: Path) -> Iterator[tuple[Path, Path]]:
        if recipe.repository is None:
            recipe.make_version(key, at / "env")
            yield Path.cwd(), at / "env"
            return
        name = recipe.describe(key).name
        with recipe.repository.checkout(
            key, python=recipe.python, setup=recipe.setup, at=at, environ=os.environ, side=name
        ) as (tree, python):
            yield tree, Path(python).parents[1]

    with Shelf(make, scratch) as shelf:
        for key in ends:
            shelf.get(key)
        yield CommandMeasurer(command, shelf, recipe, folder, timeout=timeout)
