"""Find the uploads of a commit's runs that make up a configuration, and join the newest attempt of each shard."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import PARTITION, Build, Case, Environment, Record, Testing
from torchperf_ci.core.results import RECORDS, Results
from torchperf_ci.core.text import Word, count, some_of

MAX_SHARDS = 256

SUITE_WORDS = {"huggingface": "huggingface", "timm": "timm_models", "torchbench": "torchbench"}
"""Last word of a test configuration: the suite as its CSVs' names have it."""

_OWN_ARTIFACT = re.compile(r"torchperf-(?P<config>.+)-(?P<shard>\d{1,4})-(?P<count>\d{1,4})-(?P<attempt>\d{1,4})")
_TEST_JOB = re.compile(r"(?P<build>.+?) / test \((?P<words>[^()]*)\)")
_TEST_REPORTS = re.compile(
    r"test-reports-(?:runattempt(?P<attempt>\d{1,4})-)?test-(?P<config>\w+)-(?P<shard>\d{1,4})-(?P<count>\d{1,4})"
    r"-(?P<runner>.+)_(?P<job>\d{1,20})(?:\.zip)?"
)


class Layout(Word):
    """Whose names jobs and artifacts have: those of PyTorch's test jobs, or those of this project's `run` action."""

    PYTORCH = "pytorch"
    TORCHPERF = "torchperf"


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


class AttemptState(Word):
    """The states of one attempt at a shard."""

    UPLOADED = "uploaded"
    NO_ARTIFACT = "left no artifact"
    EXPIRED = "its artifact has expired"
    STOPPED = "was cancelled or did not finish"
    RUNNING = "is still running"


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


def identify_folder(folder: Path, read_records: Callable[[], Sequence[Record]]) -> tuple[Shard, int]:
    """Tell which attempt at which shard a folder of results is: by its name, or else by what its records say; a folder
    of CSVs, which say nothing, is a configuration of its own."""
    name = folder.resolve().name
    if parsed := parse_own_artifact(name):
        return parsed
    if (folder / RECORDS).is_file():
        return read_shard(read_records())
    return Shard(Configuration(name), 1, 1), 1


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


Models = frozenset[tuple[str, str]]
"""Suites and models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The results of one attempt at a shard, and its name in messages."""

    label: str
    shard: Shard
    attempt: int
    results: Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A shard that was planned, with its models."""

    shard: Shard
    models: Models


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRun:
    """The pieces joined.

    records: each with the place of its piece among those that were given. gaps: what is missing, a sentence each.
    notes: what else a reader should know. unusable: what of the pieces could not be used.
    confirmations: of the records that count.
    """

    records: tuple[tuple[Record, int], ...]
    builds: tuple[Build, ...]
    gaps: tuple[str, ...]
    notes: tuple[str, ...]
    unusable: tuple[str, ...] = ()
    confirmations: tuple[Record, ...] = ()

    def annotated_builds(self, *, allow_missing: bool) -> tuple[Build, ...]:
        """Return the builds, the last of which carries gaps and notes, so that every report of it shows them. Gaps that
        are allowed are notes."""
        warnings = (*(self.gaps if allow_missing else ()), *self.notes, *self.unusable)
        gaps = () if allow_missing else self.gaps
        if not warnings and not gaps:
            return self.builds
        *before, last = self.builds or (Build(environment=Environment()),)
        return (*before, replace(last, warnings=(*last.warnings, *warnings), gaps=(*last.gaps, *gaps)))


def merge(pieces: Sequence[Piece], promises: Sequence[Promise] = ()) -> MergedRun:
    """Merge the newest attempt of every shard. With `promises`, only their configurations are taken, and each is held.

    Raises `NothingToJudge` when there is nothing, or when the pieces contradict each other: it names everything.
    """
    planned = {promise.shard.config for promise in promises}
    taken = {place: piece for place, piece in enumerate(pieces) if not planned or piece.shard.config in planned}
    choices = choose(
        Attempt(
            shard=piece.shard,
            age=(piece.attempt, place),
            state=AttemptState.UPLOADED,
            label=piece.label,
            upload=place,
        )
        for place, piece in taken.items()
    )
    chosen = {attempt.upload: pieces[attempt.upload] for choice in choices for attempt in choice.attempts}
    equal, different = _find_repeated_attempts(taken.values())
    records, doubles = _choose_newest(chosen)
    if contradictions := [*different, *_find_contradictions(chosen.values())]:
        raise NothingToJudge("\n".join(("the results contradict each other:", *contradictions)))
    left_out = [
        f"{piece.label} was not planned and is left out" for place, piece in enumerate(pieces) if place not in taken
    ]
    gaps = [f"{choice.config}: {gap}" for choice in choices for gap in choice.gaps]
    merged = MergedRun(
        records=tuple(records),
        builds=tuple(
            # What narrowed a shard to its share of a plan narrows the whole no more.
            replace(build, narrowed_by=() if promises else tuple(t for t in build.narrowed_by if t != PARTITION))
            for piece in chosen.values()
            for build in piece.results.builds
        ),
        gaps=(*gaps, *_find_broken_promises(promises, chosen.values())),
        notes=(*(note for choice in choices for note in choice.notes), *equal, *doubles, *left_out),
        unusable=tuple(f"{piece.label}/{problem}" for piece in chosen.values() for problem in piece.results.problems),
        confirmations=tuple(
            confirmation
            for place, piece in chosen.items()
            for confirmation in piece.results.confirmations
            if any(record.key == confirmation.key and home == place for record, home in records)
        ),
    )
    if not merged.records:
        raise NothingToJudge("\n".join(("there are no results to merge", *merged.gaps, *merged.notes)))
    return merged


def _find_broken_promises(promises: Sequence[Promise], chosen: Collection[Piece]) -> Iterator[str]:
    """Name planned shards of which there is nothing at all, and planned models without a result."""
    measured: dict[Shard, Models] = {
        piece.shard: frozenset((record.case.suite, record.case.model) for record in piece.results.records)
        for piece in chosen
    }
    totals = {(shard.config, shard.total) for shard in measured}  # of these, missing shards are gaps already
    for promise in promises:
        shard = promise.shard
        if (shard.config, shard.total) not in totals:
            yield f"{shard.config}: {shard.title}: no attempt at it"
        elif shard in measured and (lost := sorted(promise.models - measured[shard])):
            yield f"{shard.config}: {shard.title}: no result of {some_of([f'{suite}/{name}' for suite, name in lost])}"


def _find_repeated_attempts(pieces: Collection[Piece]) -> tuple[list[str], list[str]]:
    """Describe attempts that are there twice: those that are equal, and those that are not."""
    groups: dict[tuple[Shard, int], list[Piece]] = defaultdict(list)
    for piece in pieces:
        groups[(piece.shard, piece.attempt)].append(piece)
    equal: list[str] = []
    different: list[str] = []
    for (shard, attempt), same in groups.items():
        if len(same) > 1:
            labels = " and ".join(piece.label for piece in same)
            sentence = f"{labels} are both attempt {attempt} at {shard.title} of {shard.config}"
            if all(piece.results.records == same[0].results.records for piece in same):
                equal.append(f"{sentence}, and equal")
            else:
                different.append(f"{sentence}, and differ")
    return equal, different


def _choose_newest(chosen: Mapping[int, Piece]) -> tuple[list[tuple[Record, int]], list[str]]:
    """Return the newest record of every case and testing with its place, and sentences about those there twice."""
    newest: dict[tuple[Case, Testing], tuple[Record, int]] = {}
    doubles: dict[tuple[int, int], list[str]] = defaultdict(list)
    for place, piece in chosen.items():
        for record in piece.results.records:
            known = newest.get(record.key)
            if known is None or known[0].source.time <= record.source.time:
                newest[record.key] = (record, place)
            if known is not None:
                doubles[(known[1], place)].append(f"{record.case} ({record.testing})")
    sentences = [
        f"{chosen[one].label} and {chosen[two].label} both hold {some_of(names)}; the newest counts"
        for (one, two), names in doubles.items()
    ]
    return list(newest.values()), sentences


def _find_contradictions(chosen: Collection[Piece]) -> Iterator[str]:
    """Name what cannot be one run: shards of different commits, and cases in two configurations, of which two kinds of
    machines measured the same, and neither is the newer one."""
    of_commit: dict[str, str] = {}
    owners: dict[tuple[Case, Testing], Piece] = {}
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for piece in chosen:
        for record in piece.results.records:
            of_commit.setdefault(record.source.commit, piece.label)
            owner = owners.setdefault(record.key, piece)
            if owner.shard.config != piece.shard.config:
                shared[(str(owner.shard.config), str(piece.shard.config))].append(f"{record.case} ({record.testing})")
    if len(of_commit) > 1:
        yield "they are of different commits: " + ", ".join(
            f"{label} of {commit[:12] or 'none'}" for commit, label in of_commit.items()
        )
    for (one, two), names in shared.items():
        yield f"both {one} and {two} hold {some_of(names)}; merge them apart, each into a folder of its own"
