"""Shards of a run joined: the newest attempt of each, with everything said that is missing, double or contradictory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import Build, Case, Environment, Record, Testing
from torchperf_ci.core.results import Results
from torchperf_ci.shards.uploads import Attempt, Choice, Shard, State, choose

Models = frozenset[tuple[str, str]]
"""Suites and models."""

Key = tuple[Case, Testing]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one attempt at a shard left, and how messages call it."""

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
class Merged:
    """What the pieces are together.

    records: each with the place of its piece among those that were given. gaps: what is missing, a sentence each.
    notes: what else a reader should know. unusable: what of the pieces could not be used.
    """

    records: tuple[tuple[Record, int], ...]
    builds: tuple[Build, ...]
    gaps: tuple[str, ...]
    notes: tuple[str, ...]
    unusable: tuple[str, ...] = ()

    def told(self, *, allow_missing: bool) -> tuple[Build, ...]:
        """The builds, the last of which carries gaps and notes, so that every report of it shows them. Gaps that are
        allowed are notes."""
        said = (*(self.gaps if allow_missing else ()), *self.notes, *self.unusable)
        gaps = () if allow_missing else self.gaps
        if not said and not gaps:
            return self.builds
        *before, last = self.builds or (Build(environment=Environment()),)
        return (*before, replace(last, warnings=(*last.warnings, *said), gaps=(*last.gaps, *gaps)))


def merge(pieces: Sequence[Piece], promises: Sequence[Promise] = ()) -> Merged:
    """The newest attempt of every shard. With `promises`, only their configurations are taken, and each is held.

    Raises `NothingToJudge` when there is nothing, or when the pieces contradict each other: it names everything.
    """
    wanted = {promise.shard.config for promise in promises}
    taken = [(place, piece) for place, piece in enumerate(pieces) if not wanted or piece.shard.config in wanted]
    choices = choose(_attempt(piece, place) for place, piece in taken)
    chosen = {attempt.upload: pieces[attempt.upload] for choice in choices for attempt in choice.chosen}
    twice, contradictions = _same_attempts([piece for _, piece in taken])
    records, doubles = _records(chosen)
    contradictions += [*_commits(chosen.values()), *_shared_cases(chosen.values())]
    if contradictions:
        raise NothingToJudge("\n".join(("the results contradict each other:", *contradictions)))
    places = {place for place, _ in taken}
    left_out = [
        f"{piece.label} was not planned and is left out" for place, piece in enumerate(pieces) if place not in places
    ]
    merged = Merged(
        records=tuple(records),
        builds=tuple(build for piece in chosen.values() for build in piece.results.builds),
        gaps=(*_gaps(choices), *_broken(promises, chosen.values())),
        notes=(*(note for choice in choices for note in choice.notes), *twice, *doubles, *left_out),
        unusable=tuple(f"{piece.label}/{problem}" for piece in chosen.values() for problem in piece.results.problems),
    )
    if not merged.records:
        raise NothingToJudge("\n".join(("there are no results to merge", *merged.gaps, *merged.notes)))
    return merged


def _attempt(piece: Piece, place: int) -> Attempt:
    return Attempt(shard=piece.shard, age=(piece.attempt, place), state=State.UPLOADED, label=piece.label, upload=place)


def _gaps(choices: Iterable[Choice]) -> Iterator[str]:
    for choice in choices:
        yield from (f"{choice.config}: {gap}" for gap in choice.gaps)


def _broken(promises: Sequence[Promise], chosen: Iterable[Piece]) -> Iterator[str]:
    """Planned shards of which there is nothing at all, and planned models without a result."""
    found: dict[Shard, Models] = {
        piece.shard: frozenset((record.case.suite, record.case.model) for record in piece.results.records)
        for piece in chosen
    }
    totals = {(shard.config, shard.total) for shard in found}  # of these, missing shards are gaps already
    for promise in promises:
        shard = promise.shard
        title = f"{shard.config}: shard {shard.number} of {shard.total}"
        if (shard.config, shard.total) not in totals:
            yield f"{title}: no attempt at it"
        elif shard in found and (lost := sorted(promise.models - found[shard])):
            yield f"{title}: no result of {_listed(f'{suite}/{model}' for suite, model in lost)}"


def _same_attempts(pieces: Sequence[Piece]) -> tuple[list[str], list[str]]:
    """Attempts that are there twice: sentences about those that are equal, and about those that are not."""
    groups: dict[tuple[Shard, int], list[Piece]] = defaultdict(list)
    for piece in pieces:
        groups[(piece.shard, piece.attempt)].append(piece)
    equal: list[str] = []
    different: list[str] = []
    for (shard, attempt), same in groups.items():
        if len(same) > 1:
            labels = " and ".join(piece.label for piece in same)
            what = f"{labels} are both attempt {attempt} at shard {shard.number} of {shard.total} of {shard.config}"
            is_equal = all(piece.results.records == same[0].results.records for piece in same)
            (equal if is_equal else different).append(f"{what}, {'and equal' if is_equal else 'and differ'}")
    return equal, different


def _records(chosen: Mapping[int, Piece]) -> tuple[list[tuple[Record, int]], list[str]]:
    """The newest record of every case and testing with its place, and sentences about those that were there twice."""
    newest: dict[Key, tuple[Record, int]] = {}
    doubles: dict[tuple[int, int], list[str]] = defaultdict(list)
    for place, piece in chosen.items():
        for record in piece.results.records:
            known = newest.get(record.key)
            if known is None or known[0].source.time <= record.source.time:
                newest[record.key] = (record, place)
            if known is not None:
                doubles[(known[1], place)].append(f"{record.case} ({record.testing})")
    said = [
        f"{chosen[one].label} and {chosen[two].label} both hold {_listed(names)}; the newest counts"
        for (one, two), names in doubles.items()
    ]
    return list(newest.values()), said


def _commits(chosen: Iterable[Piece]) -> Iterator[str]:
    """Shards of different commits are no run."""
    of_commit: dict[str, str] = {}
    for piece in chosen:
        for record in piece.results.records:
            of_commit.setdefault(record.source.commit, piece.label)
    if len(of_commit) > 1:
        yield "they are of different commits: " + ", ".join(
            f"{label} of {commit[:12] or 'none'}" for commit, label in of_commit.items()
        )


def _shared_cases(chosen: Iterable[Piece]) -> Iterator[str]:
    """Cases in two configurations: two kinds of machines measured the same, and neither is the newer one."""
    owners: dict[Key, Piece] = {}
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for piece in chosen:
        for record in piece.results.records:
            owner = owners.setdefault(record.key, piece)
            if owner.shard.config != piece.shard.config:
                shared[(str(owner.shard.config), str(piece.shard.config))].append(f"{record.case} ({record.testing})")
    for (one, two), names in shared.items():
        yield f"both {one} and {two} hold {_listed(names)}; merge them apart, each into a folder of its own"


def _listed(names: Iterable[str], most: int = 5) -> str:
    all_names = list(names)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return ", ".join(all_names[:most]) + more
