"""Commands that measure single cases again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from torchperf_ci.core.frames import Section
from torchperf_ci.core.records import Source
from torchperf_ci.core.text import one_line


def run_again(section: Section, suite: str, compiler: str, models: Iterable[str], source: Source) -> str:
    """The command that runs these models as `source` ran them: its workflow on GitHub, or else here.

    suite: as it is asked for, which for a file is its path. The workflow needs the inputs `suites` and `filter`.
    """
    pattern = f"^({'|'.join(map(_literal, models))})$"
    if source.workflow and source.repository:
        words = ["gh", "workflow", "run", _workflow(source.workflow), "--repo", source.repository]
        words += ["--ref", source.branch] if source.branch else []
        words += ["-f", f"suites={suite}", "-f", f"filter={pattern}"]
    else:
        words = ["torchperf-ci", "run", "--suites", suite, f"--{section.mode}", "--devices", section.device]
        words += ["--dtypes", section.dtype, "--compilers", compiler, "--filter", pattern]
    return one_line(shlex.join(words))


def _literal(text: str) -> str:
    """A regular expression for `text` alone. The input `filter` is split at spaces and commas, and a pattern with a `/`
    is held against suite and model, so these stand there by number."""
    return "".join(f"\\u{ord(char):04x}" if char in "/," or char.isspace() else re.escape(char) for char in text)


def _workflow(name: str) -> str:
    """A workflow as gh knows it. One without a name of its own is called by its path, of which gh takes the file."""
    return name.rpartition("/")[2] if name.endswith((".yml", ".yaml")) else name
