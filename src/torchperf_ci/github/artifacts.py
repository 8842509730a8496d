"""Single files out of artifacts: only the zip's directory and the wanted members cross the network."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import remotezip
import requests

from torchperf_ci.github.blob import ArtifactProblem, Blob
from torchperf_ci.github.client import Client
from torchperf_ci.github.runs import Artifact

TAIL_BYTES = 64 * 1024
"""How much of a zip's end is read first: its directory, for most zips all of it, for small ones the whole zip."""

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
"""What reading a zip may raise when it is not what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an artifact may hold, in bytes: its zip's directory, and one wanted file after unpacking."""

    directory: int = 8 * 1024 * 1024
    member: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of an artifact."""

    name: str
    content: bytes


def read_members(
    client: Client,
    repository: str,
    artifact: Artifact,
    *,
    wanted: Callable[[Sequence[str]], Sequence[str]],
    session: requests.Session,
    limits: Limits = Limits(),
) -> tuple[Member, ...]:
    """The files of an artifact that `wanted` chooses of its names. What they are called leads nowhere: nothing is
    written to disk.

    session: from `store_session`. Raises `ArtifactProblem` when the artifact has expired or cannot be read, or when a
    file exceeds the limits, and `GitHubRefused`.
    """
    with Blob(client, repository, artifact, session) as blob:
        fetcher = _Fetcher(blob, limits)
        try:
            with remotezip.RemoteZip("", initial_buffer_size=TAIL_BYTES, fetcher=fetcher.made) as archive:
                fetcher.largest = limits.member + TAIL_BYTES
                return tuple(_member(archive, name, limits) for name in wanted(archive.namelist()))
        except _UNREADABLE as error:
            raise ArtifactProblem(f"is no readable zip ({' '.join(str(error).split())[:100]}); truncated?") from error


class _Fetcher:
    """What remotezip asks for ranges: ours signs again, never asks for a suffix, and refuses to read too much."""

    def __init__(self, blob: Blob, limits: Limits) -> None:
        self.blob = blob
        self.largest = limits.directory

    def made(self, *_: object, **__: object) -> _Fetcher:
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


def _member(archive: zipfile.ZipFile, name: str, limits: Limits) -> Member:
    if sum(other == name for other in archive.namelist()) > 1:
        raise ArtifactProblem(f"holds {name} twice")
    info = archive.getinfo(name)
    too_large = ArtifactProblem(f"holds a {name} of more than {limits.member // 1024 // 1024} MiB")
    if info.file_size > limits.member:
        raise too_large
    with archive.open(info) as stream:
        content = stream.read(limits.member + 1)
    if len(content) > limits.member:
        raise too_large
    return Member(name=name, content=content)
