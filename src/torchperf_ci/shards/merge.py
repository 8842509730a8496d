"""Shards of a run joined: the newest attempt of each, with everything said that is missing, double or contradictory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import PARTITION, Build, Case, Environment, Record, Testing
from torchperf_ci.core.results import Results
from torchperf_ci.core.text import some_of
from torchperf_ci.shards.uploads import Attempt, AttemptState, Shard, choose

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
        builds=_join_builds(chosen.values(), promises),
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


def _join_builds(chosen: Collection[Piece], promises: Sequence[Promise]) -> tuple[Build, ...]:
    """Join the builds. What narrowed a shard to its share of a plan narrows the whole no more."""
    return tuple(
        replace(build, narrowed_by=() if promises else tuple(text for text in build.narrowed_by if text != PARTITION))
        for piece in chosen
        for build in piece.results.builds
    )


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
