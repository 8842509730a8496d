"""Small records for tests of tables and reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torchperf_ci.core.records import Build, Case, Environment, GraphBreak, Mode, Record, Source, Status, Testing
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.report.charts import Chart, Charts
from torchperf_ci.report.model import ReportOptions, RunFindings, collect_findings

GOLDEN = Path(__file__).parent / "golden"

BUILD = Build(
    environment=Environment(
        python="3.11.7",
        torch="2.13.0+cpu",
        torch_git="4d4a1a3b2c",
        cpu="AMD EPYC 7763 64-Core Processor",
        cpu_count=2,
        threads=1,
        memory_bytes=24_000_000_000,
        kernel="6.1.0",
    ),
    dynamo_flags={"suppress_errors": False, "assume_static_by_default": True},
    variables={"OMP_NUM_THREADS": "1"},
    packages={"transformers": "4.44.0"},
)
SOURCE = Source(
    repository="octo/models", commit="0123456789abcdef0123456789abcdef01234567", time="2026-11-21T12:00:00Z"
)


def case(
    model: str = "mlp",
    compiler: str = "inductor",
    *,
    suite: str = "tiny",
    mode: Mode = Mode.INFERENCE,
    device: str = "cpu",
    dtype: str = "float32",
) -> Case:
    return Case(suite=suite, model=model, mode=mode, device=device, dtype=dtype, compiler=compiler)


def accuracy(of: Case, status: Status = Status.PASS, *, reason: str = "", batch_size: int = 8) -> Record:
    return Record(case=of, testing=Testing.ACCURACY, status=status, batch_size=batch_size, reason=reason, source=SOURCE)


def performance(
    of: Case,
    speedup: float | None = 1.0,
    status: Status = Status.PASS,
    *,
    reason: str = "",
    batch_size: int = 8,
    samples: Sequence[float] = (),
    graph_breaks: tuple[GraphBreak, ...] = (),
    **metrics: float,
) -> Record:
    """A measured performance with the metrics given; `samples` are eager times in seconds, the compiled ones follow."""
    if speedup is not None:
        metrics = {"speedup": speedup, "abs_latency": 10 / speedup, **metrics}
    eager = tuple(samples)
    return Record(
        case=of,
        testing=Testing.PERFORMANCE,
        status=status,
        reason=reason,
        batch_size=batch_size,
        metrics=metrics,
        samples={"eager": eager, "compiled": tuple(time / (speedup or 1) for time in eager)} if eager else {},
        graph_breaks=graph_breaks,
        source=SOURCE,
    )


def both(of: Case, speedup: float = 1.0, **metrics: float) -> list[Record]:
    """A case that passes both testings."""
    return [accuracy(of), performance(of, speedup, **metrics)]


def findings(records: Sequence[Record], *, problems: Sequence[Problem] = (), **options: object) -> RunFindings:
    results = Results(records=tuple(records), builds=(BUILD,), problems=tuple(problems))
    return collect_findings(results, ReportOptions(**options))


def sample_records() -> list[Record]:
    """Two compilers on five models: a slowdown, wrong results, a crash, a missing result, one that cannot be loaded."""
    records: list[Record] = []
    speedups = {
        "mlp": (0.99, 1.52),
        "convnet": (1.01, 0.87),
        "unet": (1.0, 1.4),
        "lstm": (0.98, None),
        "recommender": (1.02, None),
        "resnet18": (None, None),
    }
    for model, pair in speedups.items():
        for compiler, speedup in zip(("eager", "inductor"), pair, strict=True):
            of = case(model, compiler)
            if model == "resnet18":
                why = "ModuleNotFoundError: No module named 'torchvision'"
                records.append(accuracy(of, Status.MODEL_FAIL_TO_LOAD, reason=why, batch_size=0))
                records.append(performance(of, None, Status.MODEL_FAIL_TO_LOAD, reason=why, batch_size=0))
            elif (model, compiler) == ("recommender", "inductor"):
                pass
            elif speedup is None:
                records.append(accuracy(of))
                records.append(performance(of, None, Status.CRASHED, reason="killed by signal 11 (SIGSEGV)"))
            else:
                wrong = (model, compiler) == ("unet", "inductor")
                status = Status.FAIL_ACCURACY if wrong else Status.PASS
                records.append(accuracy(of, status, reason="output 0 differs by 0.12" if wrong else ""))
                records.append(
                    performance(
                        of,
                        speedup,
                        speedup_low=speedup * 0.98,
                        speedup_high=speedup * 1.02,
                        eager_latency=10.0,
                        compilation_latency=130.0 if (model, compiler) == ("mlp", "inductor") else 4.25,
                        compression_ratio=0.85 if (model, compiler) == ("mlp", "inductor") else 1.05,
                    )
                )
    return records


BLANK = (
    b'<?xml version="1.0"?>\n<svg width="90pt" height="60pt" viewBox="0 0 90 60"><!-- x --><metadata>x</metadata></svg>'
)


def blank_charts(found: RunFindings) -> Charts:
    """Charts that do not hang on the version of the library that draws them."""
    blank = Chart(name="chart", title="a chart", svg=BLANK, png=b"")
    return Charts(
        overviews=tuple(blank for _ in found.sections),
        speedups={(tables.section, tables.suite): blank for tables in found.tables},
        parameters={},
        samples=(blank,),
    )


def check_golden(name: str, text: str) -> None:
    """The file `name` in tests/golden holds exactly `text`. With UPDATE_GOLDEN=1 it is written instead."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        f"{path} is not what came out; look at `git diff` after UPDATE_GOLDEN=1"
    )
