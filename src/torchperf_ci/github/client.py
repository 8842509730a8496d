"""The one way to GitHub's REST API: token, retries, pacing, pages, and refusals that say what is missing.

`Client` knows nothing of runs, comments or branches; the modules beside it are the verbs, each a function that takes a
client and gives back our own types. A client may be used by several threads.
"""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import github
import requests
from requests.utils import parse_header_links

from torchperf_ci import __version__
from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.text import one_line
from torchperf_ci.github.patience import Answer, Pace, wait_before_next_try

API_URL = "https://api.github.com"
PER_PAGE = 100
MAX_PAGES = 1_000
TIMEOUT_S = 30
PATIENCE_S = 900.0

USER_AGENT = f"torchperf-ci/{__version__}"


class GitHubRefused(Refused):
    """GitHub, or the way to it, said no. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


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
        if parts.scheme == "http" and self.token and not _is_loopback(parts.hostname):
            raise UsageProblem(f"--api-url {self.api_url} would send the token unencrypted; use https")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `what` completes "GitHub refused to …"; `needs` is the token's permission that it takes.

    repeatable: sending it twice does no harm, so that it is sent again when nobody knows whether it arrived.
    urgent: it belongs to a sequence that others race with, and does not wait its turn among writes.
    """

    path: str
    what: str
    needs: str
    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"] = "GET"
    parameters: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    repeatable: bool = False
    urgent: bool = False

    @property
    def writes(self) -> bool:
        return self.method != "GET"


def token_from(environ: Mapping[str, str], token_file: Path | None = None) -> str:
    """The token of --token-file, else of GITHUB_TOKEN or GH_TOKEN, else nothing. Raises `UsageProblem`."""
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
    if not (token.isascii() and (token.isprintable() and " " not in token)):
        raise UsageProblem(f"{source} holds spaces, line ends or other characters that no token has")
    return token


class Client:
    """GitHub's REST API. `say` gets a line whenever a rate limit is waited for.

    Every method raises `GitHubRefused` with the missing permission, or when patience has run out.
    """

    def __init__(
        self, access: Access, *, pace: Pace | None = None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.access = access
        self.pace = pace or Pace()
        self.say = say
        self._local = threading.local()
        self._opened: list[github.Github] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._opened:
            opened.close()

    def one(self, request: Request) -> dict[str, Any]:
        """The object that GitHub answers with; empty for an answer without content."""
        answer = self._here(request)
        found = _parsed(answer, request) if answer.text.strip() else {}
        if not isinstance(found, dict):
            raise _refused(f"to {request.what} is not an object", answer)
        return found

    def every(self, request: Request, *, key: str = "") -> Iterator[dict[str, Any]]:
        """The objects of a list over all its pages; `key` is where an answer has its list, if not at the top."""
        parameters = {"per_page": PER_PAGE, **request.parameters}
        path: str = request.path
        for _ in range(MAX_PAGES):
            page = Request(path=path, what=request.what, needs=request.needs, parameters=parameters)
            answer = self._here(page)
            yield from _items(_parsed(answer, request), key, request, answer)
            following = _next_page(answer.headers)
            if not following:
                return
            path, parameters = following, {}
        raise GitHubRefused(f"GitHub has more than {MAX_PAGES} pages to {request.what}", status=0)

    def location(self, request: Request) -> str:
        """Where GitHub redirects to. The address is signed: it is the whole secret, and must get no token."""
        answer = self._answer(request)
        where = answer.headers.get("location", "")
        if answer.status != 302 or urlsplit(where).scheme not in {"https", "http"}:
            raise _refused(f"to {request.what} is no redirect", answer)
        return where

    def _here(self, request: Request) -> Answer:
        """An answer that sends nobody elsewhere: what is written to an old name of a repository is written nowhere."""
        answer = self._answer(request)
        if answer.status >= 300:
            raise GitHubRefused(
                f"cannot {request.what}: it has moved, maybe because the repository was renamed; use its new name",
                status=answer.status,
            )
        return answer

    def _answer(self, request: Request) -> Answer:
        waited, tries = 0.0, 0
        while True:
            self.pace.take_turn(writes=request.writes, urgent=request.urgent)
            answer, tries = self._try(request), tries + 1
            if 200 <= answer.status < 400:
                return answer
            wait = self._next_wait(request, answer, tries)
            if wait is None:
                raise GitHubRefused(_why(request, answer, has_token=bool(self.access.token)), status=answer.status)
            if waited + wait > self.access.patience_s:
                raise GitHubRefused(_out_of_patience(request, answer, wait, self), status=answer.status)
            waited += wait
            self._wait(request, answer, wait)

    def _next_wait(self, request: Request, answer: Answer, tries: int) -> float | None:
        may_have_arrived = answer.is_passing_fault and request.writes and not request.repeatable
        if may_have_arrived:
            return None
        return wait_before_next_try(answer, tries=tries, now=self.pace.clock(), jitter=self.pace.jitter())

    def _wait(self, request: Request, answer: Answer, wait: float) -> None:
        if answer.is_rate_limit:
            self.say(f"GitHub's rate limit: waiting {wait:.0f} s to {request.what}")
            self.pace.hold_all(wait)
        else:
            self.pace.sleep(wait)

    def _try(self, request: Request) -> Answer:
        try:
            status, headers, text = self._github().requester.requestJson(
                request.method,
                request.path,
                parameters=dict(request.parameters),
                headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
                input=dict(request.body) if request.body is not None else None,
            )
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            return Answer(status=0, error=_network_words(error))
        except (requests.RequestException, RuntimeError) as error:  # RuntimeError: a redirect to another host
            raise GitHubRefused(f"cannot {request.what} at {self.access.api_url}: {error}", status=0) from error
        return Answer(status=status, headers=headers, text=text)

    def _github(self) -> github.Github:
        """PyGithub's connection of this thread: one connection must not serve two threads at once."""
        if not hasattr(self._local, "github"):
            self._local.github = github.Github(
                auth=github.Auth.Token(self.access.token) if self.access.token else None,
                base_url=self.access.api_url.rstrip("/"),
                user_agent=USER_AGENT,
                timeout=TIMEOUT_S,
                retry=None,
                seconds_between_requests=None,
                seconds_between_writes=None,
            )
            self._opened.append(self._local.github)
        found: github.Github = self._local.github
        return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parsed(answer: Answer, request: Request) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(answer.text)
    except ValueError as error:
        raise _refused(f"to {request.what} is not JSON; is --api-url right?", answer) from error


def _items(found: Any, key: str, request: Request, answer: Answer) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON
    items = found.get(key) if key and isinstance(found, dict) else found
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _refused(f"to {request.what} is not a list", answer)
    return items


def _next_page(headers: Mapping[str, str]) -> str:
    links = parse_header_links(headers.get("link", "")) if headers.get("link") else []
    return next((link["url"] for link in links if link.get("rel") == "next"), "")


def _refused(what: str, answer: Answer) -> GitHubRefused:
    return GitHubRefused(f"GitHub's answer {what} (status {answer.status})", status=answer.status)


def _why(request: Request, answer: Answer, *, has_token: bool) -> str:
    said = _message(answer)
    needs = one_line(answer.headers.get("x-accepted-github-permissions", "").replace("=", ": "), limit=100)
    permission = f"the token needs the permission '{needs or request.needs}'"
    start = f"GitHub refused to {request.what}"
    match answer.status:
        case 0:
            return f"cannot {request.what}: {answer.error}"
        case 401 if not has_token:
            return f"{start} without a token; set GITHUB_TOKEN or GH_TOKEN, or use --token-file; {permission}"
        case 401:
            return f"{start}: the token is wrong or has expired ({said})"
        case 403:
            return f"{start}: {said}; {permission}"
        case 404:
            return f"{start}: there is no such thing, or {permission} for it ({said})"
        case status if status >= 500:
            return f"cannot {request.what}: GitHub answers {status} ({said}); try again later"
        case status:
            return f"{start}: {said} (status {status})"


def _message(answer: Answer) -> str:
    """What GitHub says about a refusal, in one line."""
    try:
        found = json.loads(answer.text)
    except ValueError:
        return one_line(answer.text, limit=100) or "no reason given"
    if not isinstance(found, dict):
        return "no reason given"
    errors = found.get("errors")
    parts = [found.get("message"), *(errors if isinstance(errors, list) else [])]
    words = [str(part.get("message") or part) if isinstance(part, dict) else str(part) for part in parts if part]
    return one_line(": ".join(words), limit=300) or "no reason given"


def _out_of_patience(request: Request, answer: Answer, wait: float, client: Client) -> str:
    until = datetime.fromtimestamp(client.pace.clock() + wait, tz=timezone.utc)
    cause = f"GitHub's rate limit does not let us {request.what}" if answer.is_rate_limit else f"cannot {request.what}"
    return (
        f"{cause} before {until:%Y-%m-%d %H:%M} UTC, longer than --patience {client.access.patience_s:.0f} s allows; "
        "repeat the command then, or raise --patience"
    )


def _network_words(error: Exception) -> str:
    """A connection error without the address, which may be a signed one."""
    words = {
        requests.exceptions.SSLError: "the TLS certificate is not accepted",
        requests.exceptions.ProxyError: "the proxy cannot be reached",
        requests.Timeout: f"no answer within {TIMEOUT_S} s",
    }
    return next((text for kind, text in words.items() if isinstance(error, kind)), "the connection failed")
