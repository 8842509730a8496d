"""The one place that writes files: whole or not at all, and never through a link that somebody planted.

A results folder, a history or a cache may come from elsewhere (a cache of GitHub, an artifact, a checkout), and may
hold links that lead out of it. The folder itself may be a link: who names it, made it. Below it no link is followed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class PlantedLink(OSError):
    """Something that would lead a write elsewhere stands in its place."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ELOOP, "a link, or no plain file, which torchperf-ci does not write to; remove it", path)


def find_write_problem(path: Path) -> str:
    """Say why no file or folder can be made or written at `path`, without a trace of trying; blank where one can be."""
    at = path.absolute()
    while not os.path.lexists(at) and at != at.parent:
        at = at.parent
    if at.is_dir():
        return "" if os.access(at, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    if at != path.absolute():
        return os.strerror(errno.ENOTDIR)
    return "" if os.access(at, os.W_OK) else os.strerror(errno.EACCES)


def is_below(relative: str) -> bool:
    """Say whether a path stays in the folder that it is relative to, links aside."""
    path = PurePosixPath(relative)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in relative


def write_below(
    root: Path, relative: str, content: bytes, *, durable: bool = False, beside: str = "", mode: int | None = None
) -> Path:
    """Replace the file `relative` below `root` by one with `content`: a reader sees the old one or the new one.

    Folders on the way are made. durable: it is on the disk when this returns. beside: the name, in the same folder,
    under which it is written first; by default one that nobody can guess. mode: its permissions. Raises `OSError`,
    `PlantedLink` among them.
    """
    name = PurePosixPath(relative).name
    beside = beside or f".{name[:100]}.{secrets.token_hex(8)}.tmp"
    with _folder_of(root, relative) as folder:
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                if mode is not None:
                    os.fchmod(stream.fileno(), mode)
                if durable:
                    os.fsync(stream.fileno())
            os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside, dir_fd=folder)
            raise
    return root / relative


def delete_below(root: Path, relative: str) -> None:
    """Delete the file `relative` below `root`, if it is there. Raises `OSError`, `PlantedLink` among them."""
    with _folder_of(root, relative) as folder, suppress(FileNotFoundError):
        os.unlink(PurePosixPath(relative).name, dir_fd=folder)


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace the file that a user named, like `write_below`."""
    write_below(path.parent, path.name, content, mode=mode)


def open_below(root: Path, relative: str, flags: int) -> int:
    """Open a plain file below `root`, and return its descriptor. Raises `OSError`, `PlantedLink` among them."""
    with _folder_of(root, relative) as folder:
        return _open_plain(root / relative, PurePosixPath(relative).name, flags, folder)


def open_plain(path: Path, flags: int) -> int:
    """Open the file at `path`, which must not be a link. Raises `OSError`, `PlantedLink` among them."""
    return _open_plain(path, str(path), flags, None)


def open_log(path: Path) -> BinaryIO:
    """Open a log to be added to, which must not be a link. Raises `OSError`, `PlantedLink` among them."""
    return os.fdopen(open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")


def prepare_below(root: Path, relative: str) -> Path:
    """Make the folder of a file that somebody else is going to write; its path. Raises `OSError`."""
    with _folder_of(root, relative) as folder, suppress(FileNotFoundError):
        if not _is_plain(os.stat(PurePosixPath(relative).name, dir_fd=folder, follow_symlinks=False)):
            raise PlantedLink(root / relative)
    return root / relative


@contextmanager
def _folder_of(root: Path, relative: str) -> Iterator[int]:
    """Open the folder of a file, made if need be, one step at a time so that no step follows a link."""
    if not is_below(relative):
        raise PlantedLink(root / relative)
    root.mkdir(parents=True, exist_ok=True)
    here = os.open(root, _FOLDER)
    walked = root
    try:
        for part in PurePosixPath(relative).parts[:-1]:
            walked /= part
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
            try:
                deeper = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
            except OSError as error:
                raise (PlantedLink(walked) if error.errno in {errno.ELOOP, errno.ENOTDIR} else error) from error
            os.close(here)
            here = deeper
        yield here
    finally:
        os.close(here)


def _open_plain(path: Path, name: str, flags: int, folder: int | None) -> int:
    try:  # without waiting for somebody at the other end of a pipe
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=folder)
    except OSError as error:
        raise (PlantedLink(path) if error.errno in {errno.ELOOP, errno.ENXIO} else error) from error
    if not _is_plain(os.fstat(descriptor)):
        os.close(descriptor)
        raise PlantedLink(path)
    os.set_blocking(descriptor, True)
    return descriptor


def _is_plain(status: os.stat_result) -> bool:
    """Say whether this is a file with one name: a hard link is another name of a file that may lie anywhere."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink <= 1
