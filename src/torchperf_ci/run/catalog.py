"""What suites the Python under test has, and what is in them: asked of a worker, told as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.run.plan import suite_spec
from torchperf_ci.run.run import question
from torchperf_ci.run.session import Preloaded

READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model of a suite. `missing`: why it cannot run here; `skips`: when the suite leaves it out, and why."""

    name: str
    description: str = ""
    quick: bool = False
    missing: str = ""
    skips: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """Whether it runs here, in words."""
        return self.missing or "; ".join(self.skips) or READY


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteEntry:
    """A suite of the Python under test. `missing`: why none of it can run here."""

    name: str
    models: tuple[ModelEntry, ...] = ()
    missing: str = ""

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Name, number of models, number of those `--quick` keeps, state."""
        quick = sum(model.quick for model in self.models)
        return (self.name, str(len(self.models) or ""), str(quick or ""), self.missing or READY)


def describe_suite(preloaded: Preloaded, name: str) -> SuiteEntry:
    """The suite `name` (a name, a file, a module). Raises `UsageProblem` where it cannot be imported."""
    told = question(preloaded, "describe", spec=suite_spec(name))
    return SuiteEntry(
        name=told["name"], missing=told["missing"] or "", models=tuple(_model(raw) for raw in told["models"])
    )


def describe_known(preloaded: Preloaded) -> Iterator[SuiteEntry]:
    """Every suite that has a name there; one that cannot be imported says why."""
    for name in question(preloaded, "suites")["suites"]:
        try:
            yield describe_suite(preloaded, name)
        except UsageProblem as error:
            yield SuiteEntry(name=name, missing=str(error))


def _model(raw: Mapping[str, Any]) -> ModelEntry:
    return ModelEntry(
        name=raw["name"],
        description=raw["description"],
        quick=raw["quick"],
        missing=raw["missing"] or "",
        skips=tuple(_skip(skip) for skip in raw["skips"]),
    )


def _skip(raw: Mapping[str, str | None]) -> str:
    """`skipped on cpu in training: reason`, with what applies."""
    where = [f"{word} {raw[name]}" for name, word in (("device", "on"), ("mode", "in")) if raw[name] is not None]
    return " ".join(["skipped", *where]) + f": {raw['reason']}"
