"""Expectation tables on disk."""

import pytest

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.expectations.table import (
    ExpectationTable,
    Flaky,
    read_expectation,
    read_expectations,
    read_table,
    write_expectation,
)

TABLE = ExpectationTable(columns=("name", "accuracy"), rows=(("a", "pass"), ("b", "OOM")))


def test_a_table_is_written_whole_and_keeps_link_and_permissions(tmp_path):
    """The folder is made, nothing else is left in it, a link stays one, and so does who may read it."""
    path = tmp_path / "rocm" / "t.csv"
    write_expectation(path, TABLE)
    assert read_table(path) == TABLE
    assert [each.name for each in path.parent.iterdir()] == ["t.csv"]
    path.chmod(0o600)
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    write_expectation(link, ExpectationTable(columns=("name",)))
    assert (link.is_symlink(), path.read_text(), path.stat().st_mode & 0o777) == (True, "name\n", 0o600)


def test_a_table_that_cannot_be_written_is_told(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match="cannot be written"):
        write_expectation(tmp_path / "file" / "t.csv", TABLE)


def test_flaky_models_are_those_of_the_nearest_file(tmp_path):
    """Beside the table, or one folder up, where patterns see the folder's name."""
    write_expectation(tmp_path / "t.csv", TABLE)
    write_expectation(tmp_path / "rocm" / "t.csv", TABLE)
    assert read_expectation(tmp_path / "t.csv").flaky == ()
    (tmp_path / "flaky.yaml").write_text("- {name: a, reason: r, configs: [rocm/*]}\n")
    flaky = (Flaky(name="a", reason="r", configs=("rocm/*",)),)
    top, below = read_expectation(tmp_path / "t.csv"), read_expectation(tmp_path / "rocm" / "t.csv")
    assert (top.config, top.flaky, below.config, below.flaky) == ("t", flaky, "rocm/t", flaky)
    (tmp_path / "rocm" / "flaky.yaml").write_text("")
    nearer = read_expectation(tmp_path / "rocm" / "t.csv")
    assert (nearer.config, nearer.flaky) == ("t", ())


def test_a_folder_holds_its_csv_files(tmp_path):
    """By name; other files and folders are none."""
    for name in ("b", "a"):
        write_expectation(tmp_path / f"{name}.csv", TABLE)
    (tmp_path / "readme.md").write_text("x")
    (tmp_path / "c.csv").mkdir()
    (tmp_path / "foreign.csv").write_text("unit,price\nkg,3\n")
    (tmp_path / "torn.csv").write_text("name,accuracy\na\n")
    tables, unusable, foreign = read_expectations(tmp_path)
    assert [each.name for each in tables] == ["a", "b"]
    assert list(unusable) == ["torn"]
    assert list(foreign) == ["foreign"]
    assert "foreign.csv" in foreign["foreign"]


@pytest.mark.parametrize("content", [b"", b"<<<<<<< HEAD\nname,accuracy\n", "name,accuracy\na,pass\n".encode("utf-16")])
@pytest.mark.parametrize("name", ["inductor_tiny_float32_inference_cpu", "inductor_torchbench_training"])
def test_a_damaged_table_is_told_by_its_name(tmp_path, name, content):
    """Whatever is left of its content: it is no foreign file."""
    (tmp_path / f"{name}.csv").write_bytes(content)
    tables, unusable, foreign = read_expectations(tmp_path)
    assert (tables, list(unusable), foreign) == ((), [name], {})


def test_what_is_not_there_is_told(tmp_path):
    """A table, a folder, and a flaky file that is no text."""
    assert read_table(tmp_path / "t.csv") is None
    with pytest.raises(UsageProblem, match="there is no expectation table"):
        read_expectation(tmp_path / "t.csv")
    with pytest.raises(UsageProblem, match="torchperf-ci update-expected makes one"):
        read_expectations(tmp_path / "nope")
    write_expectation(tmp_path / "t.csv", TABLE)
    (tmp_path / "flaky.yaml").write_bytes(b"\xff")
    with pytest.raises(UsageProblem, match=r"flaky\.yaml cannot be read"):
        read_expectation(tmp_path / "t.csv")
