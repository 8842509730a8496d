"""A case as one line of text that can be read back: what other tools get as a benchmark's name."""

from __future__ import annotations

import re
from urllib.parse import unquote

from torchperf_ci.core.records import Case, Mode

_NAME = re.compile(
    r"(?P<suite>[^/ ]+)/(?P<model>.+) (?P<compiler>[^ ]+) (?P<mode>inference|training) "
    r"(?P<dtype>[^ ]+) (?P<device>[^ ]+)"
)
_UNSAFE = re.compile("[%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def name_of_case(case: Case) -> str:
    """Write `suite/model compiler mode dtype device`; what would make that unclear is percent-encoded."""
    model = re.sub(r"^ | $", "%20", _escape(case.model, ""))
    rest = (case.compiler, case.mode.value, case.dtype, case.device)
    return f"{_escape(case.suite, '/ ')}/{model} {' '.join(_escape(part, ' ') for part in rest)}"


def case_of_name(name: str) -> Case | None:
    """Read the case that `name_of_case` wrote; None for a name that somebody else gave."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parts = {field: unquote(text, errors="surrogatepass") for field, text in match.groupdict().items()}
    mode = Mode(parts.pop("mode"))
    return Case(mode=mode, **parts) if all(parts.values()) else None


def quoted(text: str) -> str:
    """Write a word of a name, without spaces in it."""
    return _escape(text, " ")


def unquoted(text: str) -> str:
    """Read what `quoted` wrote."""
    return unquote(text, errors="surrogatepass")


def _escape(text: str, more: str) -> str:
    def encode(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", errors="surrogatepass"))

    text = _UNSAFE.sub(encode, text)
    return re.sub(f"[{more}]", encode, text) if more else text
