"""The native libraries that this process has mapped, each told by its content.

A library of a side's own is told by what is loaded of it, since its build id may speak of the folder that it was built
in; one that both sides share by its build id, or else by its place, size and time.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO

from torchperf_ci.worker.content import DIGEST_BYTES, Places, digest_file, digest_text

_MAPS = Path("/proc/self/maps")
_LOADED, _NOTES = 1, 4
_BUILD_ID = 3
_NATIVE_CLASS, _LITTLE_ENDIAN = 2, 1
_HEADER, _SEGMENT = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_CHUNK = 2**24


class NoLibraryList(Exception):
    """A system that does not say which libraries a process has mapped."""


def digest_libraries(places: Places) -> dict[str, str]:
    """Digest every mapped library, by its path less the side's own folders. Raises `NoLibraryList`.

    Libraries that were generated are left out: the code that they were made from is digested.
    """
    digests = {}
    for path in sorted(_list_mapped()):
        kind = places.kind_of(path)
        if kind != "generated":
            is_own = kind == "own" and places.is_in_tree(path)
            try:
                digests[places.normalise(path)] = _digest_loaded(path) if is_own else _identify(path)
            except OSError:  # it was removed, or replaced, since
                digests[places.normalise(path)] = "gone"
    return digests


def _list_mapped() -> set[str]:
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError as error:
        raise NoLibraryList(f"this system does not list what is mapped: {error.strerror}") from error
    fields = (line.split(maxsplit=5) for line in lines)
    return {each[5] for each in fields if len(each) == 6 and "x" in each[1] and each[5].startswith("/")}


def _identify(path: str) -> str:
    with open(path, "rb") as stream:  # noqa: PTH123 - a path as text
        for kind, offset, size in _list_segments(stream):
            if kind == _NOTES and (build_id := _find_build_id(stream, offset, size)):
                return f"build id {build_id}"
    status = os.stat(path)  # noqa: PTH116
    return digest_text(path, str(status.st_size), str(status.st_mtime_ns), str(status.st_ino))


def _digest_loaded(path: str) -> str:
    """Digest the loaded segments of a library, less its header and its build id: debug information is not loaded."""
    with open(path, "rb") as stream:  # noqa: PTH123
        segments = list(_list_segments(stream))
        blank = [(0, _HEADER.size), *((offset, size) for kind, offset, size in segments if kind == _NOTES)]
        hashed = blake2b(digest_size=DIGEST_BYTES)
        for kind, offset, size in segments:
            if kind != _LOADED:
                continue
            stream.seek(offset)
            content = bytearray(stream.read(size))
            for start, length in blank:
                first, last = max(start, offset) - offset, min(start + length, offset + size) - offset
                if first < last:
                    content[first:last] = bytes(last - first)
            hashed.update(content)
    return hashed.hexdigest() if segments else digest_file(path)


def _list_segments(stream: IO[bytes]) -> Iterator[tuple[int, int, int]]:
    """List kind, offset and size in the file of a 64-bit little-endian ELF file's segments; none of other files."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size or header[:6] != b"\x7fELF" + bytes((_NATIVE_CLASS, _LITTLE_ENDIAN)):
        return
    fields = _HEADER.unpack(header)
    start, length, number = fields[5], fields[9], fields[10]
    for index in range(number):
        stream.seek(start + index * length)
        segment = _SEGMENT.unpack(stream.read(_SEGMENT.size))
        yield segment[0], segment[2], segment[5]


def _find_build_id(stream: IO[bytes], offset: int, size: int) -> str:
    """Find GNU's build id among the notes of a segment; empty where there is none. Format: elf(5)."""
    stream.seek(offset)
    notes, place = stream.read(size), 0
    while place + 12 <= len(notes):
        name_size, content_size, kind = struct.unpack_from("<III", notes, place)
        name = place + 12
        content = name + (name_size + 3) // 4 * 4
        if kind == _BUILD_ID and notes[name : name + 4] == b"GNU\0":
            return notes[content : content + content_size].hex()
        place = content + (content_size + 3) // 4 * 4
    return ""
