"""Text from outside, made harmless for the place where it is shown. Nothing else in this package escapes."""

from __future__ import annotations

import re

_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")
_SPACE = re.compile(r"\s+")
_TAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(_[A-Za-z0-9.-]+)*")
_TAME_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ .:,;=+()/\[\]@%-]*")
_MEANING = re.compile(r"\]\(|\]\[|@\w|://|www\.")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def one_line(text: str, *, limit: int = 0) -> str:
    """`text` without line ends and without characters that control or reorder what stands beside them.

    Longer texts than `limit` characters (0: no limit) are cut, which an ellipsis says.
    """
    seen = _SPACE.sub(" ", text).strip()
    seen = _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", seen)
    return seen[: limit - 1].rstrip() + "…" if limit and len(seen) > limit else seen


def code(text: str, *, limit: int = 0) -> str:
    """`text` as inline code in GitHub-flavoured Markdown, in a table or anywhere else.

    Code is where GitHub looks for no mentions, references, links, emoji or mathematics. A back-tick or a pipe cannot
    be escaped there without doubt, so such a text becomes a `<code>` element of character references.
    """
    seen = one_line(text, limit=limit)
    if not seen:
        return "–"
    if "`" not in seen and "|" not in seen:
        return f"`{seen}`"
    return f"<code>{html(seen)}</code>"


def heading(text: str) -> str:
    """`text` in a Markdown heading: as it is when nothing in it can mean anything, else as inline code."""
    return text if _TAME.fullmatch(text) else code(text)


def sentence(text: str) -> str:
    """`text` as a line of Markdown: as it is when nothing in it can mean anything, else as inline code."""
    return text if _TAME_LINE.fullmatch(text) and not _MEANING.search(text) else code(text)


def html(text: str) -> str:
    """`text` inside an HTML element in Markdown: ASCII characters that could mean something by number."""
    return "".join(
        char if char.isalnum() or char in " ," or ord(char) > 127 else f"&#{ord(char)};" for char in one_line(text)
    )


def csv_cell(text: str) -> str:
    """`text` for a CSV cell: one that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{text}" if _is_formula(text) else text


def from_csv_cell(text: str) -> str:
    """The text that `csv_cell` was given."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    """Also one that has apostrophes in front already, so that it can be told from what was put there."""
    return text.lstrip("'").startswith(_FORMULA)
