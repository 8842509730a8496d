"""A case as one line of text that can be read back: what other tools get as a benchmark's name."""

from __future__ import annotations

import re
from dataclasses import asdict
from urllib.parse import unquote as _unquote

from torchperf_ci.core.records import Case, Mode, Record

_NAME = re.compile(
    r"(?P<suite>[^/ ]+)/(?P<model>.+) (?P<compiler>[^ ]+) (?P<mode>inference|training) "
    r"(?P<dtype>[^ ]+) (?P<device>[^ ]+)"
)
_UNSAFE = "%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"


def name_of_case(case: Case) -> str:
    """Write `suite/model compiler mode dtype device`; what would make that unclear is percent-encoded."""
    model = re.sub(r"^ | $", "%20", quote(case.model, spaces=True))
    suite = quote(case.suite).replace("/", "%2F")
    return f"{suite}/{model} {' '.join(map(quote, (case.compiler, case.mode.value, case.dtype, case.device)))}"


def case_of_name(name: str) -> Case | None:
    """Read the case that `name_of_case` wrote; None for a name that somebody else gave."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parts = {field: unquote(text) for field, text in match.groupdict().items()}
    mode = Mode(parts.pop("mode"))
    return Case(mode=mode, **parts) if all(parts.values()) else None


def quote(text: str, *, spaces: bool = False) -> str:
    """Percent-encode what would end a line or a name, and spaces unless these may stay."""

    def encode(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", errors="surrogatepass"))

    return re.sub(f"[{_UNSAFE}{'' if spaces else ' '}]", encode, text)


def unquote(text: str) -> str:
    """Read what `quote` wrote."""
    return _unquote(text, errors="surrogatepass")


def labels_of(record: Record) -> dict[str, str]:
    """Name what tells a record from the others, as text: the fields of its case, and the testing."""
    case = {name: str(value) for name, value in asdict(record.case).items()}
    return {**case, "testing": record.testing.value}
