"""Messages for Scribe, made of a pytest-benchmark file or of records; sent by `scribe_cat`, or by the Graph API.

A journal on disk remembers what was accepted, so that a repeated upload sends only the rest. Lines are written around
every request: `sending` before it, `accepted` or `refused` after it. What stands as `sending` without an outcome was on
its way when the program ended or the connection broke; nobody can know whether it arrived.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote_plus, urlsplit

import msgspec
import requests
from msgspec import UNSET, UnsetType
from requests.adapters import HTTPAdapter
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.file_systems import is_loopback
from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.statistics import describe_times
from torchperf_ci.core.text import Word, count, nearest, one_line
from torchperf_ci.formats.model import Finite, InputProblem, explain
from torchperf_ci.formats.pytest_benchmark import STATS, Benchmark, BenchmarkFile

CATEGORY = "perfpipe_pytorch_benchmarks"

Message = Mapping[str, Mapping[str, int | float | str]]
Fields = Mapping[str, object]


class ScribeFields(msgspec.Struct, kw_only=True):
    """Every field of a message. A message has a part for each type of value; a new field is one line here."""

    time: int
    """Seconds since 1970, of the upload."""
    rounds: int | UnsetType = UNSET
    benchmark_group: str | UnsetType = UNSET
    benchmark_name: str | UnsetType = UNSET
    benchmark_executor: str | UnsetType = UNSET
    benchmark_fuser: str | UnsetType = UNSET
    benchmark_class: str | UnsetType = UNSET
    benchmark_time: str | UnsetType = UNSET
    pytorch_commit_id: str | UnsetType = UNSET
    pytorch_branch: str | UnsetType = UNSET
    pytorch_commit_time: str | UnsetType = UNSET
    pytorch_version: str | UnsetType = UNSET
    pytorch_git_dirty: str | UnsetType = UNSET
    machine_kernel: str | UnsetType = UNSET
    machine_processor: str | UnsetType = UNSET
    machine_hostname: str | UnsetType = UNSET
    circle_build_num: str | UnsetType = UNSET
    circle_project_reponame: str | UnsetType = UNSET
    stddev: Finite | UnsetType = UNSET
    min: Finite | UnsetType = UNSET
    median: Finite | UnsetType = UNSET
    max: Finite | UnsetType = UNSET
    mean: Finite | UnsetType = UNSET


_PARTS = {int: "int", str: "normal", float: "float"}
_NUMBERS = frozenset({"time", "rounds", *STATS})
_NAMES = ScribeFields.__struct_fields__


def message_of(fields: Fields, *, where: str) -> Message:
    """Make the message of `fields`, every value coerced to its field's type; those that are None are left out.

    Raises `InputProblem` naming unknown fields, and one that is missing or not of its type.
    """
    if unknown := [name for name in fields if name not in _NAMES]:
        raise InputProblem(
            [
                f"{where}: unknown field {name!r}.{nearest(name, _NAMES)} The fields are: {', '.join(_NAMES)}."
                for name in unknown
            ]
        )
    values = {
        name: str(value) if name not in _NUMBERS and isinstance(value, (int, float)) else value
        for name, value in fields.items()
        if value is not None
    }
    try:
        checked = msgspec.convert(values, ScribeFields, strict=False)
    except msgspec.ValidationError as error:
        raise InputProblem([f"{where}: field {explain(error)}"]) from None
    message: dict[str, dict[str, int | float | str]] = {}
    for name, value in msgspec.to_builtins(checked).items():
        message.setdefault(_PARTS[type(value)], {})[name] = value
    return message


def messages_of(fields: Sequence[tuple[str, Fields]]) -> list[tuple[str, Message]]:
    """Make places and messages of places and fields. Raises `InputProblem` with what is wrong in all of them."""
    messages: list[tuple[str, Message]] = []
    problems: list[str] = []
    for where, values in fields:
        try:
            messages.append((where, message_of(values, where=where)))
        except InputProblem as error:
            problems.extend(error.problems)
    if problems:
        raise InputProblem(problems)
    return messages


def upload_fields(environ: Mapping[str, str], *, time: int) -> Fields:
    """Name what all messages of an upload share: its time (UTC, seconds since 1970) and the CI run it is part of.

    The CI run is known by CircleCI's variables, or else by GitHub's.
    """
    return {
        "time": time,
        "circle_build_num": environ.get("CIRCLE_BUILD_NUM") or environ.get("GITHUB_RUN_NUMBER") or None,
        "circle_project_reponame": environ.get("CIRCLE_PROJECT_REPONAME") or environ.get("GITHUB_REPOSITORY") or None,
    }


def fields_of_benchmarks(
    whole: BenchmarkFile, benchmarks: Sequence[Benchmark], upload: Fields
) -> Iterator[tuple[str, Fields]]:
    """Yield the place and the fields of every benchmark in the file. What the file does not say is None."""
    machine, commit = whole.machine_info, whole.commit_info
    for benchmark in benchmarks:
        params = {name: None if value is None else str(value) for name, value in benchmark.params.items()}
        # `test[net_name]` for the benchmarks that have one, as the dashboards of this category expect.
        named = {"executor", "fuser"} if "net_name" in params else set()
        yield (
            benchmark.where,
            {
                **upload,
                "benchmark_group": benchmark.group or None,
                "benchmark_name": benchmark.name_without(named) if named else benchmark.name,
                "benchmark_executor": params.get("executor"),
                "benchmark_fuser": params.get("fuser"),
                "benchmark_class": benchmark.fullname,
                "benchmark_time": whole.datetime or None,
                "pytorch_commit_id": commit.get("id"),
                "pytorch_branch": commit.get("branch"),
                "pytorch_commit_time": commit.get("time"),
                "pytorch_git_dirty": commit.get("dirty"),
                "pytorch_version": machine.get("pytorch_version"),
                "machine_kernel": machine.get("release"),
                "machine_processor": machine.get("processor"),
                "machine_hostname": machine.get("node"),
                **{name: getattr(benchmark.stats, name) for name in STATS},
            },
        )


def fields_of_records(records: Sequence[Record], upload: Fields) -> Iterator[tuple[str, Fields]]:
    """Yield the place and the fields of every performance record that has times; Scribe has no field for a status.

    Times are seconds of one compiled iteration; eager's are those of the compiler named `eager`.
    """
    for record in records:
        case, environment, source = record.case, record.environment, record.source
        rounds, latency = record.samples.get("compiled", ()), record.metrics.get("abs_latency")
        if record.testing is not Testing.PERFORMANCE or not record.status.is_pass or (not rounds and latency is None):
            continue
        stats: dict[str, object] = {"median": (latency or 0.0) / 1000}
        if rounds:
            described = describe_times(rounds)
            stats = {name: described[name] for name in STATS}
        yield (
            one_line(str(case), limit=120),
            {
                **upload,
                "benchmark_group": case.suite,
                "benchmark_name": f"{case.mode}[{case.model}]",
                "benchmark_executor": case.compiler,
                "benchmark_class": str(case),
                "benchmark_time": source.time or None,
                "pytorch_commit_id": source.commit or None,
                "pytorch_branch": source.branch or None,
                "pytorch_version": environment.torch or None,
                "machine_kernel": environment.kernel or None,
                "machine_processor": environment.cpu or None,
                "machine_hostname": environment.host or None,
                "circle_project_reponame": upload["circle_project_reponame"] or source.repository or None,
                **stats,
            },
        )


class DeliveryState(Word):
    """The states of a message on its way."""

    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class _Line(msgspec.Struct):
    v: int
    to: str
    state: DeliveryState
    messages: list[str]


@dataclass(slots=True)
class Journal:
    """A memory of messages, by their id, at one endpoint. Without a file it forgets when the program ends."""

    endpoint: str
    states: dict[str, DeliveryState] = field(default_factory=dict)
    _stream: IO[bytes] | None = field(default=None, repr=False)

    @property
    def advice(self) -> str:
        """Say how an upload that failed is taken up again."""
        if self._stream is None:
            return "With --journal FILE another try would send only the rest"
        return "Run the same command again: it sends only the rest"

    def is_accepted(self, message: str) -> bool:
        return self.states.get(message) is DeliveryState.ACCEPTED

    def count(self, state: DeliveryState, messages: Sequence[str]) -> int:
        """Count those of these messages that are in this state."""
        return sum(self.states.get(message) is state for message in messages)

    def note(self, state: DeliveryState, messages: Sequence[str]) -> None:
        """Write that `messages` are in `state`; it is on the disk when this returns."""
        self.states.update(dict.fromkeys(messages, state))
        if self._stream is not None:
            line = _Line(v=1, to=self.endpoint, state=state, messages=list(messages))
            self._stream.write(msgspec.json.encode(line) + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())


@contextmanager
def open_journal(path: Path | None, *, endpoint: str) -> Iterator[Journal]:
    """Open the journal in the file `path`, which is made if there is none; locked while the block runs.

    Raises `UsageProblem` when it cannot be written, is in use, or is not a journal: then it is not touched.
    """
    if path is None:
        yield Journal(endpoint)
        return
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise UsageProblem(
            f"the journal {path} cannot be written ({error.strerror}); name another file with --journal"
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageProblem(f"another upload is using the journal {path}; wait for it") from error
        stream.seek(0)
        states, complete = _read_states(stream.read(), path, endpoint)
        stream.truncate(complete)  # a line that a crash cut off
        yield Journal(endpoint, states, stream)


def read_journal(path: Path | None, *, endpoint: str) -> Journal:
    """Read the journal without touching it; an empty one when there is no such file."""
    if path is None or not path.exists():
        return Journal(endpoint)
    states, _ = _read_states(path.read_bytes(), path, endpoint)
    return Journal(endpoint, states)


def _read_states(content: bytes, path: Path, endpoint: str) -> tuple[dict[str, DeliveryState], int]:
    """Read the newest state of every message at `endpoint`, and how many bytes are complete lines."""
    complete = content.rfind(b"\n") + 1
    start = content[:40].replace(b" ", b"")  # before, lines were written with spaces
    if not start.startswith(_START[: len(start)]):
        raise UsageProblem(f"{path} is not a journal of uploads; it was not changed. Name another file with --journal")
    states: dict[str, DeliveryState] = {}
    for number, line in enumerate(content[:complete].splitlines(), start=1):
        try:
            entry = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise UsageProblem(f"{path}:{number} is not a line of a journal; it was not changed") from error
        if entry.to == endpoint:
            states.update(dict.fromkeys(entry.messages, entry.state))
    return states, complete


_START = b'{"v":1,"to":'


TOKEN = "SCRIBE_GRAPHQL_ACCESS_TOKEN"
INTERN = "SCRIBE_INTERN"

_LONGEST_WAIT = 60.0
_SCRIBE_CAT = "scribe_cat"
_SCRIBE_CAT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ScribeEntry:
    """A message ready to be sent. `id` is the same whenever the same measurement is uploaded; `where` it comes from."""

    id: str
    where: str
    text: str


class NoAnswer(Refused):
    """The connection broke before there was an answer, so nobody knows whether the messages arrived."""


def entries_of(messages: Sequence[tuple[str, Message]]) -> list[ScribeEntry]:
    """Write messages as JSON. An id leaves out the time of the upload; equal messages are numbered."""
    seen: Counter[str] = Counter()
    entries = []
    for where, message in messages:
        timeless = {
            part: {name: value for name, value in fields.items() if name != "time"} for part, fields in message.items()
        }
        digest = hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest()[:32]
        seen[digest] += 1
        entries.append(ScribeEntry(id=f"{digest}-{seen[digest]}", where=where, text=json.dumps(message)))
    return entries


def send(entries: Sequence[ScribeEntry], transport: Transport, journal: Journal) -> tuple[int, int]:
    """Send what the journal does not say is accepted; return how many messages were accepted, in how many requests.

    Raises `Refused` saying how far it came.
    """
    rest = [entry for entry in entries if not journal.is_accepted(entry.id)]
    batches = transport.batches(rest)
    accepted = 0
    for batch in batches:
        ids = [entry.id for entry in batch]
        journal.note(DeliveryState.SENDING, ids)
        progress = f"{accepted} of {count(len(rest), 'message')} accepted before that"
        try:
            transport.send(batch)
        except NoAnswer as error:
            raise Refused(f"{error}. {progress}; {len(ids)} more may have arrived. {journal.advice}") from error
        except Refused as error:
            journal.note(DeliveryState.REFUSED, ids)
            raise Refused(f"{error}. {progress}. {journal.advice}") from error
        journal.note(DeliveryState.ACCEPTED, ids)
        accepted += len(ids)
    return accepted, len(batches)


class ShortRetry(Retry):
    """Retries that let no server make us wait for ever."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, _LONGEST_WAIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphApi:
    """The Graph API at `url`. timeout_s: to wait for the server; batch_bytes: largest body of a request."""

    token: str = field(repr=False)
    url: str
    batch_bytes: int
    timeout_s: float
    retries: int

    @property
    def endpoint(self) -> str:
        return endpoint_of({}, self.url)

    def batches(self, entries: Sequence[ScribeEntry]) -> list[list[ScribeEntry]]:
        """Make batches in order, each as full as the limit allows."""
        room = self.batch_bytes - len(f"access_token={quote_plus(self.token)}&logs={quote_plus('[]')}")
        batches: list[list[ScribeEntry]] = []
        wrong, left = [], 0
        for entry in entries:
            size = len(quote_plus(json.dumps(_log(entry)) + ", "))
            if size > room:
                wrong.append(f"{entry.where}: larger than a request may be; raise --batch-bytes")
            if size > left:
                batches.append([])
                left = room
            batches[-1].append(entry)
            left -= size
        if wrong:
            raise InputProblem(wrong)
        return batches

    def send(self, entries: Sequence[ScribeEntry]) -> None:
        body = {"access_token": self.token, "logs": json.dumps([_log(entry) for entry in entries])}
        retry = ShortRetry(
            total=self.retries,
            backoff_factor=0.5,
            status_forcelist={429, *range(500, 600)},
            allowed_methods={"POST"},
            raise_on_status=False,
        )
        with requests.Session() as session:
            session.mount(f"{urlsplit(self.url).scheme}://", HTTPAdapter(max_retries=retry))
            try:
                # Redirects are not followed: they would take the token to a place nobody named.
                answer = session.post(self.url, data=body, timeout=self.timeout_s, allow_redirects=False)
            except requests.RequestException as error:
                cause = error.args[0] if error.args else error
                reason = str(getattr(cause, "reason", None) or cause)  # without the URL that requests puts around it
                raise NoAnswer(f"{self.endpoint} gave no answer: {self._clean(reason)}") from None
        text = self._clean(answer.text)
        if answer.status_code in {401, 403}:
            raise Refused(f"{self.endpoint} refused the token in {TOKEN} (HTTP {answer.status_code}): {text}")
        if not 200 <= answer.status_code < 300:
            raise Refused(f"{self.endpoint} answered HTTP {answer.status_code}: {text}")
        try:
            reply = answer.json()
        except ValueError:
            return
        if isinstance(reply, dict) and "error" in reply:
            raise Refused(f"{self.endpoint} answered with an error: {text}")

    def _clean(self, text: str) -> str:
        """Prepare text from the other side for a message: on one line, and never with the token."""
        for secret in {self.token, quote_plus(self.token)}:
            text = text.replace(secret, "***")
        return one_line(text, limit=300)


def _log(entry: ScribeEntry) -> dict[str, object]:
    return {"category": CATEGORY, "message": entry.text, "line_escape": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScribeCat:
    """The program `scribe_cat`, once per message."""

    program: str

    @property
    def endpoint(self) -> str:
        return _SCRIBE_CAT

    def batches(self, entries: Sequence[ScribeEntry]) -> list[list[ScribeEntry]]:
        return [[entry] for entry in entries]

    def send(self, entries: Sequence[ScribeEntry]) -> None:
        for entry in entries:
            command = [self.program, CATEGORY, entry.text]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=_SCRIBE_CAT_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                raise NoAnswer(f"{self.program} did not end within {_SCRIBE_CAT_SECONDS} s") from None
            except OSError as error:
                raise Refused(f"{self.program} could not be started: {error.strerror}") from error
            if done.returncode:
                raise Refused(f"{self.program} ended with {done.returncode}: {one_line(done.stderr, limit=300)}")


Transport = GraphApi | ScribeCat
"""A way to Scribe. endpoint: where it leads to, for people and for the journal, without a secret. batches: split into
what is sent in one go; raises `InputProblem` when a message is too large to be sent at all. send: return when all are
accepted; raises `Refused` when they are not, `NoAnswer` when that cannot be known."""


def endpoint_of(environ: Mapping[str, str], url: str) -> str:
    """Name where messages go, without what a URL may hold of secrets. Raises `UsageProblem` when `url` is not safe.

    Safe is https, or plain http that does not leave this machine.
    """
    if environ.get(INTERN):
        return _SCRIBE_CAT
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
        is_local = parts.scheme == "http" and is_loopback(host)
        if is_local or (parts.scheme == "https" and host):
            return f"{parts.scheme}://{host}{port}{parts.path}"
    except ValueError:  # no URL, or no port
        pass
    raise UsageProblem(f"{url} is not an https URL; a token is not sent in the clear: give one with --api-url")


def transport_from(
    environ: Mapping[str, str], *, url: str, batch_bytes: int, timeout_s: float, retries: int
) -> Transport:
    """Choose the way to Scribe that the environment asks for. Raises `UsageProblem` when there is none that is safe."""
    if environ.get(INTERN):
        if not (program := shutil.which(_SCRIBE_CAT, path=environ.get("PATH"))):
            raise UsageProblem(f"{INTERN} is set, but there is no program {_SCRIBE_CAT}; unset it to use the Graph API")
        return ScribeCat(program=program)
    endpoint = endpoint_of(environ, url)
    if not (token := environ.get(TOKEN)):
        raise UsageProblem(f"the token for {endpoint} is missing; set it in the environment variable {TOKEN}")
    return GraphApi(token=token, url=url, batch_bytes=batch_bytes, timeout_s=timeout_s, retries=retries)
