"""What a suite and a model may be called: names become part of files, tables, comments and commands."""

from __future__ import annotations

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
