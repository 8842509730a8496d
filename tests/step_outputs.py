"""Reads a file of GITHUB_OUTPUT as GitHub's runner does."""

from __future__ import annotations


def read_outputs(text: str) -> dict[str, str]:
    """The outputs by name; the last of a name counts."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, _, delimiter = line.partition("<<")
        value = []
        while (following := next(lines)) != delimiter:
            value.append(following)
        found[name] = "\n".join(value)
    return found
