"""What a folder holds to report on."""

from pathlib import Path

from report_builders import BUILD, both, case, performance
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Mode, Status, to_line
from torchperf_ci.core.result_files import CommandResult, parse_command_log, plan_line, read_folder, result_line
from torchperf_ci.core.results import open_folder
from torchperf_ci.report.gh_parts import case_csvs


def write(folder: Path, *cases) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in case_csvs([record for of in cases for record in both(of)]):
        (folder / name).write_text(text)


def test_records_are_preferred_to_the_files_made_from_them(tmp_path: Path):
    """They hold more."""
    with open_folder(tmp_path / "out") as folder:
        folder.append(*both(case("from_records")))
    write(tmp_path / "out", case("from_csv"))
    assert {record.case.model for record in read_folder(tmp_path / "out", CaseSelection()).records} == {"from_records"}


def test_compilers_and_suites_come_in_pytorchs_order(tmp_path: Path):
    """File names have an order of their own, which nobody wants to see."""
    compilers = ("zz", "inductor", "aot_eager", "eager")
    write(
        tmp_path,
        *(case("m", name, suite=suite) for name in compilers for suite in ("tiny", "huggingface", "torchbench")),
    )
    found = read_folder(tmp_path, CaseSelection()).records
    assert list(dict.fromkeys(record.case.suite for record in found)) == ["torchbench", "huggingface", "tiny"]
    assert list(dict.fromkeys(record.case.compiler for record in found)) == ["eager", "aot_eager", "inductor", "zz"]


def test_what_is_not_asked_for_is_not_read(tmp_path: Path):
    """Its problems are not reported either."""
    write(tmp_path, case("m", mode=Mode.TRAINING), case("m", mode=Mode.INFERENCE))
    (tmp_path / "inductor_tiny_float32_inference_cpu_accuracy.csv").write_text("rubbish")
    found = read_folder(tmp_path, CaseSelection(mode=Mode.TRAINING))
    assert ({record.case.mode for record in found.records}, found.problems) == ({Mode.TRAINING}, ())


def test_a_file_without_its_counterpart_is_named(tmp_path: Path):
    """A compiler without its accuracy file, and the other way round."""
    write(tmp_path, case("m", "eager"), case("m", "inductor"))
    (tmp_path / "eager_tiny_float32_inference_cpu_accuracy.csv").unlink()
    (tmp_path / "inductor_tiny_float32_inference_cpu_performance.csv").unlink()
    stem = "tiny_float32_inference_cpu"
    assert [str(problem) for problem in read_folder(tmp_path, CaseSelection()).problems] == [
        f"eager_{stem}_accuracy.csv: is absent, though eager_{stem}_performance.csv is there",
        f"inductor_{stem}_performance.csv: is absent, though inductor_{stem}_accuracy.csv is there",
    ]


def test_other_csv_files_are_left_alone_and_misnamed_results_are_named(tmp_path: Path):
    """A summary or a sidecar is no result; a file that ends like one should be one."""
    write(tmp_path, case("m"))
    (tmp_path / "geomean.csv").write_text("x")
    (tmp_path / "inductor_tiny_float32_inference_cpu_performance_stats.csv").write_text("x")
    (tmp_path / "mine_accuracy.csv").write_text("x")
    found = read_folder(tmp_path, CaseSelection())
    assert [problem.file for problem in found.problems] == ["mine_accuracy.csv"]
    assert "{compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv" in found.problems[0].what


def test_a_binary_and_an_unreadable_file_are_named(tmp_path: Path):
    """The rest of the folder is used."""
    write(tmp_path, case("m", "eager"))
    name = "inductor_tiny_float32_inference_cpu"
    (tmp_path / f"{name}_accuracy.csv").write_bytes(b"\x00\xff\x00PNG")
    (tmp_path / f"{name}_performance.csv").write_bytes(b"dev,name,batch_size,speedup\ncpu,caf\xe9,8,1.5\n")
    found = read_folder(tmp_path, CaseSelection())
    assert [str(problem) for problem in found.problems] == [f"{name}_accuracy.csv: is not text"]
    assert {record.case.model for record in found.records} == {"m", "caf\ufffd"}


def test_a_log_of_commands_comes_back_and_names_what_went_wrong():
    """The newest result of a command counts; what was planned and never ran is a problem, and so is a foreign line."""
    crashed = CommandResult(
        csv="a.csv",
        log="a.log",
        argv=("python", "a"),
        status=Status.CRASHED,
        reason="signal 11",
        rows=1,
        lost=("m", "n"),
    )
    passed = CommandResult(csv="b.csv", log="", argv=("python", "b"), status=Status.PASS, seconds=2.4, rows=3)
    lines = [
        to_line(BUILD),
        plan_line(["a.csv", "b.csv", "c.csv"]),
        result_line(passed),
        result_line(crashed),
        to_line(performance(case())),
        '{"type":"command","csv":3}',
    ]
    log = parse_command_log(enumerate(lines, start=1))
    assert (log.builds, log.planned) == ((BUILD,), ("a.csv", "b.csv", "c.csv"))
    assert log.results == {"b.csv": passed, "a.csv": crashed}
    wrong = {(problem.file, problem.line) for problem in log.problems()}
    assert wrong == {("commands.jsonl", 5), ("commands.jsonl", 6), ("a.csv", 0), ("c.csv", 0)}
    (told,) = (problem.what for problem in log.problems() if problem.file == "a.csv")
    assert "signal 11; no row for m, n (1 row in 0 s, see a.log)" in told
