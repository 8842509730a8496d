"""Text from outside means nothing where it is shown, and names can be told apart, shown and written."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.file_systems import open_file_system
from torchperf_ci.core.records import Mode
from torchperf_ci.core.text import (
    GuardedStream,
    break_commands,
    code,
    csv_cell,
    duration,
    format_digits,
    from_csv_cell,
    heading,
    html,
    name_problem,
    one_line,
    safe_name,
    sentence,
    terminal,
)
from torchperf_ci.github.job import annotate
from torchperf_ci.run.plan import Selection, SuiteListing, chosen_models

GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\r\nand\ttabs", "two lines and tabs"),
        ("bell\x07 and \x1b[31mcolour", "bell\ufffd and \ufffd[31mcolour"),
        ("right\u202eto left", "right\ufffdto left"),
        ("half a pair \ud83d", "half a pair \ufffd"),
        ("  plain  ", "plain"),
    ],
)
def test_one_line_shows_nothing_that_controls(text: str, shown: str):
    """Line ends become spaces, and characters that control or reorder become visible."""
    assert one_line(text) == shown


def test_a_long_text_is_cut_and_says_so():
    """A limit counts characters, the ellipsis among them."""
    assert one_line("abcdefgh", limit=5) == "abcd…"
    assert one_line("abcde", limit=5) == "abcde"


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("resnet_18", "`resnet_18`"),
        ("@octocat #12 :tada: <b>", "`@octocat #12 :tada: <b>`"),
        ("a|b", "<code>a&#124;b</code>"),
        ("a`b", "<code>a&#96;b</code>"),
        ("", "–"),
        ("\r", "`'\\r'`"),
    ],
)
def test_code_is_a_code_span_or_an_element_of_references(text: str, markdown: str):
    """Only where a code span cannot hold the text is it written with references."""
    assert code(text) == markdown


@given(st.text(max_size=60))
def test_any_text_is_one_cell_of_plain_code(text: str):
    """Whatever the text, a table row keeps its two cells, and the cell's content is code with just that text."""
    shown = one_line(text) or (ascii(text) if text else "–")
    rendered = GITHUB.render(f"| a | b |\n| --- | --- |\n| {code(text)} | end |\n")
    cells = rendered.split("<tbody>")[1].split("<td>")[1:]
    assert len(cells) == 2
    inner = GITHUB.parseInline(code(text))[0].children or []
    read = "".join(part.content for part in inner if part.type in {"text", "text_special", "code_inline"})
    assert read.replace("\u2060", "") == shown  # a reference that GitHub would find is broken by what cannot be seen
    assert {part.type for part in inner} <= {"text", "text_special", "code_inline", "html_inline"}


def test_a_heading_keeps_ordinary_names_and_codes_others():
    """PyTorch's titles stay what they are; a name that could mean something in Markdown does not."""
    assert heading("timm_models") == "timm_models"
    assert heading("__init__ ##") == "`__init__ ##`"


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("torch._dynamo.config.verbose = False", "torch._dynamo.config.verbose = False"),
        ("Device Memory [GB]: 79.1", "Device Memory [GB]: 79.1"),
        ("CPU: Intel(R) Xeon(R) CPU @ 2.20GHz", "CPU: Intel(R) Xeon(R) CPU @ 2.20GHz"),
        ("commit: [x](y)", "`commit: [x](y)`"),
        ("ask @octocat", "`ask @octocat`"),
        ("see http://example.org", "`see http://example.org`"),
        ("</details>", "`</details>`"),
        ("# title", "`# title`"),
    ],
)
def test_a_sentence_stays_as_it_is_unless_it_could_mean_something(text: str, markdown: str):
    """Ordinary lines keep their look; links, mentions, elements and titles become code."""
    assert sentence(text) == markdown


def test_html_has_no_character_left_that_means_something():
    """Letters, digits, spaces and commas stay."""
    assert html("a <b>, *c*") == "a &#60;b&#62;, &#42;c&#42;"


@given(st.text())
@example("'=1")
@example("=1")
def test_a_csv_cell_is_no_formula_and_can_be_read_back(text: str):
    """A spreadsheet takes no cell for a formula, and reading gives the text that was written."""
    cell = csv_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_csv_cell(cell) == text


Cli = Callable[..., subprocess.CompletedProcess[str]]
ABSURD = ("", " ", ".", "..", "...", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "~/x", "a\\b", "a\nb", "a\x00b",
          "a\x1b[31m", "a\u202eb", "a\u200bb", " a", "a ", "m" * 10_000)  # fmt: skip


@pytest.mark.parametrize("name", ABSURD, ids=lambda name: repr(name[:12]))
def test_absurd_names_have_a_problem(name: str) -> None:
    """Of a suite as well as of a model."""
    assert name_problem(name, may_have_folders=True)
    assert name_problem(name)


@pytest.mark.parametrize(
    "name", ["mlp", "BERT_pytorch", "google-bert/bert-base.v1", "naïve model (2)", "…", "a.b", ".hidden"]
)
def test_names_that_people_use_have_none(name: str) -> None:
    """Those of model hubs with a folder included."""
    assert name_problem(name, may_have_folders=True) == ""
    assert ("/" in name) == bool(name_problem(name))


@given(st.text(max_size=300))
def test_a_name_without_a_problem_is_shown_as_it_is(name: str) -> None:
    """In one line, and as part of a file's name."""
    if not name_problem(name, may_have_folders=True):
        assert one_line(name) == name
        assert safe_name(name) not in {"", ".", ".."}


def test_a_suite_with_absurd_names_is_refused_before_anything_runs(cli: Cli, tmp_path: Path) -> None:
    """With the suite, each name and what is wrong with it."""
    suite = tmp_path / "bench.py"
    suite.write_text(
        "def make(batch_size):\n    raise SystemExit('it ran')\n"
        "MODELS = {name: make for name in ('good', '', '../up', 'a\\n::error::b', 'm' * 10_000)}\n"
    )
    done = cli("run", "--suites", str(suite), "--inference", "--devices", "cpu", "--output-dir", "out")
    assert done.returncode == 2, done.stderr
    assert "it ran" not in done.stderr
    for said in (str(suite), "is blank", "'../up' is no name but a path", "10,000 characters"):
        assert said in done.stderr
    assert not list(tmp_path.glob("cwd/out/records.jsonl"))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*$", "(a*)*b", "([a-z]+)*/x$"])
def test_a_filter_that_backtracks_without_end_is_refused(pattern: str) -> None:
    """With the pattern, instead of a job that hangs until somebody kills it."""
    selection = Selection(suites=("s",), mode=Mode.INFERENCE, filters=(re.compile(pattern),))
    suite = SuiteListing(spec="s", name="s", models=("a" * 60 + "!",))
    with pytest.raises(UsageProblem, match="repetition inside of a repetition"):
        chosen_models(selection, suite)
    assert signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("simplecache::s3://user:password@bucket/x", "::"),
        ("filecache::file:///tmp/x", "::"),
        ("zip://*.csv::file:///tmp/x.zip", "::"),
        ("reference://x", "'reference'"),
        ("local:///tmp/x", "'local'"),
        ("python://os", "'python'"),
        ("dir://x", "'dir'"),
        ("github://org:repo@main/x", "'github'"),
        ("s3://bucket/x?endpoint_url=http://evil", "options"),
        ("memory://x#y", "options"),
    ],
)
def test_urls_that_are_no_plain_folder_are_refused(url: str, said: str) -> None:
    """Before anything of them is opened, and without the secrets they may hold."""
    with pytest.raises(UsageProblem, match="cannot be used") as refused:
        open_file_system(url, purpose="the history")
    assert said in str(refused.value)
    assert "password" not in str(refused.value)


_ALPHABET = ":#[]x \t\n\r\x0b\x1b\x9b]8;?25lK\u2028\u202e\u00a0"
PIECES = st.lists(st.text(alphabet=_ALPHABET, max_size=6), max_size=12)


def obeyed(log: str) -> list[str]:
    """The lines that GitHub's runner would take for commands, by what its source does."""
    lines = re.split(r"\r\n|\r|\n", log)
    return [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


def test_a_line_that_progress_writes_over_begins_again() -> None:
    """What follows a return is the start of a line to the runner."""
    assert obeyed(written(["abc", "\r", " :", ":error::x\n", "abc", "\r::error::x"])) == []


def written(pieces: list[str]) -> str:
    stream = io.StringIO()
    guarded = GuardedStream(stream)
    for piece in pieces:
        guarded.write(piece)
    return stream.getvalue()


@given(PIECES)
def test_no_workflow_command_is_obeyed_however_it_is_cut(pieces: list[str]) -> None:
    """Neither one at the start of a line nor one in the middle."""
    assert obeyed(written(pieces)) == []


@given(PIECES)
def test_nothing_is_left_that_a_terminal_obeys(pieces: list[str]) -> None:
    """Of control characters only those that progress is drawn with."""
    left = re.sub(r"\x1b\[(?:K|\?25[lh])", "", written(pieces))
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u202e]", left)


@given(st.text(alphabet=_ALPHABET, max_size=30))
def test_a_return_moves_back_only_at_the_start_of_what_is_written(text: str) -> None:
    """There progress has it; elsewhere it would let a name write over what stands before it."""
    assert "\r" not in terminal(text)[1:]


@given(st.text(max_size=40))
def test_what_holds_no_command_stays_as_it_is(text: str) -> None:
    """And what holds one stays readable: it differs by what cannot be seen."""
    assert break_commands(text).replace("\u200b", "") == text.replace("\u200b", "")
    if not obeyed(text):
        assert break_commands(text) == text


def test_an_annotation_is_obeyed_and_what_it_tells_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the guarded stream as well."""
    monkeypatch.setattr(sys, "stdout", GuardedStream(sys.stdout))
    annotate("::debug::b\n##[error]c", title="a##[group]\x1b[31m")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("::error title=")
    assert "##[" not in line
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (3600, "60 min"), (11_100, "3 h 5 min"), (86_400, "24 h 0 min")],
)
def test_durations_are_rounded_for_people(seconds: float, text: str) -> None:
    """Seconds below two minutes, minutes below two hours."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (12345.678, 3, "12,346"),
        (1000, 3, "1,000"),
        (999.6, 3, "1,000"),
        (-1234.5, 4, "-1,234"),
        (5e-5, 3, "0.00005"),
        (1.2e-6, 3, "0.0000012"),
        (0.99996e-4, 3, "0.0001"),
        (1.5, 3, "1.5"),
        (0, 3, "0"),
        (123456.789, 8, "123,456.79"),
        (1.5e-9, 3, "1.5e-09"),
        (2.5e12, 3, "2.5e+12"),
    ],
)
def test_a_number_of_a_size_that_people_know_has_no_exponent(value: float, digits: int, text: str) -> None:
    assert format_digits(value, digits) == text
