"""The index of a site's data, its one page, the feed of changes, and the files that the page needs."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.core.errors import require
from torchperf_ci.core.records import Case, Metric, Source
from torchperf_ci.core.text import count, format_digits, one_line
from torchperf_ci.dashboard.commits import Ranges
from torchperf_ci.dashboard.owners import OwnerRule, find_owners
from torchperf_ci.dashboard.states import LevelChange, SeriesState, State
from torchperf_ci.dashboard.words import (
    identify_case,
    page_address,
    start_address,
    write_bisect,
    write_comparison,
    write_rerun,
)
from torchperf_ci.history.series import STATUS_METRICS, RunInfo
from torchperf_ci.site.data import describe_metric, describe_run
from torchperf_ci.site.months import digest

SCRIPTS = ("store.js", "dom.js", "charts.js", "overview.js", "case.js", "runs.js")
"""Our scripts in the order in which the page loads them; then the index, then `main.js`."""

MOST_CHANGES = 500
"""So many changes are listed, the newest; a feed has `MOST_ENTRIES` of them."""
MOST_ENTRIES = 50

EMPTY_STYLE = f"sha256-{base64.b64encode(hashlib.sha256(b'').digest()).decode()}"
"""The one style in the page that its policy allows: an empty one, whose rules Plotly adds by script."""

_STYLE_ID = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')
"""A style sheet that the plotting library adds unless the page has an element of this id. It is of maps, which nobody
draws here, and the policy would refuse it."""

_LOOKS: Mapping[State, tuple[str, str, str]] = {
    State.FAILING: ("failing", "✗", "bad"),
    State.CHANGED: ("worse", "✗", "bad"),
    State.DROPPED: ("dropped", "!", "warn"),
    State.GONE: ("gone", "!", "warn"),
    State.NEW: ("new", "+", ""),
    State.UNJUDGED: ("not judged", "?", ""),
    State.ACCEPTED: ("accepted", "○", ""),
    State.SKIPPED: ("skipped", "–", ""),
    State.FINE: ("fine", "✓", "good"),
}
"""A word, a sign that every font has, and a tone, for every state."""

_URGENCY = {state: place for place, state in enumerate(State)}
_QUIET = {State.UNJUDGED, State.ACCEPTED, State.SKIPPED, State.FINE}
"""The states of which the best stands for a case; of all others the worst does."""


def read_assets() -> dict[str, bytes]:
    """Read the scripts and the style of the page, and the plotting library's script out of its Python package."""
    require("plotly", purpose="the charts of a site")
    package = importlib.util.find_spec("plotly")
    assert package is not None
    assert package.submodule_search_locations is not None
    plotly = Path(package.submodule_search_locations[0], "package_data", "plotly.min.js").read_bytes()
    own = {f"assets/{name}": _read_template(name).encode() for name in (*SCRIPTS, "main.js", "site.css")}
    return {"assets/plotly.min.js": plotly, **own}


def describe_states(
    states: Sequence[SeriesState], ranges: Ranges, owners: Sequence[OwnerRule] = ()
) -> list[dict[str, Any]]:
    """Describe the states that somebody may want to know of, the most urgent and largest first, with whose they are."""
    telling = (state for state in states if state.state not in {State.FINE, State.SKIPPED})
    ordered = sorted(telling, key=lambda each: (_URGENCY[each.state], -abs(each.change or 0.0)))
    return [
        {
            "case": identify_case(state.case),
            "metric": state.metric.name,
            **_describe_looks(state.state),
            "open": state.is_open,
            "text": _write_state(state),
            "since": describe_run(state.since) if state.since else None,
            "good": describe_run(state.last_good) if state.last_good else None,
            "range": _describe_range(state, ranges),
            "acceptance": _describe_acceptance(state),
            "owners": list(find_owners(owners, [(state.case, state.metric.name)])) if state.is_open else [],
            "commands": _list_commands(state) if state.is_open else [],
        }
        for state in ordered
    ]


def describe_changes(states: Sequence[SeriesState]) -> list[dict[str, Any]]:
    """Describe every change of a level, and every failure that lasts, newest first."""
    changes = [_describe_change(state, change) for state in states for change in state.changes]
    changes += [
        _describe_failure(state) for state in states if state.state is State.FAILING and state.since is not None
    ]
    return sorted(changes, key=lambda each: (each["since"]["time"], each["id"]), reverse=True)


def describe_standing(states: Sequence[SeriesState]) -> dict[str, dict[str, Any]]:
    """Describe how every case stands as a whole, by its id, with the newest level of its first metric."""
    groups: dict[Case, list[SeriesState]] = {}
    for state in states:
        groups.setdefault(state.case, []).append(state)
    standing = {}
    for case, of_case in groups.items():
        levels = {each.metric.name: each for each in of_case if each.new is not None}
        first = next((levels[name] for name in ("speedup", "abs_latency", *levels) if name in levels), None)
        newest = {**describe_metric(first.metric), "value": first.new} if first else None
        standing[identify_case(case)] = {**_describe_looks(_choose_state(of_case)), "newest": newest}
    return standing


def write_index_page(index: Mapping[str, Any], assets: Mapping[str, bytes], index_script: bytes) -> bytes:
    """Write index.html. Every file is loaded by an address that changes with its content."""
    ids = _STYLE_ID.findall(assets["assets/plotly.min.js"])
    scripts = [_versioned(f"assets/{name}", assets[f"assets/{name}"]) for name in SCRIPTS]
    sign, tone, verdict = write_verdict(index["states"], index["newest"])
    newest = index["newest"]
    return _render(
        "index.html",
        title=index["title"],
        sign=sign,
        tone=tone,
        verdict=verdict,
        span=f"newest run {newest['time'][:16].replace('T', ' ')} UTC" if newest else "no runs",
        style=_versioned("assets/site.css", assets["assets/site.css"]),
        style_ids=[each.decode() for each in dict.fromkeys(ids)],
        empty_style=EMPTY_STYLE,
        scripts=[
            *scripts,
            _versioned("data/index.js", index_script),
            _versioned("assets/main.js", assets["assets/main.js"]),
        ],
    )


def write_verdict(states: Sequence[Mapping[str, Any]], newest: object) -> tuple[str, str, str]:
    """Write a sign, a tone and how the history stands as a sentence, from states as they are described."""
    words = [_LOOKS[state][0] for state in (State.FAILING, State.CHANGED, State.DROPPED, State.GONE)]
    numbers = {word: len({each["case"] for each in states if each["state"] == word}) for word in words}
    counts = ", ".join(f"{count(number, 'case')} {word}" for word, number in numbers.items() if number)
    if any(each["open"] for each in states):
        return "✗", "bad", counts
    if counts:
        return "!", "warn", counts
    return ("✓", "good", "Nothing is open") if newest else ("!", "warn", "There are no runs")


def write_feed(index: Mapping[str, Any], site_url: str) -> bytes:
    """Write the Atom feed of the newest changes. An entry's id follows from case, metric and run."""
    cases = {case["id"]: case for case in index["cases"]}
    home = start_address(site_url) if site_url else "index.html"
    entries = []
    for change in index["changes"][:MOST_ENTRIES]:
        case = cases.get(change["case"])
        if case is None:
            continue
        name = f"{case['suite']}/{case['model']} {case['compiler']}"
        metric = index["metrics"].get(change["metric"], {}).get("title") or one_line(change["metric"])
        since = change["since"]
        begin = f"since {since['time'][:16].replace('T', ' ')} UTC"
        begin += f", commit {since['commit'][:12]}" if since["commit"] else ""
        section = f"{case['mode']}, {case['dtype']}, {case['device']}"
        entries.append(
            {
                "id": f"tag:torchperf-ci,2026:{index['id']}/{change['id']}",
                "title": f"{name}: {metric}: {change['text']}",
                "updated": f"{since['time']}Z",
                "link": page_address(home, change["case"], change["metric"]),
                "text": f"{name} ({section}): {metric}: {change['text']}, {begin}",
            }
        )
    newest = index["newest"]["time"] if index["newest"] else "1970-01-01T00:00:00"
    return _render(
        "feed.xml",
        id=f"tag:torchperf-ci,2026:{index['id']}",
        title=index["title"],
        updated=max([f"{newest}Z", *(entry["updated"] for entry in entries)]),
        home=home,
        own=f"{home.rpartition('/')[0]}/feed.xml" if site_url else "",
        entries=entries,
    )


def _choose_state(of_case: Sequence[SeriesState]) -> State:
    """Choose the state that stands for a case: the worst of those that somebody has to know of, else the best.

    That it passed makes a case fine only where there are no numbers to be judged.
    """
    states = [each.state for each in of_case]
    if loud := [state for state in states if state not in _QUIET]:
        return min(loud, key=_URGENCY.__getitem__)
    numbers = [each.state for each in of_case if each.metric not in STATUS_METRICS.values()]
    return max(numbers or states, key=_URGENCY.__getitem__)


def _describe_looks(state: State) -> dict[str, str]:
    return dict(zip(("state", "sign", "tone"), _LOOKS[state], strict=True))


def _describe_change(state: SeriesState, change: LevelChange) -> dict[str, Any]:
    sign, tone = ("✗", "bad") if change.is_worse else ("✓", "good")
    if change.acceptance:
        sign, tone = _LOOKS[State.ACCEPTED][1:]
    size = "" if change.change is None else f" ({percent_text(1 + change.change)})"
    numbers = f"{_write_number(change.old, state.metric)} → {_write_number(change.new, state.metric)}{size}"
    return {
        **_identify(state, change.first_new),
        "good": describe_run(change.last_good),
        "state": "worse" if change.is_worse else "better",
        "sign": sign,
        "tone": tone,
        "old": change.old,
        "new": change.new,
        "change": change.change,
        "text": f"{'worse' if change.is_worse else 'better'}: {numbers}",
        "closed": f"{change.closed.time:%Y-%m-%dT%H:%M:%S}" if change.closed else "",
        "acceptance": _describe_acceptance(change),
    }


def _describe_failure(state: SeriesState) -> dict[str, Any]:
    assert state.since is not None
    reason = one_line(state.reason, limit=200)
    return {
        **_identify(state, state.since),
        "good": describe_run(state.last_good) if state.last_good else None,
        "state": "failing",
        "sign": "✗",
        "tone": "bad",
        "old": None,
        "new": None,
        "change": None,
        "text": f"failing{f': {reason}' if reason else ''}",
        "closed": "",
        "acceptance": None,
    }


def _identify(state: SeriesState, since: RunInfo) -> dict[str, Any]:
    case, run = identify_case(state.case), describe_run(since)
    key = digest(f"{case}\0{state.metric.name}\0{run['id']}".encode())
    return {"id": key, "case": case, "metric": state.metric.name, "since": run}


def _describe_range(state: SeriesState, ranges: Ranges) -> dict[str, Any] | None:
    """Describe the commits in which it became worse, oldest first, where they are known; of many only the number."""
    if state.since is None or state.last_good is None:
        return None
    known = ranges.get((state.last_good.commit, state.since.commit))
    if known is None:
        return None
    return {"count": known.count, "commits": [{"commit": each.sha, "subject": each.subject} for each in known.commits]}


def _describe_acceptance(accepted: SeriesState | LevelChange) -> dict[str, str] | None:
    acceptance = accepted.acceptance
    if acceptance is None:
        return None
    return {
        "time": f"{acceptance.time:%Y-%m-%dT%H:%M:%S}",
        "by": one_line(acceptance.who, limit=80),
        "reason": one_line(acceptance.reason, limit=200),
    }


def _write_state(state: SeriesState) -> str:
    """Write what there is to say of a state: its numbers, how long it has been so, and why."""
    parts = []
    if (
        state.state in {State.CHANGED, State.DROPPED, State.ACCEPTED}
        and state.old is not None
        and state.new is not None
    ):
        size = "" if state.change is None else f" ({percent_text(1 + state.change)})"
        parts.append(f"{_write_number(state.old, state.metric)} → {_write_number(state.new, state.metric)}{size}")
    if state.reason:
        parts.append(one_line(state.reason, limit=300))
    if state.acceptance:
        by = f" by {one_line(state.acceptance.who, limit=80)}" if state.acceptance.by else ""
        parts.append(f"accepted{by}: {one_line(state.acceptance.reason, limit=200)}")
    if state.runs and state.is_open:
        parts.append(f"for {count(state.runs, 'run')}")
    return ", ".join(parts)


def _write_number(value: float, metric: Metric) -> str:
    match metric.unit:
        case "ratio":
            return f"{value:.3f}x"
        case "bytes":
            return f"{value / 1e6:,.1f} MB"
        case unit:
            return one_line(f"{format_digits(value, 4)} {'' if unit == 'count' else unit}")


def _list_commands(state: SeriesState) -> list[dict[str, str]]:
    """List the commands that look for the cause: between both ends of the range, and of the case as it is now."""
    case, since, good = state.case, state.since or state.newest, state.last_good
    source = Source(repository=since.repository, commit=since.commit, branch=since.branch, workflow=since.workflow)
    commands = {
        "Find the commit, in a checkout; --setup installs yours": write_bisect(
            case, state.metric, good, since, suites={}
        ),
        "Compare the two commits and explain, in a checkout": write_comparison(case, good, since, suites={}),
        "Measure it again": write_rerun(case, case.suite, source),
    }
    return [{"title": title, "command": command} for title, command in commands.items() if command]


def _versioned(path: str, content: bytes) -> str:
    return f"{path}?v={digest(content)}"


def _render(template: str, **values: object) -> bytes:
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_read_template))
    page = environment.get_template(template).render(**values) + "\n"
    return re.sub("[\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", page).encode("utf-8", errors="replace")  # not in XML


def _read_template(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
