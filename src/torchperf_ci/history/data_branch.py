"""A branch of the repository that holds data: the history's files, and pictures for comments. No checkout is needed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from torchperf_ci.github.branch import READS, Branch, commit_files
from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.history.files import write_once

HISTORY = "history"
PICTURES = "pictures"
THREADS = 8


@dataclass(slots=True, kw_only=True)
class BranchFiles:
    """The files of a history below a folder of the branch; what was fetched is kept in `cache`.

    A place for files as `torchperf_ci.history.files` has it. The listing of the folders is that of the last call of
    `folders`.
    """

    client: Client = field(repr=False)
    branch: Branch
    cache: Path
    message: str = "Add a run"
    _folders: dict[str, str] = field(default_factory=dict, repr=False)
    _blobs: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def where(self) -> str:
        return f"{self.branch.repository}, branch {self.branch.name}, {HISTORY}"

    def folders(self) -> list[str]:
        try:
            with self.client.asking(f"read the branch {self.branch.name}", needs=READS):
                entries = self.client.repository(self.branch.repository).get_contents(HISTORY, ref=self.branch.name)
        except GitHubRefused as error:
            if error.status != 404:
                raise
            entries = []
        listed = entries if isinstance(entries, list) else []
        self._folders = {entry.name: entry.sha for entry in listed if entry.type == "dir"}
        return list(self._folders)

    def names(self, folder: str) -> list[str]:
        if folder not in self._folders:
            self.folders()
        if folder not in self._folders:
            return []
        try:
            with self.client.asking(f"read {folder} on the branch {self.branch.name}", needs=READS):
                tree = self.client.repository(self.branch.repository).get_git_tree(self._folders[folder]).tree
        except GitHubRefused as error:
            if error.status == 404:
                return []
            raise
        blobs = {entry.path: entry.sha for entry in tree if entry.type == "blob"}
        self._blobs.update({f"{folder}/{name}": sha for name, sha in blobs.items()})
        return list(blobs)

    def local(self, paths: Sequence[str]) -> list[Path]:
        absent = [path for path in paths if path in self._blobs and not (self.cache / path).is_file()]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._fetch, absent))
        return [self.cache / path for path in paths if (self.cache / path).is_file()]

    def absent(self, paths: Sequence[str]) -> list[str]:
        self.folders()
        there = {
            f"{folder}/{name}" for folder in {path.partition("/")[0] for path in paths} for name in self.names(folder)
        }
        return [path for path in paths if path not in there]

    def write(self, files: Mapping[str, bytes]) -> None:
        if files:
            below = {f"{HISTORY}/{path}": content for path, content in files.items()}
            commit_files(self.client, self.branch, below, message=self.message)

    def delete(self, paths: Sequence[str]) -> None:
        gone = set(self.absent(paths))
        there: dict[str, bytes | None] = {f"{HISTORY}/{path}": None for path in paths if path not in gone}
        if there:
            commit_files(self.client, self.branch, there, message="Remove what was compacted")

    def _fetch(self, path: str) -> None:
        with self.client.asking(f"read {path} on the branch {self.branch.name}", needs=READS):
            content = self.client.repository(self.branch.repository).get_git_blob(self._blobs[path]).content
        write_once(self.cache, path, base64.b64decode(content))


def picture_path(time: datetime, name: str, content: bytes) -> str:
    """Where a picture of the run at `time` lies on the branch. Another picture has another address, because proxies
    keep what they have once seen at one."""
    return f"{PICTURES}/{time:%Y-%m}/{time:%Y%m%dT%H%M%SZ}_{hashlib.sha256(content).hexdigest()[:12]}_{name}"


def server_of(api_url: str) -> str:
    """Where GitHub's pages are, whose API is there."""
    parts = urlsplit(api_url)
    if parts.netloc == "api.github.com":
        return "https://github.com"
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/api/v3')}"


def picture_url(server: str, branch: Branch, path: str) -> str:
    """The address of a picture, which also shows in a private repository to those who may read it."""
    return f"{server}/{branch.repository}/blob/{quote(branch.name)}/{quote(path)}?raw=true"
