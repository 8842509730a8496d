"""The folder that holds the files of a Parquet history: here, below any URL that fsspec knows, or on a branch.

Files are written whole under names that are never used for anything else, so that nothing ever has to be locked, and
what was fetched once need never be fetched again.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.file_systems import OBJECT_STORES, is_url, open_file_system, shown
from torchperf_ci.core.safe_files import write_below
from torchperf_ci.core.text import one_line
from torchperf_ci.github.branch import Branch, commit_files, list_blobs, list_folders, read_blob
from torchperf_ci.github.client import Client


class Files(Protocol):
    """A folder of files that are written once. Paths are relative to it, with `/`."""

    @property
    def where(self) -> str:
        """Name the folder as people write it."""

    def list_folders(self) -> list[str]:
        """List the folders in it."""

    def list_files(self, folder: str) -> list[str]:
        """List the files in one of them."""

    def fetch(self, paths: Sequence[str]) -> list[Path]:
        """Fetch files to this machine, in order. One that is gone is left out."""

    def list_absent(self, paths: Sequence[str]) -> list[str]:
        """List those of the files that are not there."""

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files whole, all or as many as can be."""

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files; one that is gone already is fine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFiles:
    """Files in a folder of this machine."""

    root: Path

    @property
    def where(self) -> str:
        return str(self.root)

    def list_folders(self) -> list[str]:
        return [item.name for item in self.root.iterdir() if item.is_dir()] if self.root.is_dir() else []

    def list_files(self, folder: str) -> list[str]:
        directory = self.root / folder
        return [item.name for item in directory.iterdir()] if directory.is_dir() else []

    def fetch(self, paths: Sequence[str]) -> list[Path]:
        return [file for path in paths if (file := self.root / path).is_file()]

    def list_absent(self, paths: Sequence[str]) -> list[str]:
        return [path for path in paths if not (self.root / path).is_file()]

    def write(self, files: Mapping[str, bytes]) -> None:
        try:
            for path, content in files.items():
                write_once(self.root, path, content)
        except OSError as error:
            raise UsageProblem(
                f"the history {self.root} cannot be written ({error.strerror}); choose another with --history"
            ) from error

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            (self.root / path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFiles:
    """Files below a URL; what was fetched is kept in `cache`."""

    url: str
    root: str
    cache: Path
    system: Any = field(repr=False)

    @property
    def where(self) -> str:
        return shown(self.url)

    def list_folders(self) -> list[str]:
        return [name for name, kind in self._entries(self.root) if kind == "directory"]

    def list_files(self, folder: str) -> list[str]:
        return [name for name, kind in self._entries(f"{self.root}/{folder}") if kind == "file"]

    def fetch(self, paths: Sequence[str]) -> list[Path]:
        wanted = {f"{self.root}/{path}": path for path in paths if not (self.cache / path).is_file()}
        if wanted:
            with self._refuse_errors("read"):
                contents = self.system.cat(list(wanted), on_error="return")
            for name, content in contents.items():
                if isinstance(content, bytes):
                    # Some file systems answer with a leading slash, or without one.
                    relative = name.lstrip("/").removeprefix(self.root.lstrip("/")).lstrip("/")
                    write_once(self.cache, wanted[f"{self.root}/{relative}"], content)
                elif not isinstance(content, FileNotFoundError):
                    with self._refuse_errors("read"):
                        raise content
        return [self.cache / path for path in paths if (self.cache / path).is_file()]

    def list_absent(self, paths: Sequence[str]) -> list[str]:
        with self._refuse_errors("read"):
            return [path for path in paths if not self.system.exists(f"{self.root}/{path}")]

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write a file. An object store shows it when it is whole; elsewhere it gets its name then."""
        for path, content in files.items():
            folder, _, name = f"{self.root}/{path}".rpartition("/")
            with self._refuse_errors("written"):
                self.system.makedirs(folder, exist_ok=True)
                if urlsplit(self.url).scheme in OBJECT_STORES:
                    self.system.pipe_file(f"{folder}/{name}", content)
                else:
                    beside = f"{folder}/.{name}.{secrets.token_hex(4)}"
                    self.system.pipe_file(beside, content)
                    self.system.mv(beside, f"{folder}/{name}")

    def delete(self, paths: Sequence[str]) -> None:
        with self._refuse_errors("written"):
            for path in paths:
                if self.system.exists(f"{self.root}/{path}"):
                    self.system.rm_file(f"{self.root}/{path}")

    def _entries(self, folder: str) -> list[tuple[str, str]]:
        """List names and kinds, `file` or `directory`, as they are now."""
        self.system.invalidate_cache()
        with self._refuse_errors("read"), suppress(FileNotFoundError):
            return [(PurePosixPath(item["name"]).name, item["type"]) for item in self.system.ls(folder, detail=True)]
        return []

    @contextmanager
    def _refuse_errors(self, done: str) -> Iterator[None]:
        """Turn errors into `Refused`. Those of file systems have no base in common but `Exception`."""
        try:
            yield
        except Exception as error:
            why = one_line(f"{type(error).__name__}: {error}", limit=300)
            raise Refused(
                f"the history {shown(self.url)} cannot be {done}: {why}. Check its address and your rights"
            ) from error


def open_files(location: str, *, cache: Path) -> Files:
    """Open the folder that `location`, a path or a URL, names. Raises `UsageProblem` when it cannot be one."""
    scheme, _, rest = location.partition("://") if is_url(location) else ("", "", location)
    if scheme in {"", "file", "local"}:
        return LocalFiles(root=Path(rest))
    system, root = open_file_system(location, purpose=f"the history {shown(location)}")
    own = hashlib.sha256(location.encode()).hexdigest()[:16]
    return RemoteFiles(url=location, root=root.rstrip("/"), cache=cache / own, system=system)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Choose where fetched files are kept: by the XDG base directory specification, in a folder that is ours alone.

    What is found there is taken for what was fetched. So where somebody else could have put it, nothing is found: the
    folder is a fresh one, which is gone when the program ends.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    own = (Path(base) if base.startswith("/") else Path.home() / ".cache") / "torchperf-ci"
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
        for folder in (own, own / "history"):
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise PermissionError(folder)
    except OSError:
        fresh = tempfile.mkdtemp(prefix="torchperf-history-")
        atexit.register(shutil.rmtree, fresh, ignore_errors=True)
        return Path(fresh)
    return own / "history"


def write_once(root: Path, path: str, content: bytes) -> None:
    """Write a whole file below `root`, if it is not there; it is on the disk when this returns."""
    if not (root / path).exists():
        write_below(root, path, content, durable=True)


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
