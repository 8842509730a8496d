"""Writes the noise card from raw samples: docs/noise-card.md and its chart."""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from noise_figures import (
    AS_IT_IS,
    AT,
    CASES,
    FAMILIES,
    SECONDS,
    TRIAL,
    WAYS,
    Round,
    Share,
    adjust_by_probe,
    called,
    coverage,
    family_alarms,
    found_among,
    judge_alone,
    peer_alarms,
    share_variance,
    smallest,
    told_apart,
    truth,
)
from noise_rules import RULES

from torchperf_ci.compare.effects import BETWEEN_FLOOR, LOOKS, ChangeTolerance, Launch, Verdict
from torchperf_ci.compare.live import LAUNCH_SECONDS
from torchperf_ci.core.statistics import slow_share

BUDGETS = (1.0, 2.0, 5.0, 10.0)
KINDS = {"one": "one process", "two": "two processes"}


HELPFUL = 0.95
"""Less than this part of the width, and of the deviation, is worth an adjustment."""
SAMPLES = "noise-card.jsonl.xz"
"""The raw samples, kept beside the card."""


def read(raw: Path) -> tuple[list[Round], list[dict[str, Any]]]:
    """The comparisons, and the other lines; of a file as it was measured, or packed."""
    content = lzma.decompress(raw.read_bytes()) if raw.suffix == ".xz" else raw.read_bytes()
    lines = [json.loads(line) for line in content.splitlines()]
    scale = 1 / TRIAL if any(line.get("trial") for line in lines) else 1  # what is shorter stands for the whole
    rounds = [
        Round(
            **{name: line[name] for name in ("kind", "extra", "stress", "call")},
            seconds=scale * line["seconds"],
            wall=scale * line.get("wall", 0),
            launches=tuple(Launch(**{name: tuple(values) for name, values in one.items()}) for one in line["launches"]),
        )
        for line in lines
        if line["kind"] in KINDS
    ]
    return rounds, [line for line in lines if line["kind"] not in KINDS]


def write_report(raw: Path, docs: Path, *, families: int = FAMILIES) -> None:
    """Write the card, its chart and the samples they are made of into `docs`; families: pull requests to draw."""
    rounds, others = read(raw)
    card = Card(rounds, others, families=families)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "noise-card.md").write_text("\n".join(card.lines()), encoding="utf-8")
    (docs / "noise-card.svg").write_bytes(chart(card))
    if raw.suffix != ".xz":
        (docs / SAMPLES).write_bytes(lzma.compress(raw.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


def per_cent(share: float) -> str:
    if math.isnan(share):
        return "–"
    return "more than was tried" if math.isinf(share) else f"{share:.1f} %"


def table(*rows: tuple[str, ...]) -> Iterator[str]:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    for row in (head, ("---",) * len(head), *body):
        yield "| " + " | ".join(row) + " |"
    yield ""


class Card:
    """The figures in words, by section."""

    def __init__(self, rounds: list[Round], others: list[dict[str, Any]], *, families: int) -> None:
        self._rounds, self._others, self._families = rounds, others, families
        self._drawn: dict[tuple[str, float, float], Share] = {}

    def of(self, kind: str, extra: float, *, stress: bool = False, call: float = 0) -> list[Round]:
        """The comparisons of one series."""
        key = (kind, extra, stress, call)
        return [item for item in self._rounds if (item.kind, item.extra, item.stress, item.call) == key]

    def extras(self, kind: str) -> list[float]:
        """The extra work there are series of, but none."""
        usual = (item for item in self._rounds if item.kind == kind and not item.stress and not item.call)
        return sorted({item.extra for item in usual if item.extra})

    def true(self, kind: str, extra: float) -> float:
        """The slowdown in per cent that all comparisons of a series agree on."""
        return 100 * (truth(self.of(kind, extra)) - 1)

    def nearest(self, kind: str, slowdown: float) -> float:
        """The extra work whose slowdown is nearest to so many per cent."""
        return min(self.extras(kind), key=lambda extra: abs(self.true(kind, extra) - slowdown), default=0.0)

    def alarms(self, kind: str, *, call: float = 0) -> Share:
        """Pull requests of equal cases in which anything blocks; drawn once, for that takes seconds."""
        key = (kind, 0, call)
        if key not in self._drawn:
            self._drawn[key] = family_alarms(self.of(kind, 0, call=call), families=self._families)
        return self._drawn[key]

    def among(self, kind: str, extra: float, *, call: float = 0) -> Share:
        """Pull requests in which the only slower case, by so much extra work, blocks; drawn once as well."""
        key = (kind, extra, call)
        if key not in self._drawn:
            slower, equal = self.of(kind, extra, call=call), self.of(kind, 0, call=call)
            self._drawn[key] = found_among(slower, equal, families=self._families)
        return self._drawn[key]

    def lines(self) -> Iterator[str]:
        """The whole card."""
        yield from self._head()
        yield from self._alarms()
        yield from self._power()
        yield from self._times()
        yield from self._coverage()
        yield from self._short_calls()
        yield from self._variance()
        yield from self._control()
        yield from self._peers()
        yield from self._overhead()
        yield "## Aims, and what was missed\n"
        for title, value, met in self._aims():
            yield f"- {'open' if met is None else 'met' if met else '**missed**'}: {title}: {value}"
        yield "\nOpen: below the aim, by less than chance explains among so few."
        yield ""

    def _head(self) -> Iterator[str]:
        machine = next((line for line in self._others if line["kind"] == "machine"), {})
        month = datetime.fromtimestamp(machine.get("time", 0), tz=timezone.utc)
        where = "a virtual machine" if machine.get("virtual") else "a machine"
        probes = [time for item in self._rounds if not item.stress for one in item.launches for time in one.probe]
        yield "<!-- Generated by `python benchmarks/noise_card.py report`; do not edit. -->\n"
        yield "# Noise card\n"
        if machine.get("trial"):
            yield "**A trial: two comparisons of each kind, far too short. Its figures mean nothing.**\n"
        slow = f"{100 * slow_share(probes):.0f} %"
        yield (
            f"What the rules of `torchperf-ci compare` find on {where}: {machine.get('cpu')}, "
            f"{machine.get('cpus')} CPUs, torch {machine.get('torch')}, {month:%B %Y}. The model is a hundred equal "
            "small layers, a slowdown is some more of them. In two processes an iteration finds the caches cold, so "
            "that they are less of its time: sizes are what all comparisons of a series agree on. The machine was in "
            f"its slow state for {slow} of the probes. On a calm machine all is better, also for the others. Shares "
            "have 95 % "
            "intervals (Wilson).\n"
        )

    def _alarms(self) -> Iterator[str]:
        yield "## Equal code\n"
        rows = []
        for kind, title in KINDS.items():
            rounds, stressed = self.of(kind, 0), self.of(kind, 0, stress=True)
            slower, faster = (called(rounds, v, AT[kind]) for v in (Verdict.REGRESSED, Verdict.IMPROVED))
            busy = called(stressed, Verdict.REGRESSED, AT[kind])
            alarms = per_cent(100 * self.alarms(kind).value)
            rows.append((f"{title}, {AT[kind]:g} s per case", str(slower), str(faster), alarms, str(busy)))
        head = (
            "",
            "called slower",
            "called faster",
            f"pull requests of {CASES} cases that block",
            "busy neighbour: slower",
        )
        yield from table(head, *rows)
        drawn = f"{self._families} drawn from these comparisons"
        yield f"Pull requests: {drawn}, corrected and confirmed as `compare` does it.\n"

    def _power(self) -> Iterator[str]:
        yield "## Slowdowns found\n"
        yield "![Share of slowdowns found, by size and seconds per case](noise-card.svg)\n"
        among = f"one of {CASES} cases, twice"
        head = ("", "true", *(f"{budget:g} s" for budget in BUDGETS), "busy neighbour", among)
        rows = [
            (
                title,
                f"{self.true(kind, extra):+.1f} %",
                *(str(called(self.of(kind, extra), Verdict.REGRESSED, budget)) for budget in BUDGETS),
                str(called(self.of(kind, extra, stress=True), Verdict.REGRESSED, SECONDS[kind])),
                per_cent(100 * self.among(kind, extra).value),
            )
            for kind, title in KINDS.items()
            for extra in self.extras(kind)
        ]
        yield from table(head, *rows)
        yield (
            "Slower is what is surely beyond the margin, 1 % in one process and 2 % in two. The last column is how "
            f"often a case that is slower blocks among {CASES}, measured again and corrected for their number, with "
            f"{AT['one']:g} and {AT['two']:g} s, and twice that again ({self._families} pull requests drawn). Found "
            "80 % of the time:\n"
        )
        rows = [
            row
            for kind, title in KINDS.items()
            for row in (
                (f"{title}, slower than the margin", *(per_cent(self.smallest(kind, budget)) for budget in BUDGETS)),
                (f"{title}, slower at all", *(per_cent(self.resolution(kind, budget)) for budget in BUDGETS)),
            )
        ]
        yield from table(("", *(f"{budget:g} s" for budget in BUDGETS)), *rows)

    def smallest(self, kind: str, budget: float) -> float:
        """The slowdown that is called one 80 % of the time, in per cent."""
        return self._smallest(kind, lambda rounds: called(rounds, Verdict.REGRESSED, budget))

    def resolution(self, kind: str, budget: float) -> float:
        """The slowdown that is told from equal code 80 % of the time, in per cent."""
        return self._smallest(kind, lambda rounds: told_apart(rounds, budget))

    def _smallest(self, kind: str, share_of: Callable[[list[Round]], Share]) -> float:
        shares = {self.true(kind, extra): share_of(self.of(kind, extra)) for extra in self.extras(kind)}
        found = [(size, share.value) for size, share in sorted(shares.items()) if share.count]
        return smallest(found) if found else math.nan

    def _times(self) -> Iterator[str]:
        yield "## Time to a verdict\n"
        rows = []
        for kind, title in KINDS.items():
            for extra in (0, *self.extras(kind)):
                times = sorted(judge_alone(item, SECONDS[kind])[1] for item in self.of(kind, extra))
                if times:
                    late = times[math.ceil(0.9 * len(times)) - 1]
                    still = called(self.of(kind, extra), Verdict.INCONCLUSIVE, SECONDS[kind])
                    true = self.true(kind, extra) if extra else 0
                    rows.append((title, f"{true:+.1f} %", f"{median(times):.2f} s", f"{late:.2f} s", str(still)))
        yield from table(("", "true", "median", "90 % within", "inconclusive at the end"), *rows)
        ends = " and ".join(f"{seconds:g} s in {KINDS[kind]}" for kind, seconds in SECONDS.items())
        yield f"It ends after {ends}.\n"

    def _coverage(self) -> Iterator[str]:
        yield "## Coverage of the interval\n"
        rows = [
            (title, f"{self.true(kind, extra) if extra else 0:+.1f} %", str(coverage(self.of(kind, extra))))
            for kind, title in KINDS.items()
            for extra in (0, *self.extras(kind))
        ]
        yield from table(("", "true", "intervals that hold it"), *rows)
        promised = 100 * (1 - 2 * LOOKS[-1][1])
        yield f"The interval of the last look promises {promised:.1f} %.\n"

    def _short_calls(self) -> Iterator[str]:
        yield "## Short calls\n"
        yield (
            "A loop in Python; a few per cent of it cannot be added to a single operation of torch. In two processes "
            "each is sampled in four launches of a second; a comparison takes up to ten, and finds more.\n"
        )
        rows = []
        for kind, title in KINDS.items():
            for call in self.calls(kind):
                equal, slower = self.of(kind, 0, call=call), self.of(kind, 5, call=call)
                time = 1e6 * median(median(launch.base) for item in equal for launch in item.launches)
                seconds = equal[0].seconds
                verdicts = (called(equal, v, seconds) for v in (Verdict.REGRESSED, Verdict.IMPROVED))
                among = self.among(kind, 5, call=call)
                rows.append(
                    (
                        f"{title}, {time:.0f} µs",
                        *map(str, verdicts),
                        per_cent(100 * self.alarms(kind, call=call).value),
                        str(coverage(equal)),
                        f"{called(slower, Verdict.REGRESSED, seconds)!s} at {100 * (truth(slower) - 1):+.1f} %",
                        str(coverage(slower)),
                        per_cent(100 * among.value),
                    )
                )
        head = (
            "",
            "equal: called slower",
            "called faster",
            f"pull requests of {CASES} that block",
            "covered",
            "+5 %: called slower",
            "covered",
            f"one of {CASES} blocks",
        )
        yield from table(head, *rows)

    def calls(self, kind: str) -> list[float]:
        """The microseconds of short calls there are series of."""
        return sorted({item.call for item in self._rounds if item.kind == kind and item.call})

    def _variance(self) -> Iterator[str]:
        yield "## Where the variance is\n"
        shares = {call: share_variance(self.of("two", 0, call=call)) for call in (0, *self.calls("two"))}
        rows = [
            (
                f"calls of {call:g} µs" if call else "the model",
                f"{one.between:.2f} %",
                f"{one.within:.2f} %",
                f"{one.cost:.2f} s",
                f"{one.best_seconds:.2f} s",
            )
            for call, one in shares.items()
            if one is not None
        ]
        head = ("two processes", "between launches", "within one second", "a launch costs besides", "best per launch")
        yield from table(head, *rows)
        yield (
            "Standard deviations of log ratios. Best are the seconds of sampling per launch with which a given time "
            f"says the most (Kalibera and Jones 2013); the rule takes {LAUNCH_SECONDS:g} s.\n"
        )

    def _control(self) -> Iterator[str]:
        yield "## The probe as a control\n"
        yield (
            "With every pair a loop is timed that neither side changes. What comparisons of a series say with it, in "
            "per cent: the mean ± the standard deviation between them; the mean width of their intervals; and how many "
            "hold the truth (for a slowdown: what they agree on as they are).\n"
        )
        series = {
            f"{title}, +{extra:g} % of work": adjusted
            for kind, title in KINDS.items()
            for extra in (0, *self.extras(kind))
            if (adjusted := adjust_by_probe(self.of(kind, extra)))
        }
        rows = [
            (
                name,
                *(
                    f"{one.mean:+.2f} ± {one.deviation:.2f}; {one.width:.2f}; {one.covered.hits} of {one.covered.count}"
                    for one in ways.values()
                ),
            )
            for name, ways in series.items()
        ]
        yield from table(("", *WAYS), *rows)
        helpful = []
        for way in list(WAYS)[1:] if series else []:
            width, deviation = (
                median(getattr(ways[way], name) / getattr(ways[AS_IT_IS], name) for ways in series.values())
                for name in ("width", "deviation")
            )
            hits = sum(ways[way].covered.hits for ways in series.values())
            covered = Share(hits=hits, count=sum(ways[way].covered.count for ways in series.values()))
            biased = [f"{name} by {ways[way].shift:+.2f}" for name, ways in series.items() if ways[way].is_biased]
            if max(width, deviation) < HELPFUL and covered.value >= 0.9 and not biased:
                helpful.append(way)
            yield (
                f"- {way}: intervals {width:.2f} times as wide, {deviation:.2f} times the deviation (medians over the "
                f"series); {covered} hold the truth; moved: {', '.join(biased) or 'none'}."
            )
        said = (
            f"Yes: {' and '.join(helpful)}."
            if helpful
            else "No. So verdicts take the pairs as they are, and the probe is only reported."
        )
        yield f"\nDoes it narrow intervals by {100 * (1 - HELPFUL):.0f} % or more without bias? {said}\n"

    def _peers(self) -> Iterator[str]:
        yield "## The rules of others on the same samples\n"
        yield "How often each calls head slower: in one process, the first 2 s of each comparison.\n"
        columns = (0, *self.extras("one"))
        ours = [str(called(self.of("one", extra), Verdict.REGRESSED, AT["one"])) for extra in columns]
        rows = [(name, *(str(peer_alarms(name, self.of("one", extra))) for extra in columns)) for name in RULES]
        head = ("rule", *("equal code" if not extra else f"{self.true('one', extra):+.1f} %" for extra in columns))
        yield from table(head, ("**this project**", *ours), *rows)
        yield "Rules with a history take the base times of the comparisons before, if there are enough.\n"
        yield from self._better(columns)

    def _better(self, columns: Sequence[float]) -> Iterator[str]:
        """Which rules find more than ours, and at what price."""
        parts = []
        for name in RULES:
            sizes = [
                f"{self.true('one', extra):+.1f} %"
                for extra in columns[1:]
                if peer_alarms(name, self.of("one", extra)).value
                > called(self.of("one", extra), Verdict.REGRESSED, AT["one"]).value
            ]
            if sizes:
                alarms = peer_alarms(name, self.of("one", 0))
                parts.append(f"{name}, at {' and '.join(sizes)}; it calls equal code slower in {alarms}")
        yield f"More than this project finds: {'. '.join(parts) or 'none of them'}.\n"

    def _overhead(self) -> Iterator[str]:
        yield "## What a reading costs, and its bias\n"
        lines = [line for line in self._others if line["kind"] == "overhead"]
        rows = []
        for call in dict.fromkeys(line["call"] for line in lines):
            some = [line for line in lines if line["call"] == call]
            theirs, ours, cost = (1e6 * median(line[name] for line in some) for name in ("timer", "ours", "cost"))
            bias = median(line["ours"] / line["timer"] for line in some)
            rows.append((call, f"{theirs:.2f} µs", f"{ours:.2f} µs", f"{bias:.3f}", f"{cost:.2f} µs"))
        yield from table(("call", "torch's Timer", "ours", "ours / Timer", "cost beside the call"), *rows)

    def _aims(self) -> Iterator[tuple[str, str, bool | None]]:
        for kind, title in KINDS.items():
            for call in (0, *self.calls(kind)):
                alarms = self.alarms(kind, call=call)
                called_so = f" of calls of {call:g} µs" if call else ""
                yield (
                    f"at most 1 % of 20-case pull requests of equal code block, {title}{called_so}",
                    str(alarms),
                    alarms.value <= 0.01,
                )
        for extra, least in ((5, 0.99), (3.4, 0.80)):
            share = self.among("two", extra)
            size = f"{self.true('two', extra):+.1f} %"
            yield (
                f"of 20 cases one that is {size} slower blocks at least {100 * least:.0f} % of the time, two processes",
                str(share),
                share.value >= least,
            )
        narrow = (ChangeTolerance(margin=0.01, threshold=0.05), BETWEEN_FLOOR)
        rounds = self.of("two", 2.2)
        share = found_among(rounds, rounds, cases=1, limits=narrow, families=self._families)
        yield (
            f"a case by itself that is {self.true('two', 2.2):+.1f} % slower blocks at least 80 % of the time with a "  # noqa: ISC004
            "margin of 1 % and 30 s of sampling",
            str(share),
            share.value >= 0.80,
        )
        for kind, limit in (("one", 2.0), ("two", 6.0)):
            value = self._right_verdict(kind)
            yield (
                f"median time to a right verdict at most {limit:g} s in {KINDS[kind]}",
                f"{value:.2f} s",
                value <= limit,
            )
        for kind, title in KINDS.items():
            for call in (0, *self.calls(kind)):
                for extra in (0, 5):
                    share = coverage(self.of(kind, extra, call=call))
                    called_so = f" of calls of {call:g} µs" if call else ""
                    yield f"coverage at least 90 % at +{extra} %, {title}{called_so}", str(share), share.reaches(0.9)
        least = self.resolution("one", 2.0)
        title = "the smallest change that is told from equal code 80 % of the time is at most 1 % in one process at 2 s"
        yield title, per_cent(least), least <= 1.0

    def _right_verdict(self, kind: str) -> float:
        """Median seconds to a verdict that is right: equal code unchanged, 5 % more slower. Infinite when most
        have none."""
        times = []
        for extra, right in ((0, Verdict.UNCHANGED), (5, Verdict.REGRESSED)):
            judged = [judge_alone(item, SECONDS[kind]) for item in self.of(kind, extra)]
            times += [seconds if verdict is right else math.inf for verdict, seconds in judged]
        return median(times) if times else math.inf


def chart(card: Card) -> bytes:
    """Share of slowdowns found, by their size and the seconds per case, as SVG."""
    from matplotlib.figure import Figure

    from torchperf_ci.report.palette import GRID, PALETTE
    from torchperf_ci.report.plots import saved, style

    with style():
        figure = Figure(figsize=(9.0, 3.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
            for colour, budget in zip(PALETTE, BUDGETS, strict=False):
                shares = [(x, called(card.of(kind, x), Verdict.REGRESSED, budget)) for x in (0, *card.extras(kind))]
                points = [(card.true(kind, x) if x else 0, 100 * share.value) for x, share in shares if share.count]
                axes.plot([x for x, _ in points], [y for _, y in points], "o-", color=colour, label=f"{budget:g} s")
            axes.axhline(80, color=GRID, linestyle=":")
            axes.set(title=title, xlabel="true slowdown in %", ylim=(-4, 104))
        panels[0].set_ylabel("called slower, %")
        panels[1].legend(frameon=False, title="per case")
        return saved(figure)["svg"]
