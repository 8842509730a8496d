"""Artifacts as the two kinds of jobs upload them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from torchperf_ci.core.records import Case, Mode, Record, Source, Status, Testing, to_line


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    """A zip of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def accuracy_csv(*rows: str, columns: str = "dev,name,batch_size,accuracy,calls_captured,graph_breaks") -> str:
    """A suite runner's accuracy CSV; a row is "name,accuracy,calls_captured,graph_breaks"."""
    lines = []
    for row in rows:
        name, rest = row.split(",", 1)
        lines.append(f"cuda,{name},4,{rest}")
    return "\n".join([columns, *lines]) + "\n"


def record(
    model: str,
    status: Status = Status.PASS,
    testing: Testing = Testing.ACCURACY,
    *,
    compiler: str = "inductor",
    metrics: Mapping[str, float] | None = None,
    source: Source | None = None,
    **counters: int,
) -> Record:
    """One testing of a model of the suite `tiny`."""
    case = Case(suite="tiny", model=model, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler=compiler)
    return Record(
        case=case, testing=testing, status=status, metrics=metrics or {}, counters=counters, source=source or Source()
    )


def records_file(*records: Record) -> str:
    """A records.jsonl."""
    return "".join(f"{to_line(each)}\n" for each in records)
