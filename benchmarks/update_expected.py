"""What reading the CSVs out of artifacts costs, against downloading every artifact one after another.

A GitHub on this machine serves the artifacts with a wait before every answer. Both ways find the same tables; bytes are
those that the server sent, times are medians. Run it with `python benchmarks/update_expected.py`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes.artifacts import accuracy_csv
from fakes.github_server import REPOSITORY, SHA, TOKEN, FakeGitHub
from torchperf_ci.expectations.collect import Wish, collect
from torchperf_ci.github.client import Access, Client
from torchperf_ci.shards.uploads import Layout

CONFIG = "inductor_torchbench"
MODE_FILES = ("inference_torchbench.csv", "training_torchbench.csv")
MODELS_PER_SHARD = 6
OTHER_FILES = 200


def artifact(number: int, size: int) -> bytes:
    """A zip of about `size` bytes like those of test jobs: two CSVs among many files that do not pack."""
    stream = io.BytesIO()
    rows = [f"model_{number}_{model},pass,{100 + model},{model}" for model in range(MODELS_PER_SHARD)]
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for place in range(OTHER_FILES):
            archive.writestr(f"test/test-reports/python-pytest/test_{place}.xml", os.urandom(size // OTHER_FILES))
            if place == OTHER_FILES // 2:
                for name in MODE_FILES:
                    archive.writestr(f"test/test-reports/{name}", accuracy_csv(*rows))
    return stream.getvalue()


def set_up(server: FakeGitHub, *, artifacts: int, size: int) -> None:
    run = server.add_run(workflow="inductor")
    for number in range(1, artifacts + 1):
        job = server.add_job(run, f"cuda / test ({CONFIG}, {number}, {artifacts}, linux.gpu)")
        name = f"test-reports-test-{CONFIG}-{number}-{artifacts}-linux.gpu_{job}.zip"
        server.add_artifact(run, name, artifact(number, size))


def ours(server: FakeGitHub, threads: int) -> list[str]:
    """The names of all models, by this package."""
    with Client(Access(api_url=server.url, token=TOKEN)) as client:
        found = collect(client, REPOSITORY, SHA, Wish(layout=Layout.PYTORCH), threads=threads, say=lambda _: None)
    return sorted(name for run in found.configs for table in run.tables.values() for name in table.names)


def one_after_another(server: FakeGitHub) -> list[str]:
    """The names of all models, by downloading every artifact whole: list, redirect, download, unpack."""
    names: list[str] = []
    with requests.Session() as session:
        session.headers["Authorization"] = f"token {TOKEN}"
        runs = session.get(f"{server.url}/repos/{REPOSITORY}/actions/runs", params={"head_sha": SHA}).json()
        run = runs["workflow_runs"][0]["id"]
        base = f"{server.url}/repos/{REPOSITORY}/actions"
        session.get(f"{base}/runs/{run}/jobs", params={"per_page": 100}).raise_for_status()
        listed = session.get(f"{base}/runs/{run}/artifacts", params={"per_page": 100}).json()["artifacts"]
        for each in listed:
            found = session.get(f"{base}/artifacts/{each['id']}/zip", allow_redirects=False)
            content = session.get(found.headers["Location"], headers={"Authorization": None}).content
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for name in MODE_FILES:
                    lines = archive.read(f"test/test-reports/{name}").decode().splitlines()[1:]
                    names += [line.split(",")[1] for line in lines]
    return sorted(names)


def timed(server: FakeGitHub, way: Callable[[], list[str]]) -> tuple[list[str], int, float]:
    """What it found, the bytes that the server sent, and the seconds it took."""
    before, start = server.bytes_sent, time.perf_counter()
    found = way()
    return found, server.bytes_sent - before, time.perf_counter() - start


def measured(server: FakeGitHub, ways: Sequence[Callable[[], list[str]]], rounds: int) -> list[tuple[int, float]]:
    """Bytes of a round and median seconds of every way, taken in turn. All ways must find the same."""
    taken = [[timed(server, way) for way in ways] for _ in range(rounds)]
    assert all(found == taken[0][0][0] for each in taken for found, _, _ in each)
    return [(way[-1][1], statistics.median(seconds for _, _, seconds in way)) for way in zip(*taken, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=int, default=16)
    parser.add_argument("--size", type=int, default=3_000_000, help="bytes of an artifact")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before every answer")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with FakeGitHub(latency_s=options.latency) as server:
        set_up(server, artifacts=options.artifacts, size=options.size)
        ours(server, options.threads)  # imports and the first connections belong to neither
        ways = [lambda: one_after_another(server), lambda: ours(server, options.threads)]
        (whole_bytes, whole_s), (read_bytes, read_s) = measured(server, ways, options.rounds)
    figures = {
        "artifacts": options.artifacts,
        "whole_bytes": whole_bytes,
        "read_bytes": read_bytes,
        "bytes_share": round(read_bytes / whole_bytes, 4),
        "whole_seconds": round(whole_s, 3),
        "read_seconds": round(read_s, 3),
        "time_share": round(read_s / whole_s, 3),
    }
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{options.artifacts} artifacts of {options.size / 1e6:g} MB, {options.latency * 1000:g} ms, "
          f"{options.threads} threads, median of {options.rounds}")  # fmt: skip
    print(f"one after another, whole:  {whole_bytes:>12,} bytes  {whole_s:6.3f} s")
    print(f"only the CSVs, parallel:   {read_bytes:>12,} bytes  {read_s:6.3f} s")
    print(f"share:                     {read_bytes / whole_bytes:>12.2%}        {read_s / whole_s:6.0%}")


if __name__ == "__main__":
    main()
