"""JSON as the standard has it, for what msgspec does not take as it stands, and for documents of strangers."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse a document. Raises `ValueError` for what is none.

    Python's own parser takes `NaN`, `Infinity` and numbers beyond what a float holds, none of which a file of ours has:
    they are refused wherever in the document they stand, also in a field that nobody reads.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("too deep") from error


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is not a finite number")
    return number
