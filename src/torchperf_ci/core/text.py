"""Text: made harmless for the place where it is shown, cut to one line, counted, put in columns, and used as a name.

What comes from outside (a model's name, an exception's message, what GitHub answers) may hold what Markdown, a
spreadsheet, a terminal or a workflow's runner would obey. Nothing else in this package escapes.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import math
import re
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import zip_longest
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from torchperf_ci.core.errors import UsageProblem

_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")
_OURS = re.compile(r"\A\r(?=[^\n])|\r\n|\x1b\[(?:K|\?25[lh])")
"""Sequences that progress is drawn with: back to the line's start, erase the rest of it, hide and show the cursor."""
_COMMAND = re.compile(r"(?:^|(?<=\r))[^\S\n]*:(?=:)|##(?=\[)", re.MULTILINE)
_ZERO_WIDTH_SPACE = "\u200b"
_SPACE = re.compile(r"\s+")
_TAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(_[A-Za-z0-9.-]+)*")
_TAME_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ .:,;=+()/\[\]@%-]*")
_SHA = "[0-9a-f]{7,40}"
"""A commit's SHA, or the first 7 or more of its digits, as GitHub finds them in bare text."""
_COMMIT = rf"(?<![^\W_]){_SHA}(?![^\W_])"
_MEANING = re.compile(rf"\]\(|\]\[|@\w|://|www\.|\bgh-\d|{_COMMIT}", re.IGNORECASE)
"""Parts of bare text that GitHub acts on: links, addresses, mentions, references to issues and commits."""
_REFERENCE = re.compile(rf"[@#](?=.)|:(?=//)|www(?=\.)|\bgh-(?=\d)|{_COMMIT}", re.IGNORECASE)
_WORD_JOINER = "\u2060"
_PUNCTUATION = frozenset(",.;/()=%'\"?-+")
"""Signs that mean nothing in Markdown, inside a line."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Word(str, Enum):
    """The base of closed choices that are written as they are called, whatever writes them."""

    __str__ = str.__str__


def one_line(text: str, *, limit: int = 0) -> str:
    """Put `text` on one line, without characters that control or reorder what stands beside them.

    Longer texts than `limit` characters (0: no limit) are cut, which an ellipsis says.
    """
    seen = _SPACE.sub(" ", text).strip()
    seen = _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", seen)
    return seen[: limit - 1].rstrip() + "…" if limit and len(seen) > limit else seen


def cut_subject(message: str) -> str:
    """Cut a commit's message down to its first line, and that to as much as a list has room for."""
    return one_line(message.strip().partition("\n")[0], limit=120)


def code(text: str, *, limit: int = 0) -> str:
    """Write `text` as inline code in GitHub-flavoured Markdown, in a table or anywhere else.

    Code is where GitHub looks for no mentions, references, links, emoji or mathematics. A back-tick or a pipe cannot
    be escaped there without doubt, so such a text becomes a `<code>` element of character references. A name that is
    nothing but white space is shown by its escapes: else nobody would see that there is one.
    """
    seen = one_line(text, limit=limit) or (ascii(text) if text else "")
    if not seen:
        return ABSENT
    if "`" not in seen and "|" not in seen:
        return f"`{seen}`"
    return f"<code>{html(seen)}</code>"


def heading(text: str) -> str:
    """Write `text` in a Markdown heading: as it is when nothing in it can mean anything, else as inline code."""
    return text if _TAME.fullmatch(text) and not _MEANING.search(text) else code(text)


def sentence(text: str) -> str:
    """Write `text` as a line of Markdown: as it is when nothing in it can mean anything, else as inline code."""
    return text if _TAME_LINE.fullmatch(text) and not _MEANING.search(text) else code(text)


def html(text: str) -> str:
    """Write `text` as bare words or in an HTML element in Markdown: signs that could mean something by number.

    GitHub looks for mentions, addresses and references after it has decoded these, and for addresses in a `<code>`
    element as well: so what it looks for is broken by a character that cannot be seen.
    """
    shown = _REFERENCE.sub(_broken, one_line(text))
    return "".join(char if _is_plain(shown, place) else f"&#{ord(char)};" for place, char in enumerate(shown))


def _is_plain(text: str, place: int) -> bool:
    """Say whether a character means nothing where it stands; `1. ` at the beginning of a line begins a list."""
    char = text[place]
    if char.isalnum() or char == " " or ord(char) > 127:
        return True
    if char == ":":  # an emoji's name follows at once
        return text[place + 1 : place + 2] in {"", " "}
    if char == "_":
        return text[:place][-1:].isalnum() and text[place + 1 : place + 2].isalnum()
    begins_list = text[:place].isdigit() and text[place + 1 : place + 2] in {"", " "}
    return char in _PUNCTUATION and place > 0 and not begins_list


def _broken(reference: re.Match[str]) -> str:
    """Put a word joiner behind a sign, and after every sixth of a commit's digits, since seven are looked for."""
    parts = [reference[0][at : at + 6] for at in range(0, len(reference[0]), 6)]
    return _WORD_JOINER.join(parts) if len(parts) > 1 else reference[0] + _WORD_JOINER


def terminal(text: str) -> str:
    """Make `text`, which may have several lines, harmless for a terminal: nothing in it moves, colours or reorders."""
    parts, at = [], 0
    for ours in _OURS.finditer(text):
        parts += [_show_hidden(text[at : ours.start()]), "\n" if ours[0] == "\r\n" else ours[0]]
        at = ours.end()
    return "".join([*parts, _show_hidden(text[at:])])


def break_commands(text: str) -> str:
    """Put what cannot be seen into whatever GitHub's runner would take for a command.

    It obeys `::command::` at the start of a line, spaces before it left aside, and `##[command]` anywhere in one.
    """
    return _COMMAND.sub(lambda command: command[0] + _ZERO_WIDTH_SPACE, text)


def _show_hidden(text: str) -> str:
    return "".join(char if char in "\n\t" else _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", char) for char in text)


def fenced(text: str, *, language: str = "") -> str:
    """Write `text`, which may have several lines, as a block of code in Markdown."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{_show_hidden(text)}\n{ticks}"


def write_csv(rows: Iterable[Iterable[object]]) -> str:
    """Write rows as lines of CSV, the last one ended too."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def csv_cell(text: str) -> str:
    """Write `text` for a CSV cell: one that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{text}" if _is_formula(text) else text


def from_csv_cell(text: str) -> str:
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    """Say whether a spreadsheet calculates it; also one with apostrophes in front already, to tell it from our own."""
    return text.lstrip("'").startswith(_FORMULA)


def count(number: int, noun: str) -> str:
    """Write a number with its noun: `1 case`, `1,234 cases`."""
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def format_digits(value: float, digits: int) -> str:
    """Write a number with so many digits that mean something, and all that stand before its point: `0.00005`, `12,346`.

    Only what has no unit that people know, below a millionth or from a thousand million on, has an exponent.
    """
    text = f"{value:,.{digits}g}"
    size = abs(value)
    if "e" not in text or not 1e-6 <= size < 1e9:
        return text
    if size >= 1:
        return f"{value:,.0f}"
    return f"{value:.{digits - 1 - math.floor(math.log10(size))}f}".rstrip("0")


def some_of(names: Collection[str], most: int = 5) -> str:
    """Join the first names with commas, and count the others: `a, b and 3 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more


ABSENT = "–"
"""The cell of a table that has nothing to say."""

LONGEST_NAME = 200
"""Characters of a suite's or a model's name."""

LONGEST_FILE_NAME = 200
"""Characters of a file's name that leave room for endings."""


def name_problem(name: str, *, may_have_folders: bool = False) -> str:
    """Say what is wrong with a name; blank when nothing is.

    may_have_folders: `org/model`, as model hubs have it, is a name as well.
    """
    parts = name.split("/")
    if not name.strip():
        return "is blank"
    if len(name) > LONGEST_NAME:
        return f"has {len(name):,} characters, more than {LONGEST_NAME}"
    if one_line(name) != name:
        return "holds a line end, a control character or other characters that cannot be seen, or begins or ends blank"
    if any(not part.strip(".") for part in parts) or name.startswith("~") or "\\" in name:
        return "is no name but a path"
    if len(parts) > 1 and not may_have_folders:
        return "holds a slash, which separates suite and model"
    return ""


def nearest(name: str, choices: Iterable[str], *, usual: str = "") -> str:
    """Return " Did you mean …?" with the choice that is most like `name`, or a blank when none is.

    usual: what people mean who type this name, which may be unlike in letters (fp16 for float16).
    """
    near = [usual] if usual else difflib.get_close_matches(name, list(choices), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def duration(seconds: float) -> str:
    """Write a time for people: `45 s`, `12 min`, `3 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def unique(name: str, taken: set[str]) -> str:
    """Put a number behind `name` if it is taken already, and take it."""
    number = 1
    candidate = name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(candidate)
    return candidate


LIMIT_S = 2.0
"""CPU seconds for one name, which takes microseconds unless a pattern backtracks without end."""


def search(pattern: re.Pattern[str], text: str, *, whole: bool = False) -> bool:
    """Say whether `pattern` matches somewhere in `text`, or with `whole` all of it.

    Raises `UsageProblem` when that takes too long, as `(a+)+$` does: the time doubles with each letter. CPU time
    counts, so that a busy machine makes no difference. Python looks for signals in its main thread alone; in others
    there is no limit.
    """
    look = pattern.fullmatch if whole else pattern.search
    if threading.current_thread() is not threading.main_thread():
        return look(text) is not None

    def give_up(_: int, __: FrameType | None) -> NoReturn:
        raise UsageProblem(
            f"the pattern {pattern.pattern[:100]!r} takes more than {LIMIT_S:g} s on the name {text[:60]!r}; write it "
            "without a repetition inside of a repetition"
        )

    before = signal.signal(signal.SIGVTALRM, give_up)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
        return look(text) is not None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class GuardedStream:
    """A text stream that shows control characters and workflow commands instead of having them obeyed."""

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream
        self._line = ""
        """The end of the current line, as far as a command could go on from it."""

    def write(self, text: str) -> int:
        shown = break_commands(self._line + terminal(text))[len(self._line) :]
        self.unguarded.write(shown)
        line = re.split(r"[\r\n]", self._line + shown)[-1]
        has_words = bool(line.strip().strip(":"))
        self._line = f"x{line[-2:]}" if has_words else line[-3:]
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self.unguarded, name)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Guard standard output and standard error while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", GuardedStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def write_unguarded(line: str, stream: TextIO) -> None:
    """Write a line of ours that the runner is to obey."""
    print(line, file=getattr(stream, "unguarded", stream), flush=True)


def safe_name(text: str) -> str:
    """Make `text` part of a file name: letters, digits, `.`, `-` and `_`, at most 100 of them, never hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".")[:100] or "-"


def short_name(name: str) -> str:
    """Cut a name that leaves no room for endings in a file name, with a digest of all of it at the end."""
    if len(name) <= LONGEST_FILE_NAME:
        return name
    return f"{name[: LONGEST_FILE_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def is_sha(text: str) -> bool:
    """Say whether this can be a commit's SHA, or the first 7 or more of its 40 digits."""
    return re.fullmatch(_SHA, text) is not None


def is_full_sha(text: str) -> bool:
    """Say whether this can be the whole of a commit's SHA."""
    return is_sha(text) and len(text) == 40


def is_run_id(text: str) -> bool:
    """Say whether this can be the number of a workflow run."""
    return text.isascii() and text.isdigit() and len(text) <= 20


def is_repository(text: str) -> bool:
    """Say whether this can be a repository on GitHub, as owner/name."""
    return re.fullmatch(r"[A-Za-z0-9_-]+/[A-Za-z0-9._-]*[A-Za-z0-9_-]", text) is not None


GAP = "  "
COMMON_WIDTH = 80
"""Columns beyond which headers are folded even where there is room, since numbers are compared when they are near."""


def draw_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    right: Collection[int] = (),
    spare: Sequence[int] = (),
) -> str:
    """Lay out texts of one line in columns, under headers and a rule.

    A table that is wider than `width`, by default that of the terminal, loses its `spare` columns one after the other,
    then its cells are folded at blanks. Words are never broken, so a table of long names may still be wider. Columns in
    `right` are flush right. A file or a pipe takes any width, unless COLUMNS says so.
    """
    room = shutil.get_terminal_size((sys.maxsize, 0)).columns if width is None else width
    shown = list(range(len(headers)))
    columns: list[list[str]] = []
    widths: list[int] = []
    for leaving in (None, *spare):
        shown = [number for number in shown if number != leaving]
        columns = [[headers[number], *(row[number] for row in rows)] for number in shown]
        widths = [max(map(len, cells)) for cells in columns]
        if _whole(widths) > min(room, COMMON_WIDTH):
            widths = [max(_longest_word(head), *map(len, cells)) for head, *cells in columns]
        if _whole(widths) <= room:
            break
    widths = _fold(widths, [max(map(_longest_word, cells)) for cells in columns], room)
    folded = [
        [textwrap.wrap(cell, max(size, 1), break_long_words=False, break_on_hyphens=False) or [""] for cell in cells]
        for cells, size in zip(columns, widths, strict=True)
    ]
    lines = []
    for place, cells in enumerate(zip(*folded, strict=True)):
        for texts in zip_longest(*cells, fillvalue=""):
            padded = [
                text.rjust(size) if number in right else text.ljust(size)
                for number, text, size in zip(shown, texts, widths, strict=True)
            ]
            lines.append(GAP.join(padded).rstrip())
        if place == 0:
            lines.append(GAP.join("-" * size for size in widths))
    return "\n".join(lines)


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _fold(widths: list[int], least: list[int], room: int) -> list[int]:
    """Make the widest columns that can be folded narrower, until they fit or none can be."""
    while _whole(widths) > room:
        loose = [place for place, size in enumerate(widths) if size > least[place]]
        if not loose:
            break
        widths[max(loose, key=lambda place: widths[place])] -= 1
    return widths
