"""What was planted in a folder never leads a write out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.cli.files import write_output
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.results import MANIFEST, RECORDS, ResultsFolder, open_folder
from torchperf_ci.core.safe_files import PlantedLink, delete_below, write_below, write_whole
from torchperf_ci.history.storage import LocalFiles, cache_folder
from torchperf_ci.run.supervisor import run_supervised

Plant = Callable[[Path, Path], object]
LINKS: dict[str, Plant] = {
    "link": lambda place, victim: place.symlink_to(victim),
    "relative link": lambda place, victim: place.symlink_to(os.path.relpath(victim, place.parent)),
    "dangling link": lambda place, victim: place.symlink_to(victim.with_name("absent")),
    "hard link": lambda place, victim: place.hardlink_to(victim),
    "pipe": lambda place, _: os.mkfifo(place),
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder that came from elsewhere."""
    path = tmp_path / "logs"
    path.mkdir()
    (path / MANIFEST).touch()
    return path


def unharmed(victim: Path) -> bool:
    return victim.read_text() == "precious" and not victim.with_name("absent").exists()


@pytest.mark.parametrize("plant", LINKS.values(), ids=LINKS)
def test_a_whole_file_takes_the_place_of_what_was_planted(folder: Path, victim: Path, plant: Plant) -> None:
    """Both where it comes to lie and where it is written first."""
    plant(folder / "report.md", victim)
    plant(folder / "report.md.tmp", victim)
    with open_folder(folder) as opened:
        assert opened.write_text("report.md", "new").read_text() == "new"
    assert not (folder / "report.md").is_symlink()
    assert unharmed(victim)


@pytest.mark.parametrize("plant", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("lines.jsonl", lambda opened: opened.append_lines("lines.jsonl", ["{}"])),
        ("logs/case.log", lambda opened: opened.claim("logs/case.log")),
    ],
)
def test_nothing_is_added_to_what_was_planted(
    folder: Path, victim: Path, plant: Plant, name: str, write: Callable[[ResultsFolder], object]
) -> None:
    """It is an error that names the place."""
    (folder / "logs").mkdir()
    plant(folder / name, victim)
    with open_folder(folder) as opened, pytest.raises(UsageProblem, match=f"{name} is a link"):
        write(opened)
    assert unharmed(victim)


@pytest.mark.parametrize("name", [MANIFEST, RECORDS])
def test_a_planted_manifest_or_records_file_is_refused(folder: Path, victim: Path, name: str) -> None:
    """Before anything is written or cut: a last line without an end would be."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    with pytest.raises(UsageProblem, match="is a link"), open_folder(folder):
        pass
    assert unharmed(victim)


def test_a_folder_that_is_a_link_is_not_entered(folder: Path, victim: Path) -> None:
    """The results folder itself may be one, since its user named it."""
    outside = victim.parent / "outside"
    outside.mkdir()
    (folder / "logs").symlink_to(outside)
    (victim.parent / "named").symlink_to(folder)
    with open_folder(victim.parent / "named") as opened:
        opened.write_text("report.md", "new")
        for write in (opened.claim, lambda name: opened.write_text(name, "x")):
            with pytest.raises(UsageProblem, match="logs is a link"):
                write("logs/case.log")
    assert list(outside.iterdir()) == []
    assert (folder / "report.md").read_text() == "new"


def test_a_planted_manifest_removes_nothing_elsewhere(folder: Path, victim: Path) -> None:
    """Neither a file nor an empty folder."""
    (victim.parent / "empty").mkdir()
    (folder / MANIFEST).write_text(f"../victim\n{victim}\n../empty/x\nsamples_/../../victim\nlogs/../../victim\n")
    (folder / "samples_").mkdir()
    with open_folder(folder) as opened:
        opened.forget(["samples_/../../victim"])
        opened.empty()
    assert unharmed(victim)
    assert (victim.parent / "empty").is_dir()


def test_the_log_of_a_command_is_never_a_link(tmp_path: Path, victim: Path) -> None:
    """What measured code prints would land there."""
    (tmp_path / "log").symlink_to(victim)
    with pytest.raises(PlantedLink):
        run_supervised(["true"], cwd=tmp_path, environ=dict(os.environ), log=tmp_path / "log", limit=60)
    assert unharmed(victim)


def test_files_that_a_user_names_are_written_beside_what_was_planted(tmp_path: Path, victim: Path) -> None:
    """Say what `export --out` writes, in a folder where others write as well."""
    (tmp_path / "out.json.tmp").symlink_to(victim)
    write_output(tmp_path / "out.json", b"{}")
    assert (tmp_path / "out.json").read_bytes() == b"{}"
    assert unharmed(victim)


def test_a_history_is_not_led_out_of_its_folder(tmp_path: Path, victim: Path) -> None:
    """By a checkout of a branch that anybody may have written to."""
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "2026-01").symlink_to(victim.parent)
    with pytest.raises(UsageProblem, match="cannot be written"):
        LocalFiles(root=tmp_path / "history").write({"2026-01/run.parquet": b"x"})
    assert not (tmp_path / "run.parquet").exists()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """And nothing beside it."""
    write_below(tmp_path, "a/b", b"old")
    with pytest.raises(TypeError):
        write_below(tmp_path, "a/b", "text")  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert (tmp_path / "a/b").read_bytes() == b"old"
    for outside in ("../x", "/x", "", "a/../../x"):
        with pytest.raises(PlantedLink):
            write_below(tmp_path / "a", outside, b"x")
    write_whole(tmp_path / "script", b"x", mode=0o750)
    assert stat.S_IMODE((tmp_path / "script").stat().st_mode) == 0o750


def test_what_was_fetched_is_found_again_in_a_folder_of_ours_alone(tmp_path: Path) -> None:
    """One that others may write to, or that is a link, is not used; nor is one that cannot be made."""
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    own = cache_folder(environ)
    assert own == tmp_path / "cache/torchperf-ci/history"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert cache_folder(environ) == own
    own.chmod(0o777)
    fresh = cache_folder(environ)
    assert fresh != cache_folder(environ)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    own.rmdir()
    own.symlink_to(tmp_path)
    assert not cache_folder(environ).is_relative_to(tmp_path / "cache")
    (tmp_path / "file").touch()
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path / "file")}).is_dir()


def test_a_deletion_follows_no_link(tmp_path: Path, victim: Path):
    """Neither a folder on the way, nor the file; what is not there is fine."""
    root = tmp_path / "site"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.js").write_text("precious")
    root.mkdir()
    (root / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlantedLink):
        delete_below(root, "data/x.js")
    assert (tmp_path / "elsewhere" / "x.js").exists()
    (root / "own.js").symlink_to(victim)
    delete_below(root, "own.js")
    delete_below(root, "own.js")
    assert unharmed(victim)
    assert not (root / "own.js").is_symlink()
