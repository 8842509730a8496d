"""Text from outside in Markdown, HTML and CSV."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from torchperf_ci.core.escape import code, csv_cell, from_csv_cell, heading, html, one_line, sentence

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
    ],
)
def test_code_is_a_code_span_or_an_element_of_references(text: str, markdown: str):
    """Only where a code span cannot hold the text is it written with references."""
    assert code(text) == markdown


@given(st.text(max_size=60))
def test_any_text_is_one_cell_of_plain_code(text: str):
    """Whatever the text, a table row keeps its two cells, and the cell's content is code with just that text."""
    shown = one_line(text) or "–"
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
