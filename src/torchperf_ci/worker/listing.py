"""What suites there are in the Python under test, and what each of them says about its models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torchperf_ci.suites.registry import Suite, SuiteError, known, resolve
from torchperf_ci.worker.protocol import CaseError, describe


def known_suites() -> Mapping[str, Any]:
    """The suites that have a name here: the built-in ones and those that installed packages registered."""
    return {"suites": list(known())}


def describe_suite(spec: str) -> Mapping[str, Any]:
    """A suite and its models: each with its description, why it cannot run here, and when the suite leaves it out."""
    found = find_suite(spec)
    missing = found.missing()
    quick = [re.compile(pattern) for pattern in found.quick]
    return {
        "name": found.name,
        "missing": missing,
        "models": [
            {
                "name": model,
                "description": found.describe(model),
                "missing": None if missing else found.missing(model),
                "quick": any(pattern.search(model) for pattern in quick),
                "skips": _skips(found, model),
            }
            for model in found.models
        ],
    }


def find_suite(spec: str) -> Suite:
    """The suite of a name, a file or a module. Raises `CaseError` with the reason where there is none."""
    try:
        return resolve(spec)
    except SuiteError as error:
        raise CaseError("unknown_suite", str(error)) from error
    except Exception as error:
        raise CaseError("unknown_suite", f"suite {spec} cannot be imported: {describe(error)}") from error


def _skips(suite: Suite, model: str) -> list[dict[str, str | None]]:
    return [
        {"device": skip.device, "mode": skip.mode, "reason": skip.reason} for skip in suite.skips if skip.model == model
    ]
