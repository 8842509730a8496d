"""What a reviewer sees on GitHub: a conclusion, a title, a text, and a note for everything that fails."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

LIMIT = 58_000
"""Bytes of the text: a comment takes 65,536 characters, and its marker and its origin want room."""


class Conclusion(str, Enum):
    """How a check ends, in GitHub's words."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    """Nothing is known to be wrong, and not everything is known to be right."""
    ACTION_REQUIRED = "action_required"
    """There is nothing that could be judged; somebody has to see why."""

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A case that fails. path: what the note is pinned to, `suite/model`."""

    path: str
    title: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What is posted. title: plain text. text: Markdown of at most `LIMIT` bytes."""

    conclusion: Conclusion
    title: str
    text: str
    notes: tuple[Note, ...] = ()
