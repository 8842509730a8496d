"""List the suites in the Python under test, and what each of them says about its models."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchperf_ci.suites.registry import Suite, SuiteError, known, resolve, short_path
from torchperf_ci.worker.protocol import CaseError, describe


def known_suites() -> Mapping[str, Any]:
    """List the suites that have a name here: the built-in ones and those that installed packages registered."""
    return {"suites": list(known())}


def describe_suite(spec: str) -> Mapping[str, Any]:
    """Describe a suite and its models: their descriptions, why one cannot run here, when the suite leaves one out."""
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
    """Find the suite of a name, a file or a module. Raises `CaseError` with the reason where there is none."""
    try:
        return resolve(spec)
    except SuiteError as error:
        raise CaseError("unknown_suite", str(error)) from error
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        file, line = frames[-1].filename, frames[-1].lineno
        if isinstance(error, SyntaxError) and error.filename:
            file, line = error.filename, error.lineno
            error = SyntaxError(error.msg)  # without the place, which stands before it
        place = "" if "torchperf_ci" in Path(file).parts else f"{short_path(file)}:{line}: "
        raise CaseError("unknown_suite", f"suite {spec} cannot be imported: {place}{describe(error)}") from error


def _skips(suite: Suite, model: str) -> list[dict[str, str | None]]:
    return [
        {"device": skip.device, "mode": skip.mode, "reason": skip.reason} for skip in suite.skips if skip.model == model
    ]
