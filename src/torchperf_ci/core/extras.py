"""Libraries that only some commands need: asked for when such a command runs, and named with the way to get them."""

from __future__ import annotations

import importlib.util

from torchperf_ci.core.errors import UsageProblem


def require(module: str, *, extra: str, purpose: str) -> None:
    """Raises `UsageProblem` with the pip command when `module` of the extra `extra` is not installed."""
    if importlib.util.find_spec(module) is None:
        raise UsageProblem(f"{purpose} needs {module}, which is not installed; pip install 'torchperf-ci[{extra}]'")
