"""Models that may differ from their expectation: `flaky.yaml` beside the tables, with a reason for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

import yaml

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.expectations.table import shown

FLAKY_FILE = "flaky.yaml"

_KEYS = ("name", "configs", "checks", "reason")


class Kind(str, Enum):
    """What a check looks at."""

    ACCURACY = "accuracy"
    GRAPH_BREAKS = "graph-breaks"
    PERFORMANCE = "performance"
    MEMORY = "memory"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaky:
    """A model that passes either way, for `checks`, in the configurations that match a shell pattern of `configs`."""

    name: str
    configs: tuple[str, ...] = ("*",)
    checks: tuple[Kind, ...] = tuple(Kind)
    reason: str

    def covers(self, *, config: str, kind: Kind) -> bool:
        return kind in self.checks and any(fnmatchcase(config, pattern) for pattern in self.configs)


def parse_flaky(text: str, *, source: str) -> tuple[Flaky, ...]:
    """The entries of a flaky file: a list of `name`, `reason`, and optionally `configs` and `checks`.

    Raises `UsageProblem` that lists everything wrong with it.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageProblem(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise UsageProblem(f"{source} is not a list of entries with 'name' and 'reason'")
    if wrong := [f"entry {number}: {why}" for number, item in enumerate(raw, start=1) for why in _wrong(item)]:
        raise UsageProblem(f"{source}: {'; '.join(wrong)}")
    return tuple(_flaky(item) for item in raw)


def flaky_names(entries: Sequence[Flaky], *, config: str, kind: Kind) -> Mapping[str, str]:
    """The models that are flaky in `config` for `kind`, with the reason."""
    return {entry.name: entry.reason for entry in entries if entry.covers(config=config, kind=kind)}


def _flaky(item: Mapping[str, object]) -> Flaky:
    return Flaky(
        name=str(item["name"]),
        reason=str(item["reason"]),
        configs=tuple(_texts(item.get("configs", "*"))),
        checks=tuple(Kind(text) for text in _texts(item.get("checks", [kind.value for kind in Kind]))),
    )


def _wrong(item: object) -> list[str]:
    if not isinstance(item, dict):
        return ["is not a mapping"]
    wrong = [f"unknown key {shown(str(key))}, expected {', '.join(_KEYS)}" for key in item if key not in _KEYS]
    wrong += [f"'{key}' is missing" for key in ("name", "reason") if not str(item.get(key) or "").strip()]
    choices = [kind.value for kind in Kind]
    wrong += [
        f"unknown check {shown(text)}, expected {', '.join(choices)}"
        for text in _texts(item.get("checks", []))
        if text not in choices
    ]
    return wrong


def _texts(value: object) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]
