"""Draw the charts of a report, and name their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torchperf_ci.core.frames import Section
from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.text import safe_name, short_name, unique
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.palette import colours

MOST_SAMPLES = 12
"""Of so many flagged cases the samples are drawn, the slowest first."""
SECONDS = (1e-12, 1e9)
"""Times outside of these were not measured by any clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One drawn chart. `name` has no ending: there is an `.svg` and a `.png` of it."""

    name: str
    title: str
    svg: bytes
    png: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """The charts of a report: an overview per section, the speedups of every suite that has any, its cases over their
    parameters, the samples of flagged cases."""

    overviews: tuple[Chart, ...]
    speedups: Mapping[tuple[Section, str], Chart]
    samples: tuple[Chart, ...]
    parameters: Mapping[tuple[Section, str], Chart] = field(default_factory=dict)

    def files(self) -> Iterator[tuple[str, bytes]]:
        for chart in (*self.overviews, *self.speedups.values(), *self.parameters.values(), *self.samples):
            yield f"{chart.name}.svg", chart.svg
            yield f"{chart.name}.png", chart.png


def draw(findings: RunFindings) -> Charts:
    """Draw all charts of a report."""
    from torchperf_ci.report.plots import (
        collect_panels,
        draw_overview,
        draw_parameters,
        draw_samples,
        draw_speedups,
        saved,
        style,
    )

    taken: set[str] = set()

    def chart(parts: Sequence[str], title: str, drawn: Mapping[str, bytes]) -> Chart:
        return Chart(name=unique(short_name("_".join(map(safe_name, parts))), taken), title=title, **drawn)

    inks = colours(name for tables in findings.tables for name in tables.compilers)
    sections = findings.sections
    with style():
        return Charts(
            overviews=tuple(
                chart(
                    ("overview", *(_parts(section) if len(sections) > 1 else ())),
                    str(section),
                    saved(draw_overview(str(section), findings.lines_of(section), inks, name=findings.name_of)),
                )
                for section in sections
            ),
            speedups={
                (tables.section, tables.suite): chart(
                    (tables.suite, *_distinction(tables.section, sections)),
                    f"{tables.suite}: {tables.section}",
                    saved(draw_speedups(tables, inks)),
                )
                for tables in findings.tables
                if tables.values["speedup"].notna().any(axis=None)
            },
            parameters={
                (tables.section, tables.suite): chart(
                    (tables.suite, "parameters", *_distinction(tables.section, sections)),
                    f"{tables.suite} over its parameters: {tables.section}",
                    saved(draw_parameters(tables, panels, inks)),
                )
                for tables in findings.tables
                if (panels := collect_panels(tables))
            },
            samples=tuple(
                chart(
                    ("samples", case.suite, case.model, case.compiler, *_parts(Section.of(case))),
                    str(case),
                    saved(draw_samples(record)),
                )
                for case, record in ((record.case, record) for record in choose_flagged(findings))
            ),
        )


def choose_flagged(findings: RunFindings) -> list[Record]:
    """List the records with samples whose speedup is flagged, the slowest first, at most `MOST_SAMPLES`."""
    tables = {(item.section, item.suite): item for item in findings.tables}
    flags = [flag for flag in findings.warnings if flag.metric == "speedup"]
    records = [
        tables[flag.section, flag.suite].records[Testing.PERFORMANCE, flag.model, flag.compiler]
        for flag in sorted(flags, key=lambda flag: flag.value or 0.0)
    ]
    return [record for record in records if _can_be_drawn(record)][:MOST_SAMPLES]


def _can_be_drawn(record: Record) -> bool:
    eager, compiled = record.samples.get("eager", ()), record.samples.get("compiled", ())
    return (
        len(eager) == len(compiled) > 1 and SECONDS[0] < min(*eager, *compiled) <= max(*eager, *compiled) < SECONDS[1]
    )


def _distinction(section: Section, sections: Sequence[Section]) -> tuple[str, ...]:
    """Name what tells the charts of a suite apart: the dtype, and mode and device where there are several of them."""
    several = len({(item.mode, item.device) for item in sections}) > 1
    return _parts(section) if several else (section.dtype,)


def _parts(section: Section) -> tuple[str, str, str]:
    return (section.dtype, section.mode.value, section.device)
