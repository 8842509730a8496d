"""The results folder: emptied only of what the program wrote, and no line in it is ever lost."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Case, Mode, Record, Status, Testing, to_line
from torchperf_ci.core.results import RECORDS, Problem, csv_name, open_folder, read_results
from torchperf_ci.core.text import safe_name


def record(model: str = "mlp", *, status: Status = Status.PASS, testing: Testing = Testing.ACCURACY) -> Record:
    case = Case(suite="tiny", model=model, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager")
    return Record(case=case, testing=testing, status=status)


def test_emptying_removes_what_the_program_wrote_and_nothing_else(tmp_path: Path) -> None:
    """A note that a person put beside the results is still there, also in a folder of ours."""
    with open_folder(tmp_path / "out") as folder:
        folder.append(record())
        folder.write_text("charts/speedup.svg", "<svg/>")
        folder.write_text("logs/a.log", "")
    (tmp_path / "out/charts/mine.txt").write_text("keep")
    with open_folder(tmp_path / "out") as folder:
        folder.empty()
    left = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert left == [".torchperf-ci", "charts", "charts/mine.txt"]


def test_emptying_follows_no_link_and_no_path_out_of_the_folder(tmp_path: Path) -> None:
    """A manifest that names something outside removes nothing there."""
    outside = tmp_path / "precious.txt"
    outside.write_text("keep")
    with open_folder(tmp_path / "out") as folder:
        folder.write_text("link/file", "")
    (tmp_path / "out/.torchperf-ci").write_text("../precious.txt\nlink/file\n/etc/hostname\n")
    with open_folder(tmp_path / "out") as folder:
        folder.empty()
    assert outside.read_text() == "keep"
    assert Path("/etc/hostname").exists()


def test_a_foreign_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    """Nobody loses a home directory to a typing mistake."""
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageProblem, match="holds files that torchperf-ci did not write"), open_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    """As of a run that was refused for its suite. One that was there stays, and so do files of others."""

    def refuse(place: str, *, file: str = "") -> None:
        with open_folder(tmp_path / place):
            if file:
                (tmp_path / place / file).write_text("")
            raise UsageProblem("refused")

    (tmp_path / "kept").mkdir()
    for place, file in (("new", ""), ("kept", ""), ("shared", "mine.txt")):
        with pytest.raises(UsageProblem, match="refused"):
            refuse(place, file=file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "shared"]


@pytest.mark.parametrize("path", ["/proc/nothing/here", "/dev/null/out"])
def test_a_folder_that_cannot_be_written_is_refused(path: str) -> None:
    """Before anything is measured, not after."""
    with pytest.raises(UsageProblem, match=r"cannot be (written|read)"), open_folder(Path(path)):
        pass


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """The message says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match="is a file, not a folder"), open_folder(tmp_path / "file"):
        pass


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    """The second one is told, instead of mixing its lines into the first's."""
    with open_folder(tmp_path), pytest.raises(UsageProblem, match="another run is writing"), open_folder(tmp_path):
        pass


def test_a_line_cut_short_by_a_kill_is_dropped_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """What came before it is kept, what comes after is readable."""
    with open_folder(tmp_path / "out") as folder:
        folder.append(record("a"), record("b"))
    path = tmp_path / "out/records.jsonl"
    path.write_bytes(path.read_bytes() + to_line(record("c")).encode()[:40])
    assert [item.case.model for item in read_results(tmp_path / "out").records] == ["a", "b"]
    with open_folder(tmp_path / "out") as folder:
        folder.append(record("d"))
    results = read_results(tmp_path / "out")
    assert [item.case.model for item in results.records] == ["a", "b", "d"]
    assert results.problems == ()


def test_a_line_that_there_is_no_room_for_leaves_nothing_behind(tmp_path: Path) -> None:
    """The lines before it stay whole, and the next one that fits is whole as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_folder(tmp_path / "out") as folder:
        folder.append_lines("lines", ["first"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(UsageProblem, match=r"lines cannot be written \(File too large\); what was finished"):
                folder.append_lines("lines", ["second line"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        folder.append_lines("lines", ["third"])
    assert (tmp_path / "out/lines").read_text() == "first\nthird\n"


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, and nothing is judged without it."""
    (tmp_path / RECORDS).write_text("")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageProblem, match=rf"{RECORDS} cannot be read \(Permission denied\)"):
        read_results(tmp_path)


def test_a_spoilt_line_is_a_problem_and_the_others_are_read(tmp_path: Path) -> None:
    """One bad line costs one line, and is named."""
    lines = [to_line(record("a")), "\xff not json", '{"type": "record"}', to_line(record("b"))]
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    results = read_results(tmp_path)
    assert [item.case.model for item in results.records] == ["a", "b"]
    assert [(problem.file, problem.line) for problem in results.problems] == [
        ("records.jsonl", 2),
        ("records.jsonl", 3),
    ]
    assert str(Problem(file="f.csv", line=3, what="no name")) == "f.csv:3: no name"


def test_a_byte_order_mark_costs_no_line(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(to_line(record("a")) + "\n", encoding="utf-8-sig")
    results = read_results(tmp_path)
    assert ([item.case.model for item in results.records], results.problems) == (["a"], ())


def test_the_newest_record_of_a_case_and_testing_counts(tmp_path: Path) -> None:
    """A case that a budget left out and a resumed run measured is measured."""
    with open_folder(tmp_path / "out") as folder:
        folder.append(record("a", status=Status.NOT_RUN), record("b", status=Status.CRASHED))
        assert {case.model for case, _ in read_results(folder.path).done()} == {"b"}
        folder.append(record("a"))
    assert [(r.case.model, r.status) for r in read_results(tmp_path / "out").records] == [
        ("a", Status.PASS),
        ("b", Status.CRASHED),
    ]


def test_file_names_hold_no_path_and_no_option() -> None:
    """A model, suite or device may be called anything."""
    case = Case(suite="../x", model="m", mode=Mode.TRAINING, device="cuda:1", dtype="amp", compiler="ind uctor")
    assert csv_name(case, Testing.PERFORMANCE) == "ind-uctor_-x_amp_training_cuda-1_performance.csv"
    assert safe_name("...") == "-"
    assert safe_name(".hidden") == "hidden"
