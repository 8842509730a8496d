"""`python -m tools.pictures`: draw the pictures of README.md and docs/ from a real run.

    python -m tools.pictures                     # measures and compares the suite tiny first, some six minutes
    python -m tools.pictures --results out       # from a results folder that is there
    python -m tools.pictures --comparison compare_logs --only comparison
    python -m tools.pictures --only site         # from a history that is made up, always the same

It needs Chromium. A picture is an entry of `PICTURES`: a page made of a results folder, and a width.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cmarkgfm
import numpy as np
from cmarkgfm.cmark import Options
from matplotlib import image

from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Case, Environment, Mode, Record, Source, Status, Testing
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import Results
from torchperf_ci.dashboard.words import case_address
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import DEFAULT_NAME, RunFilter, make_run
from torchperf_ci.history.storage import LocalFiles
from torchperf_ci.report.markdown import write_markdown
from torchperf_ci.report.model import ReportOptions
from torchperf_ci.report.write import judge_results
from torchperf_ci.site.build import SiteOptions, make_site, read_sources, write_site
from torchperf_ci.site.months import Manifest

DOCS = Path(__file__).parents[1] / "docs"
TALLEST = 4000
"""Pixels; what is empty at the bottom is cut off."""

TINY = ("--suites", "tiny", "--quick", "--inference", "--threads", "1")
RUN = ("run", *TINY, "--compilers", "eager,aot_eager,inductor")
SIDES = ("--base-env", "ATEN_CPU_CAPABILITY=avx2", "--head-env", "ATEN_CPU_CAPABILITY=default")
COMPARE = ("compare", *SIDES, *TINY, "--compilers", "eager")
"""Head does without vector instructions, so that there is a slowdown to see."""

GITHUB_STYLE = """
body { max-width: 1010px; margin: 0 auto; padding: 20px; background: #fff; color: #1f2328;
  font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }
h2 { padding-bottom: .3em; border-bottom: 1px solid #d1d9e0; font-size: 24px; } h3 { font-size: 20px; }
code { padding: .2em .4em; border-radius: 6px; background: #818b981f; font: 85% ui-monospace, monospace; }
table { border-collapse: collapse; } th, td { padding: 6px 13px; border: 1px solid #d1d9e0; }
tr:nth-child(2n) td { background: #f6f8fa; }
"""


SIGNS = {"✅": ("✓", "#1a7f37"), "❌": ("✗", "#cf222e"), "⚠️": ("!", "#9a6700")}
"""Letters of every font in place of emoji, which few machines have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A screenshot. make_page: write a page, given the folder that a command made and a folder for it, and return its
    address. command: what is measured when no such folder is given; none for what needs no measurement. height: of what
    is shown, at most."""

    width: int
    height: int = TALLEST
    command: tuple[str, ...] = RUN
    make_page: Callable[[Path, Path], str]


def make_summary_page(results: Path, scratch: Path) -> str:
    """Write the step summary of a results folder as GitHub shows it."""
    findings = judge_results(read_folder(results, CaseSelection()), ReportOptions(run_name=results.name))
    return make_markdown_page(write_markdown(findings), scratch / "summary.html")


def make_comparison_page(comparison: Path, scratch: Path) -> str:
    """Write the comment on a pull request as GitHub shows it."""
    return make_markdown_page((comparison / "compare.md").read_text(encoding="utf-8"), scratch / "comparison.html")


def make_markdown_page(text: str, path: Path) -> str:
    """Write Markdown as a page that looks as GitHub shows it: for step summaries and comments."""
    for sign, (letter, colour) in SIGNS.items():
        text = text.replace(sign, f'<b style="color: {colour}">{letter}</b>')
    body = cmarkgfm.github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE)
    path.write_text(f"<!doctype html><meta charset=utf-8><style>{GITHUB_STYLE}</style>{body}", encoding="utf-8")
    return path.resolve().as_uri()


def make_site_page(_: Path, scratch: Path) -> str:
    """Make up sixty nights of four models, of which one is slower since the fortieth, and open its page in the site."""
    history = ParquetHistory(files=LocalFiles(root=scratch / "history"))
    machine = Environment(torch="2.13.0", cpu="AMD EPYC 9534 64-Core Processor", cpu_count=16, threads=16)
    of = Case(suite="ours", model="decoder", mode=Mode.INFERENCE, device="cpu", dtype="bfloat16", compiler="inductor")
    chance = random.Random(1)  # noqa: S311 - the same every time
    for night in range(60):
        time = datetime(2026, 9, 20, 3, 17, tzinfo=timezone.utc) + timedelta(days=night)
        commit = hashlib.sha256(str(night).encode()).hexdigest()[:40]
        source = Source(
            repository="org/project", commit=commit, branch="main", run_id=str(9_000 + night), time=time.isoformat()
        )
        records = []
        speedups = {"decoder": 1.58 if night < 40 else 1.31, "encoder": 1.72, "mlp": 1.12, "unet": 1.44}
        for model, usual in speedups.items():
            speedup, latency = usual * chance.gauss(1, 0.008), len(model) * chance.gauss(1, 0.008)
            metrics = {
                "speedup": speedup,
                "speedup_low": speedup * 0.985,
                "speedup_high": speedup * 1.015,
                "abs_latency": latency,
                "eager_latency": latency * speedup,
                "compilation_latency": chance.gauss(20, 0.5),
                "compression_ratio": chance.gauss(1.05, 0.003),
            }
            passed = Record(
                case=replace(of, model=model),
                testing=Testing.ACCURACY,
                status=Status.PASS,
                environment=machine,
                source=source,
            )
            records += [passed, replace(passed, testing=Testing.PERFORMANCE, metrics=metrics)]
        history.add(make_run(Results(records=tuple(records)), name=DEFAULT_NAME, now=time), scratch)
    write_site(scratch / "site", make_site(read_sources(history, 60, RunFilter()), SiteOptions(), Manifest()))
    return (scratch / "site" / "index.html").resolve().as_uri() + case_address("", of)


PICTURES: Mapping[str, Picture] = {
    "report.png": Picture(width=1200, make_page=lambda results, _: (results / "report.html").resolve().as_uri()),
    "summary.png": Picture(width=1050, make_page=make_summary_page),
    "comparison.png": Picture(width=1050, command=COMPARE, make_page=make_comparison_page),
    "site.png": Picture(width=1100, height=880, command=(), make_page=make_site_page),
}
"""The pictures by file name below docs/."""


def photograph(address: str, target: Path, *, width: int, height: int) -> None:
    """Photograph a page with Chromium, without what is empty at its end. Raises `SystemExit` without Chromium."""
    chromium = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not chromium:
        raise SystemExit("tools.pictures needs Chromium (Debian: apt-get install chromium)")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    size = f"--window-size={width},{height}"
    # A page that draws itself gets so many milliseconds of its own clock for that.
    command = [chromium, *flags, size, "--virtual-time-budget=20000", f"--screenshot={target}", address]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pixels = image.imread(target)[..., :3]
    rows = np.flatnonzero((pixels != pixels[-1, 0]).any(axis=(1, 2)))
    image.imsave(target, pixels[: int(rows[-1]) + 24], pil_kwargs={"optimize": True})


def main() -> None:
    """Measure where no results are given, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="a results folder with a report; else one is measured")
    parser.add_argument("--comparison", type=Path, help="the folder of a comparison; else one is measured")
    parser.add_argument("--only", choices=[name.removesuffix(".png") for name in PICTURES], help="one picture")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folders = {RUN: options.results, COMPARE: options.comparison, (): scratch}
        for file, picture in PICTURES.items():
            if options.only not in {None, file.removesuffix(".png")}:
                continue
            if not (folder := folders[picture.command]):
                folder = folders[picture.command] = scratch / picture.command[0]
                command = [sys.executable, "-m", "torchperf_ci", *picture.command, "--output-dir", str(folder)]
                # A comparison that finds something slower ends with another exit code, and with a report.
                subprocess.run(command, check=picture.command == RUN)
            photograph(picture.make_page(folder, scratch), DOCS / file, width=picture.width, height=picture.height)
            print(f"docs/{file}")


if __name__ == "__main__":
    main()
