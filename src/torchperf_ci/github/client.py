"""The one way to GitHub: token, retries, pacing, and refusals that say what is missing.

The modules beside it are the verbs. They use PyGithub's objects, all of which send through `PatientRequester`, and give
back types of our own. A client may be used by several threads.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from github.Auth import Token
from github.GithubException import GithubException
from github.GithubObject import CompletableGithubObject
from github.Repository import Repository
from github.Requester import Requester

from torchperf_ci import __version__
from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.file_systems import is_loopback
from torchperf_ci.core.text import one_line

API_URL = "https://api.github.com"
PER_PAGE = 100
TIMEOUT_S = 30
PATIENCE_S = 900.0
USER_AGENT = f"torchperf-ci/{__version__}"

MAX_TRIES = 6
"""Tries of a request that meets server errors or broken connections; rate limits are waited for by time, not count."""

FIRST_WAIT_S = 1.0
SECONDARY_WAIT_S = 60.0
BETWEEN_WRITES_S = 1.0

_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
Lazy = TypeVar("Lazy", bound=CompletableGithubObject)


class GitHubRefused(Refused):
    """GitHub, or the way to it, said no. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class GitHubNotFound(GitHubRefused):
    """GitHub has no such thing, or shows it to somebody else only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where GitHub is and who asks. patience_s: how long one request may wait for rate limits, all waits together.

    Raises `UsageProblem` when the token would go over an open line.
    """

    api_url: str = API_URL
    token: str = field(default="", repr=False)
    patience_s: float = PATIENCE_S

    def __post_init__(self) -> None:
        parts = urlsplit(self.api_url)
        if parts.scheme not in {"https", "http"} or not parts.hostname:
            raise UsageProblem(f"--api-url is {self.api_url!r}, expected something like {API_URL}")
        if parts.scheme == "http" and self.token and not is_loopback(parts.hostname):
            raise UsageProblem(f"--api-url {self.api_url} would send the token unencrypted; use https")


def read_token(environ: Mapping[str, str], token_file: Path | None = None) -> str:
    """Return the token of --token-file, else of GITHUB_TOKEN or GH_TOKEN, else nothing. Raises `UsageProblem`."""
    if token_file is None:
        token = environ.get("GITHUB_TOKEN", "").strip() or environ.get("GH_TOKEN", "").strip()
        source = "the token in GITHUB_TOKEN or GH_TOKEN"
    else:
        source = f"the token in {token_file}"
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageProblem(f"--token-file {token_file} cannot be read") from error
        if not token:
            raise UsageProblem(f"--token-file {token_file} is empty")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageProblem(f"{source} holds spaces, line ends or other characters that no token has")
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """An answer: the status (0: none, the connection failed), headers by lower-case name, and the text."""

    status: int
    headers: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    error: str = ""

    @property
    def is_rate_limit(self) -> bool:
        """Say whether GitHub refused because of too many requests: with 429, or with 403 and one of three signs."""
        return self.status == 429 or (
            self.status == 403
            and (
                "retry-after" in self.headers
                or self.headers.get("x-ratelimit-remaining") == "0"
                or "rate limit" in self.text.lower()
            )
        )

    @property
    def is_passing_fault(self) -> bool:
        """Say whether it is a fault of the server or the connection that is likely to pass."""
        return self.status == 0 or self.status >= 500 or self.status == 408


def compute_wait(reply: HttpReply, *, tries: int, now: float, jitter: float) -> float | None:
    """Return the seconds to wait after the try number `tries` (from 1); None when another one is of no use.

    A rate limit: `retry-after`, else until `x-ratelimit-reset`, else 60 s, doubled every time. A passing fault: 1 s,
    doubled every time, at most `MAX_TRIES` tries. `now` is the time in seconds since 1970, `jitter` from 0 to 1
    lengthens the wait by up to a half, so that several waiting programs do not come back together.
    """
    growing = 2.0 ** (tries - 1) * (1 + jitter / 2)
    retry_after = _parse_retry_after(reply.headers.get("retry-after", ""), now)
    if reply.is_rate_limit:
        reset = reply.headers.get("x-ratelimit-reset", "")
        if retry_after is not None:
            return retry_after + jitter
        if reply.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
            return max(0.0, int(reset) - now) + 1.0 + jitter  # it is not said when in that second
        return SECONDARY_WAIT_S * growing
    if reply.is_passing_fault and tries < MAX_TRIES:
        return max(retry_after or 0.0, FIRST_WAIT_S * growing)
    return None


def _parse_retry_after(header: str, now: float) -> float | None:
    """Return the wait that the header names, as seconds or as a date."""
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (TypeError, ValueError):
        return None


@dataclass(slots=True)
class Pace:
    """The pace of requests, shared by all threads of a client: a second between writes, and nobody
    sends before a rate limit that one of them met has passed."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _resume_at: float = 0.0
    _next_write: float = 0.0

    def take_turn(self, *, writes: bool, urgent: bool = False) -> None:
        """Return when the next request may go out. An urgent write goes at once; later ones wait the longer for it."""
        with self._lock:
            now = self.clock()
            at = max(now, self._resume_at, self._next_write if writes and not urgent else 0.0)
            if writes:
                self._next_write = max(at, self._next_write) + BETWEEN_WRITES_S
        if at > now:
            self.sleep(at - now)

    def hold_all(self, seconds: float) -> None:
        """Let nobody send for `seconds`."""
        with self._lock:
            self._resume_at = max(self._resume_at, self.clock() + seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """The purpose of requests. `what` completes "GitHub refused to …"; `needs` is the permission that the token needs.

    repeatable: sending it twice does no harm, so that it is sent again when nobody knows whether it arrived.
    urgent: it belongs to a sequence that others race with, and does not wait its turn among writes.
    redirected: the answer is to be a redirect, which is not followed.
    """

    what: str
    needs: str
    repeatable: bool = False
    urgent: bool = False
    redirected: bool = False


class PatientRequester(Requester):
    """The connection of one thread, through which all of PyGithub's objects send.

    PyGithub's own `GithubRetry` would lose what is promised here. It sends a POST again that may have worked, or, told
    not to, gives up one that a rate limit has refused; it does not see a body that breaks off, or a 429 without
    `Retry-After`; it counts waits for a limit as tries; and it sleeps in silence, every thread by itself.
    """

    def __init__(self, access: Access, pace: Pace, say: Callable[[str], None]) -> None:
        super().__init__(
            auth=Token(access.token) if access.token else None,
            base_url=access.api_url.rstrip("/"),
            timeout=TIMEOUT_S,
            user_agent=USER_AGENT,
            per_page=PER_PAGE,
            verify=True,
            retry=None,
            pool_size=None,
            seconds_between_requests=None,
            seconds_between_writes=None,
        )
        self.access = access
        self.pace = pace
        self.say = say
        self.purpose = Purpose(what="answer", needs="")

    def requestJson(  # noqa: N802 - PyGithub's name
        self,
        verb: str,
        url: str,
        parameters: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        input: Any | None = None,  # noqa: A002, ANN401 - PyGithub's
        cnx: Any | None = None,  # noqa: ANN401 - a type that PyGithub keeps to itself
        follow_302_redirect: bool = False,  # noqa: ARG002, FBT001, FBT002 - a file is not to come from elsewhere
    ) -> tuple[int, dict[str, Any], str]:
        """Send one request until it is answered, and return status, headers and text. Raises `GitHubRefused`."""
        purpose, writes = self.purpose, verb != "GET"
        waited, tries = 0.0, 0
        while True:
            self.pace.take_turn(writes=writes, urgent=purpose.urgent)
            tries += 1
            try:
                answer = super().requestJson(verb, url, parameters, {**_HEADERS, **(headers or {})}, input, cnx)
                reply = HttpReply(status=answer[0], headers=answer[1], text=answer[2])
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                reply = HttpReply(status=0, error=_describe_network_error(error))
            except (requests.RequestException, RuntimeError) as error:  # RuntimeError: a redirect to another host
                raise GitHubRefused(f"cannot {purpose.what} at {self.access.api_url}: {error}", status=0) from error
            if 200 <= reply.status < 400:
                self._refuse_strange_reply(reply)
                return reply.status, dict(reply.headers), reply.text
            may_have_arrived = reply.is_passing_fault and writes and not purpose.repeatable
            wait = compute_wait(reply, tries=tries, now=self.pace.clock(), jitter=self.pace.jitter())
            if wait is None or may_have_arrived:
                refused = GitHubNotFound if reply.status == 404 else GitHubRefused
                raise refused(self._explain_refusal(reply), status=reply.status)
            waited += wait
            if waited > self.access.patience_s:
                raise GitHubRefused(self._explain_patience(reply, wait), status=reply.status)
            if reply.is_rate_limit:
                self.say(f"GitHub's rate limit: waiting {wait:.0f} s to {purpose.what}")
                self.pace.hold_all(wait)
            else:
                self.pace.sleep(wait)

    def _refuse_strange_reply(self, reply: HttpReply) -> None:
        """Raise `GitHubRefused` for what PyGithub would take for an empty success: a redirect (what is written to an
        old name of a repository is written nowhere), or a page that is no JSON."""
        what = self.purpose.what
        if self.purpose.redirected:
            if reply.status != 302 or urlsplit(reply.headers.get("location", "")).scheme not in {"https", "http"}:
                raise GitHubRefused(
                    f"GitHub's answer to {what} is no redirect (status {reply.status})", status=reply.status
                )
        elif reply.status >= 300:
            raise GitHubRefused(
                f"cannot {what}: it has moved, maybe because the repository was renamed; use its new name",
                status=reply.status,
            )
        elif reply.text.lstrip()[:1] not in {"", "{", "["}:
            raise GitHubRefused(
                f"GitHub's answer to {what} is not JSON; is --api-url right? (status {reply.status})",
                status=reply.status,
            )

    def _explain_refusal(self, reply: HttpReply) -> str:
        said = _read_reason(reply.text)
        needs = one_line(reply.headers.get("x-accepted-github-permissions", "").replace("=", ": "), limit=100)
        permission = f"the token needs the permission '{needs or self.purpose.needs}'"
        start = f"GitHub refused to {self.purpose.what}"
        match reply.status:
            case 0:
                return f"cannot {self.purpose.what}: {reply.error}"
            case 401 if not self.access.token:
                return f"{start} without a token; set GITHUB_TOKEN or GH_TOKEN, or use --token-file; {permission}"
            case 401:
                return f"{start}: the token is wrong or has expired ({said})"
            case 403:
                return f"{start}: {said}; {permission}"
            case 404:
                return f"{start}: there is no such thing, or {permission} for it ({said})"
            case status if status >= 500:
                return f"cannot {self.purpose.what}: GitHub answers {status} ({said}); try again later"
            case status:
                return f"{start}: {said} (status {status})"

    def _explain_patience(self, reply: HttpReply, wait: float) -> str:
        until = datetime.fromtimestamp(self.pace.clock() + wait, tz=timezone.utc)
        what = self.purpose.what
        cause = f"GitHub's rate limit does not let us {what}" if reply.is_rate_limit else f"cannot {what}"
        return (
            f"{cause} before {until:%Y-%m-%d %H:%M} UTC, longer than --patience {self.access.patience_s:.0f} s allows; "
            "repeat the command then, or raise --patience"
        )


def _read_reason(text: str) -> str:
    """Read from the body of a refusal, in one line, why GitHub refuses."""
    try:
        body = json.loads(text)
    except ValueError:
        return one_line(text, limit=100) or "no reason given"
    if not isinstance(body, dict):
        return "no reason given"
    errors = body.get("errors")
    parts = [body.get("message"), *(errors if isinstance(errors, list) else [])]
    words = [str(part.get("message") or part) if isinstance(part, dict) else str(part) for part in parts if part]
    return one_line(": ".join(words), limit=300) or "no reason given"


def _describe_network_error(error: Exception) -> str:
    """Describe a connection error without its address, which may be a signed one."""
    words = {
        requests.exceptions.SSLError: "the TLS certificate is not accepted",
        requests.exceptions.ProxyError: "the proxy cannot be reached",
        requests.Timeout: f"no answer within {TIMEOUT_S} s",
    }
    return next((text for kind, text in words.items() if isinstance(error, kind)), "the connection failed")


class Client:
    """GitHub's API. `say` gets a line whenever a rate limit is waited for.

    What the verbs ask, they ask inside of `asking`, which raises `GitHubRefused` with the missing permission, or when
    patience has run out.
    """

    def __init__(
        self, access: Access, *, pace: Pace | None = None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.access = access
        self.pace = pace or Pace()
        self.say = say
        self._local = threading.local()
        self._opened: list[PatientRequester] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._opened:
            opened.close()

    @property
    def requester(self) -> PatientRequester:
        """Return PyGithub's connection of this thread: one connection must not serve two threads at once."""
        if not hasattr(self._local, "requester"):
            self._local.requester = PatientRequester(self.access, self.pace, self.say)
            self._opened.append(self._local.requester)
        requester: PatientRequester = self._local.requester
        return requester

    @contextmanager
    def asking(self, what: str, **settings: Any) -> Iterator[None]:  # noqa: ANN401 - the fields of `Purpose`
        """Name what is asked of GitHub in the block; `settings` are the other fields of `Purpose`.

        Raises `GitHubRefused`, also when an answer is not what GitHub documents.
        """
        requester = self.requester
        before, requester.purpose = requester.purpose, Purpose(what=what, **settings)
        try:
            yield
        except (GithubException, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise GitHubRefused(
                f"GitHub's answer to {what} is not what GitHub documents ({one_line(str(error), limit=100)}); is "
                "--api-url right?",
                status=200,
            ) from error
        finally:
            requester.purpose = before

    def lazy(self, kind: type[Lazy], path: str, **attributes: object) -> Lazy:
        """Return PyGithub's object of what is at `path`, without a request: one goes out for its unknown attributes."""
        return kind(self.requester, {}, {"url": path, **attributes}, completed=False)

    def repository(self, name: str) -> Repository:
        """Return the repository owner/name, without a request."""
        return self.lazy(Repository, f"/repos/{name}")

    def location(self, path: str) -> str:
        """Return where GitHub redirects to, inside of `asking` something redirected. The address is signed: it is the
        whole secret, and must get no token."""
        _, headers, _ = self.requester.requestJson("GET", path)
        return str(headers["location"])
