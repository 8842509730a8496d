"""Does a large site open at once? Makes the files that a browser asks for of 300 cases and 1,000 runs, and opens them.

    python benchmarks/site_opening.py

The index, the runs and summary numbers of 33 months, and one case are as `torchperf-ci site` makes them; the numbers in
them are made up. It needs Chromium and chromedriver, and writes into a temporary folder.
"""

from __future__ import annotations

import random
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from typing import Any

from torchperf_ci.core.records import METRICS
from torchperf_ci.site.data import describe_metric, encode_data
from torchperf_ci.site.pages import read_assets, write_index_page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Browser, running_browser

RUNS = 1_000
CASES = 300
VISITS = 6
FIRST = datetime(2024, 1, 1, 3, tzinfo=timezone.utc)
GROUPS = [
    {"suite": suite, "mode": "inference", "device": "cuda", "dtype": dtype, "compiler": compiler}
    for suite in ("torchbench", "huggingface", "timm_models")
    for dtype in ("bfloat16", "float32")
    for compiler in ("eager", "inductor")
]
FOLLOWED = ("abs_latency", "eager_latency", "compilation_latency", "compression_ratio", "dynamo_peak_mem")
FINE = {"state": "fine", "sign": "✓", "tone": "good"}
PAGES = {"all cases": "#/", "a case": f"#/case/{0:012x}", "two runs": "#/runs"}


def make(site: Path) -> None:
    chance = random.Random(1)
    assets = read_assets()
    months: dict[str, list[dict[str, Any]]] = {}
    for number in range(RUNS):
        day = FIRST + timedelta(days=number)
        commit = f"{chance.getrandbits(160):040x}"
        run = {"id": f"{number:012x}", "key": f"org/project/{number}", "time": f"{day:%Y-%m-%dT%H:%M:%S}"}
        run |= {"commit": commit, "branch": "main", "subject": "", "repository": "org/project"}
        run |= {"workflow_run": str(number), "machines": ["NVIDIA H200"], "passed": 590, "total": 600}
        months.setdefault(f"{day:%Y-%m}", []).append(run)
    data: dict[str, Any] = {}
    for month, runs in months.items():
        places = range(len(runs))
        trends = [[place, group, *_numbers(chance, 4)] for place in places for group in range(len(GROUPS))]
        data[f"{month}/runs"] = {"runs": runs, "groups": GROUPS, "trends": trends}
        speedups = _numbers(chance, len(runs))
        metrics: dict[str, Any] = {name: {"value": _numbers(chance, len(runs))} for name in FOLLOWED}
        metrics["speedup"] = {
            "value": speedups,
            "low": [0.98 * value for value in speedups],
            "high": [1.02 * value for value in speedups],
        }
        data[f"{month}/case-{0:012x}"] = {
            "runs": list(places), "machines": ["NVIDIA H200"], "machine": [0] * len(runs), "failures": [],
            "metrics": metrics,
        }  # fmt: skip
    for number in (RUNS - 2, RUNS - 1):
        cases = {
            f"{case:012x}": {
                "status": {"accuracy": "pass", "performance": "pass"},
                "values": {"speedup": _numbers(chance, 1)[0], "abs_latency": _numbers(chance, 1)[0]},
            }
            for case in range(CASES)
        }
        data[f"{list(months)[-1]}/run-{number:012x}"] = {"environments": [{"torch": "2.13.0"}], "cases": cases}
    newest = {"title": "Performance speedup", "unit": "ratio", "direction": "higher", "value": 1.5}
    known = ("speedup", *FOLLOWED)
    data["index"] = {
        "title": "Performance of org/project", "id": "0", "server": "https://github.com", "branches": ["main"],
        "plotly": "assets/plotly.min.js", "newest": list(months.values())[-1][-1], "states": [], "changes": [],
        "sampled": [], "months": [{"name": month, "version": "1"} for month in months], "order": known,
        "metrics": {name: describe_metric(METRICS[name]) for name in known},
        "cases": [
            {**GROUPS[number % len(GROUPS)], **FINE, "id": f"{number:012x}", "model": f"model_{number}",
             "newest": newest, "months": list(range(len(months)))}
            for number in range(CASES)
        ],
    }  # fmt: skip
    scripts = {f"data/{name}.js": encode_data(name, value) for name, value in data.items()}
    page = write_index_page(data["index"], assets, scripts["data/index.js"])
    for path, content in {**assets, **scripts, "index.html": page}.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)


def measure(site: Path, folder: Path) -> None:
    """Open every page in a fresh browser, and then in one that knows the site: it has compiled the scripts before."""
    for title, address in PAGES.items():
        with running_browser(folder / f"profile-{address.strip('#/').partition('/')[0]}") as browser:
            browser.size(1280, 1000)
            opened = [_open(browser, (site / "index.html").as_uri() + address) for _ in range(1 + VISITS)]
        for visit, (texts, charts, spent) in {
            "the first time": opened[0],
            f"later (median of {VISITS})": tuple(map(median, zip(*opened[1:], strict=True))),
        }.items():
            print(
                f"{title}, {visit}: text after {texts:.2f} s, the first chart after {charts:.2f} s; "
                f"{spent:.2f} s of processor time of the main thread"
            )


def _open(browser: Browser, address: str) -> tuple[float, float, float]:
    """Open a page; return the seconds until its text is there, until its first chart, and those of the processor."""
    browser.open("about:blank")
    before = browser.processor_time()
    browser.open(address)
    charts = browser.wait(
        "(document.querySelector('.chart[data-drawn]') || document.querySelector('[aria-label=Comparison]'))"
        " && performance.now()"
    )
    texts = browser.run(
        "return Math.max(performance.getEntriesByType('navigation')[0].domInteractive, "
        "...performance.getEntriesByName('first-contentful-paint').map((paint) => paint.startTime))"
    )
    return texts / 1e3, charts / 1e3, browser.processor_time() - before


def _numbers(chance: random.Random, count: int) -> list[float]:
    return [round(chance.gauss(1.5, 0.01), 6) for _ in range(count)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "site")
        measure(Path(folder) / "site", Path(folder))
