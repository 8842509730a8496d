"""Send messages to Scribe: by `scribe_cat` inside Meta, else by the Graph API."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_plus, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.text import count, one_line
from torchperf_ci.formats.inputs import InputProblem
from torchperf_ci.pytorch.journal import DeliveryState, Journal
from torchperf_ci.pytorch.scribe_messages import CATEGORY, Message

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


class Transport(Protocol):
    """A way to Scribe."""

    @property
    def endpoint(self) -> str:
        """Name where it leads to, for people and for the journal, without a secret."""

    def batches(self, entries: Sequence[ScribeEntry]) -> list[list[ScribeEntry]]:
        """Split into what is sent in one go. Raises `InputProblem` when a message is too large to be sent at all."""

    def send(self, entries: Sequence[ScribeEntry]) -> None:
        """Return when all are accepted. Raises `Refused` when they are not, `NoAnswer` when that cannot be known."""


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


def endpoint_of(environ: Mapping[str, str], url: str) -> str:
    """Name where messages go, without what a URL may hold of secrets. Raises `UsageProblem` when `url` is not safe.

    Safe is https, or plain http that does not leave this machine.
    """
    if environ.get(INTERN):
        return _SCRIBE_CAT
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
        is_local = parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
        if is_local or (parts.scheme == "https" and host):
            return f"{parts.scheme}://{host}{port}{parts.path}"
    except ValueError:  # no URL, no port, or a host that is a name
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
