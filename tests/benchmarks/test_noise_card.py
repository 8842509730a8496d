"""The noise card from end to end, on samples that are made here: it is written whole, and measured in turns."""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import noise_card
import noise_report


def write_raw(path: Path) -> None:
    """A trial's file: two comparisons of each series."""
    rng = random.Random(1)
    lines: list[dict[str, object]] = [{"kind": "machine", "trial": True, "time": 1.8e9}]
    lines.append({"kind": "overhead", "call": "3 µs", "timer": 3e-6, "ours": 3e-6, "cost": 1e-6})
    for series in noise_card.plan(trial=True):
        for _ in range(series.count):
            shape = {"one": (1, 120), "two": (3, 40)}[series.kind]
            launches = []
            for _ in range(shape[0]):
                noise = [math.exp(rng.gauss(0, 0.01)) for _ in range(2 * shape[1])]
                launches.append(
                    {
                        "base": [0.003 * one for one in noise[::2]],
                        "head": [0.003 * (1 + series.extra / 100) * one for one in noise[1::2]],
                        "probe": [1e-4 * one for one in noise[::2]],
                    }
                )
            key = dict(zip(noise_card.KEY, series.key, strict=True))
            lines.append({**key, "seconds": series.sampling, "wall": 2 * series.sampling, "launches": launches})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_card_has_all_its_parts_and_says_what_the_probe_is_worth(tmp_path: Path) -> None:
    """From the raw file, and again from what it keeps of that."""
    raw = tmp_path / "raw.jsonl"
    write_raw(raw)
    noise_report.write_report(raw, tmp_path / "docs", families=2)
    card = (tmp_path / "docs/noise-card.md").read_text()
    titles = [line for line in card.splitlines() if line.startswith("## ")]
    assert len(titles) == 10
    assert "**A trial" in card
    assert "narrow intervals by 5 % or more without bias? " in card
    assert "nan" not in card
    noise_report.write_report(tmp_path / "docs/noise-card.jsonl.xz", tmp_path / "again", families=2)
    assert (tmp_path / "again/noise-card.md").read_text() == card


def test_series_take_turns_and_keep_the_order_of_their_own() -> None:
    """So that a run that is ended early has its share of each, and goes on where it was."""
    series = noise_card.plan(trial=False)
    turns = noise_card.take_turns(series)
    assert Counter(each.key for each, _ in turns) == {each.key: each.count for each in series}
    half = Counter(each.key for each, _ in turns[: len(turns) // 2])
    assert all(abs(half[each.key] - each.count / 2) <= 1 for each in series)
    first = series[0].key
    assert [number for each, number in turns if each.key == first] == list(range(series[0].count))


def test_a_line_that_a_killed_run_was_writing_is_cut_off(tmp_path: Path) -> None:
    """The next run measures that comparison again."""
    raw = tmp_path / "raw.jsonl"
    raw.write_text('{"kind": "machine"}\n{"kind": "one", "ext')
    assert noise_card._lines(raw) == [{"kind": "machine"}]
    assert raw.read_text() == '{"kind": "machine"}\n'


def test_trials_and_measurements_are_not_mixed(tmp_path: Path) -> None:
    """The file says which of them it is."""
    raw = tmp_path / "raw.jsonl"
    raw.write_text('{"kind": "machine", "trial": true}\n')
    with pytest.raises(SystemExit, match="is of a trial"):
        noise_card.measure(raw, 20, trial=False)
