"""What can be a commit's SHA or a repository's name: checked before it becomes part of an address or a command."""

from __future__ import annotations

import re

FULL_SHA_DIGITS = 40

_SHA = re.compile(r"[0-9a-f]{7,40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9._-]*[A-Za-z0-9_-]")


def is_sha(text: str) -> bool:
    """Can this be a commit's SHA, or the first 7 or more of its digits?"""
    return _SHA.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    """Can this be a repository, as owner/name?"""
    return _REPOSITORY.fullmatch(text) is not None
