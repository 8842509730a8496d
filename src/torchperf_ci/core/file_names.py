"""Names of files that must differ from each other."""

from __future__ import annotations


def unique(name: str, taken: set[str]) -> str:
    """`name`, with a number behind it if it is taken already; it is taken from now on."""
    number = 1
    candidate = name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(candidate)
    return candidate
