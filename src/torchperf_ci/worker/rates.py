"""The worth of an iteration besides its time: the suite's own metrics of its results, the arithmetic that it does."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from torchperf_ci.worker.protocol import CaseError, describe
from torchperf_ci.worker.timing import finish_arm, prepare_arm


class Metered:
    """An iteration that keeps its last result, of which the suite's metrics are made when no clock runs."""

    def __init__(
        self,
        iteration: Callable[[], Any],
        metrics: Callable[[Any, float], Any] | str,
        declared: Collection[str],
    ) -> None:
        self._iteration, self._metrics, self._declared = iteration, metrics, declared
        self._result: Any = None

    def prepare(self, calls: int) -> None:
        """Forget the last result, and get ready for so many calls."""
        self._result = None
        prepare_arm(self._iteration, calls)

    def finish(self) -> None:
        """Tear down what was set up."""
        finish_arm(self._iteration)

    def __call__(self) -> None:
        self._result = self._iteration()

    def values(self, seconds: float) -> dict[str, float]:
        """Return the metrics of the last call, of which each took `seconds`. Raises `CaseError` for what is none."""
        result, self._result = self._result, None
        if isinstance(self._metrics, str):
            made: Any = {self._metrics: result}
        else:
            try:
                made = self._metrics(result, seconds)
            except Exception as error:
                raise CaseError("fail_to_run", f"the suite's metrics failed: {describe(error)}") from error
        if not isinstance(made, Mapping):
            kind = type(made).__name__
            raise CaseError("fail_to_run", f"the suite's metrics returned a {kind}; return numbers by name")
        return {name: self._number(name, value) for name, value in made.items()}

    def _number(self, name: Any, value: Any) -> float:  # noqa: ANN401 - whatever a suite returns
        if name not in self._declared:
            near = difflib.get_close_matches(str(name), self._declared, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" (it has {', '.join(self._declared)})"
            raise CaseError("fail_to_run", f"the metric {name!r:.60} is not in METRICS{hint}")
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        try:
            number = float(value)
        except (TypeError, ValueError):
            kind = type(value).__name__
            raise CaseError("fail_to_run", f"the metric {name!r} is a {kind}, not a number: {value!r:.60}") from None
        if not math.isfinite(number):
            raise CaseError("fail_to_run", f"the metric {name!r} is {number}, not a number that can be compared")
        return number


def find_tf32(device: torch.device) -> dict[str, bool]:
    """Say whether products of float32 on the device run as TF32: of matrices (`tf32`), and in convolutions
    (`tf32_convolutions`), where torch allows it by default. CUDA devices before Ampere have none."""
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return {"tf32": False, "tf32_convolutions": False}
    allowed = {}
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    for name, owner, part in (("tf32", matmul, matmul), ("tf32_convolutions", cudnn, getattr(cudnn, "conv", None))):
        try:
            allowed[name] = bool(owner.allow_tf32)
        except RuntimeError:  # torch refuses to read the old switch once the new one was written
            allowed[name] = part is not None and part.fp32_precision == "tf32"
    return allowed
