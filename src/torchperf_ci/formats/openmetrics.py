"""OpenMetrics text, for Prometheus and what reads its formats (prometheus.io/docs/specs/om/open_metrics_spec)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torchperf_ci.core.records import COUNTERS, METRICS, Mode, Record, Testing
from torchperf_ci.formats.model import Imported, ImportRequest, RecordCollector, choice, labels_of, parse_status
from torchperf_ci.formats.tables import table_metric

_BASE_UNITS: Mapping[str, tuple[str, float]] = {
    "ms": ("seconds", 1e-3),
    "s": ("seconds", 1.0),
    "bytes": ("bytes", 1.0),
    "ratio": ("ratio", 1.0),
    "count": ("", 1.0),
    "J": ("joules", 1.0),
    "1/s": ("per_second", 1.0),
    "FLOP/s": ("flops_per_second", 1.0),
    "bytes/s": ("bytes_per_second", 1.0),
}
"""A metric's unit as the base unit that the specification asks for, and the factor."""

_FAMILIES = {
    metric.name: f"torchperf_{metric.name}".removesuffix(f"_{unit}") + (f"_{unit}" if unit else "")
    for metric in METRICS.values()
    for unit, _ in [_BASE_UNITS[metric.unit]]
}
"""The families of our metrics."""

_PASS = "torchperf_pass"
_OWN = "torchperf_own"
"""The family of the metrics that are not ours: they may have any name and unit, for which the format has no words."""

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?P<labels>.*)\})? (?P<value>\S+)( \S+)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


_Sample = tuple[Record, str, Mapping[str, str]]
"""A record, its value, and labels beside those that every record has."""


def as_openmetrics(records: Sequence[Record]) -> bytes:
    """Write a gauge per metric and counter, with the case and the testing as labels.

    `torchperf_pass` has every record.
    """
    lines: list[str] = []

    def add(family: str, text: str, samples: Sequence[_Sample], *, unit: str = "") -> None:
        rows = []
        for record, value, more in samples:
            labels = {**labels_of(record), **more}
            text_of_labels = ",".join(f'{name}="{_escape(label)}"' for name, label in labels.items())
            rows.append(f"{family}{{{text_of_labels}}} {value}")
        if rows or family == _PASS:
            head = [f"# TYPE {family} gauge", *([f"# UNIT {family} {unit}"] if unit else [])]
            lines.extend([*head, f"# HELP {family} {_escape(text)}", *rows])

    passes: list[_Sample] = [
        (record, str(int(record.status.is_pass)), {"status": record.status.value}) for record in records
    ]
    add(_PASS, "1 where the testing passed, else 0; the label status says how it ended", passes)
    for metric in METRICS.values():
        unit, factor = _BASE_UNITS[metric.unit]
        title = metric.title.partition(" (")[0]  # the title's unit need not be this one
        values: list[_Sample] = [
            (r, repr(r.metrics[metric.name] * factor), {}) for r in records if metric.name in r.metrics
        ]
        add(_FAMILIES[metric.name], f"{title}; {metric.direction} is better", values, unit=unit)
    own: list[_Sample] = [
        (
            record,
            repr(record.metrics[metric.name]),
            {"metric": metric.name, "unit": metric.unit, "direction": metric.direction.value},
        )
        for record in records
        for metric in record.defined_metrics()
        if metric.name not in METRICS
    ]
    add(_OWN, "Metrics of other tools; the labels metric, unit and direction define them", own)
    for name in COUNTERS:
        counts: list[_Sample] = [
            (record, str(record.counters[name]), {}) for record in records if name in record.counters
        ]
        add(f"torchperf_{name}", f"Dynamo's counter {name}", counts)
    return "\n".join([*lines, "# EOF", ""]).encode("utf-8", errors="replace")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text, flags=re.DOTALL)


def import_openmetrics(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Read the gauges of our own export; families of other programs are left out, and that is said."""
    families = {family: METRICS[name] for name, family in _FAMILIES.items()}
    collector, foreign, source = RecordCollector(), set(), request.usual_source
    for number, line in enumerate(content.decode("utf-8-sig", errors="replace").split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            if line.strip() and not line.startswith("#"):
                collector.left_out.append(f"{file}:{number}: is no sample of a gauge")
            continue
        family = match["name"]
        labels = {key: _unescape(value) for key, value in _LABEL.findall(match["labels"] or "")}
        counter = family.removeprefix("torchperf_")
        if not labels.get("model") or not (family in {*families, _OWN, _PASS} or counter in COUNTERS):
            foreign.add(family)
            continue
        case = request.case(
            **{name: labels.get(name, "") for name in ("suite", "model", "device", "dtype", "compiler")},
            mode=choice(Mode, labels.get("mode"), None),
        )
        testing = choice(Testing, labels.get("testing"), Testing.PERFORMANCE)
        value = float(match["value"])
        if family == _PASS:
            with collector.skip_faults():
                status = parse_status(labels.get("status", ""), where=f"{file}:{number}")
                collector.add(case, source, testing=testing, status=status)
        elif family == _OWN:
            metric = table_metric(labels.get("metric", "value"), labels.get("unit", ""), labels.get("direction", ""))
            collector.add(case, source, testing=testing, metric=metric, value=value)
        elif family in families:
            metric = families[family]
            _, factor = _BASE_UNITS[metric.unit]
            collector.add(case, source, testing=testing, metric=metric, value=value / factor)
        else:
            collector.add(case, source, testing=testing, counter=counter, value=value)
    collector.left_out += [f"{file}: {name} is no metric of this program" for name in sorted(foreign)]
    return collector.imported()
