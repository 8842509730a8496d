"""A comparison that is in a folder, as far as it is explained: its verdicts, its command, what was explained before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.explanation import Explanation
from torchperf_ci.compare.model import ACCURACY, LATENCY, Comparison
from torchperf_ci.compare.report import to_plain
from torchperf_ci.compare.words import is_change, ordered
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import one_line, some_of

_FILE = "compare.json"


class _Header(msgspec.Struct):
    commands: list[str] = []


class _Document(msgspec.Struct):
    header: _Header
    comparisons: list[Comparison]
    explanations: list[Explanation] = []


class StoredComparison(msgspec.Struct, frozen=True):
    """The verdicts of a comparison, the commands that measure it again, and the explanations that it has."""

    comparisons: list[Comparison]
    commands: list[str]
    explanations: list[Explanation]


def read_stored(folder: Path) -> StoredComparison:
    """Read the comparison in a folder. Raises `UsageProblem` for one that has none that can be read."""
    path = folder / _FILE
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except (OSError, ValueError) as error:
        why = "there is none" if isinstance(error, FileNotFoundError) else one_line(str(error), limit=200)
        advice = "name the --output-dir of a comparison"
        if (folder / "records.jsonl").is_file():
            advice = f"{folder} is a folder of `run`; explain needs one of `compare`"
        raise UsageProblem(f"{path} cannot be read: {why}; {advice}") from error
    return StoredComparison(
        comparisons=document.comparisons, commands=document.header.commands, explanations=document.explanations
    )


def choose_stored(stored: StoredComparison, name: str) -> list[Comparison]:
    """Choose what is explained: everything of the cases of this name that changed, the most urgent first, or of these
    cases the times if nothing did. name: `suite/model`, then, as far as needed, what tells cases apart; blank for all
    cases, of which those that changed are chosen.

    Raises `UsageProblem` when no case is called so, and `NothingToJudge` when nothing changed.
    """
    cases = {c.case for c in stored.comparisons if c.case.has_words(name)}
    if not cases:
        names = sorted({str(c.case) for c in stored.comparisons})
        raise UsageProblem(f"there is no case {one_line(name)!r} in it. There are: {some_of(names, 20)}")
    of_cases = [c for c in ordered(stored.comparisons) if c.case in cases and c.metric != ACCURACY]
    chosen = [
        c
        for c in of_cases
        if (is_change(c) or c.verdict is Verdict.CHANGED)
        and c.verdict not in {Verdict.MISSING, Verdict.NEW, Verdict.REFUSED}
    ]
    if not chosen and not name:
        raise NothingToJudge("nothing changed in this comparison; name a case to profile it anyway")
    return chosen or [c for c in of_cases if c.metric == LATENCY]


def add_to_stored(folder: ResultsFolder, explanations: Sequence[Explanation]) -> None:
    """Put explanations into the folder's compare.json, in place of earlier ones of the same cases and metrics."""
    document = json.loads((folder.path / _FILE).read_bytes())
    new = to_plain(explanations)
    keys = [(each["case"], each["metric"]) for each in new]
    kept = [each for each in document.get("explanations", []) if (each["case"], each["metric"]) not in keys]
    content = json.dumps({**document, "explanations": [*kept, *new]}, ensure_ascii=False, allow_nan=False)
    folder.write_text(_FILE, content)
