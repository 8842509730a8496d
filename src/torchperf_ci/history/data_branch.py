"""A branch of the repository that holds data: the history's files, and pictures for comments. No checkout is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from torchperf_ci.github.branch import Branch, commit_files, list_blobs, list_folders, read_blob
from torchperf_ci.github.client import Client
from torchperf_ci.history.storage import write_once

HISTORY = "history"
PICTURES = "pictures"
THREADS = 8


@dataclass(slots=True, kw_only=True)
class BranchFiles:
    """Hold the files of a history below a folder of the branch; what was fetched is kept in `cache`.

    A place for files as `torchperf_ci.history.storage` has it. The listing of the folders is that of the last call of
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

    def list_folders(self) -> list[str]:
        self._folders = list_folders(self.client, self.branch, HISTORY)
        return list(self._folders)

    def list_files(self, folder: str) -> list[str]:
        if folder not in self._folders:
            self.list_folders()
        if folder not in self._folders:
            return []
        blobs = list_blobs(self.client, self.branch, self._folders[folder], title=folder)
        self._blobs.update({f"{folder}/{name}": sha for name, sha in blobs.items()})
        return list(blobs)

    def fetch(self, paths: Sequence[str]) -> list[Path]:
        absent = [path for path in paths if path in self._blobs and not (self.cache / path).is_file()]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._fetch, absent))
        return [self.cache / path for path in paths if (self.cache / path).is_file()]

    def list_absent(self, paths: Sequence[str]) -> list[str]:
        self.list_folders()
        folders = {path.partition("/")[0] for path in paths}
        present = {f"{folder}/{name}" for folder in folders for name in self.list_files(folder)}
        return [path for path in paths if path not in present]

    def write(self, files: Mapping[str, bytes]) -> None:
        if files:
            below = {f"{HISTORY}/{path}": content for path, content in files.items()}
            commit_files(self.client, self.branch, below, message=self.message)

    def delete(self, paths: Sequence[str]) -> None:
        gone = set(self.list_absent(paths))
        present: dict[str, bytes | None] = {f"{HISTORY}/{path}": None for path in paths if path not in gone}
        if present:
            commit_files(self.client, self.branch, present, message="Remove compacted files")

    def _fetch(self, path: str) -> None:
        write_once(self.cache, path, read_blob(self.client, self.branch, self._blobs[path], title=path))


def picture_path(time: datetime, name: str, content: bytes) -> str:
    """Name a picture of the run at `time` on the branch. Another picture has another address, because proxies keep what
    they have once seen at one."""
    return f"{PICTURES}/{time:%Y-%m}/{time:%Y%m%dT%H%M%SZ}_{hashlib.sha256(content).hexdigest()[:12]}_{name}"


def server_of(api_url: str) -> str:
    """Find the address of GitHub's pages from that of its API."""
    parts = urlsplit(api_url)
    if parts.netloc == "api.github.com":
        return "https://github.com"
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/api/v3')}"


def picture_url(server: str, branch: Branch, path: str) -> str:
    """Write the address of a picture, which also shows in a private repository to those who may read it."""
    return f"{server}/{branch.repository}/blob/{quote(branch.name)}/{quote(path)}?raw=true"
