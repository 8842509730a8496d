"""Changes for the worse that somebody accepted: lines of JSON beside the Parquet files of a history.

Every acceptance is a file of its own below `acceptances`, so that writers need not know of each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec

from torchperf_ci.core.records import Case
from torchperf_ci.core.results import Problem
from torchperf_ci.history.storage import Files

FOLDER = "acceptances"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One person's word that changes may be as they are now.

    case, metric: patterns of shell wildcards; `case` is held against `suite/model` and against the whole name,
        `suite/model compiler mode dtype device`.
    name: the series of runs. commit: that of the newest run when it was accepted. time: when that was, in UTC.
    until: changes that began with a run of this time, or an earlier one, are accepted; None: `time`.
    by, reason: who, and why. url: where that stands, of one on a pull request, where `by` is a user of GitHub.
    """

    case: str
    metric: str = "*"
    name: str
    commit: str = ""
    time: datetime
    until: datetime | None = None
    by: str = ""
    reason: str = ""
    url: str = ""

    @property
    def who(self) -> str:
        """Name who it was, a user of GitHub with `@`."""
        return f"@{self.by}" if self.by and self.url else self.by

    def fits(self, case: Case, metric: str) -> bool:
        """Say whether it speaks of this metric of this case."""
        return fnmatchcase(metric, self.metric) and case.matches(self.case)


def read_acceptances(files: Files, name: str) -> tuple[list[Acceptance], list[Problem]]:
    """Read the acceptances of a series of runs, oldest first, and name what cannot be read."""
    acceptances: list[Acceptance] = []
    problems: list[Problem] = []
    paths = [f"{FOLDER}/{file}" for file in files.list_files(FOLDER) if file.endswith(".json")]
    for path in files.fetch(paths):
        try:
            acceptance = msgspec.json.decode(path.read_bytes(), type=Acceptance)
        except (msgspec.MsgspecError, UnicodeError) as error:
            problems.append(Problem(file=f"{FOLDER}/{path.name}", what=f"is no acceptance: {error}"))
            continue
        if acceptance.name == name:
            acceptances.append(acceptance)
    return sorted(acceptances, key=lambda acceptance: acceptance.time), problems


def encode_acceptances(acceptances: Sequence[Acceptance]) -> dict[str, bytes]:
    """Encode acceptances as files, by their path below the root of the history."""
    contents = {}
    for acceptance in acceptances:
        text = json.dumps(msgspec.to_builtins(acceptance), ensure_ascii=False, indent=1) + "\n"
        content = text.encode("utf-8", errors="replace")
        digest = hashlib.sha256(content).hexdigest()[:16]
        contents[f"{FOLDER}/{acceptance.time:%Y%m%dT%H%M%SZ}_{digest}.json"] = content
    return contents
