"""What suites, models, commits and repositories may be called: names become part of files, tables, comments, commands
and addresses."""

from __future__ import annotations

import re

from torchperf_ci.core.escape import one_line

LONGEST_NAME = 200


def name_problem(name: str, *, may_have_folders: bool = False) -> str:
    """Say what is wrong with a name; blank when nothing is.

    may_have_folders: `org/model`, as model hubs have it, is a name as well.
    """
    parts = name.split("/")
    if not name.strip():
        return "is blank"
    if len(name) > LONGEST_NAME:
        return f"has {len(name):,} characters, more than {LONGEST_NAME}"
    if one_line(name) != name:
        return "holds a line end, a control character or other characters that cannot be seen, or begins or ends blank"
    if any(not part.strip(".") for part in parts) or name.startswith("~") or "\\" in name:
        return "is no name but a path"
    if len(parts) > 1 and not may_have_folders:
        return "holds a slash, which stands between suite and model"
    return ""


def is_sha(text: str) -> bool:
    """Say whether this can be a commit's SHA, or the first 7 or more of its 40 digits."""
    return re.fullmatch(r"[0-9a-f]{7,40}", text) is not None


def is_full_sha(text: str) -> bool:
    """Say whether this can be the whole of a commit's SHA."""
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None


def is_repository(text: str) -> bool:
    """Say whether this can be a repository on GitHub, as owner/name."""
    return re.fullmatch(r"[A-Za-z0-9_-]+/[A-Za-z0-9._-]*[A-Za-z0-9_-]", text) is not None
