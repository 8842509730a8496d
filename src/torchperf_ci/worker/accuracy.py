"""Are the compiled results right? PyTorch's rules: allclose, else RMSE to a float64 reference, cosine where asked.

Results are flattened to leaves by their place (`output['logits']`, `gradient of layer.weight`); every leaf is compared,
or the check says that it cannot judge it. Nothing is equal because nobody looked.
"""

from __future__ import annotations

import cmath
import math
import sys
import types
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch

SEED = 1337

_COSINE = 0.99
_NOT_THE_SAME_FUNCTION = {torch.float32: 0.1, torch.complex64: 0.1, torch.float64: 0.01, torch.complex128: 0.01}
_NOT_THE_SAME_FUNCTION_IN_HALF = 0.3
_SHOWN = 60
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
_BY_EQUALITY = (type, types.ModuleType, torch.dtype, torch.device, torch.layout, torch.memory_format)


class CannotJudge(Exception):
    """A result that cannot be compared; the message says where and of what type it is."""


@dataclass(frozen=True, kw_only=True)
class AccuracyTolerance:
    """`value` is the absolute and the relative tolerance; `cosine` asks for cosine similarity instead."""

    value: float
    cosine: bool = False
    nan_equals_nan: bool = False


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value at a place: a real dense tensor, or something to be compared with `==`. `kind` says what it was."""

    kind: str
    value: Any = None


@dataclass(slots=True)
class IterationOutcome:
    """Everything an iteration did, by the name a person knows it by.

    results: `output` and `loss`. gradients: `gradient of w`. state: `buffer b`, `parameter w`, as they are afterwards.
    given: `argument 0`, as it is afterwards; what cannot be compared in it was not made by the model, and is left out.
    """

    results: dict[str, Any] = field(default_factory=dict)
    gradients: dict[str, torch.Tensor | None] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)

    def leaves(self) -> dict[str, Leaf]:
        """Flatten all of it. Raises `CannotJudge`."""
        judged = _flatten_all({**self.results, **self.gradients})
        return {**judged, **_flatten_all({**self.state, **self.given}, strict=False)}


def compare_outcomes(
    reference: IterationOutcome,
    result: IterationOutcome,
    float64: IterationOutcome | None,
    tolerance: AccuracyTolerance,
    *,
    exact: bool = False,
) -> str | None:
    """Say why `result` is not the same as `reference`, with the first place that differs, or None when it is.

    float64: the same iteration in float64, or None where that could not be made. exact: every value has to be equal.
    A gradient that is missing and one that is zero are the same: whether one is made depends on the graph, not on the
    function. Raises `CannotJudge`.
    """
    one, two = reference.leaves(), result.leaves()
    wide = float64.leaves() if float64 is not None else {}
    for name in {**reference.gradients, **result.gradients}:
        one[name], two[name] = _alike_gradients(one.get(name), two.get(name))
    for where, leaf in one.items():
        if where not in two:
            return f"{where}: missing in the compiled result"
        other = wide.get(where)
        reason = _leaf_difference(leaf, two[where], None if other is None else other.value, tolerance, exact=exact)
        if reason is not None:
            return f"{where}: {reason}"
    extra = next((where for where in two if where not in one), None)
    return None if extra is None else f"{extra}: only the compiled result has it"


def another_function(reference: IterationOutcome, float64: IterationOutcome) -> str | None:
    """Say why the float64 results are not those of the same function, or None when they may be.

    Rounding does not move a result by a tenth of its size (0.3 in half precision); weights that lost their imaginary
    part, or other random numbers, do. Sizes are root mean squares over all outputs, and over all gradients, so that
    what should cancel to zero weighs nothing.
    """
    for title, mine, theirs in (
        ("results", reference.results, float64.results),
        ("gradients", reference.gradients, float64.gradients),
    ):
        wide = _flatten_all(theirs)
        error = size = limit = 0.0
        for where, leaf in _flatten_all(mine).items():
            if not isinstance(leaf.value, torch.Tensor) or not leaf.value.is_floating_point():
                continue
            other = wide.get(where, leaf).value
            if not isinstance(other, torch.Tensor) or other.shape != leaf.value.shape:
                return f"{where} has another form in float64"
            one, two = leaf.value.double(), other.double()
            finite = torch.isfinite(one) & torch.isfinite(two)
            error += float((one - two)[finite].square().sum())
            size += float(two[finite].square().sum())
            limit = max(limit, _NOT_THE_SAME_FUNCTION.get(leaf.value.dtype, _NOT_THE_SAME_FUNCTION_IN_HALF))
        if size > 0 and math.sqrt(error / size) > limit:
            return f"the {title} in float64 differ by {math.sqrt(error / size):.0%} of their size"
    return None


class Determinism:
    """Make arithmetic deterministic while the block runs, as PyTorch's accuracy runs do, and undo all of it afterwards.

    cuDNN's deterministic algorithms, no TF32, eager's random numbers in the compiler, NumPy's too; on an accelerator
    torch's deterministic algorithms as well, with a warning where an operator has none.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_accelerator = device.type != "cpu"

    def __enter__(self) -> Determinism:
        import torch._dynamo.config as dynamo_config
        import torch._inductor.config as inductor_config

        cudnn = torch.backends.cudnn
        self._saved = (cudnn.deterministic, cudnn.benchmark, inductor_config.fallback_random)
        cudnn.deterministic, cudnn.benchmark, inductor_config.fallback_random = True, False, True
        self._numpy_stream = dynamo_config.use_numpy_random_stream
        dynamo_config.use_numpy_random_stream = True  # else compiled code draws np.random's numbers from torch
        self._tf32 = [(owner, name, getattr(owner, name)) for owner, name in _tf32_switches()]
        for owner, name, before in self._tf32:
            setattr(owner, name, False if isinstance(before, bool) else "ieee")
        self._algorithms = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        if self._on_accelerator:
            torch.use_deterministic_algorithms(True, warn_only=True)  # noqa: FBT003 - torch's signature
        return self

    def __exit__(self, *exc: object) -> None:
        import torch._dynamo.config as dynamo_config
        import torch._inductor.config as inductor_config

        cudnn = torch.backends.cudnn
        cudnn.deterministic, cudnn.benchmark, inductor_config.fallback_random = self._saved
        dynamo_config.use_numpy_random_stream = self._numpy_stream
        for owner, name, before in self._tf32:
            setattr(owner, name, before)
        if self._on_accelerator:
            torch.use_deterministic_algorithms(self._algorithms[0], warn_only=self._algorithms[1])


def _tf32_switches() -> list[tuple[Any, str]]:
    """List the settings of TF32 in the interface that this process uses.

    torch refuses to read the old switches once the new ones were written. So the old ones are used, after which both
    can be read, unless somebody has written the new ones already.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        _ = matmul.allow_tf32, cudnn.allow_tf32
    except RuntimeError:
        return [(matmul, "fp32_precision"), *((getattr(cudnn, part), "fp32_precision") for part in ("conv", "rnn"))]
    return [(matmul, "allow_tf32"), (cudnn, "allow_tf32")]


def _flatten_all(values: Mapping[str, Any], *, strict: bool = True) -> dict[str, Leaf]:
    leaves: dict[str, Leaf] = {}
    for name, value in values.items():
        _flatten(value, name, leaves, strict=strict)
    return leaves


def _flatten(
    value: Any,  # noqa: ANN401 - whatever a model returns
    where: str,
    leaves: dict[str, Leaf],
    *,
    strict: bool = True,
    above: frozenset[int] = frozenset(),
) -> None:
    """Put the leaves of `value` into `leaves`. above: the `id` of every container it is in, for one may hold itself."""
    if id(value) in above:
        leaves[where] = Leaf("a reference to what it is in")
        return
    if (leaf := _as_leaf(value, where, strict=strict)) is not None:
        leaves[where] = leaf
        return
    parts = _parts(value)
    if parts is None:
        if strict:
            raise CannotJudge(f"{where} is a {_type_name(value)}, which this check cannot compare")
        return
    kind = "tensor" if isinstance(value, torch.Tensor) else _container_kind(value)
    leaves[where] = Leaf(f"{kind} with {len(parts)} parts")
    inside, before = above | {id(value)}, len(leaves)
    for name, part in parts.items():  # locks and the like may be private, if there is something else to compare
        _flatten(part, f"{where}{name}", leaves, strict=strict and not name.startswith("._"), above=inside)
    if strict and parts and len(leaves) == before:
        raise CannotJudge(f"{where} is a {_type_name(value)}, in which this check finds nothing to compare")


def _container_kind(value: Any) -> str:  # noqa: ANN401 - any container
    if isinstance(value, Mapping):
        return "mapping"
    return "sequence" if isinstance(value, Sequence) else _type_name(value)


def _type_name(value: Any) -> str:  # noqa: ANN401 - any object
    return type(value).__qualname__


def _as_leaf(value: Any, where: str, *, strict: bool) -> Leaf | None:  # noqa: ANN401 - whatever a model returns
    """Turn what has no parts into a leaf; None for what has some, or cannot be compared."""
    if isinstance(value, torch.Tensor):
        return _tensor_leaf(value, where, strict=strict)
    if type(value).__module__ == "numpy":
        return _numpy_leaf(value)
    if isinstance(value, Set):
        plain = all(isinstance(item, (str, bytes, int, float, tuple)) for item in value)
        return Leaf("set", set(value)) if plain else None
    if isinstance(value, (Iterator, *_FUNCTIONS)):
        return None
    if type(value) is object:
        return Leaf("object")
    has_parts = isinstance(value, (Mapping, Sequence)) or is_dataclass(value) or bool(_attributes(value))
    defines_equality = any("__eq__" in cls.__dict__ for cls in type(value).__mro__[:-1])
    if value is None or isinstance(value, (str, bytes, *_BY_EQUALITY)) or (defines_equality and not has_parts):
        return Leaf("None" if value is None else _type_name(value), value)
    return None


def _numpy_leaf(value: Any) -> Leaf | None:  # noqa: ANN401 - an array, or a scalar of NumPy's
    if not hasattr(value, "dtype"):
        return Leaf(_type_name(value), value)
    if not hasattr(value, "tolist") or value.dtype.kind == "O":
        return None
    if not value.shape:  # a scalar, of which torch.compile makes an array without dimensions
        return Leaf(f"numpy number of {value.dtype}", value.tolist())
    if value.dtype.kind not in "fiubc":
        return Leaf(f"numpy array of shape {value.shape} and {value.dtype}", value.tolist())
    wide = {"f": "float64", "c": "complex128"}.get(value.dtype.kind) if value.dtype.itemsize > 16 else None
    array = value.astype(wide or value.dtype.newbyteorder("="))  # a copy that belongs to nobody
    return Leaf(f"numpy array of shape {value.shape} and {value.dtype}", _real(torch.from_numpy(array)))


def _parts(value: Any) -> dict[str, Any] | None:  # noqa: ANN401 - any container
    """Split a container or an object into its parts by name; None where there is nothing to look into."""
    if isinstance(value, torch.Tensor):
        return _tensor_parts(value)
    if isinstance(value, Mapping):
        return {f"[{key!r}]": item for key, item in value.items()}
    if isinstance(value, Sequence):
        return {f"[{index}]": item for index, item in enumerate(value)}
    if type(value).__module__ == "numpy":  # an array of objects
        return {f"[{index}]": item for index, item in enumerate(value.tolist())} if value.ndim else None
    if isinstance(value, (Iterator, Set, *_FUNCTIONS)):
        return None
    if is_dataclass(value):
        declared = {item.name: getattr(value, item.name, None) for item in fields(value)}
        return {f".{name}": item for name, item in {**declared, **_attributes(value)}.items()}
    return {f".{name}": item for name, item in _attributes(value).items()} or None


def _attributes(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any object
    """List an object's attributes, in slots and in its dictionary, the private ones too."""
    slots = [
        name
        for cls in type(value).__mro__
        for name in (
            [cls.__dict__["__slots__"]]
            if isinstance(cls.__dict__.get("__slots__"), str)
            else cls.__dict__.get("__slots__", ())
        )
        if name not in {"__dict__", "__weakref__"} and hasattr(value, name)
    ]
    return {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}


def _tensor_leaf(tensor: torch.Tensor, where: str, *, strict: bool) -> Leaf | None:
    """Make a dense real tensor of one; None where it consists of several."""
    if tensor.is_nested or _is_masked(tensor) or hasattr(tensor, "__tensor_flatten__"):
        return None
    if tensor.device.type == "meta":
        if strict:
            raise CannotJudge(f"{where} is a tensor without values (device meta)")
        return Leaf("meta tensor", tuple(tensor.shape))
    kind = f"tensor of shape {tuple(tensor.shape)} and {tensor.dtype}"
    dense = tensor.detach()
    dense = dense.to_dense() if dense.layout is not torch.strided else dense
    try:
        return Leaf(kind, _real(dense.dequantize() if dense.is_quantized else dense))
    except (RuntimeError, NotImplementedError) as error:
        if not strict:
            return Leaf(kind)
        raise CannotJudge(f"{where} is a tensor of {tensor.dtype}, which this check cannot compare") from error


def _tensor_parts(tensor: torch.Tensor) -> dict[str, Any]:
    if tensor.is_nested:
        return {f"[{index}]": part for index, part in enumerate(tensor.detach().unbind())}
    if _is_masked(tensor):
        mask = tensor.get_mask()  # type: ignore[attr-defined]  # torch.masked.MaskedTensor has no stub
        data = tensor.get_data()  # type: ignore[attr-defined]
        return {" (mask)": mask, " (where not masked)": torch.where(mask, data, torch.zeros_like(data))}
    names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]  # a subclass that wraps tensors
    return {f".{name}": getattr(tensor, name) for name in names}


def _is_masked(tensor: torch.Tensor) -> bool:
    masked = sys.modules.get("torch.masked")
    return masked is not None and isinstance(tensor, masked.MaskedTensor)


def _real(tensor: torch.Tensor) -> torch.Tensor:
    """Give complex numbers a dimension of two reals, and types without arithmetic one that holds all their values."""
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj()).resolve_neg()
    if tensor.dtype in {torch.float16, torch.bfloat16, torch.float32, torch.float64}:
        return tensor.resolve_neg()
    if tensor.is_floating_point():  # float8 and smaller
        return tensor.to(torch.float32)
    if tensor.dtype is torch.uint64:
        return tensor.view(torch.int64)
    return tensor.to(torch.int64) if tensor.dtype in {torch.uint16, torch.uint32} else tensor


def _alike_gradients(one: Leaf | None, two: Leaf | None) -> tuple[Leaf, Leaf]:
    """Put zeros in the place of a gradient that was not made, where the other one was."""
    missing = Leaf("None")
    one, two = one or missing, two or missing
    if isinstance(one.value, torch.Tensor) and two.value is None:
        return one, Leaf(one.kind, torch.zeros_like(one.value))
    if isinstance(two.value, torch.Tensor) and one.value is None:
        return Leaf(two.kind, torch.zeros_like(two.value)), two
    return one, two


def _leaf_difference(
    reference: Leaf,
    result: Leaf,
    float64: Any,  # noqa: ANN401 - the float64 tensor or nothing
    tolerance: AccuracyTolerance,
    *,
    exact: bool,
) -> str | None:
    if reference.kind != result.kind:
        return f"{result.kind} instead of {reference.kind}"
    one, two = reference.value, result.value
    if isinstance(one, torch.Tensor):
        return _tensor_difference(one, two, float64, tolerance, exact=exact)
    if isinstance(one, (float, complex)) and not isinstance(one, bool):
        close = one == two if exact else _numbers_close(one, two, tolerance)
        if close or (tolerance.nan_equals_nan and cmath.isnan(one) and cmath.isnan(two)):
            return None
    elif one == two:
        return None
    return f"{_short(two)} instead of {_short(one)}"


def _short(value: Any) -> str:  # noqa: ANN401 - any value
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _numbers_close(reference: complex, result: complex, tolerance: AccuracyTolerance) -> bool:
    return cmath.isclose(reference, result, rel_tol=tolerance.value, abs_tol=tolerance.value)


def _tensor_difference(
    reference: torch.Tensor,
    result: torch.Tensor,
    float64: Any,  # noqa: ANN401 - the float64 tensor or nothing
    tolerance: AccuracyTolerance,
    *,
    exact: bool,
) -> str | None:
    if reference.numel() == 0:
        return None
    if not reference.is_floating_point():
        return None if torch.equal(reference, result) else _describe_values(reference, result, reference != result)
    nans = torch.isnan(reference)
    if not (tolerance.nan_equals_nan or exact) and bool(nans.any()):
        return f"{int(nans.sum())} of {reference.numel()} eager values are NaN, so there is nothing to compare with"
    tol = 0.0 if exact else tolerance.value
    unlike = ~torch.isclose(result, reference, atol=tol, rtol=tol, equal_nan=True)
    if not bool(unlike.any()):
        return None
    odd = (nans != torch.isnan(result)) | (
        (torch.isinf(reference) | torch.isinf(result)) & (reference != result) & ~nans
    )
    if exact or bool(odd.any()):
        return _describe_values(reference, result, odd if bool(odd.any()) else unlike)
    finite = torch.isfinite(reference)
    if tolerance.cosine:
        return _cosine_difference(reference[finite], result[finite])
    if isinstance(float64, torch.Tensor) and float64.shape == reference.shape:
        finite &= torch.isfinite(float64)
        own, other = (rmse(float64[finite], values[finite]) for values in (reference, result))
        bound = _multiplier(reference, tol) * own + tol / 10.0
        if other <= bound:
            return None
        errors = f"RMSE to float64 is {other:.3g}, eager's is {own:.3g}, allowed {bound:.3g}"
        return f"{_describe_values(reference, result, unlike)}; {errors}"
    return f"{_describe_values(reference, result, unlike)}; tolerance {tol:g}"


def _describe_values(reference: torch.Tensor, result: torch.Tensor, unlike: torch.Tensor) -> str:
    """Count the values that differ, and show the pair that is furthest apart with its index."""
    # On the CPU: MPS, and some of Intel's GPUs, have no float64.
    reference, result, unlike = reference.cpu(), result.cpu(), unlike.cpu()
    one, two = reference.double(), result.double()
    apart = (two - one).abs().nan_to_num(nan=math.inf).masked_fill(~unlike, -1.0)
    flat = int(apart.argmax())
    index = [int(position) for position in torch.unravel_index(torch.tensor(flat), apart.shape)]
    mine, theirs = (values.flatten()[flat].item() for values in (reference, result))
    shown = (f"{value:.6g}" if isinstance(value, float) else str(value) for value in (theirs, mine))
    place = f", most at {index}" if index else ""
    return f"{int(unlike.sum())} of {unlike.numel()} values differ{place}: {' instead of '.join(shown)}"


def _cosine_difference(reference: torch.Tensor, result: torch.Tensor) -> str | None:
    """Compare the direction of finite values; those that are close were found equal before this."""
    left, right = reference.flatten().to(torch.float32), result.flatten().to(torch.float32)
    similarity = float(torch.nn.functional.cosine_similarity(left, right, dim=0, eps=1e-6))
    return None if similarity >= _COSINE else f"cosine similarity {similarity:.4f} is under {_COSINE}"


def rmse(reference: torch.Tensor, result: torch.Tensor) -> float:
    """Compute the root mean square of the difference in float64, of real tensors; 0 where there is nothing."""
    return float((reference.double() - result.double()).square().mean().sqrt()) if reference.numel() else 0.0


def _multiplier(reference: torch.Tensor, tol: float) -> float:
    """Say how many times eager's error is allowed: 2, and 3 where rounding weighs more (pytorch benchmarks/dynamo)."""
    small = (
        reference.dtype in {torch.float16, torch.bfloat16}
        or reference.numel() < 1000
        or (reference.ndim == 4 and reference.shape[-1] == reference.shape[-2] == 1)
        or tol >= 2e-2
    )
    return 3.0 if small else 2.0
