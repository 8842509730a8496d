"""Find the uploads of a commit's runs that make up a configuration: names, shards, attempts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from torchperf_ci.core.records import Record
from torchperf_ci.core.text import count

MAX_SHARDS = 256

SUITE_WORDS = {"huggingface": "huggingface", "timm": "timm_models", "torchbench": "torchbench"}
"""Last word of a test configuration: the suite as its CSVs' names have it."""

_OWN_ARTIFACT = re.compile(r"torchperf-(?P<config>.+)-(?P<shard>\d{1,4})-(?P<count>\d{1,4})-(?P<attempt>\d{1,4})")
_TEST_JOB = re.compile(r"(?P<build>.+?) / test \((?P<words>[^()]*)\)")
_TEST_REPORTS = re.compile(
    r"test-reports-(?:runattempt(?P<attempt>\d{1,4})-)?test-(?P<config>\w+)-(?P<shard>\d{1,4})-(?P<count>\d{1,4})"
    r"-(?P<runner>.+)_(?P<job>\d{1,20})(?:\.zip)?"
)


class Layout(str, Enum):
    """Whose names jobs and artifacts have: those of PyTorch's test jobs, or those of this project's `run` action."""

    PYTORCH = "pytorch"
    TORCHPERF = "torchperf"

    __str__ = str.__str__


class Configuration(NamedTuple):
    """A test configuration. `folder` is where its tables are below the expected folder: `rocm` or nothing."""

    name: str
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name


class Shard(NamedTuple):
    """Shard `number` (from 1) of `total` of a configuration."""

    config: Configuration
    number: int
    total: int

    @property
    def title(self) -> str:
        return f"shard {self.number} of {self.total}"


class AttemptState(str, Enum):
    """The states of one attempt at a shard."""

    UPLOADED = "uploaded"
    NO_ARTIFACT = "left no artifact"
    EXPIRED = "its artifact has expired"
    STOPPED = "was cancelled or did not finish"
    RUNNING = "is still running"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a shard.

    age: sorts attempts, the newest last. build: the build that was tested, blank where a run has only one.
    label: how messages call it. upload: the key of its artifact, 0 without one.
    """

    shard: Shard
    age: tuple[int, ...]
    state: AttemptState
    label: str
    build: str = ""
    upload: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenUploads:
    """The uploads that make up a configuration.

    gaps: what keeps it from being complete, a sentence each. notes: what else a reader should know.
    """

    config: Configuration
    attempts: tuple[Attempt, ...]
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def choose(attempts: Iterable[Attempt]) -> tuple[ChosenUploads, ...]:
    """Choose, per configuration and shard, the newest attempt that finished and left an artifact; by configuration."""
    by_config: dict[Configuration, list[Attempt]] = {}
    for attempt in attempts:
        by_config.setdefault(attempt.shard.config, []).append(attempt)
    return tuple(_choose_uploads(config, by_config[config]) for config in sorted(by_config))


def _choose_uploads(config: Configuration, attempts: Sequence[Attempt]) -> ChosenUploads:
    chosen: list[Attempt] = []
    gaps: list[str] = []
    notes: list[str] = []
    newest = max(attempts, key=lambda attempt: attempt.age)
    total = newest.shard.total
    if others := sorted({attempt.shard.total for attempt in attempts} - {total}):
        left_out = " and ".join(map(str, others))
        notes.append(f"{newest.label} has {count(total, 'shard')}; attempts with {left_out} are left out")
    for number in range(1, total + 1):
        shard = Shard(config, number, total)
        mine = sorted((each for each in attempts if each.shard == shard), key=lambda each: each.age, reverse=True)
        usable = next((attempt for attempt in mine if attempt.state is AttemptState.UPLOADED), None)
        passed_over = mine[: mine.index(usable)] if usable else mine
        reasons = "; ".join(f"{attempt.label} {attempt.state}" for attempt in passed_over)
        if usable is None or any(attempt.state is AttemptState.RUNNING for attempt in passed_over):
            gaps.append(f"{shard.title}: {reasons or 'no attempt at it'}")
        elif passed_over:
            notes.append(f"{shard.title}: {usable.label} is used, because {reasons}")
        chosen += [usable] if usable else []
    if len(builds := {attempt.build for attempt in attempts if attempt.shard.total == total}) > 1:
        gaps.append(f"several builds tested it ({', '.join(sorted(builds))}); choose with --exclude-job")
    return ChosenUploads(config=config, attempts=tuple(chosen), gaps=tuple(gaps), notes=tuple(notes))


def parse_own_artifact(name: str) -> tuple[Shard, int] | None:
    """Parse shard and attempt of an artifact of the `run` action, `torchperf-{name}-{shard}-{count}-{attempt}`."""
    match = _OWN_ARTIFACT.fullmatch(name)
    shard = _make_shard(Configuration(match["config"]), match["shard"], match["count"]) if match else None
    return (shard, int(match["attempt"])) if match and shard else None


def parse_shard_name(name: str) -> tuple[int, int] | None:
    """Parse number and total of a shard's name, `2-3` for the second of three."""
    shard = _make_shard(Configuration(""), *name.split("-")) if name.count("-") == 1 else None
    return (shard.number, shard.total) if shard else None


def read_shard(records: Sequence[Record]) -> tuple[Shard, int]:
    """Read shard and attempt from records; those of several shards, or of none, are the first of one."""
    shards = {record.source.shard for record in records}
    number, total = (parse_shard_name(shards.pop()) if len(shards) == 1 else None) or (1, 1)
    return Shard(Configuration("results"), number, total), max((record.source.attempt for record in records), default=1)


def parse_test_job(name: str) -> tuple[Shard, str] | None:
    """Parse shard and build of a test job, `{build} / test ({config}, {shard}, {count}, {runner}[, …])`."""
    match = _TEST_JOB.fullmatch(name)
    words = [word.strip() for word in match["words"].split(",")] if match else []
    if match is None or len(words) < 4 or not re.fullmatch(r"\w+", words[0]):
        return None
    shard = _make_shard(Configuration(words[0], _find_folder(name)), words[1], words[2])
    return (shard, match["build"]) if shard else None


class ReportsName(NamedTuple):
    """The parts of the name of a test job's artifact; `attempt` is 0 where it says none."""

    shard: Shard
    job: int
    attempt: int


def parse_test_reports(name: str) -> ReportsName | None:
    """Parse an artifact's name, `test-reports-[runattempt{N}-]test-{config}-{shard}-{count}-{runner}_{job id}`."""
    match = _TEST_REPORTS.fullmatch(name)
    if match is None:
        return None
    shard = _make_shard(Configuration(match["config"], _find_folder(match["runner"])), match["shard"], match["count"])
    return ReportsName(shard, int(match["job"]), int(match["attempt"] or 0)) if shard else None


def _find_folder(runner: str) -> str:
    """Name the folder of the tables of what a runner measured: AMD's have one of their own."""
    return "rocm" if "rocm" in runner.lower() else ""


def _make_shard(config: Configuration, number: str, total: str) -> Shard | None:
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total) <= MAX_SHARDS):
        return None
    return Shard(config, int(number), int(total))


def find_suite(config: str) -> str:
    """Return the suite of a test configuration as its CSVs' names have it: its last word, or `timm_models` for timm."""
    word = config.rpartition("_")[2]
    return SUITE_WORDS.get(word, word)


def is_suite_config(config: str) -> bool:
    """Say whether it is one of the suites' configurations, and not a configuration of other tests."""
    return config.rpartition("_")[2] in SUITE_WORDS and "_" in config
