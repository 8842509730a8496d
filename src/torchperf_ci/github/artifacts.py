"""Read files out of artifacts: only a zip's directory and the wanted files cross the network.

A zip lies at a blob store, and is read there by ranges: its address is signed, short-lived, and gets no token.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import IO

import remotezip
import requests

from torchperf_ci.core.errors import NothingToJudge, TorchperfError, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.result_files import read_files, result_files
from torchperf_ci.core.results import RECORDS, Results
from torchperf_ci.github.client import (
    TIMEOUT_S,
    USER_AGENT,
    Client,
    GitHubNotFound,
    GitHubRefused,
    HttpReply,
    compute_wait,
)
from torchperf_ci.github.pulls import read_default_branch
from torchperf_ci.github.runs import READS, Artifact, find_artifacts

TAIL_BYTES = 64 * 1024
"""The part of a zip's end that is read first: its directory, for most zips all of it, for small ones the whole zip."""

MAX_SIGNATURES = 4
"""The number of times that the address of one artifact is asked for: each is good for a minute."""

MAX_WHOLE_BYTES = 256 * 1024 * 1024
"""The largest artifact that is downloaded whole from a store that serves no ranges."""

MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
"""The largest directory of a zip."""

MAX_MEMBER_BYTES = 64 * 1024 * 1024
"""The largest wanted file, after unpacking."""

MOST_ARTIFACTS = 2_000
MOST_COMMITS = 1_000
"""The commits among which a measured one is looked for."""

_CHUNK = 256 * 1024
_EXPIRED_SIGNATURE = frozenset({400, 401, 403, 404, 410})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_UNREADABLE = (
    zipfile.BadZipFile,
    remotezip.RemoteZipError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # encrypted, or packed in a way that Python does not know
    ValueError,  # a name that is no text
    OSError,  # what bzip2 raises
)
"""The errors that reading a zip may raise when it is not what it says."""


class ArtifactProblem(TorchperfError):
    """One artifact that cannot be used, while others can. The message completes "its artifact …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The results of an artifact. `behind`: how many commits lie between it and the commit that was asked for."""

    commit: str
    behind: int
    results: Results


def read_newest_results(client: Client, repository: str, name: str) -> Results:
    """Read the results in the newest artifact of this name that a run of the default branch uploaded.

    Raises `NothingToJudge` when there is none, or it holds no results, and `GitHubRefused`.
    """
    branch = read_default_branch(client, repository)
    artifact = next((each for each in find_artifacts(client, repository, name) if each.branch == branch), None)
    if artifact is None:
        raise NothingToJudge(f"no run of {branch}, the default branch, left one that is not expired")
    return _read_results(client, repository, artifact)


def read_nearest_results(client: Client, repository: str, name: str, *, head: str, branch: str) -> Recorded:
    """Read the results in the newest artifact of this name of the commit where `head` left `branch` (blank: the default
    one), or of the nearest commit before it that has such an artifact.

    Raises `NothingToJudge` when there is none near enough, or it holds no results, `UsageProblem` for a commit or
    branch that GitHub does not know, and `GitHubRefused`.
    """
    branch = branch or read_default_branch(client, repository)
    try:
        with client.asking(f"find where {head[:12]} left {branch}", needs="contents: read"):
            base = client.repository(repository).compare(branch, head).merge_base_commit.sha
    except GitHubNotFound as error:
        raise UsageProblem(
            f"{repository} does not know the branch {branch} or the commit {head[:12]}, or they have no commit in "
            "common; is it pushed?"
        ) from error
    measured: dict[str, Artifact] = {}
    for artifact in islice(find_artifacts(client, repository, name), MOST_ARTIFACTS):
        measured.setdefault(artifact.commit, artifact)
    if not measured:
        raise NothingToJudge(f"no artifact {name} in {repository} has not expired; does a run of {branch} make it?")
    with client.asking(f"list the commits before {base[:12]}", needs="contents: read"):
        ancestors = islice(client.repository(repository).get_commits(sha=base), MOST_COMMITS)
        nearest = next(((behind, each.sha) for behind, each in enumerate(ancestors) if each.sha in measured), None)
    if nearest is None:
        raise NothingToJudge(
            f"no artifact {name} belongs to {base[:12]}, where head left {branch}, or a commit before it"
        )
    behind, commit = nearest
    return Recorded(commit=commit, behind=behind, results=_read_results(client, repository, measured[commit]))


def _read_results(client: Client, repository: str, artifact: Artifact) -> Results:
    """Read the results in an artifact. Raises `NothingToJudge` when there are none, and `GitHubRefused`."""
    try:
        with open_store(connections=1) as session:
            members = read_members(client, repository, artifact, wanted=result_files, session=session)
    except ArtifactProblem as error:
        raise NothingToJudge(f"the artifact {artifact.name} {error}") from error
    contents = {PurePosixPath(name).name: content for name, content in members.items()}
    results = read_files(contents, contents.__getitem__, CaseSelection())
    if not results.records:
        raise NothingToJudge(f"the artifact {artifact.name} holds neither {RECORDS} nor CSV files with results")
    return results


def open_store(*, connections: int) -> requests.Session:
    """Return a session for the blob store: without a token, also none from a .netrc file, and good for threads."""
    session = requests.Session()
    session.auth = lambda request: request
    session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=connections))
    return session


def read_members(
    client: Client,
    repository: str,
    artifact: Artifact,
    *,
    wanted: Callable[[Sequence[str]], Sequence[str]],
    session: requests.Session,
    max_directory: int = MAX_DIRECTORY_BYTES,
    max_member: int = MAX_MEMBER_BYTES,
) -> dict[str, bytes]:
    """Read, by name, the files of an artifact that `wanted` chooses of its names. What they are called leads nowhere:
    nothing is written to disk.

    session: from `open_store`. max_directory, max_member: limits in bytes of the zip's directory, and of a wanted file
    after unpacking. Raises `ArtifactProblem` when the artifact has expired or cannot be read, or exceeds them, and
    `GitHubRefused`.
    """
    with Blob(client, repository, artifact, session) as blob:
        fetcher = _Fetcher(blob, max_directory)
        try:
            with remotezip.RemoteZip("", initial_buffer_size=TAIL_BYTES, fetcher=fetcher.bind) as archive:
                fetcher.largest = max_member + TAIL_BYTES
                return {name: _read_member(archive, name, max_member) for name in wanted(archive.namelist())}
        except _UNREADABLE as error:
            raise ArtifactProblem(f"is no readable zip ({' '.join(str(error).split())[:100]}); truncated?") from error


def _read_member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    if sum(other == name for other in archive.namelist()) > 1:
        raise ArtifactProblem(f"holds {name} twice")
    info = archive.getinfo(name)
    if info.file_size <= largest:
        with archive.open(info) as stream:
            content = stream.read(largest + 1)  # it may be larger than its directory says
        if len(content) <= largest:
            return content
    raise ArtifactProblem(f"holds a {name} of more than {largest // 1024 // 1024} MiB")


class _Fetcher:
    """The source of ranges for remotezip: ours signs again, never asks for a suffix, and refuses to read too much."""

    def __init__(self, blob: Blob, largest: int) -> None:
        self.blob = blob
        self.largest = largest

    def bind(self, *_: object, **__: object) -> _Fetcher:
        """Return itself, where remotezip makes a fetcher of its own."""
        return self

    def fetch(self, data_range: tuple[int, int | None], stream: bool = False) -> remotezip.PartialBuffer:  # noqa: ARG002, FBT001, FBT002 - remotezip's signature
        first, last = data_range
        if last is None:
            first, content = self.blob.tail(-first)
        elif first < 0:
            raise ArtifactProblem("is no readable zip (too short)")
        elif last - first >= self.largest:
            raise ArtifactProblem(f"has a directory that leads to {last - first + 1:,} bytes at once")
        else:
            content = self.blob.read(first, last)
        if not content:
            raise ArtifactProblem("is empty or truncated")
        return remotezip.PartialBuffer(io.BytesIO(content), first, len(content), stream=False)


class Blob:
    """The bytes of an artifact at its store. `size` is GitHub's word until the store has said better."""

    def __init__(self, client: Client, repository: str, artifact: Artifact, session: requests.Session) -> None:
        self.size = artifact.size
        self._client = client
        self._session = session
        self._path = f"/repos/{repository}/actions/artifacts/{artifact.id}/zip"
        self._what = f"download the artifact {artifact.name}"
        self._url = ""
        self._signatures = 0
        self._whole: IO[bytes] | None = None

    def __enter__(self) -> Blob:
        return self

    def __exit__(self, *_: object) -> None:
        if self._whole is not None:
            self._whole.close()

    def tail(self, length: int) -> tuple[int, bytes]:
        """Return where the last `length` bytes (or all, if there are fewer) begin, and these bytes.

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
        """Read the bytes from `first` to `last`, both included; fewer only where the blob ends.

        Raises `ArtifactProblem` when the store does not give them, `GitHubRefused` when GitHub gives no address.
        """
        tries, pace = 0, self._client.pace
        while self._whole is None:
            reply, content = self._try(first, last)
            if content is not None:
                return content
            if reply.status in _EXPIRED_SIGNATURE and self._signatures < MAX_SIGNATURES:
                self._url = ""
                continue
            if reply.status == requests.codes.ok:
                break
            tries += 1
            wait = compute_wait(reply, tries=tries, now=pace.clock(), jitter=pace.jitter())
            if wait is None or wait > self._client.access.patience_s:
                raise ArtifactProblem(f"cannot be downloaded ({reply.error or f'the store answers {reply.status}'})")
            pace.sleep(wait)
        assert self._whole is not None
        self._whole.seek(first)
        return self._whole.read(last - first + 1)

    def _try(self, first: int, last: int) -> tuple[HttpReply, bytes | None]:
        """Return the store's answer, and the bytes if it has them. Without a token: the address is all it takes."""
        if not self._url:
            self._signatures += 1
            self._url = self._sign()
        try:
            headers = {"Range": f"bytes={first}-{last}"}
            with self._session.get(self._url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
                return self._take(response, first, last)
        except requests.RequestException:  # its message holds the signed address
            return HttpReply(status=0, error="the connection failed"), None

    def _sign(self) -> str:
        try:
            with self._client.asking(self._what, needs=READS, redirected=True):
                return self._client.location(self._path)
        except GitHubNotFound as error:
            raise ArtifactProblem("has been deleted") from error
        except GitHubRefused as error:
            if error.status == requests.codes.gone:
                raise ArtifactProblem("has expired") from error
            raise

    def _take(self, response: requests.Response, first: int, last: int) -> tuple[HttpReply, bytes | None]:
        reply = HttpReply(
            status=response.status_code, headers={name.lower(): value for name, value in response.headers.items()}
        )
        match = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
        if reply.status == requests.codes.ok:  # the whole, since the store serves no ranges
            whole = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end, or here
            too_large = f"is larger than {MAX_WHOLE_BYTES // 1024 // 1024} MiB, and its store serves no ranges"
            try:
                _copy(response, whole, MAX_WHOLE_BYTES, too_large)
            except BaseException:
                whole.close()
                raise
            self._whole, self.size = whole, whole.tell()
        elif reply.status == requests.codes.partial_content and match and match[1] == str(first):
            self.size = int(match[3])
            part = io.BytesIO()
            _copy(response, part, last - first + 1, "cannot be downloaded (the store sends more than was asked for)")
            return reply, part.getvalue()
        elif reply.status == requests.codes.requested_range_not_satisfiable and match:
            self.size = int(match[3])
            return reply, b""
        return reply, None


def _copy(response: requests.Response, target: IO[bytes], limit: int, refusal: str) -> None:
    """Copy the body. Raises `ArtifactProblem` with the refusal when it has more than `limit` bytes."""
    for chunk in response.iter_content(_CHUNK):
        target.write(chunk)
        if target.tell() > limit:
            raise ArtifactProblem(refusal)
