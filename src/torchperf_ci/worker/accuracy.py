"""Are the compiled results right? PyTorch's rules: allclose, else RMSE to a float64 reference, cosine where asked.

Results are flattened to leaves by their place (`output['logits']`, `gradient of layer.weight`); every leaf is compared,
or the check says that it cannot judge it. Nothing is equal because nobody looked.
"""

from __future__ import annotations

import cmath
import enum
import functools
import io
import math
import sys
import types
from collections import UserDict, UserList
from collections.abc import ItemsView, Iterator, KeysView, Mapping, MappingView, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch

from torchperf_ci.suites.published import replaced
from torchperf_ci.worker.content import slots_of

SEED = 1337

_COSINE = 0.99
_NOT_THE_SAME_FUNCTION = {torch.float32: 0.1, torch.complex64: 0.1, torch.float64: 0.01, torch.complex128: 0.01}
_NOT_THE_SAME_FUNCTION_IN_HALF = 0.3
_ONE_NUMBER = 100
"""A single number, which has no direction, may be off by so many tolerances where cosine similarity decides."""
_LARGEST_SQUARED = 1e150
"""The largest number whose square, times any number of values, float64 holds."""
_SHOWN = 60
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
_BY_EQUALITY = (
    enum.Enum,
    type,
    types.EllipsisType,
    types.ModuleType,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)
_PLAIN = (str, bytes, int, float, complex, types.NoneType, *_BY_EQUALITY)


class CannotJudge(Exception):
    """A result that cannot be compared; the message says where and of what type it is."""


@dataclass(frozen=True, kw_only=True)
class AccuracyTolerance:
    """`value` is the absolute and the relative tolerance; `cosine` asks for cosine similarity instead.

    size: cosine similarity is not enough, the results have to be of the same size as well.
    """

    value: float
    cosine: bool = False
    size: bool = False
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
    held: `attribute a`, as `worker.copying.list_held_state` lists it. owned: the tensors that a callable held before it
    was called, as they are afterwards. moved: the places in `owned` of those that it wrote to. writes: whether it wrote
    to a tensor of its state or of its inputs, or put something else into an attribute, the same value or not.
    """

    results: dict[str, Any] = field(default_factory=dict)
    gradients: dict[str, torch.Tensor | None] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    owned: Sequence[torch.Tensor] = ()
    moved: frozenset[int] = frozenset()
    writes: bool = False

    def leaves(self) -> dict[str, Leaf]:
        """Flatten all of it. Raises `CannotJudge`."""
        judged = _flatten_all({**self.results, **self.gradients})
        return {**judged, **self.leaves_around()}

    def leaves_around(self) -> dict[str, Leaf]:
        """Flatten the state and what was given. Raises `CannotJudge`."""
        return _flatten_all({**self.state, **self.given}, strict=False)


def compare_outcomes(
    reference: IterationOutcome,
    result: IterationOutcome,
    float64: IterationOutcome | None,
    tolerance: AccuracyTolerance,
    *,
    exact: bool = False,
    nan_before: Set[str] = frozenset(),
) -> str | None:
    """Say why `result` is not the same as `reference`, with the first place that differs, or None when it is.

    float64: the same iteration in float64, or None where that could not be made. exact: every value has to be equal.
    nan_before: the places in state and inputs that held NaN before the iteration, so that the model did not make it.
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
        rules = replace(tolerance, nan_equals_nan=True) if where in nan_before else tolerance
        reason = _leaf_difference(leaf, two[where], None if other is None else other.value, rules, exact=exact)
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
            known = torch.isfinite(one) & (two.abs() < _LARGEST_SQUARED) & ~_is_beyond(two, leaf.value.dtype)
            error += float((one - two)[known].square().sum())
            size += float(two[known].square().sum())
            limit = max(limit, _NOT_THE_SAME_FUNCTION.get(leaf.value.dtype, _NOT_THE_SAME_FUNCTION_IN_HALF))
        if size > 0 and math.sqrt(error / size) > limit:
            return f"the {title} in float64 differ by {math.sqrt(error / size):.0%} of their size"
    return None


@contextmanager
def deterministic_arithmetic(device: torch.device) -> Iterator[None]:
    """Make arithmetic deterministic while the block runs, as PyTorch's accuracy runs do, and undo all of it afterwards.

    cuDNN's deterministic algorithms, no TF32, eager's random numbers in the compiler, NumPy's too; on an accelerator
    torch's deterministic algorithms as well, with a warning where an operator has none.
    """
    import torch._dynamo.config as dynamo_config
    import torch._inductor.config as inductor_config

    with ExitStack() as stack:
        stack.enter_context(replaced(torch.backends.cudnn, "deterministic", value=True))
        stack.enter_context(replaced(torch.backends.cudnn, "benchmark", value=False))
        stack.enter_context(replaced(inductor_config, "fallback_random", value=True))
        # Else compiled code draws np.random's numbers from torch.
        stack.enter_context(replaced(dynamo_config, "use_numpy_random_stream", value=True))
        for owner, name in _tf32_switches():
            exact = False if isinstance(getattr(owner, name), bool) else "ieee"
            stack.enter_context(replaced(owner, name, exact))
        if device.type != "cpu":
            before = torch.are_deterministic_algorithms_enabled()
            warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
            stack.callback(torch.use_deterministic_algorithms, before, warn_only=warns_only)
            torch.use_deterministic_algorithms(True, warn_only=True)  # noqa: FBT003 - torch's signature
        yield


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
        try:
            _flatten(value, name, leaves, strict=strict)
        except RecursionError as error:
            raise CannotJudge(f"{name} is nested too deep for Python's recursion limit to look into it") from error
    return leaves


def _flatten(
    value: Any,  # noqa: ANN401 - whatever a model returns
    where: str,
    leaves: dict[str, Leaf],
    *,
    strict: bool = True,
    private: bool = False,
    above: frozenset[int] = frozenset(),
) -> None:
    """Put the leaves of `value` into `leaves`. above: the `id` of every container it is in, for one may hold itself.

    strict: raise `CannotJudge` for what cannot be compared. private: not for locks and the like, which may be in the
    private parts of an object if there is something else to compare, and hold no result.
    """
    if id(value) in above:
        leaves[where] = Leaf("a reference to what it is in")
        return
    inside = above | {id(value)}
    leaf, parts = _as_leaf(value, where, strict=strict and not private), None
    if leaf is None:
        parts = _parts(value)
        if parts is None:
            if strict and (not private or _may_hold_a_result(value, inside)):
                raise CannotJudge(f"{where} is a {_type_name(value)}, which this check cannot compare")
            return
        kinds = {torch.Tensor: "tensor", Mapping: "mapping", Sequence: "sequence"}
        kind = next((name for cls, name in kinds.items() if isinstance(value, cls)), _type_name(value))
        leaf = Leaf(f"{kind} with {len(parts)} parts")
    leaves[where] = leaf
    before = len(leaves)
    for name, part in (parts or {}).items():
        is_private, is_aside = private or name.startswith("._"), name.endswith((" (key)", " (context)"))
        _flatten(part, f"{where}{name}", leaves, strict=strict and not is_aside, private=is_private, above=inside)
    if strict and not private and parts and len(leaves) == before:
        raise CannotJudge(f"{where} is a {_type_name(value)}, in which this check finds nothing to compare")
    for name, part in _attributes_beside(value).items():
        is_public = not name.startswith("_")
        _flatten(part, f"{where}.{name}", leaves, strict=strict and is_public, private=private, above=inside)


def _type_name(value: Any) -> str:  # noqa: ANN401 - any object
    return type(value).__qualname__


def _as_leaf(value: Any, where: str, *, strict: bool) -> Leaf | None:  # noqa: ANN401 - whatever a model returns
    """Turn what has no parts into a leaf; None for what has some, or cannot be compared."""
    if isinstance(value, torch.Tensor):
        return _tensor_leaf(value, where, strict=strict)
    if _is_numpy(value):
        return _numpy_leaf(value)
    if isinstance(value, _PLAIN):
        return Leaf("None" if value is None else _type_name(value), value)
    if isinstance(value, Set) and not isinstance(value, ItemsView):
        return Leaf("set", set(value)) if all(map(_is_plain, value)) else None
    if isinstance(value, (Iterator, MappingView, *_FUNCTIONS)) or _is_table(value):
        return None
    if type(value) is object:
        return Leaf("object")
    has_parts = isinstance(value, (Mapping, Sequence)) or is_dataclass(value) or bool(_attributes(value))
    return Leaf(_type_name(value), value) if _defines_equality(value) and not has_parts else None


def _defines_equality(value: Any) -> bool:  # noqa: ANN401 - any object
    return any("__eq__" in cls.__dict__ for cls in type(value).__mro__[:-1])


def _is_plain(value: Any) -> bool:  # noqa: ANN401 - any object
    """Tell whether two of it are equal by what they hold: no tensor, nothing that equals itself alone."""
    if isinstance(value, (tuple, frozenset)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN) or (_is_numpy(value) and not value.shape)


def _is_numpy(value: Any) -> bool:  # noqa: ANN401 - any object
    """Tell whether it is an array, of any class, or a scalar of NumPy's."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def _is_masked_array(value: Any) -> bool:  # noqa: ANN401 - any object
    return isinstance(value, sys.modules["numpy"].ma.MaskedArray)


def _is_table(value: Any) -> bool:  # noqa: ANN401 - any object
    """Tell whether it is a data frame, a series or an index, of pandas or what is like it."""
    return hasattr(type(value), "to_numpy")


def _numpy_leaf(value: Any) -> Leaf | None:  # noqa: ANN401 - an array, or a scalar of NumPy's
    kind = value.dtype.kind
    if kind == "O" or value.dtype.names is not None or _is_masked_array(value):
        return None
    if not value.shape:  # a scalar, of which torch.compile makes an array without dimensions
        number = value.tolist()
        number = {"f": float, "c": complex}[kind](number) if kind in "fc" else number  # of long double it is still one
        return Leaf(f"numpy number of {value.dtype}", number)
    title = f"numpy array of shape {value.shape} and {value.dtype}"
    if kind not in "fiubc":
        return Leaf(title, value.tolist())
    largest, wide = {"f": (8, "float64"), "c": (16, "complex128")}.get(kind, (math.inf, ""))
    array = sys.modules["numpy"].asarray(value)
    own = wide if value.dtype.itemsize > largest else value.dtype.newbyteorder("=")
    return Leaf(title, _real(torch.from_numpy(array.astype(own))))  # a copy that belongs to nobody


def _parts(value: Any) -> dict[str, Any] | None:  # noqa: ANN401 - any container
    """Split a container or an object into its parts by name; None where there is nothing to look into."""
    if isinstance(value, torch.Tensor):
        return _tensor_parts(value)
    if _is_numpy(value):
        return _numpy_parts(value)
    if isinstance(value, (Mapping, ItemsView)):
        return _mapping_parts(value.items() if isinstance(value, Mapping) else value)
    if isinstance(value, MappingView) and not isinstance(value, KeysView):
        value = list(value)  # type: ignore[call-overload]  # a view of values
    if isinstance(value, Sequence):
        return {f"[{index}]": item for index, item in enumerate(value)}
    if isinstance(value, (Iterator, Set, *_FUNCTIONS)):
        return None
    if _is_table(value):
        labels = {f" ({name})": getattr(value, name, None) for name in ("index", "columns")}
        return {" (values)": value.to_numpy(), **{name: item for name, item in labels.items() if not callable(item)}}
    if is_dataclass(value):
        declared = {item.name: getattr(value, item.name, None) for item in fields(value)}
        return {f".{name}": item for name, item in {**declared, **_attributes(value)}.items()}
    return {f".{name}": item for name, item in _attributes(value).items()} or None


def _mapping_parts(items: Any) -> dict[str, Any]:  # noqa: ANN401 - pairs of any objects
    """Name values by their keys; a key that only its identity or address tells by its place, and it is a part, too."""
    parts: dict[str, Any] = {}
    for index, (key, item) in enumerate(items):
        is_value = _defines_equality(key) and not isinstance(key, torch.Tensor) and " at 0x" not in repr(key)
        if (_is_plain(key) or is_value) and f"[{key!r}]" not in parts:
            parts[f"[{key!r}]"] = item
        else:
            name = f"[{_type_name(key)} {index}]"
            parts |= {name: item, f"{name} (key)": key}
    return parts


def _numpy_parts(value: Any) -> dict[str, Any]:  # noqa: ANN401 - an array that is not one of numbers
    if value.dtype.names is not None:
        return {f"[{name!r}]": value[name] for name in value.dtype.names}
    if _is_masked_array(value):
        numpy = sys.modules["numpy"]
        mask, data = numpy.ma.getmaskarray(value), numpy.asarray(value.data)
        return {" (mask)": mask, " (where not masked)": numpy.where(mask, numpy.zeros_like(data), data)}
    return {f"[{index}]": item for index, item in enumerate(value.tolist())} if value.shape else {"[()]": value.item()}


def _attributes_beside(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any object
    """List the attributes of what is compared by its value or its items: of a tensor, an array, a list, a mapping.

    Of a tensor the public ones, since torch.compile keeps notes in others. In a mapping many keys are attributes, too;
    and where an attribute is None it may be that of the class.
    """
    if type(value).__module__ == "builtins" or isinstance(value, _BY_EQUALITY):
        return {}
    if isinstance(value, torch.Tensor):
        inner = getattr(value, "__tensor_flatten__", None)
        if inner is not None and type(value).__module__.startswith("torch."):
            return {}
        names = set(inner()[0]) if inner is not None else set()
        return {name: item for name, item in vars(value).items() if not name.startswith("_") and name not in names}
    if _is_numpy(value):
        return {} if _is_masked_array(value) else dict(getattr(value, "__dict__", {}))
    if not isinstance(value, (Mapping, Sequence, Set, *_PLAIN)) or _is_table(value):
        return {}
    same = set(value) if isinstance(value, Mapping) else set()
    if isinstance(value, (UserDict, UserList)):
        same.add("data")
    return {name: item for name, item in _attributes(value).items() if item is not None and name not in same}


def _attributes(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any object
    """List an object's attributes, in slots and in its dictionary, the private ones too."""
    slots = {name: getattr(value, name) for name in slots_of(type(value)) if hasattr(value, name)}
    return {**slots, **getattr(value, "__dict__", {})}


def _may_hold_a_result(value: Any, above: frozenset[int]) -> bool:  # noqa: ANN401 - any object that has no parts
    """Tell whether something that cannot be looked into may keep what a model made: an iterator, a set, a function.

    above: the `id` of what is compared anyhow. A function that holds nothing of its own is the same for all.
    """
    if isinstance(value, types.FunctionType):
        cells = [cell for cell in value.__closure__ or () if cell != types.CellType()]  # an empty one equals another
        held = [cell.cell_contents for cell in cells]
        held += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values()]
    elif isinstance(value, types.MethodType):
        held = [value.__self__, value.__func__]
    elif isinstance(value, functools.partial):
        held = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, types.BuiltinFunctionType):
        held = [value.__self__]
    else:
        return isinstance(value, (Iterator, Set)) and not isinstance(value, io.IOBase)
    above |= {id(value)}
    return any(
        _may_hold_a_result(item, above) if isinstance(item, (functools.partial, *_FUNCTIONS)) else not _is_plain(item)
        for item in held
        if id(item) not in above
    )


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
    names, context = tensor.__tensor_flatten__()  # type: ignore[attr-defined]  # a subclass that wraps tensors
    parts = {f".{name}": getattr(tensor, name) for name in names}
    is_foreign = not type(tensor).__module__.startswith("torch.")  # torch's own have meshes and process groups there
    return {**parts, " (context)": context} if is_foreign else parts


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
    if _is_rounded(one):
        return _number_difference(one, two, float64, tolerance, exact=exact)
    same = one == two
    if isinstance(one, set) and not exact:
        same = same or _are_sets_close(one, two, tolerance)
    if not isinstance(same, bool):
        if not (_is_numpy(same) and not same.shape):
            raise CannotJudge(f"a {reference.kind} in the results cannot be compared: `==` is neither true nor false")
        same = bool(same)
    return None if same else f"{_short(two)} instead of {_short(one)}"


def _is_rounded(value: Any) -> bool:  # noqa: ANN401 - any value
    return isinstance(value, (float, complex))


def _number_difference(
    one: complex,
    two: complex,
    wide: Any,  # noqa: ANN401 - the float64 number or nothing
    tolerance: AccuracyTolerance,
    *,
    exact: bool,
) -> str | None:
    """Compare Python's and NumPy's numbers by the rules of tensors with one element."""
    said = f"{_short(two)} instead of {_short(one)}"
    if cmath.isnan(one) and cmath.isnan(two):
        is_fine = exact or tolerance.nan_equals_nan
        return None if is_fine else f"{said}: eager's value is NaN, so there is nothing to compare with"
    if one == two or (not exact and _numbers_close(one, two, tolerance)):
        return None
    if exact or tolerance.cosine or not _is_rounded(wide) or not all(map(cmath.isfinite, (one, two, wide))):
        return said
    own, other = abs(one - wide), abs(two - wide)
    if own > _NOT_THE_SAME_FUNCTION_IN_HALF * abs(wide) + tolerance.value:  # another number, which excuses nothing
        return said
    bound = 3.0 * own + tolerance.value / 10.0
    return None if other <= bound else f"{said}; off float64 by {other:.3g}, eager by {own:.3g}, allowed {bound:.3g}"


def _are_sets_close(one: Set[Any], two: Set[Any], tolerance: AccuracyTolerance) -> bool:
    """Tell whether sets differ in the rounding of their real numbers alone."""
    mine, theirs = (sorted(item for item in items if isinstance(item, float)) for items in (one, two))
    if len(mine) != len(theirs) or one - set(mine) != two - set(theirs):
        return False
    return all(_numbers_close(left, right, tolerance) for left, right in zip(mine, theirs, strict=True))


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
    wide = float64 if isinstance(float64, torch.Tensor) and float64.shape == reference.shape else None
    odd = (nans != torch.isnan(result)) | (
        (torch.isinf(reference) | torch.isinf(result)) & (reference != result) & ~nans
    )
    if wide is not None and not (exact or tolerance.cosine):
        odd &= ~_is_nearer(reference, result, wide)
    if exact or bool(odd.any()):
        return _describe_values(reference, result, odd if bool(odd.any()) else unlike)
    finite = torch.isfinite(reference)
    if tolerance.cosine:
        return _cosine_difference(reference[finite], result[finite], tolerance)
    if wide is not None:
        return _rmse_difference(reference, result, wide, unlike, tolerance)
    return f"{_describe_values(reference, result, unlike)}; tolerance {tol:g}"


def _is_nearer(reference: torch.Tensor, result: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
    """Tell where eager and result are infinite in turn, and float64 says that it is the result that is right."""
    overflow = torch.isinf(reference) & torch.isfinite(result) & torch.isfinite(wide)
    return overflow | (torch.isfinite(reference) & torch.isinf(result) & (result == wide))


def _is_beyond(wide: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Tell where a float64 value is finite, and so large that no rounding brings it into `dtype`.

    `torch.finfo(x.dtype).min`, which masks are filled with, is another number in float64. Twice the largest number,
    since float16 overflows in earnest, and is rounded there as anywhere.
    """
    return torch.isfinite(wide) & (wide.abs() > 2 * torch.finfo(dtype).max)


def _rmse_difference(
    reference: torch.Tensor,
    result: torch.Tensor,
    wide: torch.Tensor,
    unlike: torch.Tensor,
    tolerance: AccuracyTolerance,
) -> str | None:
    """Hold the error of the result to float64 against eager's, over the values that float64 knows.

    Where the float64 value is none of this precision, eager alone knows, and the result has to be its value.
    """
    tol, finite = tolerance.value, torch.isfinite(reference)
    one, two, truth = reference.double(), result.double(), wide.double()
    beyond = _is_beyond(truth, reference.dtype)
    apart = (two - one).abs() > max(tol, 4 * torch.finfo(reference.dtype).eps) * one.abs()
    if bool((wrong := beyond & finite & apart).any()):
        return f"{_describe_values(reference, result, wrong)}; float64 holds larger numbers there"
    known = torch.isfinite(truth) & ~beyond
    if int((finite & ~beyond & ~known).sum()) > int(known.sum()):  # float64 broke down: it is no reference
        both = finite & torch.isfinite(result)
        return _cosine_difference(reference[both], result[both], replace(tolerance, cosine=True, size=True))
    own = rmse(truth[known & finite], one[known & finite])
    other = rmse(truth[known & torch.isfinite(two)], two[known & torch.isfinite(two)])
    bound = _multiplier(reference, tol) * own + tol / 10.0
    if other <= bound < math.inf:
        return None
    errors = f"RMSE to float64 is {other:.3g}, eager's is {own:.3g}, allowed {bound:.3g}"
    return f"{_describe_values(reference, result, unlike)}; {errors}"


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


def _cosine_difference(reference: torch.Tensor, result: torch.Tensor, tolerance: AccuracyTolerance) -> str | None:
    """Compare the direction of finite values, and their size where it is asked for; those that are close were found
    equal before this. The largest number of the precision, which masks are filled with, would hide all others."""
    left, right = (values.flatten().cpu().double() for values in (reference, result))  # as in `_describe_values`
    counted = (left != right) | (left.abs() < torch.finfo(reference.dtype).max)
    left, right = left[counted], right[counted]
    if left.numel() == 0:
        return None
    scale = max(float(left.abs().max()), float(right.abs().max())) or 1.0  # so that no square overflows
    mine, theirs = (float(torch.linalg.vector_norm(values / scale)) for values in (left, right))
    product = float(torch.dot(left / scale, right / scale))
    similarity = product / (mine * theirs) if mine and theirs else 0.0
    if similarity < _COSINE:
        return f"cosine similarity {similarity:.4f} is under {_COSINE}"
    if not tolerance.size:
        return None
    allowed = _NOT_THE_SAME_FUNCTION.get(reference.dtype, _NOT_THE_SAME_FUNCTION_IN_HALF)
    if left.numel() == 1:
        allowed = min(allowed, _ONE_NUMBER * tolerance.value)
    if abs(theirs - mine) <= allowed * mine + tolerance.value * math.sqrt(left.numel()) / scale:
        return None
    if left.numel() == 1:
        return f"{float(right):.6g} instead of {float(left):.6g}, allowed are {allowed:.0%}"
    return f"{theirs / mine:.3g} times as large as eager's, allowed are {allowed:.0%}"


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
