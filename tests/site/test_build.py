"""The files of a site: what they hold, and which of them a new run writes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from report_builders import both, case
from run_builders import a_run
from site_builders import FAILING, FAMILY, HOSTILE, HOSTILE_METRIC, SLOWER, a_history, a_night, make_folder
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.dashboard.words import identify_case, identify_run
from torchperf_ci.history.acceptances import Acceptance, encode_acceptances
from torchperf_ci.history.parquet import ParquetHistory, compact
from torchperf_ci.history.storage import LocalFiles

ATOM = "{http://www.w3.org/2005/Atom}"


def read_data(site: Path, name: str) -> Any:
    """The JSON of a file of data, without the call around it."""
    script = (site / "data" / f"{name}.js").read_text(encoding="ascii")
    match = re.fullmatch(r'torchperf\.add\("([^"]*)",(.*)\);\n', script, re.DOTALL)
    assert match is not None
    assert match[1] == name
    return json.loads(match[2].replace('["__proto__"]:', '"__proto__":'))


def read_all(site: Path) -> dict[str, bytes]:
    return {str(path.relative_to(site)): path.read_bytes() for path in site.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of twenty-nine nights, which end in a new month."""
    folder = tmp_path_factory.mktemp("made")
    make_folder(a_history(folder / "history", 29), folder / "site")
    return folder / "site"


def test_a_new_run_writes_only_what_it_touches(tmp_path: Path):
    """Its month, the index and the page; made in steps it is what is made at once, and doing it again is nothing."""
    history = a_history(tmp_path / "history", 29, first=23)
    make_folder(history, tmp_path / "site")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert make_folder(history, tmp_path / "site") == {}
    history.add(a_night(29), tmp_path)
    written = make_folder(history, tmp_path / "site")
    top = {"data/index.js", "data/manifest.json", "index.html", "feed.xml"}
    assert {path for path in written if not path.startswith("data/2026-11/")} <= top
    assert f"data/2026-11/run-{identify_run(a_night(29).key)}.js" in written
    assert f"data/2026-11/run-{identify_run(a_night(28).key)}.js" not in written
    touched = {
        str(path.relative_to(tmp_path / "site")) for path, time in before.items() if path.stat().st_mtime_ns != time
    }
    assert touched < set(written)
    make_folder(history, tmp_path / "at once")
    assert read_all(tmp_path / "at once") == read_all(tmp_path / "site")


def test_what_was_lost_or_damaged_is_made_again(tmp_path: Path):
    """A file that is gone, and a manifest that is none."""
    history = a_history(tmp_path / "history", 3)
    make_folder(history, tmp_path / "site")
    whole = read_all(tmp_path / "site")
    next((tmp_path / "site" / "data" / "2026-10").glob("case-*")).unlink()
    (tmp_path / "site" / "assets" / "site.css").unlink()
    make_folder(history, tmp_path / "site")
    assert read_all(tmp_path / "site") == whole
    (tmp_path / "site" / "data" / "manifest.json").write_bytes(b'{"format": 1, "months": 7}')
    make_folder(history, tmp_path / "site")
    assert read_all(tmp_path / "site") == whole


def test_a_manifest_deletes_nothing_that_is_not_of_a_site(tmp_path: Path):
    """Whatever it claims to have made."""
    history = a_history(tmp_path / "history", 2)
    make_folder(history, tmp_path / "site")
    (tmp_path / "precious.js").write_text("mine")
    (tmp_path / "site" / "notes.txt").write_text("mine")
    path = tmp_path / "site" / "data" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] |= {"../precious.js": "0", "notes.txt": "0", "data/../../precious.js": "0", "data/old.js": "0"}
    (tmp_path / "site" / "data" / "old.js").write_text("old")
    path.write_text(json.dumps(manifest))
    assert make_folder(history, tmp_path / "site").get("data/old.js", b"") is None
    assert (tmp_path / "precious.js").read_text() == (tmp_path / "site" / "notes.txt").read_text() == "mine"


def test_pages_of_others_are_not_overwritten(tmp_path: Path):
    """A folder with an index.html that is not ours is refused."""
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageProblem, match="did not make"):
        make_folder(a_history(tmp_path / "history", 1), tmp_path)


def test_the_newest_runs_are_shown_one_by_one_and_older_ones_one_a_week(tmp_path: Path):
    """By whole months, so that a month is thinned once; the newest run of a week stays. Samples are of fewer runs."""
    history = ParquetHistory(files=LocalFiles(root=tmp_path / "history"))
    for day in range(75):
        history.add(a_run(day, both(case())), tmp_path)
    make_folder(history, tmp_path / "site", last=20)
    shown = {
        month["name"]: read_data(tmp_path / "site", f"{month['name']}/runs")["runs"]
        for month in read_data(tmp_path / "site", "index")["months"]
    }
    days = {name: [int(run["time"][8:10]) for run in runs] for name, runs in shown.items()}
    assert days["2026-12"] == list(range(1, 19))
    assert days["2026-11"] == list(range(1, 31))
    assert days["2026-10"] == [7, 14, 21, 28, 31]


def test_a_compacted_history_has_the_same_pages(tmp_path: Path):
    """Months are read again, since their files are others, and nothing in them is."""
    from datetime import datetime, timezone

    history = a_history(tmp_path / "history", 29, first=23)
    make_folder(history, tmp_path / "site")
    whole = read_all(tmp_path / "site")
    assert list(compact(history, now=datetime(2027, 1, 1, tzinfo=timezone.utc), dry_run=False))
    assert set(make_folder(history, tmp_path / "site")) == {"data/manifest.json"}
    assert {**read_all(tmp_path / "site"), "data/manifest.json": b""} == {**whole, "data/manifest.json": b""}


def test_samples_are_kept_of_the_newest_runs(tmp_path: Path):
    """A run that is no longer among them loses its file."""
    history = a_history(tmp_path / "history", 4)
    make_folder(history, tmp_path / "site", samples=2)
    sampled = lambda: {path.name for path in (tmp_path / "site").rglob("samples-*")}  # noqa: E731
    name = lambda night: f"samples-{identify_run(a_night(night).key)}.js"  # noqa: E731
    assert sampled() == {name(2), name(3)}
    history.add(a_night(4), tmp_path)
    make_folder(history, tmp_path / "site", samples=2)
    assert sampled() == {name(3), name(4)}
    times = read_data(tmp_path / "site", f"2026-10/{name(4).removesuffix('.js')}")[identify_case(SLOWER)]
    assert {arm: len(values) for arm, values in times.items()} == {"compiled": 12, "eager": 12}
    assert 2 < times["compiled"][0] < 4, "in ms"


def test_a_case_has_every_metric_with_its_interval_and_its_failures(site: Path):
    """An element for every run that tried it."""
    october = read_data(site, f"2026-10/case-{identify_case(SLOWER)}")
    assert len(october["runs"]) == len(october["metrics"]["speedup"]["value"]) == 27
    speedup = october["metrics"]["speedup"]
    assert all(
        low < value < high for low, value, high in zip(speedup["low"], speedup["value"], speedup["high"], strict=True)
    )
    assert "low" not in october["metrics"]["compilation_latency"]
    convnet = read_data(site, f"2026-10/case-{identify_case(case('convnet', 'inductor'))}")
    assert [(each["at"], each["testing"], each["status"], each["reason"]) for each in convnet["failures"]] == [
        (12, "accuracy", "fail_accuracy", "output 0 differs by 0.12")
    ]


def test_the_index_says_what_is_open_since_when_and_by_which_commit(tmp_path: Path):
    """With the commands that look for the cause; a change that is no more open stays in the list of changes."""
    make_folder(a_history(tmp_path / "history"), tmp_path / "site")
    index = read_data(tmp_path / "site", "index")
    states = {(each["case"], each["metric"]): each for each in index["states"] if each["open"]}
    slower = states[identify_case(SLOWER), "speedup"]
    assert (slower["state"], slower["since"]["commit"], slower["good"]["commit"]) == ("worse", "19" * 20, "18" * 20)
    assert any(f"--base-ref {'18' * 20} --head-ref {'19' * 20}" in each["command"] for each in slower["commands"])
    failing = states[identify_case(FAILING), "performance_status"]
    assert (failing["state"], failing["since"]["commit"]) == ("failing", "24" * 20)
    assert "<b>(SIGSEGV)</b>" in failing["text"]
    assert {(each["case"], each["metric"]) for each in index["changes"]} >= {
        (identify_case(SLOWER), "speedup"),
        (identify_case(FAILING), "performance_status"),
    }
    assert {each["id"]: each["state"] for each in index["cases"]}[identify_case(FAMILY[0])] == "fine"


def test_the_commands_are_ones_that_there_are(tmp_path: Path):
    """With options that they take; bisect before compare before measuring once more, of one case."""
    import click

    from torchperf_ci.cli.main import cli

    make_folder(a_history(tmp_path / "history", 30), tmp_path / "site")
    (state,) = [each for each in read_data(tmp_path / "site", "index")["states"] if each["open"]]
    names = []
    for each in state["commands"][:2]:
        program, name, *arguments = shlex.split(each["command"])
        command = cli.get_command(click.Context(cli), name)
        assert program == "torchperf-ci"
        assert command is not None
        options = command.make_context(name, arguments).params
        assert "tiny" in options["suites"]
        names.append(name)
    assert names == ["bisect", "compare"]
    assert state["commands"][2]["command"].startswith("gh workflow run nightly --repo octo/project")


def test_an_accepted_change_is_not_open_and_says_why(tmp_path: Path):
    """Its mark stays among the changes, with who accepted it."""
    history = a_history(tmp_path / "history", 30)
    accepted = Acceptance(case="tiny/mlp", name="results", time=a_night(29).time, by="ada", reason="<b>known</b>")
    history.files.write(encode_acceptances([accepted]))
    make_folder(history, tmp_path / "site")
    index = read_data(tmp_path / "site", "index")
    assert identify_case(SLOWER) not in {each["case"] for each in index["states"] if each["open"]}
    changes = [
        each for each in index["changes"] if (each["case"], each["metric"]) == (identify_case(SLOWER), "speedup")
    ]
    assert {(each["acceptance"]["by"], each["acceptance"]["reason"]) for each in changes} == {("ada", "<b>known</b>")}


def test_a_change_of_long_ago_stays_listed_though_it_is_not_judged_again(tmp_path: Path):
    """It is taken over from the manifest; one within the judged runs is judged anew."""
    from torchperf_ci.history.runs import RunFilter
    from torchperf_ci.site.build import SiteOptions, make_site, open_folder_site, read_sources, write_site

    history = a_history(tmp_path / "history")
    make_folder(history, tmp_path / "site")
    before = read_data(tmp_path / "site", "index")["changes"]
    sources = read_sources(history, 10, RunFilter())
    write_site(tmp_path / "site", make_site(sources, SiteOptions(), open_folder_site(tmp_path / "site")))
    after = read_data(tmp_path / "site", "index")["changes"]
    old = [each["id"] for each in before if each["case"] == identify_case(SLOWER)]
    assert old
    assert set(old) <= {each["id"] for each in after}


def parse_feed(site: Path) -> Mapping[str, ET.Element]:
    feed = ET.fromstring((site / "feed.xml").read_bytes())
    assert feed.tag == f"{ATOM}feed"
    return {entry.findtext(f"{ATOM}id", ""): entry for entry in feed.iter(f"{ATOM}entry")}


def test_the_feed_has_an_entry_per_change_whose_id_stays(tmp_path: Path):
    """Also when the site is made again with more runs, in another folder and with another address."""
    history = a_history(tmp_path / "history", 38)
    make_folder(history, tmp_path / "one")
    history.add(a_night(38), tmp_path)
    make_folder(history, tmp_path / "two", url="https://octo.github.io/project")
    before, after = parse_feed(tmp_path / "one"), parse_feed(tmp_path / "two")
    assert len(before) >= 2
    assert set(before) <= set(after)
    links = [entry.find(f"{ATOM}link").get("href") for entry in after.values()]
    assert all(link.startswith("https://octo.github.io/project/#/case/") for link in links)


def test_names_from_outside_are_text_in_every_file(site: Path):
    """No file name, tag, attribute, object's prototype or XML element comes from them."""
    files = read_all(site)
    assert all(re.fullmatch(r"[a-z0-9/.-]+", path) for path in files)
    page = files["index.html"].decode()
    assert "onerror" not in page
    assert "script-src 'self';" in page
    metrics = read_data(site, f"2026-10/case-{identify_case(HOSTILE)}")["metrics"]
    assert {HOSTILE_METRIC.name, "__proto__"} <= set(metrics)
    raw = files[f"data/2026-10/case-{identify_case(HOSTILE)}.js"].decode("ascii")
    assert '["__proto__"]:' in raw
    assert '"__proto__":' not in raw


def test_no_history_is_an_error(tmp_path: Path):
    """Of the command, since there is nothing to be shown."""
    from click.testing import CliRunner

    from torchperf_ci.cli.main import cli
    from torchperf_ci.core.errors import NothingToJudge

    result = CliRunner().invoke(cli, ["site", str(tmp_path / "none"), "--output", str(tmp_path / "site")])
    assert isinstance(result.exception, NothingToJudge)
    assert not (tmp_path / "site").exists()
