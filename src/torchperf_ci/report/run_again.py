"""Commands that measure single cases again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from torchperf_ci.analysis.frames import Section
from torchperf_ci.escape import one_line
from torchperf_ci.records import Source


def run_again(section: Section, suite: str, compiler: str, models: Iterable[str], source: Source) -> str:
    """The command that runs these models as `source` ran them: its workflow on GitHub, or else here.

    The workflow needs the inputs `suites` and `filter`.
    """
    pattern = f"^({'|'.join(map(re.escape, models))})$"
    if source.workflow and source.repository:
        words = ["gh", "workflow", "run", source.workflow, "--repo", source.repository]
        words += ["--ref", source.branch] if source.branch else []
        words += ["-f", f"suites={suite}", "-f", f"filter={pattern}"]
    else:
        words = ["torchperf-ci", "run", "--suites", suite, f"--{section.mode}", "--devices", section.device]
        words += ["--dtypes", section.dtype, "--compilers", compiler, "--filter", pattern]
    return one_line(shlex.join(words))
