"""`torchperf-ci check`."""

from dataclasses import replace
from pathlib import Path

import pytest

from fakes.artifacts import accuracy_csv, record, records_file
from torchperf_ci.core.records import Source, Status, Testing

GOLDEN = Path(__file__).parent.parent / "golden" / "expected"
TABLE = """name,accuracy,graph_breaks,calls_captured
resnet18,pass,0,80
vgg16,fail_accuracy,2,30
yolov3,pass,4,500
gone,pass,0,1
"""
ACTUAL = accuracy_csv("resnet18,OOM,80,0", "vgg16,pass,30,1", "yolov3,fail_accuracy,500,4", "new,pass,7,0")


@pytest.fixture
def folder(tmp_path):
    """Tables with a flaky model, and a run's CSV of the same name."""
    (tmp_path / "expected").mkdir()
    (tmp_path / "expected" / "inductor_torchbench_training.csv").write_text(TABLE)
    (tmp_path / "expected" / "flaky.yaml").write_text("- {name: yolov3, reason: 'NMS order, see #7'}\n")
    (tmp_path / "inductor_torchbench_training.csv").write_text(ACTUAL)
    return tmp_path


def test_accuracy_line_by_line(cli, folder):
    """Every model has its line, the failures are named, and the command to update stands there to be typed."""
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_SHA": "c" * 40, "GITHUB_REPOSITORY": "pytorch/pytorch"}
    arguments = ["check", "accuracy", "inductor_torchbench_training.csv", "--expected", "expected"]
    done = cli(*arguments, "--summary-file", "summary.md", "--annotate", cwd=folder, env=environ)
    assert done.returncode == 3, done.stderr
    assert done.stdout == (GOLDEN / "check_accuracy.txt").read_text()
    assert (folder / "summary.md").read_text() == (GOLDEN / "check_accuracy.md").read_text()
    assert done.stderr == ""


def test_graph_breaks_with_one_table(in_process, folder):
    """The table itself can be named; a shard lacks models."""
    done = in_process(
        *("check", "graph-breaks", "inductor_torchbench_training.csv", "--allow-missing", "--no-strict"),
        *("--expected", "expected/inductor_torchbench_training.csv"),
        cwd=folder,
    )
    assert done.returncode == 3
    assert done.stdout.splitlines()[:6] == [
        "inductor_torchbench_training (graph-breaks):",
        "resnet18                            PASS",
        "vgg16                               IMPROVED: graph_breaks=1, expected=2",
        "yolov3                              PASS",
        "new                                 MISSING_EXPECTED: graph_breaks=0, not in the table",
        "gone                                MISSING:  the run has no such model",
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--threshold", "1.4"], 3),
        (["--threshold", "1.4", "-s", "0.9"], 0),
        (["--threshold", "1.2", "--strict"], 3),
        (["--metric", "abs_latency", "-t", "10"], 0),
        (["--metric", "abs_latency", "-t", "5"], 3),
        (["-t", "1", "--expected", "x.csv"], 2),
        ([], 2),
    ],
)
def test_performance_against_a_threshold(in_process, tmp_path, arguments: list[str], code: int):
    """One number for every model, as in the suites' own check."""
    (tmp_path / "x.csv").write_text("dev,name,batch_size,speedup,abs_latency\ncpu,a,1,1.3,10\n")
    assert in_process("check", "performance", "x.csv", *arguments, cwd=tmp_path).returncode == code


@pytest.fixture
def results(tmp_path):
    """A results folder with accuracy and performance of two compilers."""
    performance = {"speedup": 1.5, "abs_latency": 2.0, "compression_ratio": 0.9}
    out = tmp_path / "out"
    out.mkdir()
    (out / "records.jsonl").write_text(
        records_file(
            record("mlp", graph_breaks=0),
            record("mlp", testing=Testing.PERFORMANCE, metrics=performance),
            record("lstm", Status.FAIL_ACCURACY, graph_breaks=1),
            record("lstm", testing=Testing.PERFORMANCE, metrics=performance),
            record("mlp", compiler="eager"),
        )
    )
    return tmp_path


def test_a_results_folder_makes_and_meets_its_own_expectations(in_process, results):
    """Tables made from a folder are met by it, with all checks; a worse run fails each of them."""
    arguments = ["update-expected", "--from", "out", "--expected-dir", "expected"]
    columns = ["speedup", "compression_ratio"]
    done = in_process(*arguments, *(word for column in columns for word in ("--metric-column", column)), cwd=results)
    assert done.returncode == 4, "the eager table has no such metrics"
    assert "eager_tiny_float32_inference_cpu.csv: the run has no column speedup, compression_ratio" in done.stdout
    arguments += ["--allow-missing"]
    assert in_process(*arguments, *(f"--metric-column={column}" for column in columns), cwd=results).returncode == 0
    assert in_process(*arguments, cwd=results).returncode == 0
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=results)
    assert done.returncode == 0, done.stdout + done.stderr
    table = results / "expected" / "inductor_tiny_float32_inference_cpu.csv"
    table.write_text(table.read_text().replace("1.500000,0.900000", "1.600000,1.000000"))
    done = in_process("check", "all", "out", "--expected-dir", "expected", "--config", "inductor_*", cwd=results)
    assert done.returncode == 3
    assert "mlp                                 FAIL:     speedup=1.500, expected=1.600" in done.stdout
    assert "lstm                                FAIL:     compression_ratio=0.900, expected=1.000" in done.stdout
    assert "torchperf-ci update-expected --from out --expected-dir expected" in done.stdout


def test_results_of_a_workflow_are_updated_from_github(in_process, results):
    """Records know which commit and repository they come from, wherever they are checked."""
    source = Source(repository="org/project", commit="d" * 40, run_id="5")
    (results / "out" / "records.jsonl").write_text(records_file(record("mlp", Status.OOM, source=source)))
    (results / "t.csv").write_text("name,accuracy\nmlp,pass\n")
    done = in_process("check", "accuracy", "out", "--expected", "t.csv", cwd=results)
    assert f"torchperf-ci update-expected {'d' * 40} --repo org/project --expected-dir .\n" in done.stdout
    forged = Source(repository="org/project\n```", commit="x; rm -rf /", run_id="5")
    (results / "out" / "records.jsonl").write_text(records_file(record("mlp", Status.OOM, source=forged)))
    done = in_process("check", "accuracy", "out", "--expected", "t.csv", cwd=results)
    assert "torchperf-ci update-expected YOUR_COMMIT_SHA --repo OWNER/NAME --expected-dir ." in done.stdout


def test_a_table_that_the_run_lacks_altogether_fails(in_process, results):
    """A compiler that nobody ran is not passed over in silence."""
    in_process("update-expected", "--from", "out", "--expected-dir", "expected", cwd=results)
    (results / "out" / "records.jsonl").write_text(records_file(record("mlp", compiler="eager")))
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=results)
    assert done.returncode == 3
    assert "MISSING:  the run has no such model" in done.stdout
    assert (
        in_process("check", "all", "out", "--expected-dir", "expected", "--allow-missing", cwd=results).returncode == 0
    )


def test_a_folder_of_csvs_is_a_run_too(in_process, tmp_path):
    """Accuracy and performance files of one run belong to one table; other CSVs do not matter."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "inductor_x_accuracy.csv").write_text("name,accuracy,graph_breaks\na,pass,0\n")
    (tmp_path / "out" / "inductor_x_performance.csv").write_text("name,speedup\na,1.5\n")
    (tmp_path / "out" / "geomean.csv").write_text(",Compiler,x\n")
    (tmp_path / "expected").mkdir()
    (tmp_path / "expected" / "inductor_x.csv").write_text("name,accuracy,graph_breaks,speedup\na,pass,0,1.5\n")
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "inductor_x (accuracy):",
        "a                                   PASS",
        "",
        "inductor_x (graph-breaks):",
        "a                                   PASS",
        "",
        "inductor_x (performance):",
        "a                                   PASS:     speedup=1.500, expected=1.500",
        "",
        "✅ As expected: 3 checks in 1 table",
    ]


def test_a_damaged_table_fails(in_process, results):
    """Also one that the run has nothing for; and no update goes past it in silence."""
    in_process("update-expected", "--from", "out", "--expected-dir", "expected", cwd=results)
    table = sorted((results / "expected").glob("*.csv"))[0]
    other = results / "expected" / f"aot_{table.name}"
    for broken in (other, table):
        broken.write_bytes(b"")
        done = in_process("check", "all", "out", "--expected-dir", "expected", "--allow-missing", cwd=results)
        assert done.returncode == 3
        assert f"{broken.name}: empty" in done.stdout
    done = in_process("update-expected", "--from", "out", "--expected-dir", "expected", "--allow-missing", cwd=results)
    assert done.returncode == 4
    assert f"Repair or delete expected/{table.name}" in done.stdout
    assert table.read_bytes() == b""


def test_a_damaged_table_of_any_name_fails_where_the_run_has_results_for_it(in_process, folder):
    """A name of nobody's layout, which the run's CSV has too."""
    (folder / "mine.csv").write_text(ACTUAL)
    (folder / "expected" / "mine.csv").write_bytes(b"")
    done = in_process("check", "all", "mine.csv", "--expected", "expected/mine.csv", cwd=folder)
    assert done.returncode == 2
    (folder / "run").mkdir()
    (folder / "mine.csv").rename(folder / "run" / "mine.csv")
    done = in_process("check", "all", "run", "--expected-dir", "expected", cwd=folder)
    assert done.returncode == 3
    assert "mine.csv: empty" in done.stdout


@pytest.mark.parametrize(
    ("check", "cells"), [("graph-breaks", "nan,1.0"), ("graph-breaks", "some,1.0"), ("performance", "0,nan")]
)
def test_a_number_of_a_table_that_is_none_fails(in_process, tmp_path, check, cells):
    """What cannot be compared has not passed."""
    (tmp_path / "run.csv").write_text("name,graph_breaks,speedup\na,7,0.1\nb,0,2.0\n")
    (tmp_path / "table.csv").write_text(f"name,graph_breaks,speedup\na,{cells}\nb,0,2.0\n")
    done = in_process("check", check, "run.csv", "--expected", "table.csv", cwd=tmp_path)
    assert done.returncode == 3
    assert "expected a" in next(line for line in done.stdout.splitlines() if line.startswith("a "))


@pytest.mark.parametrize("words", [("-t", "nan"), ("-t", "inf"), ("-t", "-1"), ("-t", "1", "-s", "nan")])
def test_a_threshold_is_a_number(in_process, folder, words):
    """One that nothing can be compared with is no threshold."""
    done = in_process("check", "performance", "inductor_torchbench_training.csv", *words, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""


def test_counts_that_nobody_expects_are_nothing_to_judge(in_process, tmp_path):
    """An empty file of expected counts makes no check green."""
    (tmp_path / "counts.csv").write_text("a,operators,5\n")
    (tmp_path / "expected.csv").write_text("")
    done = in_process("check", "counts", "counts.csv", "--expected", "expected.csv", cwd=tmp_path)
    assert done.returncode == 4
    assert "✅" not in done.stdout
    assert "update-expected --from counts.csv --counts expected.csv" in done.stdout


def test_counts_of_a_name_that_no_table_may_hold_are_told(in_process, tmp_path):
    """They are not compared, and nobody is told that nothing was counted."""
    odd = replace(record("a\nb"), metrics={"operators": 5.0})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "records.jsonl").write_text(records_file(odd))
    (tmp_path / "expected.csv").write_text("c,operators,5,0\n")
    done = in_process("check", "counts", "out", "--expected", "expected.csv", cwd=tmp_path)
    assert done.returncode == 4
    assert "control characters" in done.stderr
    assert "--no-count" not in done.stderr
    good = replace(record("c"), metrics={"operators": 5.0})
    (tmp_path / "out" / "records.jsonl").write_text(records_file(odd, good))
    done = in_process("check", "counts", "out", "--expected", "expected.csv", cwd=tmp_path)
    assert "control characters" in done.stderr


def test_a_failed_model_of_an_older_runner_fails(in_process, tmp_path):
    """Its row has fewer cells than the header, and a speedup of 0."""
    (tmp_path / "inductor_performance.csv").write_text(
        "dev,name,batch_size,speedup,compilation_latency,compression_ratio\ncuda,ok,16,1.5,3.0,0.9\ncuda,bad,0,0.0000\n"
    )
    done = in_process("check", "performance", "inductor_performance.csv", "--threshold", "1.0", cwd=tmp_path)
    assert done.returncode == 3
    assert "FAIL:     performance=fail_to_run" in done.stdout


@pytest.mark.parametrize(
    ("actual", "expected", "code", "message"),
    [
        ("a.csv", "nope", 2, "'nope' does not exist"),
        ("a.csv", "folder", 2, "there is no expectation table folder/a.csv"),
        ("hostile.csv", "t.csv", 3, "hostile.csv:2: the name '=cmd()' does not start with"),
        ("a.csv", "hostile.csv", 2, "hostile.csv: row 1: the name '=cmd()'"),
        ("twice.csv", "t.csv", 3, "twice.csv:3: 'a' again, first on line 2; the model cannot be judged"),
        ("foreign.csv", "t.csv", 2, "foreign.csv holds no results"),
        ("a.csv", "speed.csv", 4, "nothing to compare: none of speed has a model and a column accuracy"),
        ("empty.csv", "none.csv", 4, "nothing to compare"),
        ("folder", "t.csv", 4, "folder holds neither records.jsonl nor a CSV"),
    ],
)
def test_what_cannot_be_compared_is_told(in_process, tmp_path, actual: str, expected: str, code: int, message: str):
    """Missing, hostile, without the column, empty: an exit code and one line that says what and where."""
    files = {
        "a.csv": "name,accuracy\na,pass\n",
        "t.csv": "name,accuracy\na,pass\n",
        "hostile.csv": "name,accuracy\n=cmd(),pass\n",
        "twice.csv": "name,accuracy\na,pass\na,pass\n",
        "foreign.csv": "name,price\na,1\n",
        "speed.csv": "name,speedup\na,1\n",
        "empty.csv": "name,accuracy\n",
        "none.csv": "name,accuracy\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    done = in_process("check", "accuracy", actual, "--expected", expected, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_tables_for_something_else_are_nothing_to_judge(in_process, results):
    """The message has the command that makes the right ones."""
    (results / "expected").mkdir()
    (results / "expected" / "other.csv").write_text("name,accuracy\na,pass\n")
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=results)
    assert done.returncode == 4
    assert "torchperf-ci update-expected --from out --expected-dir expected" in done.stderr


def test_a_folder_in_place_of_a_check_is_told_how_to_check_it(cli, tmp_path) -> None:
    """Whoever types `check DIR` means all checks."""
    (tmp_path / "my logs").mkdir()
    done = cli("check", "my logs", cwd=tmp_path)
    assert done.returncode == 2
    assert "check all 'my logs'?" in done.stderr


def test_counts_that_are_gone_pass_after_the_command_that_is_told(cli, tmp_path):
    """It removes them; without --prune they are said to be kept."""
    (tmp_path / "now.csv").write_text("a,operators,5\n")
    (tmp_path / "expected.csv").write_text("a,operators,5,0\n\n\n\ngone,operators,3,0\n")
    check = ("check", "counts", "now.csv", "--expected", "expected.csv")
    failed = cli(*check, cwd=tmp_path)
    update = ("update-expected", "--from", "now.csv", "--counts", "expected.csv")
    assert failed.returncode == 3
    assert f"torchperf-ci {' '.join(update)} --prune\n" in failed.stdout
    kept = cli(*update, cwd=tmp_path)
    assert "MISSING: gone operators" in kept.stdout
    assert "--prune" in kept.stdout
    cli(*update, "--prune", cwd=tmp_path)
    assert cli(*check, cwd=tmp_path).returncode == 0


def test_a_summary_that_cannot_be_written_is_refused_before_a_verdict(cli, tmp_path):
    """Nothing is left behind, either."""
    (tmp_path / "now.csv").write_text("a,operators,5\n")
    (tmp_path / "expected.csv").write_text("a,operators,5,0\n")
    check = ("check", "counts", "now.csv", "--expected", "expected.csv", "--summary-file")
    for place in ("now.csv/s.md", "absent/s.md", "/dev/full"):
        done = cli(*check, place, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{place} cannot be written" in done.stderr
    assert not (tmp_path / "absent").exists()
    assert cli(*check, "new.md", cwd=tmp_path).returncode == 0
    assert "As expected" in (tmp_path / "new.md").read_text()
