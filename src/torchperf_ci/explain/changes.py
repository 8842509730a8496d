"""Changed lines: those that differ between two commits, and those of them that a case runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torchperf_ci.compare.checkouts import ask_git
from torchperf_ci.explain.model import Evidence, LineChanges, SeenIteration

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def read_changes(repository: Path, base: str, head: str) -> LineChanges:
    """Read the lines that differ between two commits. Raises `GitFailed`."""
    removed: dict[str, set[int]] = {}
    added: dict[str, set[int]] = {}
    before = after = ""
    diff = ask_git(
        repository, "diff", "--unified=0", "--no-color", "--no-ext-diff", "--find-renames", "--src-prefix=a/",
        "--dst-prefix=b/", base, head, "--",
    )  # fmt: skip
    for line in diff.splitlines():
        if line.startswith("--- "):
            before = line[4:].removeprefix("a/")
        elif line.startswith("+++ "):
            after = line[4:].removeprefix("b/")
        elif hunk := _HUNK.match(line):
            first, size, new, new_size = (1 if number is None else int(number) for number in hunk.groups())
            removed.setdefault(before, set()).update(range(first, first + size))
            added.setdefault(after, set()).update(range(new, new + new_size))
    return LineChanges(
        removed={path: frozenset(lines) for path, lines in removed.items() if lines},
        added={path: frozenset(lines) for path, lines in added.items() if lines},
    )


def list_executed(changes: LineChanges, evidence: Evidence) -> Iterator[str]:
    """List the changed lines that an iteration runs, as `file:line`; of those that head lacks `base file:line`."""
    for lines, seen, prefix in (
        (changes.added, evidence.head.seen, ""),
        (changes.removed, evidence.base.seen, "base "),
    ):
        for path, numbers in lines.items():
            for file, ran in seen.lines.items():
                if is_same_file(path, file):
                    yield from (f"{prefix}{path}:{number}" for number in sorted(numbers.intersection(ran)))


def is_same_file(path: str, file: str) -> bool:
    """Say whether a path of the repository is a file as a worker names it, which may lie below a folder of packages."""
    return path == file or path.endswith(f"/{file}") or file.endswith(f"/{path}")


def is_changed(place: str, lines: Mapping[str, frozenset[int]], seen: SeenIteration) -> bool:
    """Say whether a place, `file:line`, lies in changed lines: the line itself, or the function that begins there."""
    file, _, text = place.rpartition(":")
    if not text.isdigit():
        return False
    first = int(text)
    starts = {line for known, line, *_ in seen.functions if known == file}
    end = min((line for line in starts if line > first), default=None) if first in starts else first + 1
    return any(
        first <= number and (end is None or number < end) for path in _same_files(lines, file) for number in lines[path]
    )


def _same_files(lines: Mapping[str, frozenset[int]], file: str) -> Iterable[str]:
    return [path for path in lines if is_same_file(path, file)]
