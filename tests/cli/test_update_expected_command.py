"""`torchperf-ci update-expected`, against a GitHub on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.artifacts import accuracy_csv, record, records_file, zipped
from fakes.github_server import SHA, TOKEN, FakeGitHub
from fakes.http_server import Reply

GOLDEN = Path(__file__).parent.parent / "golden" / "expected"
TABLE = "inductor_timm_inference.csv"
OLD = "name,accuracy,graph_breaks\n\n\n\nadv_inception_v3,fail_accuracy,0\n\n\n\ngone,pass,0\n\n\n\nresnest,pass,3\n"


@pytest.fixture
def server() -> Iterator[FakeGitHub]:
    """A commit with one whole configuration and one that lacks a shard."""
    with FakeGitHub() as running:
        run = running.add_run(workflow="inductor")

        def test(config: str, number: int, total: int, *rows: str) -> None:
            job = running.add_job(run, f"cuda / test ({config}, {number}, {total}, linux.gpu)", conclusion="failure")
            if rows:
                files = {"test/test-reports/inference_timm_models.csv": accuracy_csv(*rows)}
                name = f"test-reports-test-{config}-{number}-{total}-linux.gpu_{job}.zip"
                running.add_artifact(run, name, zipped(files))

        test("inductor_timm", 1, 2, "adv_inception_v3,pass,90,0", "beit,pass,12,1")
        test("inductor_timm", 2, 2, "resnest,pass,40,5")
        test("aot_eager_timm", 1, 2, "beit,pass,12,1")
        test("aot_eager_timm", 2, 2)
        yield running


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / TABLE).write_text(OLD)
    return tmp_path


def updated(in_process, server, folder, *arguments: str):
    words = ["update-expected", SHA, "--layout", "pytorch", "--expected-dir", "ci", *arguments]
    return in_process(*words, env=server.environ, cwd=folder)


def test_tables_are_updated_and_what_changed_is_told(cli, server, folder):
    """Whole outputs: the text, the Markdown, the table; the incomplete configuration is left alone, exit code 4."""
    done = updated(cli, server, folder, "--summary-file", "summary.md")
    assert done.returncode == 4, done.stderr
    assert done.stdout == (GOLDEN / "update.txt").read_text()
    assert (folder / "summary.md").read_text() == (GOLDEN / "update.md").read_text()
    assert (folder / "ci" / TABLE).read_text() == (GOLDEN / "update.csv").read_text()
    assert [path.name for path in (folder / "ci").iterdir()] == [TABLE]
    assert done.stderr == "Reading 3 artifacts of 2 configurations …\n"


KEPT = f"""{TABLE}: 1 kept
  gone                                kept: not in this run
unchanged: 1 table
"""


def test_a_second_time_changes_nothing(in_process, server, folder):
    """Not even the time of the file's last change."""
    updated(in_process, server, folder, "--config", "inductor_timm")
    before = (folder / "ci" / TABLE).stat().st_mtime_ns
    done = updated(in_process, server, folder, "--config", "inductor_timm")
    assert (done.returncode, done.stdout) == (0, KEPT)
    assert (folder / "ci" / TABLE).stat().st_mtime_ns == before


def test_a_dry_run_writes_nothing(in_process, server, folder):
    """The output says that it did not."""
    done = updated(in_process, server, folder, "--dry-run", "--pull-request", "--prune", "--config", "inductor_timm")
    assert done.returncode == 0
    assert "gone: pass, graph_breaks 0\n" in done.stdout
    assert done.stdout.endswith("\ndry run: nothing was written\n")
    assert (folder / "ci" / TABLE).read_text() == OLD
    assert server.pulls == []


def test_columns_can_be_added_and_models_pruned(in_process, server, folder):
    """calls_captured becomes a column, the model that is gone goes."""
    done = updated(
        in_process, server, folder, "--config", "inductor_timm", "--prune", "--metric-column", "calls_captured"
    )
    assert done.returncode == 0
    lines = [line for line in (folder / "ci" / TABLE).read_text().splitlines() if line]
    assert lines == [
        "name,accuracy,graph_breaks,calls_captured",
        "adv_inception_v3,pass,0,90",
        "beit,pass,1,12",
        "resnest,pass,5,40",
    ]


def test_a_pull_request_has_the_changes_and_the_summary(in_process, server, folder):
    """One commit on a branch of its own, opened once and brought up to date after that."""
    server.commit({f"ci/{TABLE}": OLD.encode(), "README": b"x"}, branch="main")
    done = updated(in_process, server, folder, "--config", "inductor_timm", "--pull-request")
    assert done.returncode == 0, done.stderr
    assert "Opened pull request 1: " in done.stderr
    branch = f"torchperf/update-expected-{SHA[:12]}"
    assert server.files(branch) == {"README": b"x", f"ci/{TABLE}": (GOLDEN / "update.csv").read_bytes()}
    (pull,) = server.pulls
    assert (pull["title"], pull["base"]) == (f"Update expectations from {SHA[:12]}", "main")
    assert pull["body"].startswith("## Expectations: 3 changes in 1 table from commit")


def test_a_pull_request_that_would_undo_others_work_is_refused_before_anything_is_written(in_process, server, folder):
    """The checkout is older than the branch."""
    server.commit({f"ci/{TABLE}": b"name\n"}, branch="main")
    done = updated(in_process, server, folder, "--config", "inductor_timm", "--pull-request")
    assert (done.returncode, done.stdout) == (2, "")
    assert "check out main, or name another branch with --base" in done.stderr
    assert (folder / "ci" / TABLE).read_text() == OLD


def test_a_token_without_the_permission_is_told(in_process, server, folder):
    """Exit code 5, the permission, nothing written, the token nowhere."""
    server.permissions.clear()
    done = updated(in_process, server, folder)
    assert done.returncode == 5
    assert "the token needs the permission 'actions: read'" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert (folder / "ci" / TABLE).read_text() == OLD


def test_a_rate_limit_is_waited_for_and_told(in_process, server, folder):
    """A second's wait, then it goes on; longer than the patience it gives up."""
    server.fail("GET", Reply(status=429, headers={"Retry-After": "0"}))
    done = updated(in_process, server, folder, "--config", "inductor_timm")
    assert done.returncode == 0
    assert "GitHub's rate limit: waiting" in done.stderr
    server.fail("GET", Reply(status=429, headers={"Retry-After": "99"}))
    done = updated(in_process, server, folder, "--patience", "9")
    assert done.returncode == 5
    assert "longer than --patience 9 s allows" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["main"], 2, "'main' is no commit SHA, expected 7 to 40 of the digits 0-9 and a-f"),
        (["b" * 40], 4, "org/project has no workflow run of the commit bbbb"),
        ([SHA], 4, "holds results of torchperf-ci run"),
        ([], 2, "give either the SHA of a commit, or --from"),
        ([SHA, "--from", "."], 2, "give either the SHA of a commit"),
        ([SHA, "--repo", "project"], 2, "--repo is 'project'"),
        ([SHA, "--metric-column", "=speed"], 2, "--metric-column =speed is no name of a column"),
        ([SHA, "--exclude-job", "("], 2, "--exclude-job '(' is no regular expression"),
        ([SHA, "--config", "a b"], 2, "--config a b is no name of a configuration"),
        ([SHA, "--token-file", "nope"], 2, "--token-file nope cannot be read"),
        ([SHA, "--api-url", "http://example.com"], 2, "would send the token unencrypted; use https"),
        (["--from", "."], 4, "holds no records.jsonl"),
    ],
)
def test_wrong_usage_is_told(in_process, server, tmp_path, arguments: list[str], code: int, message: str):
    """One line that says what is wrong, and its exit code."""
    done = in_process("update-expected", *arguments, env=server.environ, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_two_names_of_one_table_are_told(in_process, server, tmp_path):
    """Two kinds of runners measured the same cases."""
    run = server.add_run(sha="e" * 40)
    for name in ("a100", "h100"):
        server.add_artifact(run, f"torchperf-{name}-1-1-1", zipped({"records.jsonl": records_file(record("mlp"))}))
    done = in_process("update-expected", "e" * 40, env=server.environ, cwd=tmp_path)
    assert done.returncode == 2
    assert "comes from both a100 and h100; choose one with --config" in done.stderr
    done = in_process("update-expected", "e" * 40, "--config", "a100", env=server.environ, cwd=tmp_path)
    assert done.returncode == 0
    assert [path.name for path in (tmp_path / "expected").iterdir()] == ["inductor_tiny_float32_inference_cpu.csv"]
