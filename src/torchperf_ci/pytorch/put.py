"""Puts files under any URL that fsspec knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from torchperf_ci.core.errors import Refused
from torchperf_ci.core.file_systems import open_file_system, shown
from torchperf_ci.core.text import one_line
from torchperf_ci.pytorch.hud import BucketFile, compressed

_WITH_HEADERS = frozenset({"s3", "s3a"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A file system and a folder in it. Make one with `open_bucket`."""

    url: str
    root: str
    system: Any
    has_headers: bool

    def put(self, files: Sequence[BucketFile]) -> list[str]:
        """Write `files` gzipped, and return their URLs. Raises `Refused` saying which are there already."""
        done: list[str] = []
        for file in files:
            try:
                done.append(self._put(file))
            # Every file system raises errors of its own, which have no base in common but this one.
            except Exception as error:
                there = f" ({len(done)} of {len(files)} files were written before)" if done else ""
                why = one_line(f"{type(error).__name__}: {self._without_secrets(str(error))}", limit=300)
                raise Refused(f"{shown(self.url)}/{file.path} could not be written{there}: {why}") from error
        return done

    def _put(self, file: BucketFile) -> str:
        # The database's loader reads `.json` and trusts the header; where there are no headers the name says it.
        headers = {"ContentEncoding": "gzip", "ContentType": "application/json"} if self.has_headers else {}
        path = file.path if self.has_headers else f"{file.path}.gz"
        target = f"{self.root.rstrip('/')}/{path}"
        if not self.has_headers:
            self.system.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.system.pipe_file(target, compressed(file.content), **headers)
        return f"{shown(self.url)}/{path}"

    def _without_secrets(self, text: str) -> str:
        user, at, _ = urlsplit(self.url).netloc.rpartition("@")
        return text.replace(f"{user}{at}", "") if at else text


def open_bucket(url: str) -> Bucket:
    """The place `url` names. Raises `UsageProblem` for an unknown scheme, or when its library is missing."""
    system, root = open_file_system(url, extra="hud", purpose=f"writing to {shown(url)}")
    return Bucket(url=url, root=root, system=system, has_headers=urlsplit(url).scheme in _WITH_HEADERS)
