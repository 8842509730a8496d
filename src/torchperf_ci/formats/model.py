"""The formats, what is asked of an import, and records that are built from foreign numbers.

A foreign benchmark has no eager arm and no compiler, so there is no speedup; its raw times stand where compiled times
do, because those are what reports show as latency and what comparisons are made of.

Foreign JSON is parsed and typed here, with the place of every fault.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone, tzinfo
from enum import Enum
from types import MappingProxyType
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote as _unquote

import msgspec

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import (
    AS_IT_IS,
    METRICS,
    NOT_KNOWN,
    Case,
    Environment,
    Metric,
    Mode,
    Record,
    Source,
    Status,
    Testing,
)
from torchperf_ci.core.text import Word, one_line

Typed = TypeVar("Typed")
Choice = TypeVar("Choice", bound=Enum)
Default = TypeVar("Default")

_LARGEST = sys.float_info.max
Finite = Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]
"""A number that is neither infinite nor NaN."""
Duration = Annotated[float, msgspec.Meta(ge=0, le=_LARGEST)]
"""A finite number of seconds, or of another unit of time, not below 0."""

_SHOWN = 20
_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "an object",
    "str": "text",
}


class InputProblem(UsageProblem):
    """A file that cannot be used. The message lists what is wrong, one place a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        lines = [one_line(problem, limit=700) for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"and {len(problems) - _SHOWN} more")
        super().__init__("\n  ".join(lines))
        self.problems = tuple(problems)


def parse(content: bytes, *, file: str, first_line: int = 1) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON of another tool, which may hold `NaN` and `Infinity`. Raises `InputProblem` naming the line.

    first_line: the number of the content's first line in the file.
    """
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise InputProblem([f"{file}: is empty"])
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass  # Python's parser is slower, but takes NaN, a byte order mark and halves of surrogate pairs
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + first_line
        raise InputProblem([f"{file}:{line}: not UTF-8 text"]) from error
    except json.JSONDecodeError as error:
        raise InputProblem([f"{file}:{error.lineno - 1 + first_line}: not JSON: {error.msg}"]) from error
    except (ValueError, RecursionError) as error:
        raise InputProblem([f"{file}: not usable as JSON: {error}"]) from error


def convert(raw: object, kind: type[Typed], *, where: str, strict: bool = True) -> Typed:
    """Give parsed JSON a type. Raises `InputProblem` naming the place and what was expected there.

    strict: without it, a number may stand in quotes.

    In a struct's own fields, not in those of what it holds, null is as good as a field that is not there.
    """
    if isinstance(raw, dict) and hasattr(kind, "__struct_fields__"):
        raw = {name: value for name, value in raw.items() if value is not None}
    try:
        return msgspec.convert(raw, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise InputProblem([f"{where}: {explain(error)}"]) from None


def explain(error: msgspec.ValidationError) -> str:
    """Say in plain words what msgspec found wrong, the place first: `stats.min: expected a number, got text`."""
    text, _, place = str(error).partition(" - at `$")
    text = text.replace(f" <= {_LARGEST}", " that is finite").replace(f" >= -{_LARGEST}", " that is finite")
    text = text.replace(" >= 0.0", " of at least 0")
    text = re.sub(r"Object missing required field `(\w+)`", r"'\1' is missing", text)
    text = re.sub(
        r"`([a-z |]+)`", lambda types: " or ".join(_WORDS.get(word, word) for word in types[1].split(" | ")), text
    )
    text = text[:1].lower() + text[1:]
    return f"{place.rstrip('`').lstrip('.')}: {text}" if place else text


def text_in(raw: Mapping[str, Any], name: str) -> str:
    """Read a text that may be missing or of any type; numbers as they are written, anything else as blank."""
    value = raw.get(name)
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def count_in(raw: Mapping[str, Any], name: str) -> int:
    """Read a whole number that may be missing, text or of any type; anything else is 0."""
    text = text_in(raw, name)
    return int(text) if text.isdecimal() else 0


def as_object(value: object) -> Mapping[str, Any]:
    """Return `value` as an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def finite(value: object) -> float | None:
    """Return `value` as a finite number, or None for anything else."""
    try:
        return msgspec.convert(value, Finite)
    except msgspec.ValidationError:
        return None


def choice(kind: type[Choice], word: object, default: Default) -> Choice | Default:
    """Return the member of an enum with this value, or the default."""
    return next((member for member in kind if member.value == word), default)


def moment(text: str, *, naive: tzinfo | None = None) -> datetime | None:
    """Parse ISO 8601 as a time in UTC; None for anything else, and for what is before 1970, where nothing was measured.

    A text without an offset is in the zone `naive`, or in local time for None: tools differ in this.
    """
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
        utc = (when if when.tzinfo else when.replace(tzinfo=naive)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return utc if utc.year >= 1970 else None


def moment_of_seconds(seconds: float) -> datetime | None:
    """Return the time in UTC, from seconds since 1970; None before that, and beyond what a calendar has."""
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc) if seconds >= 0 else None
    except (ValueError, OverflowError, OSError):
        return None


class ExportFormat(Word):
    """The formats of an export."""

    GITHUB_ACTION_BENCHMARK = "github-action-benchmark"
    BENCHER = "bencher"
    PYTEST_BENCHMARK = "pytest-benchmark"
    OPENMETRICS = "openmetrics"
    CSV = "csv"
    PARQUET = "parquet"


class ImportFormat(Word):
    """The formats of an import, by the name of the tool that writes it."""

    GITHUB_ACTION_BENCHMARK = "github-action-benchmark"
    BENCHER = "bencher"
    ASV = "asv"
    HUD = "hud"
    PYTEST_BENCHMARK = "pytest-benchmark"
    GOOGLE_BENCHMARK = "google-benchmark"
    FASTRNNS = "fastrnns"
    OPENMETRICS = "openmetrics"
    CSV = "csv"
    PARQUET = "parquet"


class Clock(Word):
    """The two times that Google Benchmark has of a run."""

    REAL = "real"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """A file to read, with what to record where it does not say it.

    source: where this program runs. checked_out: the commit of the checkout there, which for a pull request on GitHub
        is not the one that `source` names, but a merge of it.
    form: None to go by the content.
    commit, branch: what to record whatever the file says. suite: likewise; empty to name it after the file or group.
    time: UTC in ISO 8601, for formats without one.
    tool: what github-action-benchmark calls values whose list does not say which are better.
    columns: the columns of a table by the field that they hold.
    """

    source: Source
    checked_out: str = ""
    form: ImportFormat | None = None
    commit: str = ""
    branch: str = ""
    suite: str = ""
    device: str = "cpu"
    dtype: str = NOT_KNOWN
    mode: Mode = Mode.INFERENCE
    time: str = ""
    tool: str = ""
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clock: Clock = Clock.REAL

    @property
    def usual_source(self) -> Source:
        """Say where numbers come from that do not say it themselves."""
        source = self.source
        if self.commit not in {"", source.commit}:
            source = replace(source, commit=self.commit, subject="")
        return replace(source, branch=self.branch or source.branch, time=self.time or source.time)

    def source_of(self, *, commit: str, branch: str, time: str, naive: tzinfo | None = None) -> Source:
        """Say where a file was made, by what it says itself; `source` for the rest.

        A file made at another commit than the one checked out here has no branch but its own. A time without an offset
        is in the zone `naive`, local for None.
        """
        when = moment(time, naive=naive)
        # With fractions of a second, so that files written in a row keep their order.
        source = replace(self.source, time=when.isoformat() if when else "")
        if commit and commit not in {self.source.commit, self.checked_out}:
            source = replace(source, commit=commit, branch=branch, subject="")
        if self.commit not in {"", source.commit}:
            source = replace(source, commit=self.commit, subject="")
        return replace(source, branch=self.branch or source.branch or branch)

    def case(
        self, *, suite: str, model: str, device: str = "", dtype: str = "", mode: Mode | None = None, compiler: str = ""
    ) -> Case:
        """Make a case of what is known; without a compiler it runs as it is."""
        return Case(
            suite=self.suite or suite,
            model=model,
            mode=mode or self.mode,
            device=device or self.device,
            dtype=dtype or self.dtype,
            compiler=compiler or AS_IT_IS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The records of a file or folder, what was left out of it, and what to warn of: a sentence each.

    run_keys: the run that each record belongs to, blank where the file does not say it; empty where it never does.
    """

    records: tuple[Record, ...]
    run_keys: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Part:
    status: Status = Status.PASS
    reason: str = ""
    batch_size: int = 0
    params: Mapping[str, str | bool | int | float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    own_metrics: dict[str, Metric] = field(default_factory=dict)
    samples: dict[str, tuple[float, ...]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class RecordCollector:
    """Gathers numbers that are read one at a time into a record per run, case, testing, source and environment."""

    left_out: list[str] = field(default_factory=list)
    _parts: dict[tuple[str, Case, Testing, Source, Environment], _Part] = field(default_factory=dict)

    def add(
        self,
        case: Case,
        source: Source,
        environment: Environment = Environment(),  # noqa: B008 - frozen
        *,
        testing: Testing = Testing.PERFORMANCE,
        metric: Metric | None = None,
        value: float = 0.0,
        samples: Sequence[float] = (),
        where: str = "",
        status: Status = Status.PASS,
        reason: str = "",
        batch_size: int = 0,
        params: Mapping[str, str | bool | int | float] = MappingProxyType({}),
        counter: str = "",
        run_key: str = "",
    ) -> None:
        """Take a number, or only the status of a case without any. A metric that the case has already is left out."""
        if not case.suite or not case.model:
            self.left_out.append(f"{where or 'a value'}: names no benchmark")
            return
        if metric is not None and metric.name in METRICS and value < 0:
            self.left_out.append(f"{where or case}: {metric.name} is {value:g}, expected a number that is not below 0")
            return
        part = self._parts.setdefault((run_key, case, testing, source, environment), _Part())
        if status is not Status.PASS:
            part.status, part.reason = status, reason
        part.batch_size, part.params = batch_size or part.batch_size, params or part.params
        if counter:
            part.counters[counter] = int(value)
        if metric is None:
            return
        if not metric.name.strip():
            self.left_out.append(f"{where}: {case} has a number without a name")
            return
        if metric.name in part.metrics:
            self.left_out.append(f"{where}: {case} has a second {metric.name}")
            return
        part.metrics[metric.name] = value
        if metric.name not in METRICS:
            part.own_metrics[metric.name] = metric
        if samples:
            part.samples["compiled" if metric.name == "abs_latency" else metric.name] = tuple(samples)

    @contextmanager
    def skip_faults(self) -> Iterator[None]:
        """Leave out what the block cannot read, and say so: any `InputProblem` ends the block, and nothing else."""
        try:
            yield
        except InputProblem as error:
            self.left_out.append(str(error))

    def imported(self) -> Imported:
        """Return everything that was taken, in the order it came."""
        records = tuple(
            Record(
                case=case,
                testing=testing,
                status=part.status,
                batch_size=part.batch_size,
                metrics=part.metrics,
                samples=part.samples,
                seconds=sum(part.samples.get("compiled", ())),
                counters=part.counters,
                reason=part.reason,
                environment=environment,
                source=source,
                own_metrics=part.own_metrics,
                params=part.params,
            )
            for (_, case, testing, source, environment), part in self._parts.items()
        )
        run_keys = tuple(run_key for run_key, *_ in self._parts)
        return Imported(records=records, run_keys=run_keys, left_out=tuple(self.left_out))


def parse_status(word: str, *, where: str) -> Status:
    """Read a status; a blank is a pass. Raises `InputProblem` for what is no word.

    A word that is not in our list stays what it is, and is no pass: it is never lost among the passes.
    """
    try:
        return Status(word) if word else Status.PASS
    except ValueError:
        raise InputProblem([f"{where}: its status is {word[:40]!r}, expected a word such as pass"]) from None


_NAME = re.compile(
    r"(?P<suite>[^/ ]+)/(?P<model>.+) (?P<compiler>[^ ]+) (?P<mode>inference|training) "
    r"(?P<dtype>[^ ]+) (?P<device>[^ ]+)"
)
_UNSAFE = "%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"


def name_of_case(case: Case) -> str:
    """Write `suite/model compiler mode dtype device`; what would make that unclear is percent-encoded."""
    model = re.sub(r"^ | $", "%20", quote(case.model, spaces=True))
    suite = quote(case.suite).replace("/", "%2F")
    return f"{suite}/{model} {' '.join(map(quote, (case.compiler, case.mode.value, case.dtype, case.device)))}"


def case_of_name(name: str) -> Case | None:
    """Read the case that `name_of_case` wrote; None for a name that somebody else gave."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parts = {field: unquote(text) for field, text in match.groupdict().items()}
    mode = Mode(parts.pop("mode"))
    return Case(mode=mode, **parts) if all(parts.values()) else None


def quote(text: str, *, spaces: bool = False) -> str:
    """Percent-encode what would end a line or a name, and spaces unless these may stay."""

    def encode(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", errors="surrogatepass"))

    return re.sub(f"[{_UNSAFE}{'' if spaces else ' '}]", encode, text)


def unquote(text: str) -> str:
    """Read what `quote` wrote."""
    return _unquote(text, errors="surrogatepass")


def labels_of(record: Record) -> dict[str, str]:
    """Name what tells a record from the others, as text: the fields of its case, and the testing."""
    case = {name: str(value) for name, value in asdict(record.case).items()}
    return {**case, "testing": record.testing.value}
