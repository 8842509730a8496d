"""One artifact's zip at the blob store, read by ranges: the address is signed, short-lived, and gets no token."""

from __future__ import annotations

import re
import tempfile
from typing import IO

import requests

from torchperf_ci.core.errors import TorchperfError
from torchperf_ci.github.client import TIMEOUT_S, USER_AGENT, Client, GitHubRefused, Request
from torchperf_ci.github.patience import Answer, wait_before_next_try
from torchperf_ci.github.runs import READS, Artifact

MAX_SIGNATURES = 4
"""How often the address of one artifact is asked for: each is good for a minute."""

MAX_WHOLE_BYTES = 256 * 1024 * 1024
"""The largest artifact that is downloaded whole from a store that serves no ranges."""

_CHUNK = 256 * 1024
_EXPIRED_SIGNATURE = frozenset({400, 401, 403, 404, 410})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


class ArtifactProblem(TorchperfError):
    """One artifact that cannot be used, while others can. The message completes "its artifact …"."""


def store_session(*, connections: int) -> requests.Session:
    """A session for the blob store: without a token, also none from a .netrc file, and good for several threads."""
    session = requests.Session()
    session.auth = lambda request: request
    session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=connections))
    return session


class Blob:
    """The bytes of an artifact. `size` is GitHub's word until the store has said better."""

    def __init__(self, client: Client, repository: str, artifact: Artifact, session: requests.Session) -> None:
        self.size = artifact.size
        self._client = client
        self._session = session
        self._request = Request(
            path=f"/repos/{repository}/actions/artifacts/{artifact.id}/zip",
            what=f"download the artifact {artifact.name}",
            needs=READS,
        )
        self._url = ""
        self._signatures = 0
        self._whole: IO[bytes] | None = None

    def __enter__(self) -> Blob:
        return self

    def __exit__(self, *_: object) -> None:
        if self._whole is not None:
            self._whole.close()

    def tail(self, length: int) -> tuple[int, bytes]:
        """Where the last `length` bytes (or all, if there are fewer) begin, and what they are.

        Never asks for "the last n bytes", which some stores refuse: the size is known, or the store is asked for it.
        """
        if self.size <= 0:
            self.read(0, 0)
        for _ in range(3):
            size = self.size
            first = max(0, size - length)
            content = self.read(first, max(0, size - 1))
            if size == self.size:  # the answer's headers did not correct it
                return first, content
        raise ArtifactProblem("cannot be downloaded (its size changes)")

    def read(self, first: int, last: int) -> bytes:
        """The bytes from `first` to `last`, both included; fewer only where the blob ends.

        Raises `ArtifactProblem` when the store does not give them, `GitHubRefused` when GitHub gives no address.
        """
        tries = 0
        while True:
            if self._whole is not None:
                return _part(self._whole, first, last)
            answer, content = self._try(first, last)
            if content is not None:
                return content
            if answer.status in _EXPIRED_SIGNATURE and self._signatures < MAX_SIGNATURES:
                self._url = ""
            else:
                tries += 1
                self._wait(answer, tries)

    def _wait(self, answer: Answer, tries: int) -> None:
        pace = self._client.pace
        wait = wait_before_next_try(answer, tries=tries, now=pace.clock(), jitter=pace.jitter())
        if wait is None or wait > self._client.access.patience_s:
            raise ArtifactProblem(f"cannot be downloaded ({answer.error or f'the store answers {answer.status}'})")
        pace.sleep(wait)

    def _try(self, first: int, last: int) -> tuple[Answer, bytes | None]:
        """The store's answer, and the bytes if it has them. Without a token: the address is all it takes."""
        try:
            with self._session.get(
                self._address(), headers={"Range": f"bytes={first}-{last}"}, stream=True, timeout=TIMEOUT_S
            ) as response:
                return self._take(response, first, last)
        except requests.RequestException:  # its message holds the signed address
            return Answer(status=0, error="the connection failed"), None

    def _take(self, response: requests.Response, first: int, last: int) -> tuple[Answer, bytes | None]:
        answer = Answer(status=response.status_code, headers={k.lower(): v for k, v in response.headers.items()})
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if response.status_code == requests.codes.ok:
            self._whole = _downloaded(response)
            self.size = self._whole.seek(0, 2)
            return answer, _part(self._whole, first, last)
        if response.status_code == requests.codes.partial_content and match and match[1] == str(first):
            self.size = int(match[3])
            return answer, _limited(response, last - first + 1)
        if response.status_code == requests.codes.requested_range_not_satisfiable and match:
            self.size = int(match[3])
            return answer, b""
        return answer, None

    def _address(self) -> str:
        if not self._url:
            self._signatures += 1
            try:
                self._url = self._client.location(self._request)
            except GitHubRefused as error:
                if error.status == requests.codes.gone:
                    raise ArtifactProblem("has expired") from error
                if error.status == requests.codes.not_found:
                    raise ArtifactProblem("has been deleted") from error
                raise
        return self._url


def _part(whole: IO[bytes], first: int, last: int) -> bytes:
    whole.seek(first)
    return whole.read(last - first + 1)


def _limited(response: requests.Response, length: int) -> bytes:
    """The body, which must not be longer than `length`."""
    parts, size = [], 0
    for chunk in response.iter_content(_CHUNK):
        parts.append(chunk)
        size += len(chunk)
        if size > length:
            raise ArtifactProblem("cannot be downloaded (the store sends more than was asked for)")
    return b"".join(parts)


def _downloaded(response: requests.Response) -> IO[bytes]:
    """The whole body in a temporary file. Raises `ArtifactProblem` over the limit."""
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - the Blob closes it
    try:
        for chunk in response.iter_content(_CHUNK):
            whole.write(chunk)
            if whole.tell() > MAX_WHOLE_BYTES:
                raise ArtifactProblem(
                    f"is larger than {MAX_WHOLE_BYTES // 1024 // 1024} MiB, and its store serves no ranges"
                )
    except BaseException:
        whole.close()
        raise
    return whole
