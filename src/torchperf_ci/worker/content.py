"""Digests of code, values and native libraries by content: the same in another folder or process, some lines further.

Nothing in them speaks of paths, line numbers, comments, docstrings or addresses. Each is 32 hexadecimal digits.

A native library of a side's own is told by what is loaded of it, since its build id may speak of the folder that it was
built in; one that both sides share by its build id, or else by its place, size and time.
"""

from __future__ import annotations

import collections
import ctypes
import dis
import enum
import functools
import os
import random
import re
import struct
import sys
import sysconfig
import tempfile
import types
import weakref
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import IO, Any

import torch
from torch.nn.parameter import is_lazy

DIGEST_BYTES = 16
_CHUNK = 2**26
_MOST_OBJECTS = 1_000_000

_HAS_DOCSTRING = 0x4000000  # a flag of code objects from Python 3.13 on
_CONSTANT_OPERATIONS = frozenset(dis.hasconst)
_MADE_UP = re.compile(
    r"_[0-9a-f]{8}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{12}"  # dynamo's names of what it compiled
    r"|(?<=compile_tasks\.)[a-z0-9]{20,}"  # the module of a piece of generated code
    r"|(?<=_at_)\d+"  # the line at which dynamo resumes
    r"|0x[0-9a-f]{6,}"
)

_PACKAGES = re.compile(r"/(site|dist)-packages/")

_PLAIN = (type(None), bool, int, float, complex, type(Ellipsis), type(NotImplemented), range)
_NAMED_ONLY = (
    *(
        f"{name}."
        for name in (
            "_asyncio", "_contextvars", "_frozen_importlib", "_io", "_thread", "asyncio", "concurrent", "contextvars",
            "importlib", "io", "logging", "multiprocessing", "queue", "socket", "ssl", "subprocess", "tempfile",
            "threading", "torch.autograd", "torch.cuda", "torch.distributed", "torch.fx", "torch.library",
            "torch.utils", "torchperf_ci", "triton", "typing", "warnings", "zipfile",
        )
    ),
    "torch._",
)  # fmt: skip
"""The modules whose objects are named by their class alone: they hold what a process does, not what a model is."""


class Places:
    """The folders that code and files come from. `tree`: where a side's own code lies, and relative paths begin."""

    def __init__(self, tree: Path | None = None) -> None:
        import torchperf_ci

        self.tree = os.path.realpath(tree or Path.cwd())
        torch_home = os.path.realpath(Path(torch.__file__).parent)
        site = os.path.dirname(torch_home)  # noqa: PTH120 - text, as all paths here
        ours = Path(torchperf_ci.__file__).parent
        paths = sysconfig.get_paths()
        standard = {paths["stdlib"], paths["platstdlib"]}
        self._kinds = {
            "ours": _folders(ours, ours.resolve()),
            "torch": _folders(torch_home),
            "shared": _folders(site) if os.path.basename(site) in {"site-packages", "dist-packages"} else (),  # noqa: PTH119
            "own": _folders(self.tree),
        }
        self._own_prefix = _folders(os.path.realpath(sys.prefix))
        self._standard = _folders(*standard, *(os.path.realpath(path) for path in standard))
        self._known: dict[str, str] = {}
        roots = {
            str(ours.parent): "<torchperf>",
            str(tree or Path.cwd()): "<tree>",
            self.tree: "<tree>",
            sys.prefix: "<environment>",
            os.path.realpath(sys.prefix): "<environment>",
        }
        self._roots = sorted(roots.items(), key=lambda item: -len(item[0]))
        self.scratch = os.path.realpath(tempfile.gettempdir()) + os.sep

    def kind_of(self, file: str) -> str:
        """Say whose a file is: `ours`, `torch`, `standard`, `generated`, `shared` with all that use this torch, or the
        side's `own`."""
        kind = self._known.get(file)
        if kind is None:
            kind = self._known[file] = self._find_kind(file)
        return kind

    def _find_kind(self, file: str) -> str:
        if not file or file.startswith("<"):
            return "generated"
        real = os.path.realpath(file)
        for kind, folders in self._kinds.items():
            if real.startswith(folders) or file.startswith(folders):
                return kind
        if real.startswith(self._standard) and not _PACKAGES.search(real):
            return "standard"
        if _PACKAGES.search(real) and not self.is_in_tree(real):
            return "shared"
        cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")
        is_cached = bool(cache) and real.startswith(_folders(cache, os.path.realpath(cache)))
        return "generated" if is_cached or "torchinductor" in real or "compile_tasks" in real else "own"

    def is_in_tree(self, file: str) -> bool:
        """Say whether a file lies in the side's own folders: where its commit is, or in its own environment."""
        own = self._own_prefix if sys.prefix != sys.base_prefix else ()
        return os.path.realpath(file).startswith((*self._kinds["own"], *own))

    def kind_of_module(self, name: str) -> str:
        """Say whose a module is; one without a file is part of Python, or of a process started from a program."""
        package = name.partition(".")[0]
        if package in {"torch", "torchperf_ci"}:  # some of torch's modules have files that there are not
            return "torch" if package == "torch" else "ours"
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            return self.kind_of(file)
        return "standard" if package in sys.stdlib_module_names else "own"

    def normalise(self, text: str) -> str:
        """Replace a side's own folders, and names that are made up anew in each process."""
        for root, name in self._roots:
            if root in text and len(root) > 1:
                text = text.replace(root, name)
        return _MADE_UP.sub("*", text) if "_" in text or "0x" in text else text


def _folders(*paths: Any) -> tuple[str, ...]:  # noqa: ANN401 - any path
    return tuple({str(path).rstrip(os.sep) + os.sep for path in paths if path})


def digest_text(*parts: str) -> str:
    hashed = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        hashed.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return hashed.hexdigest()


class CodeDigester:
    """Digests code objects: bytecode, the constants it uses (code within it among them), names, arguments.

    A constant stands where the bytecode loads it, so that a docstring, which nothing loads, does not count, nor does
    its place among the constants.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._known: dict[int, tuple[types.CodeType, str]] = {}  # holds the code, so that no other gets its id

    def __call__(self, code: types.CodeType) -> str:
        known = self._known.get(id(code))
        if known is None:
            known = self._known[id(code)] = (code, self._digest(code))
        return known[1]

    def _digest(self, code: types.CodeType) -> str:
        hashed = blake2b(digest_size=DIGEST_BYTES)
        about = (
            code.co_name,
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags & ~_HAS_DOCSTRING,
            *(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
        )
        hashed.update(self._places.normalise(repr(about)).encode())
        hashed.update(getattr(code, "co_exceptiontable", b""))
        content, constants, bytecode, high = bytearray(), code.co_consts, code.co_code, 0
        for operation, low in zip(bytecode[::2], bytecode[1::2], strict=True):
            argument = high | low
            if operation == dis.EXTENDED_ARG:
                high = argument << 8
                continue
            high = 0
            content.append(operation)
            if operation in _CONSTANT_OPERATIONS and argument < len(constants):
                content += self._describe_constant(constants[argument]).encode("utf-8", "surrogatepass")
            else:
                content += argument.to_bytes(4, "little")
        hashed.update(content)
        return hashed.hexdigest()

    def _describe_constant(self, value: Any) -> str:  # noqa: ANN401 - any constant
        match value:
            case types.CodeType():
                return self(value)
            case str():
                return self._places.normalise(repr(value))
            case tuple():
                return f"({','.join(map(self._describe_constant, value))})"
            case frozenset():
                return f"{{{','.join(sorted(map(self._describe_constant, value)))}}}"
            case _:
                return f"{type(value).__name__} {value!r}"


class Digester:
    """Digests values of any kind, and what can be reached from them.

    functions, classes: those that were met, by id; of a class only its name is in a digest. unseen: the types of
    objects that nobody can look into.
    """

    def __init__(self, places: Places) -> None:
        self.places, self.code = places, CodeDigester(places)
        self.functions: dict[int, types.FunctionType] = {}
        self.classes: dict[int, type] = {}
        self.unseen: dict[str, None] = {}
        self._tensors: dict[int, tuple[torch.Tensor, str]] = {}
        self._left = _MOST_OBJECTS

    def __call__(self, value: Any) -> str:  # noqa: ANN401 - any value
        walk = _Walk(self)
        try:
            walk.add(value)
        except RecursionError:
            self.unseen["objects that are nested too deeply"] = None
        return walk.hashed.hexdigest()

    def is_plain(self, value: Any) -> bool:  # noqa: ANN401 - any value
        """Say whether a value is a number, a text, or a short tuple of those."""
        if isinstance(value, tuple):
            return len(value) <= 16 and all(map(self.is_plain, value))
        return type(value) in {*_PLAIN, str, bytes} or isinstance(value, (torch.dtype, torch.device))

    def count_object(self) -> None:
        """Count an object that is looked into. Raises `RecursionError` when there are too many."""
        self._left -= 1
        if self._left < 0:
            raise RecursionError

    def tensor(self, tensor: torch.Tensor) -> str:
        """Digest a tensor: its type, shape, strides and every bit that it shows."""
        known = self._tensors.get(id(tensor))
        if known is None:
            known = self._tensors[id(tensor)] = (tensor, self._digest_tensor(tensor))
        return known[1]

    def _digest_tensor(self, tensor: torch.Tensor) -> str:
        about = f"{type(tensor).__name__} {tensor.dtype} {tensor.device.type} {tensor.layout} {tensor.requires_grad}"
        if is_lazy(tensor):
            return digest_text(about, "without a shape yet")
        about += f" {tuple(tensor.shape)}"
        try:
            if hasattr(tensor, "__tensor_flatten__"):
                names, context = tensor.__tensor_flatten__()
                return digest_text(about, self(context), *(self(getattr(tensor, name)) for name in names))
            if tensor.is_quantized:
                return digest_text(
                    about, self.tensor(tensor.int_repr()), repr(tensor.qscheme()), repr(tensor.q_scale())
                )
            if tensor.layout is not torch.strided:
                return digest_text(about, self.tensor(tensor.detach().to_dense()))
            about += f" {tensor.stride()} {tensor.is_conj()} {tensor.is_neg()}"
            return digest_text(about, "" if tensor.is_meta else _digest_storage(tensor))
        except (RuntimeError, NotImplementedError, AttributeError, TypeError):
            self.unseen[f"a tensor of the class {type(tensor).__name__}"] = None
            return digest_text(about)


def _digest_storage(tensor: torch.Tensor) -> str:
    """Digest the bytes of a tensor: its own where they lie in one piece, else those of all of its storage."""
    storage = tensor.untyped_storage()
    first, size = 0, int(storage.nbytes())
    if tensor.is_contiguous():
        first, size = int(tensor.storage_offset()) * tensor.element_size(), tensor.numel() * tensor.element_size()
    hashed = blake2b(digest_size=DIGEST_BYTES)
    if tensor.device.type == "cpu":
        if size:
            hashed.update((ctypes.c_ubyte * size).from_address(storage.data_ptr() + first))
        return hashed.hexdigest()
    flat = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
    for start in range(first, first + size, _CHUNK):
        piece = flat[start : min(start + _CHUNK, first + size)].cpu()
        hashed.update((ctypes.c_ubyte * piece.numel()).from_address(piece.data_ptr()))
    return hashed.hexdigest()


class _Walk:
    """One walk through a value: what was seen before is named by its number, so that circles end."""

    def __init__(self, owner: Digester) -> None:
        self._owner = owner
        self.hashed = blake2b(digest_size=DIGEST_BYTES)
        self._seen: dict[int, tuple[int, Any]] = {}

    def _say(self, *words: object) -> None:
        self.hashed.update(repr(words).encode("utf-8", "surrogatepass"))

    def add(self, value: Any) -> None:  # noqa: ANN401 - any value
        kind = type(value)
        if kind in _PLAIN:
            self._say(kind.__name__, value)
        elif kind is str:
            self._say(self._owner.places.normalise(value))
        elif isinstance(value, (bytes, bytearray)):
            self._say(kind.__name__, bytes(value))
        elif isinstance(value, torch.Tensor):
            self._say("tensor", self._owner.tensor(value))
            if extra := {name: item for name, item in vars(value).items() if not name.startswith("_")}:
                self.add(extra)
        elif id(value) in self._seen:
            self._say("seen", self._seen[id(value)][0])
        else:
            self._owner.count_object()
            self._seen[id(value)] = (len(self._seen), value)
            self._add_object(value)

    def _add_object(self, value: Any) -> None:  # noqa: ANN401, C901 - a table of types
        kind = type(value)
        match value:
            case enum.Enum():
                return self._say("enum", _name_class(kind), value.name)
            case torch.dtype() | torch.device() | torch.layout() | torch.memory_format():
                return self._say(str(value))
            case torch.Generator():
                return self._say("generator", self._owner.tensor(value.get_state()))
            case types.FunctionType():
                return self._add_function(value)
            case types.MethodType():
                return self._add_parts("method", value.__func__, value.__self__)
            case types.BuiltinFunctionType() | types.MethodWrapperType():
                owner = value.__self__
                self._say("built-in", value.__qualname__)
                return None if owner is None or isinstance(owner, types.ModuleType) else self.add(owner)
            case functools.partial():
                return self._add_parts("partial", value.func, value.args, value.keywords)
            case functools.partialmethod():
                return self._add_parts("partial method", value.func, value.args, value.keywords)
            case staticmethod() | classmethod():
                return self._add_parts(kind.__name__, value.__func__)
            case property():
                return self._add_parts("property", value.fget, value.fset, value.fdel)
            case type():
                self._owner.classes[id(value)] = value
                return self._say("class", _name_class(value))
            case types.ModuleType():
                return self._say("module", self._owner.places.normalise(value.__name__))
            case types.CodeType():
                return self._say("code", self._owner.code(value))
            case types.CellType():
                return self._add_parts("cell", *cell_contents(value))
            case types.GeneratorType():
                frame = value.gi_frame
                return self._add_parts("generator", value.gi_code, dict(frame.f_locals) if frame else None)
            case weakref.ref():
                return self._add_parts("weak reference", value())
            case re.Pattern():
                return self._say("pattern", value.pattern, value.flags)
            case PurePath():
                return self._say("path", self._owner.places.normalise(str(value)))
            case random.Random():
                return self._add_parts("random numbers", value.getstate())
            case torch.jit.ScriptModule() | torch.jit.ScriptFunction():
                return self._say("script", self._owner.places.normalise(str(getattr(value, "code", ""))))
            case torch.fx.Graph():
                return self._say("graph", self._owner.places.normalise(str(value)))
            case str():
                self._say(_name_class(kind), self._owner.places.normalise(str.__str__(value)))
            case int() | float() | complex():
                self._say(_name_class(kind), value + 0)
            case list() | tuple() | collections.deque():
                self._say(_name_class(kind), len(value))
                for item in value:
                    self.add(item)
            case Mapping() if isinstance(value, (dict, types.MappingProxyType)):
                self._say(_name_class(kind), len(value))
                for key, item in value.items():
                    self.add(key)
                    self.add(item)
                if isinstance(value, collections.defaultdict):
                    self.add(value.default_factory)
            case set() | frozenset():
                self._say(_name_class(kind), sorted(map(self._owner, value)))
            case _:
                return self._add_instance(value)
        if kind.__module__ != "builtins":
            self._add_attributes(value)
        return None

    def _add_parts(self, what: str, *parts: Any) -> None:  # noqa: ANN401 - any values
        self._say(what, len(parts))
        for part in parts:
            self.add(part)

    def _add_function(self, function: types.FunctionType) -> None:
        self._owner.functions[id(function)] = function
        self._say("function", self._owner.places.normalise(function.__qualname__), self._owner.code(function.__code__))
        cells = [content for cell in function.__closure__ or () for content in cell_contents(cell)]
        self._add_parts("defaults", function.__defaults__, function.__kwdefaults__, cells)
        for name, value in sorted(vars(function).items()):
            if not name.startswith("_torchdynamo"):
                self._add_parts(name, value)

    def _add_instance(self, value: Any) -> None:  # noqa: ANN401 - any object
        kind = type(value)
        self._say(_name_class(kind))
        self._owner.classes[id(kind)] = kind
        module = kind.__module__ or ""
        if numpy := sys.modules.get("numpy"):
            if isinstance(value, numpy.ndarray) and not value.dtype.hasobject:
                return self._say(str(value.dtype), value.shape, digest_bytes(value.tobytes()))
            if isinstance(value, numpy.generic):
                return self._say(value.item())
        if module.startswith("triton.") and hasattr(value, "fn"):  # a kernel; else it holds what was compiled of it
            return self.add(value.fn)
        if hasattr(value, "cache_info") and hasattr(value, "__wrapped__"):
            return self.add(value.__wrapped__)
        if isinstance(value, ctypes.CDLL):
            return self._say(os.path.basename(str(value._name)))  # noqa: PTH119 - the library itself is digested
        if isinstance(value, ctypes._SimpleCData):
            return self.add(value.value)
        if (module + ".").startswith(_NAMED_ONLY) and not isinstance(value, torch.nn.Module):
            return None
        self._add_attributes(value)
        if not hasattr(value, "__dict__") and not any("__slots__" in vars(base) for base in kind.__mro__):
            self._add_reduced(value)
        return None

    def _add_attributes(self, value: Any) -> None:  # noqa: ANN401 - any object
        for name, item in _list_attributes(value):
            self._say(name)
            self.add(item)

    def _add_reduced(self, value: Any) -> None:  # noqa: ANN401 - any object
        """Add what an object of a library in C says when it is pickled."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - it may raise anything
            module = type(value).__module__
            if module != "builtins" and self._owner.places.kind_of_module(module) not in {"torch", "standard"}:
                self._owner.unseen[f"an object of the class {_name_class(type(value))}"] = None
            return
        self.add(reduced if isinstance(reduced, str) else list(reduced[:3]))


def _list_attributes(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any object
    for name in slots_of(type(value)):
        try:
            yield name, object.__getattribute__(value, name)
        except AttributeError:  # without a value, or a private name
            continue
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        yield from attributes.items()


def slots_of(kind: type) -> Iterator[str]:
    """Yield the names of the slots that a class and its bases declare, private ones as Python mangles them."""
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"}:
                is_private = name.startswith("__") and not name.endswith("__")
                yield f"_{base.__name__.lstrip('_')}{name}" if is_private else name


def cell_contents(cell: types.CellType) -> list[Any]:
    """Return what a closure holds in a cell, alone in a list; nothing before it is assigned."""
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []


def _name_class(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def digest_bytes(content: bytes) -> str:
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def digest_file(path: str) -> str:
    hashed = blake2b(digest_size=DIGEST_BYTES)
    with open(path, "rb") as stream:  # noqa: PTH123 - a path as text
        while piece := stream.read(_CHUNK):
            hashed.update(piece)
    return hashed.hexdigest()


def digest_items(items: Mapping[str, Any]) -> str:
    """Digest a table in the order of its names; of a function (`[file, line, calls, digest]`) not its place."""
    contents = {name: item[2:] if isinstance(item, list) else item for name, item in items.items()}
    return digest_text(*(f"{name} {contents[name]}" for name in sorted(contents)))


_MAPS = Path("/proc/self/maps")
_LOADED, _NOTES = 1, 4
_BUILD_ID = 3
_NATIVE_CLASS, _LITTLE_ENDIAN = 2, 1
_HEADER, _SEGMENT = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_READ_AT_ONCE = 2**24


class NoLibraryList(Exception):
    """A system that does not say which libraries a process has mapped."""


def digest_libraries(places: Places) -> dict[str, str]:
    """Digest every mapped library, by its path less the side's own folders. Raises `NoLibraryList`.

    Libraries that were generated are left out: the code that they were made from is digested.
    """
    digests = {}
    for path in sorted(_list_mapped()):
        kind = places.kind_of(path)
        if kind != "generated":
            is_own = kind == "own" and places.is_in_tree(path)
            try:
                digests[places.normalise(path)] = _digest_loaded(path) if is_own else _identify(path)
            except OSError:  # it was removed, or replaced, since
                digests[places.normalise(path)] = "gone"
    return digests


def _list_mapped() -> set[str]:
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError as error:
        raise NoLibraryList(f"this system does not list what is mapped: {error.strerror}") from error
    fields = (line.split(maxsplit=5) for line in lines)
    return {each[5] for each in fields if len(each) == 6 and "x" in each[1] and each[5].startswith("/")}


def _identify(path: str) -> str:
    with open(path, "rb") as stream:  # noqa: PTH123 - a path as text
        for kind, offset, size in _list_segments(stream):
            if kind == _NOTES and (build_id := _find_build_id(stream, offset, size)):
                return f"build id {build_id}"
    status = os.stat(path)  # noqa: PTH116
    return digest_text(path, str(status.st_size), str(status.st_mtime_ns), str(status.st_ino))


def _digest_loaded(path: str) -> str:
    """Digest the loaded segments of a library, less its header and its build id: debug information is not loaded."""
    with open(path, "rb") as stream:  # noqa: PTH123
        segments = list(_list_segments(stream))
        blank = [(0, _HEADER.size), *((offset, size) for kind, offset, size in segments if kind == _NOTES)]
        hashed = blake2b(digest_size=DIGEST_BYTES)
        for kind, offset, size in segments:
            if kind != _LOADED:
                continue
            stream.seek(offset)
            content = bytearray(stream.read(size))
            for start, length in blank:
                first, last = max(start, offset) - offset, min(start + length, offset + size) - offset
                if first < last:
                    content[first:last] = bytes(last - first)
            hashed.update(content)
    return hashed.hexdigest() if segments else digest_file(path)


def _list_segments(stream: IO[bytes]) -> Iterator[tuple[int, int, int]]:
    """List kind, offset and size in the file of a 64-bit little-endian ELF file's segments; none of other files."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size or header[:6] != b"\x7fELF" + bytes((_NATIVE_CLASS, _LITTLE_ENDIAN)):
        return
    fields = _HEADER.unpack(header)
    start, length, number = fields[5], fields[9], fields[10]
    for index in range(number):
        stream.seek(start + index * length)
        segment = _SEGMENT.unpack(stream.read(_SEGMENT.size))
        yield segment[0], segment[2], segment[5]


def _find_build_id(stream: IO[bytes], offset: int, size: int) -> str:
    """Find GNU's build id among the notes of a segment; empty where there is none. Format: elf(5)."""
    stream.seek(offset)
    notes, place = stream.read(size), 0
    while place + 12 <= len(notes):
        name_size, content_size, kind = struct.unpack_from("<III", notes, place)
        name = place + 12
        content = name + (name_size + 3) // 4 * 4
        if kind == _BUILD_ID and notes[name : name + 4] == b"GNU\0":
            return notes[content : content + content_size].hex()
        place = content + (content_size + 3) // 4 * 4
    return ""
