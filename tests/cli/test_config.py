"""`torchperf.toml`: defaults for commands and rules for what counts, and everything that can be wrong with it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from report_builders import case
from torchperf_ci.cli.config import read_config
from torchperf_ci.compare.model import Rule
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.dashboard.owners import find_labels, find_owners

Cli = Callable[..., subprocess.CompletedProcess[str]]


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "torchperf.toml"
    path.write_text(text)
    return path


def test_options_and_rules_are_read(tmp_path: Path) -> None:
    """Rules in their order, options by command."""
    text = (
        "[run]\nthreads = 1\n[[tolerance]]\ncase = 'a/*'\nmargin = 0.1\n[[tolerance]]\nmetric = '*mem'\nthreshold = 1\n"
    )
    found = read_config(config(tmp_path, text), ["run"])
    assert found.options == {"run": {"threads": 1}}
    assert found.rules == (Rule(case="a/*", margin=0.1), Rule(metric="*mem", threshold=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[runn]\n", "unknown table 'runn'. Did you mean run?"),
        ("run = 1\n", "'run' is not a table"),
        ("[run\n", "is not TOML"),
        ("[tolerance]\nmargin = 1\n", "write [[tolerance]] for each"),
        ("[[tolerance]]\nmargins = 0.1\n", "unknown key 'margins'. Did you mean margin?"),
        ("[[tolerance]]\nmargin = 50\n", "margin is 50, expected a share from 0 to 10"),
        ("[[tolerance]]\nmargin = '5 %'\n", "margin is '5 %', expected a share"),
        ("[[tolerance]]\nmargin = true\n", "margin is True, expected a share"),
        ("[[tolerance]]\ncase = 1\nmargin = 0.1\n", "case is 1, expected text"),
        ("[[tolerance]]\nmetric = 'latency'\nmargin = 0.1\n", "unknown metric 'latency'. Did you mean abs_latency?"),
        ("[[tolerance]]\ncase = 'a'\n", "it has neither margin nor threshold"),
        ("[[tolerance]]\nmargin = 0.2\nthreshold = 0.1\n", "margin 0.2 is above threshold 0.1"),
        ("[owner]\ncase = 'a'\n", "write [[owner]] for each"),
        ("[[owner]]\ncase = 'a'\n", "it has neither owners nor labels"),
        ("[[owner]]\nmatch = 'a'\nlabels = ['x']\n", "unknown key 'match'"),
        ("[[owner]]\nowners = '@ana'\n", "expected a list of texts"),
        ("[[owner]]\nowners = ['ana and ben']\n", "expected @user or @organization/team"),
        ("[[owner]]\nlabels = ['a,b']\n", "without commas"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    """Unknown names with the nearest one that there is."""
    with pytest.raises(UsageProblem) as error:
        read_config(config(tmp_path, text), ["run", "compare"])
    assert message in str(error.value)
    assert "torchperf.toml" in str(error.value)


def test_owners_are_read(tmp_path: Path) -> None:
    """In their order; the last rule that fits a case and names some counts, for owners and labels each."""
    text = (
        "[[owner]]\nowners = ['@org/team']\nlabels = ['module: x']\n"
        "[[owner]]\ncase = 'tiny/ml*'\nmetric = 'speedup'\nowners = ['ana', '@ben']\n"
    )
    rules = read_config(config(tmp_path, text), ["run"]).owners
    mlp, other = case("mlp"), case("other")
    assert find_owners(rules, [(mlp, "speedup")]) == ("ana", "ben")
    assert find_owners(rules, [(mlp, "abs_latency"), (other, "speedup")]) == ("org/team",)
    assert find_labels(rules, [(mlp, "speedup"), (other, "speedup")]) == ("module: x",)


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    """Nobody mends a file line by line."""
    text = "[a]\n[b]\n[[tolerance]]\nx = 1\nmargin = -1\n"
    with pytest.raises(UsageProblem) as error:
        read_config(config(tmp_path, text), ["run"])
    assert len(str(error.value).splitlines()) == 4


COMPARE = ("compare", "--inference", "--base-env", "A=1")


def test_the_file_gives_defaults_below_variables_and_the_command_line(cli: Cli, tmp_path: Path) -> None:
    """The file here is taken without being named; --config names another."""
    path = config(tmp_path, "[compare]\nmargin = 0.3\nthreshold = 0.2\n")
    message = "--margin 0.3 is above --threshold 0.2"
    assert message in cli(*COMPARE, cwd=tmp_path).stderr
    assert message in cli("--config", str(path), *COMPARE).stderr
    assert "--margin 0.4 is" in cli(*COMPARE, cwd=tmp_path, env={"TORCHPERF_MARGIN": "0.4"}).stderr
    assert "--margin 0.5 is" in cli(*COMPARE, "--margin", "0.5", cwd=tmp_path, env={"TORCHPERF_MARGIN": "0.4"}).stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run]\nthread = 1\n", "[run]: unknown option 'thread'. Did you mean threads?"),
        ("[run]\nsuites = 'tiny'\n", "suites is 'tiny', expected a list: ['tiny']"),
        ("[run]\nquick = 'yes'\n", "quick is 'yes', expected true or false"),
        ("[run]\nthreads = [1]\n", "threads is [1], expected one value"),
        ("[run]\nthreads = 0\n", "'--threads'"),
    ],
)
def test_options_of_the_file_are_checked(cli: Cli, tmp_path: Path, text: str, message: str) -> None:
    """By name, by form, and by the option's own rules; also for `run`."""
    config(tmp_path, text)
    done = cli("run", "--inference", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


def test_options_of_other_commands_are_left_alone(cli: Cli, tmp_path: Path) -> None:
    """And the help of the whole needs no file that is right."""
    config(tmp_path, "[run]\nthreads = 0\n")
    assert cli("--help", cwd=tmp_path).returncode == 0
    assert "--margin 0.1 is above" in cli(*COMPARE, "--margin", "0.1", "--threshold", "0.05", cwd=tmp_path).stderr
