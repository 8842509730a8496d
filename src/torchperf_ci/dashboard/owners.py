"""Owners of cases: whom an issue mentions, and which labels it gets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torchperf_ci.core.records import Case

OWNER = re.compile(r"@?(?P<name>[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,99})?)")
"""A user or a team, `@name` or `@organization/team`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRule:
    """Owners, labels or both of the cases and metrics whose names fit the patterns of shell wildcards.

    case: is held against `suite/model` and against the whole name, `suite/model compiler mode dtype device`.
    owners: users and teams, as `OWNER` has them.
    """

    case: str = "*"
    metric: str = "*"
    owners: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def fits(self, case: Case, metric: str) -> bool:
        return fnmatchcase(metric, self.metric) and case.matches(self.case)


def find_owners(rules: Sequence[OwnerRule], of: Iterable[tuple[Case, str]]) -> tuple[str, ...]:
    """Find the owners of metrics of cases, without `@`: of each, those of the last rule that fits and names some."""
    named = (_find_last(rules, case, metric, "owners") for case, metric in of)
    owners = (OWNER.fullmatch(owner) for owners in named for owner in owners)
    return tuple(dict.fromkeys(owner["name"] for owner in owners if owner))


def find_labels(rules: Sequence[OwnerRule], of: Iterable[tuple[Case, str]]) -> tuple[str, ...]:
    """Find the labels for metrics of cases: of each, those of the last rule that fits and names some."""
    return tuple(dict.fromkeys(label for case, metric in of for label in _find_last(rules, case, metric, "labels")))


def _find_last(rules: Sequence[OwnerRule], case: Case, metric: str, field: str) -> tuple[str, ...]:
    named: Iterable[tuple[str, ...]] = (getattr(rule, field) for rule in reversed(rules) if rule.fits(case, metric))
    return next((names for names in named if names), ())
