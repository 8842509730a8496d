"""Which uploads of a commit's runs make up which configuration: names, shards, attempts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from torchperf_ci.core.records import Record

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


class Config(NamedTuple):
    """A test configuration. `folder` is where its tables are below the expected folder: `rocm` or nothing."""

    name: str
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name


class Shard(NamedTuple):
    """Shard `number` (from 1) of `total` of a configuration."""

    config: Config
    number: int
    total: int


class State(str, Enum):
    """What has become of one attempt at a shard."""

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
    state: State
    label: str
    build: str = ""
    upload: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The uploads that make up a configuration.

    gaps: what keeps it from being complete, a sentence each. notes: what else a reader should know.
    """

    config: Config
    chosen: tuple[Attempt, ...]
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Findings:
    chosen: list[Attempt] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def choose(attempts: Iterable[Attempt]) -> tuple[Choice, ...]:
    """Per configuration and shard the newest attempt that finished and left an artifact, by configuration's name."""
    by_config: dict[Config, list[Attempt]] = {}
    for attempt in attempts:
        by_config.setdefault(attempt.shard.config, []).append(attempt)
    return tuple(_choice(config, by_config[config]) for config in sorted(by_config))


def _choice(config: Config, attempts: Sequence[Attempt]) -> Choice:
    found = _Findings()
    newest = max(attempts, key=lambda attempt: attempt.age)
    total = newest.shard.total
    if others := sorted({attempt.shard.total for attempt in attempts} - {total}):
        found.notes.append(f"{newest.label} has {total} shards; attempts with {_listed(others)} are left out")
    for number in range(1, total + 1):
        mine = [attempt for attempt in attempts if attempt.shard[1:] == (number, total)]
        _choose_shard(found, f"shard {number} of {total}", sorted(mine, key=lambda attempt: attempt.age, reverse=True))
    if len(builds := {attempt.build for attempt in attempts if attempt.shard.total == total}) > 1:
        found.gaps.append(f"several builds tested it ({', '.join(sorted(builds))}); choose with --exclude-job")
    return Choice(config=config, chosen=tuple(found.chosen), gaps=tuple(found.gaps), notes=tuple(found.notes))


def _choose_shard(found: _Findings, title: str, newest_first: Sequence[Attempt]) -> None:
    usable = next((attempt for attempt in newest_first if attempt.state is State.UPLOADED), None)
    passed_over = newest_first[: newest_first.index(usable)] if usable else newest_first
    why = "; ".join(f"{attempt.label} {attempt.state}" for attempt in passed_over)
    running = any(attempt.state is State.RUNNING for attempt in passed_over)
    if usable is None or running:
        found.gaps.append(f"{title}: {why or 'no attempt at it'}")
    elif passed_over:
        found.notes.append(f"{title}: {usable.label} is used, because {why}")
    if usable is not None:
        found.chosen.append(usable)


def _listed(counts: Sequence[int]) -> str:
    return " and ".join(str(count) for count in counts)


def parse_own_artifact(name: str) -> tuple[Shard, int] | None:
    """Shard and attempt of an artifact of the `run` action, `torchperf-{name}-{shard}-{count}-{attempt}`."""
    match = _OWN_ARTIFACT.fullmatch(name)
    if match is None:
        return None
    shard = _shard(Config(match["config"]), match["shard"], match["count"])
    return (shard, int(match["attempt"])) if shard else None


def parse_shard_name(name: str) -> tuple[int, int] | None:
    """Number and total of a shard's name, `2-3` for the second of three."""
    shard = _shard(Config(""), *name.split("-")) if name.count("-") == 1 else None
    return (shard.number, shard.total) if shard else None


def shard_recorded(records: Sequence[Record]) -> tuple[Shard, int]:
    """Shard and attempt that the records name; those of several shards, or of none, are the first of one."""
    shards = {record.source.shard for record in records}
    number, total = (parse_shard_name(shards.pop()) if len(shards) == 1 else None) or (1, 1)
    return Shard(Config("results"), number, total), max((record.source.attempt for record in records), default=1)


def parse_test_job(name: str) -> tuple[Shard, str] | None:
    """Shard and build of a test job, `{build} / test ({config}, {shard}, {count}, {runner}[, …])`."""
    match = _TEST_JOB.fullmatch(name)
    words = [word.strip() for word in match["words"].split(",")] if match else []
    if match is None or len(words) < 4:
        return None
    folder = "rocm" if "rocm" in name.lower() else ""
    shard = _shard(Config(words[0], folder), words[1], words[2]) if re.fullmatch(r"\w+", words[0]) else None
    return (shard, match["build"]) if shard else None


class ReportsName(NamedTuple):
    """What the name of a test job's artifact says; `attempt` is 0 where it says none."""

    shard: Shard
    job: int
    attempt: int


def parse_test_reports(name: str) -> ReportsName | None:
    """What an artifact's name says: `test-reports-[runattempt{N}-]test-{config}-{shard}-{count}-{runner}_{job id}`."""
    match = _TEST_REPORTS.fullmatch(name)
    if match is None:
        return None
    folder = "rocm" if "rocm" in match["runner"].lower() else ""
    shard = _shard(Config(match["config"], folder), match["shard"], match["count"])
    return ReportsName(shard, int(match["job"]), int(match["attempt"] or 0)) if shard else None


def suite_of(config: str) -> str:
    """The suite of a test configuration, as its CSVs' names have it: the last word, `timm` being `timm_models`."""
    word = config.rpartition("_")[2]
    return SUITE_WORDS.get(word, word)


def is_suite_config(config: str) -> bool:
    """Is it one of the suites' configurations, and not a configuration of other tests?"""
    return config.rpartition("_")[2] in SUITE_WORDS and "_" in config


def _shard(config: Config, number: str, total: str) -> Shard | None:
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total) <= MAX_SHARDS):
        return None
    return Shard(config, int(number), int(total))
