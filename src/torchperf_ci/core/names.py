"""Names: what a suite and a model may be called, and which one is meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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


def nearest(name: str, choices: Iterable[str], *, usual: str = "") -> str:
    """Return " Did you mean …?" with the choice that is most like `name`, or a blank when none is.

    usual: what people mean who type this name, which may be unlike in letters (fp16 for float16).
    """
    near = [usual] if usual else difflib.get_close_matches(name, list(choices), n=1)
    return f" Did you mean {near[0]}?" if near else ""
