"""Sends messages to Scribe: by `scribe_cat` inside Meta, else by the Graph API."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_plus, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.text import one_line
from torchperf_ci.formats.inputs import InputProblem
from torchperf_ci.pytorch.journal import Journal, State
from torchperf_ci.pytorch.scribe_schema import API_URL, BATCH_BYTES, CATEGORY, Message

TOKEN = "SCRIBE_GRAPHQL_ACCESS_TOKEN"
INTERN = "SCRIBE_INTERN"

_LONGEST_WAIT = 60.0
_RETRIED = frozenset({429, *range(500, 600)})
_SCRIBE_CAT = "scribe_cat"
_SCRIBE_CAT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message ready to be sent. `id` is the same whenever the same measurement is uploaded; `where` it comes from."""

    id: str
    where: str
    text: str


class Unknown(Refused):
    """The connection broke before there was an answer."""


class Transport(Protocol):
    """A way to Scribe."""

    @property
    def endpoint(self) -> str:
        """Where it leads to, for people and for the journal. Holds no secret."""

    def batches(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """What to send in one go. Raises `InputProblem` when a message is too large to be sent at all."""

    def send(self, entries: Sequence[Entry]) -> None:
        """Returns when all are accepted. Raises `Refused` when they are not, `Unknown` when that cannot be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What an upload did: messages accepted now and before, and in how many requests."""

    accepted: int
    before: int
    batches: int


def entries_of(messages: Sequence[tuple[str, Message]]) -> list[Entry]:
    """Messages with their places, as JSON. An id leaves out the time of the upload; equal messages are numbered."""
    seen: Counter[str] = Counter()
    entries = []
    for where, message in messages:
        timeless = {
            part: {name: value for name, value in fields.items() if name != "time"} for part, fields in message.items()
        }
        digest = hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest()[:32]
        seen[digest] += 1
        entries.append(Entry(id=f"{digest}-{seen[digest]}", where=where, text=json.dumps(message)))
    return entries


def send(entries: Sequence[Entry], transport: Transport, journal: Journal) -> Sent:
    """Send what the journal does not say is accepted. Raises `Refused` saying how far it came."""
    rest = [entry for entry in entries if not journal.is_accepted(entry.id)]
    batches = transport.batches(rest)
    done = 0
    for batch in batches:
        ids = [entry.id for entry in batch]
        journal.note(State.SENDING, ids)
        try:
            transport.send(batch)
        except Unknown as error:
            raise Refused(
                f"{error}. {_progress(done, len(rest))}; whether the next {len(ids)} arrived is not known"
            ) from error
        except Refused as error:
            journal.note(State.REFUSED, ids)
            raise Refused(f"{error}. {_progress(done, len(rest))}") from error
        journal.note(State.ACCEPTED, ids)
        done += len(ids)
    return Sent(accepted=done, before=len(entries) - len(rest), batches=len(batches))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphApi:
    """The Graph API at `url`. timeout: seconds to wait for the server; batch_bytes: largest body of a request."""

    token: str = field(repr=False)
    url: str = API_URL
    batch_bytes: int = BATCH_BYTES
    timeout: float = 30.0
    retries: int = 5
    backoff: float = 0.5

    @property
    def endpoint(self) -> str:
        return endpoint_of({}, self.url)

    def batches(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """Batches in order, each as full as the limit allows."""
        room = self.batch_bytes - len(f"access_token={quote_plus(self.token)}&logs={quote_plus('[]')}")
        sizes = [len(quote_plus(json.dumps(_log(entry)) + ", ")) for entry in entries]
        wrong = [entry.where for entry, size in zip(entries, sizes, strict=True) if size > room]
        if wrong:
            raise InputProblem([f"{where}: larger than a request may be; raise --batch-bytes" for where in wrong])
        return list(_packed(entries, sizes, room))

    def send(self, entries: Sequence[Entry]) -> None:
        body = {"access_token": self.token, "logs": json.dumps([_log(entry) for entry in entries])}
        with requests.Session() as session:
            session.mount(f"{urlsplit(self.url).scheme}://", HTTPAdapter(max_retries=self._patience()))
            try:
                # Redirects are not followed: they would take the token to a place nobody named.
                answer = session.post(self.url, data=body, timeout=self.timeout, allow_redirects=False)
            except requests.RequestException as error:
                raise Unknown(f"{self.endpoint} gave no answer: {self._clean(_reason(error))}") from None
        self._judge(answer)

    def _patience(self) -> Retry:
        return _Patience(
            total=self.retries,
            backoff_factor=self.backoff,
            status_forcelist=_RETRIED,
            allowed_methods={"POST"},
            raise_on_status=False,
        )

    def _judge(self, answer: requests.Response) -> None:
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
        """Text from the other side for a message: on one line, and never with the token."""
        for secret in {self.token, quote_plus(self.token)}:
            text = text.replace(secret, "***")
        return one_line(text, limit=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScribeCat:
    """The program `scribe_cat`, once per message."""

    program: str

    @property
    def endpoint(self) -> str:
        return _SCRIBE_CAT

    def batches(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        return [[entry] for entry in entries]

    def send(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._send(entry)

    def _send(self, entry: Entry) -> None:
        command = [self.program, CATEGORY, entry.text]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_SCRIBE_CAT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unknown(f"{self.program} did not end within {_SCRIBE_CAT_SECONDS} s") from None
        except OSError as error:
            raise Refused(f"{self.program} could not be started: {error.strerror}") from error
        if done.returncode:
            raise Refused(f"{self.program} ended with {done.returncode}: {one_line(done.stderr, limit=300)}")


def endpoint_of(environ: Mapping[str, str], url: str) -> str:
    """Where messages go, without what a URL may hold of secrets. Raises `UsageProblem` when `url` is none."""
    if environ.get(INTERN):
        return _SCRIBE_CAT
    if not _is_safe(url):
        raise UsageProblem(f"{url} is not an https URL; a token is not sent in the clear")
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def transport_from(
    environ: Mapping[str, str],
    *,
    url: str = API_URL,
    batch_bytes: int = BATCH_BYTES,
    timeout: float = 30.0,
    retries: int = 5,
) -> Transport:
    """The way to Scribe that the environment asks for. Raises `UsageProblem` when there is none that is safe."""
    if environ.get(INTERN):
        if not (program := shutil.which(_SCRIBE_CAT, path=environ.get("PATH"))):
            raise UsageProblem(f"{INTERN} is set, but there is no program {_SCRIBE_CAT}; unset it to use the Graph API")
        return ScribeCat(program=program)
    endpoint = endpoint_of(environ, url)
    if not (token := environ.get(TOKEN)):
        raise UsageProblem(f"the token for {endpoint} is missing; set it in the environment variable {TOKEN}")
    return GraphApi(token=token, url=url, batch_bytes=batch_bytes, timeout=timeout, retries=retries)


class _Patience(Retry):
    """Retries that let no server make us wait for ever."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, _LONGEST_WAIT)


def _is_safe(url: str) -> bool:
    """https, or plain http that does not leave this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        if parts.scheme == "http":
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # no URL, no port, or a host that is a name
        return False
    return parts.scheme == "https" and bool(host)


def _log(entry: Entry) -> dict[str, object]:
    return {"category": CATEGORY, "message": entry.text, "line_escape": False}


def _packed(entries: Sequence[Entry], sizes: Sequence[int], room: int) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    used = 0
    for entry, size in zip(entries, sizes, strict=True):
        if batch and used + size > room:
            yield batch
            batch, used = [], 0
        batch.append(entry)
        used += size
    if batch:
        yield batch


def _reason(error: requests.RequestException) -> str:
    """What broke, without the URL that requests puts around it."""
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", None) or cause)


def _progress(done: int, total: int) -> str:
    return f"{done} of {total} messages were accepted before that"
