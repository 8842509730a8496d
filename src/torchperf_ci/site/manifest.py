"""The manifest of a site: what it was made of the last time, so that only what changed is made again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

PATH = "data/manifest.json"
"""The manifest below the site; a folder without one is no site of ours."""

FORMAT = 1
"""The version of the files of data; months that another one made are made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestMonth:
    """The pages of a month as they were made.

    signature: of the files of the history that they are made of. files: the digests of all of them, by path.
    runs: the ids of the runs that are shown, oldest first; counted: how many there are in the history.
    cases, metrics, branches: those that the month has; cases and metrics as the pages describe them.
    """

    signature: str
    files: Mapping[str, str]
    runs: tuple[str, ...]
    counted: int
    cases: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, str]]
    branches: tuple[str, ...]

    @property
    def version(self) -> str:
        """Name this version of the month's files, so that browsers keep no older ones."""
        return digest("\0".join(f"{path}\0{self.files[path]}" for path in sorted(self.files)).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A site as it was made. months: by name. cases: as the pages describe them, by id. files: the digests of the
    files that belong to no month. changes: every change that was listed, newest first."""

    months: Mapping[str, ManifestMonth] = field(default_factory=dict)
    cases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Mapping[str, Any], ...] = ()
    format: int = FORMAT

    def list_files(self) -> dict[str, str]:
        """List the digests of all files of the site, by path, the manifest's left aside."""
        return {**self.files, **{path: each for month in self.months.values() for path, each in month.files.items()}}


def read_manifest(content: bytes | None) -> Manifest:
    """Read a manifest; one that is absent, damaged or of another version knows nothing."""
    try:
        manifest = msgspec.json.decode(content or b"", type=Manifest)
    except (msgspec.MsgspecError, UnicodeError):
        return Manifest()
    return manifest if manifest.format == FORMAT else Manifest()


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode a manifest: the same bytes for the same site."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"


def digest(content: bytes) -> str:
    """Compute sixteen hexadecimal digits that tell contents apart."""
    return hashlib.sha256(content).hexdigest()[:16]
