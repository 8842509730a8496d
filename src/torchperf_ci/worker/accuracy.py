"""Are the compiled results right? PyTorch's rules: allclose, else RMSE to a float64 reference, cosine where asked."""

from __future__ import annotations

import cmath
import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from types import ModuleType
from typing import Any

import torch

SEED = 1337

_COSINE = 0.99


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tolerance:
    """`value` is the absolute and the relative tolerance; `cosine` asks for cosine similarity instead."""

    value: float
    cosine: bool = False
    nan_equals_nan: bool = False


class Determinism:
    """Deterministic arithmetic while the block runs: seeds, cuDNN, no TF32, eager's random numbers in the compiler.
    What was set before comes back afterwards, so that timing never sees it."""

    def __enter__(self) -> Determinism:
        import torch._inductor.config as inductor_config

        cudnn = torch.backends.cudnn
        self._saved = (cudnn.deterministic, cudnn.benchmark, inductor_config.fallback_random)
        cudnn.deterministic, cudnn.benchmark, inductor_config.fallback_random = True, False, True
        self._tf32 = [(backend, _tf32(backend)) for backend in (torch.backends.cuda.matmul, cudnn)]
        for backend, _ in self._tf32:
            _set_tf32(backend, "ieee")
        return self

    def __exit__(self, *exc: object) -> None:
        import torch._inductor.config as inductor_config

        cudnn = torch.backends.cudnn
        cudnn.deterministic, cudnn.benchmark, inductor_config.fallback_random = self._saved
        for backend, before in self._tf32:
            _set_tf32(backend, before)


def _tf32(backend: Any) -> Any:  # noqa: ANN401 - text in the new interface, bool in the old one
    return backend.fp32_precision if hasattr(backend, "fp32_precision") else backend.allow_tf32


def _set_tf32(backend: Any, value: Any) -> None:  # noqa: ANN401 - as above
    if hasattr(backend, "fp32_precision"):
        backend.fp32_precision = value
    else:
        backend.allow_tf32 = value is True


def difference(
    reference: Any,  # noqa: ANN401 - any nest of outputs
    result: Any,  # noqa: ANN401
    float64: Any,  # noqa: ANN401
    tolerance: Tolerance,
    *,
    where: str = "output",
    above: frozenset[int] = frozenset(),
) -> str | None:
    """Why `result` is not the same as `reference`, with the place, or None when it is.

    float64: the same computation in float64, or None where that could not be made.
    above: the `id` of every container `reference` is in, since an object may hold itself.
    """
    if isinstance(reference, torch.Tensor):
        return _tensor_difference(reference, result, float64, tolerance, where)
    if reference is None or isinstance(reference, (bool, int, str, bytes, Enum)):
        return None if type(reference) is type(result) and reference == result else f"{where}: values differ"
    if isinstance(reference, (float, complex)):
        close = isinstance(result, type(reference)) and _numbers_close(reference, result, tolerance)
        return None if close else f"{where}: {result} instead of {reference}"
    children, others, wides = _children(reference), _children(result), _children(float64)
    if children is None or id(reference) in above:
        return None  # nothing that can be looked into
    if others is None or children.keys() != others.keys():
        return f"{where}: the structure differs"
    inside = above | {id(reference)}
    for name, child in children.items():
        wide = None if wides is None else wides.get(name)
        if found := difference(child, others[name], wide, tolerance, where=f"{where}{name}", above=inside):
            return found
    return None


def _numbers_close(reference: complex, result: complex, tolerance: Tolerance) -> bool:
    if cmath.isnan(reference) and cmath.isnan(result):
        return tolerance.nan_equals_nan
    return cmath.isclose(reference, result, rel_tol=tolerance.value, abs_tol=tolerance.value)


def _children(value: Any) -> dict[str, Any] | None:  # noqa: ANN401 - any container
    if isinstance(value, Mapping):
        return {f"[{key!r}]": item for key, item in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes)):
        return {f"[{index}]": item for index, item in enumerate(value)}
    if isinstance(value, ModuleType) or callable(value):
        return None
    if dataclasses.is_dataclass(value):
        return {f".{item.name}": getattr(value, item.name) for item in dataclasses.fields(value)}
    if hasattr(value, "__dict__"):
        return {f".{name}": item for name, item in vars(value).items() if not name.startswith("_")}
    return None


def _tensor_difference(
    reference: torch.Tensor,
    result: Any,  # noqa: ANN401 - anything may come back
    float64: Any,  # noqa: ANN401
    tolerance: Tolerance,
    where: str,
) -> str | None:
    if not isinstance(result, torch.Tensor):
        return f"{where}: {type(result).__name__} instead of a tensor"
    if (shape := tuple(reference.shape)) != tuple(result.shape):
        return f"{where}: shape {tuple(result.shape)} instead of {shape}"
    if reference.dtype != result.dtype:
        return f"{where}: {result.dtype} instead of {reference.dtype}"
    reference, result = _dense(reference), _dense(result)
    if not (reference.is_floating_point() or reference.is_complex()):
        return None if torch.equal(reference, result) else f"{where}: integer values differ"
    if (not tolerance.nan_equals_nan) and (nans := int(torch.isnan(reference).sum())):
        return f"{where}: {nans} of {reference.numel()} eager values are NaN, so there is nothing to compare with"
    if tolerance.cosine:
        return _cosine_difference(reference, result, tolerance, where)
    return _value_difference(reference, result, float64, tolerance, where)


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    return tensor.dequantize() if tensor.is_quantized else tensor


def _cosine_difference(reference: torch.Tensor, result: torch.Tensor, tolerance: Tolerance, where: str) -> str | None:
    """Values that are close are equal: rounding noise around zero has no direction, nor has a NaN."""
    left, right = reference.flatten().to(torch.float32), result.flatten().to(torch.float32)
    tol = tolerance.value
    if torch.allclose(right, left, atol=tol, rtol=tol, equal_nan=tolerance.nan_equals_nan):
        return None
    similarity = float(torch.nn.functional.cosine_similarity(left, right, dim=0, eps=1e-6))
    return None if similarity >= _COSINE else f"{where}: cosine similarity {similarity:.4f} is under {_COSINE}"


def _value_difference(
    reference: torch.Tensor,
    result: torch.Tensor,
    float64: Any,  # noqa: ANN401 - the float64 tensor or nothing
    tolerance: Tolerance,
    where: str,
) -> str | None:
    tol, nans = tolerance.value, torch.isnan(reference)
    if torch.allclose(result, reference, atol=tol, rtol=tol, equal_nan=tolerance.nan_equals_nan):
        return None
    if bool((nans != torch.isnan(result)).any()):
        return f"{where}: NaN where eager has numbers, or the other way round"
    if isinstance(float64, torch.Tensor) and float64.shape == reference.shape:
        numbers = ~nans
        reference_error, result_error = (rmse(float64[numbers], other[numbers]) for other in (reference, result))
        bound = _multiplier(reference, tol) * reference_error + tol / 10.0
        if result_error <= bound:
            return None
        return f"{where}: RMSE to float64 is {result_error:.3g}, eager's is {reference_error:.3g}, allowed {bound:.3g}"
    worst = float((result.double() - reference.double()).abs().max())
    return f"{where}: differs by up to {worst:.3g} at tolerance {tol:g}"


def rmse(reference: torch.Tensor, result: torch.Tensor) -> float:
    """Root mean square of the difference, computed in float64. Scalar."""
    if reference.is_complex():
        return float((reference - result).abs().double().square().mean().sqrt())
    return float((reference.double() - result.double()).square().mean().sqrt())


def _multiplier(reference: torch.Tensor, tol: float) -> float:
    """How many times eager's own error is allowed: 2, and 3 where rounding weighs more (pytorch benchmarks/dynamo)."""
    small = (
        reference.dtype in {torch.float16, torch.bfloat16}
        or reference.numel() < 1000
        or (reference.ndim == 4 and reference.shape[-1] == reference.shape[-2] == 1)
        or tol >= 2e-2
    )
    return 3.0 if small else 2.0
