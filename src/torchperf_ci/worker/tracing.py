"""Trace which program a case is: the code that an iteration executes and everything that decides what it does.

While the case is loaded, and in one iteration of each arm, Python's profile hook hears of every call, an audit hook of
files and processes, and `os.environ` of every variable that is read. What a rarely taken branch would call, and the
values that the code reads, are followed by name from the code that ran. docs/method.md says what this proves.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import secrets
import signal
import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torchperf_ci.worker import environment as surroundings
from torchperf_ci.worker.content import (
    Digester,
    NoLibraryList,
    Places,
    digest_bytes,
    digest_file,
    digest_items,
    digest_libraries,
    digest_text,
)
from torchperf_ci.worker.load import Workload
from torchperf_ci.worker.timing import Arm, prepare_arm

_STEERING = {
    "time": {
        "clock_gettime", "clock_gettime_ns", "ctime", "gmtime", "localtime", "monotonic", "monotonic_ns",
        "perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "strftime", "thread_time",
        "thread_time_ns", "time", "time_ns",
    },
    "_thread": {"start_new_thread", "start_joinable_thread"},
    "posix": {"getloadavg", "getpid", "getrandom", "times", "urandom"},
    "datetime": {"now", "today", "utcnow"},
}  # fmt: skip
"""Built-in functions whose effects differ from call to call, by the module that they, or their class, are of."""

_RANDOM_FILES = frozenset({random.__file__, secrets.__file__, uuid.__file__})
_START_THREAD = threading.Thread.start.__code__
_PROCESS_EVENTS = frozenset(
    {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
)
_NO_DATA = (".py", ".pyc", ".pyi", ".pth", ".so", ".dylib")
_SYSTEM_FOLDERS = ("/proc/", "/sys/", "/dev/")
_LARGE = 2**26
_IGNORED_VARIABLES = frozenset({"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "PYTHONPATH"})
"""Variables that a comparison itself sets anew for each side."""

_CLASS_PARTS = frozenset(
    {
        "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__",
        "__dict__", "__doc__", "__firstlineno__", "__init__", "__init_subclass__", "__module__", "__orig_bases__",
        "__parameters__", "__qualname__", "__repr__", "__slots__", "__static_attributes__", "__str__", "__weakref__",
        "_abc_impl",
    }
)  # fmt: skip
"""The parts of a class that do not decide what an iteration does: what they made is in the objects."""

_INDIRECT = frozenset({"eval", "exec", "globals", "locals"})
_BY_NAME = frozenset({"__dict__", "getattr", "vars"})
_READS = ("aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero")


@dataclass(slots=True)
class _Executed:
    """A code object that ran: how often, and the plain values that its first call had."""

    code: types.CodeType
    variables: dict[str, Any]
    kind: str
    calls: int = 0
    given: dict[str, Any] = field(default_factory=dict)


_listeners: list[Callable[[str, tuple[Any, ...]], None]] = []
_reads: list[Callable[[str | None], None]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Pass an audit event on. Python never forgets an audit hook, so that this one is short while nobody listens."""
    if _listeners:
        for listener in _listeners:
            listener(event, arguments)


@functools.cache
def _install_audit_hook() -> None:
    sys.addaudithook(_hear)


class _WatchedEnviron(os._Environ):  # type: ignore[type-arg]  # nothing but text
    """The variables of this process, which notes what is read. It is the class of `os.environ` for some moments."""

    def __getitem__(self, name: Any) -> str:  # noqa: ANN401 - Python itself asks for one in bytes, and hears an error
        for note in _reads if isinstance(name, str) else ():
            note(name)
        return str(super().__getitem__(name))

    def __iter__(self) -> Iterator[str]:
        for note in _reads:
            note(None)
        return super().__iter__()


class _Watch:
    """Hears what runs while it is entered.

    executed: code objects by id. built_in: how often the side's own code called built-in functions, by name.
    files: those that were opened for reading. variables: those that were read; None among them: all.
    """

    def __init__(self, places: Places, doubts: dict[str, None]) -> None:
        self._places, self._doubts = places, doubts
        self.executed: dict[int, _Executed] = {}
        self.built_in: dict[str, int] = {}
        self.files: dict[str, None] = {}
        self.variables: dict[str | None, None] = {}
        self.has_seed = False

    def __enter__(self) -> _Watch:
        _install_audit_hook()
        if sys.getprofile() is not None:
            self._doubts["another profiler is at work in the process"] = None
        self._environ_class = type(os.environ)
        os.environ.__class__ = _WatchedEnviron
        _reads.append(self._note_variable)
        _listeners.append(self._hear)
        self._before = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(self._before)
        _listeners.remove(self._hear)
        _reads.remove(self._note_variable)
        os.environ.__class__ = self._environ_class

    def _profile(self, frame: types.FrameType, event: str, argument: Any) -> None:  # noqa: ANN401 - a function, or what one returned
        if event == "call":
            entry = self._find(frame)
            entry.calls += 1
            if entry.code is _START_THREAD and self._find_caller(frame) == "own":
                self._doubts["its code starts a thread"] = None
            if entry.code.co_filename in _RANDOM_FILES:
                is_seeded = self.has_seed and entry.code.co_filename == random.__file__
                caller = frame.f_back
                if caller is not None and not is_seeded and self._places.kind_of(caller.f_code.co_filename) == "own":
                    self._doubt_call(caller, f"{entry.variables.get('__name__')}.{entry.code.co_name}")
        elif event == "c_call":
            entry = self._find(frame)
            if entry.kind == "own":
                self._note_built_in(frame, argument)

    def _find(self, frame: types.FrameType) -> _Executed:
        code = frame.f_code
        entry = self.executed.get(id(code))
        if entry is None:
            kind = self._places.kind_of(code.co_filename)
            entry = self.executed[id(code)] = _Executed(code=code, variables=frame.f_globals, kind=kind)
            if kind == "own" and code.co_name != "<module>":
                names = {*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], *code.co_freevars}
                entry.given = {name: value for name, value in frame.f_locals.items() if name in names}
        return entry

    def _note_built_in(self, frame: types.FrameType, function: Any) -> None:  # noqa: ANN401 - of any kind
        owner = getattr(function, "__self__", None)
        name = getattr(function, "__name__", "")
        if isinstance(owner, types.ModuleType):
            module = owner.__name__
        else:
            kind = owner if isinstance(owner, type) else type(owner)
            module = kind.__module__ or ""
        spoken = f"{module}.{getattr(function, '__qualname__', name)}"
        self.built_in[spoken] = self.built_in.get(spoken, 0) + 1
        is_random = isinstance(owner, random.Random) and not self.has_seed
        is_random |= module.startswith("numpy.random") and not self.has_seed
        if is_random or name in _STEERING.get(module, ()):
            self._doubt_call(frame, spoken)

    def _doubt_call(self, frame: types.FrameType, name: str) -> None:
        place = f"{self._places.normalise(frame.f_code.co_filename)}: {frame.f_code.co_name}"
        self._doubts[f"its code calls {name} ({place})"] = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            is_read = isinstance(flags, int) and flags & os.O_ACCMODE != os.O_WRONLY
            if is_read and isinstance(path, (str, bytes, os.PathLike)):
                self.files[os.fsdecode(path)] = None
        elif event in _PROCESS_EVENTS and self._find_caller() == "own":
            self._doubts["its code starts a program"] = None
        elif event == "socket.connect":
            self._doubts["it connects to a server"] = None

    def _note_variable(self, name: str | None) -> None:
        caller = self._find_caller()
        if caller != "ours" and (name is not None or caller == "own"):
            self.variables[name] = None

    def _find_caller(self, frame: types.FrameType | None = None) -> str:
        """Find whose code is at work: that of the first frame which is none of Python's own."""
        frame = frame or sys._getframe(2)
        while frame is not None:
            kind = self._places.kind_of(frame.f_code.co_filename)
            is_hook = frame.f_code.co_name in {"_hear", "_note_variable", "__getitem__", "__iter__"} and kind == "ours"
            if not is_hook and kind not in {"standard", "generated"}:
                return kind
            frame = frame.f_back
        return "ours"


class CaseTrace:
    """The trace of one case, from loading on. `parts`: what it consists of, by part and name, each with its digest."""

    def __init__(self) -> None:
        self._places = Places()
        self._digest = Digester(self._places)
        self._doubts: dict[str, None] = {}
        self._load = _Watch(self._places, self._doubts)
        self._parts: dict[str, dict[str, Any]] = {}
        self._building: set[int] = set()
        imported = {name for name in sys.modules if self._places.kind_of_module(name) == "own"} - {
            "__main__",
            "__mp_main__",
        }
        from_files = (name for name in imported if isinstance(getattr(sys.modules[name], "__file__", None), str))
        if names := sorted({name.partition(".")[0] for name in from_files}):
            self._doubts[f"{', '.join(names[:3])} was imported before anything was watched"] = None

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        with self._load:
            yield

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Watch how the model is built, from a seed."""
        before = set(self._load.executed)
        self._load.has_seed = True
        with self._load:
            yield
        self._building |= set(self._load.executed) - before

    def note_state(self, workload: Workload, builder: Callable[..., Any]) -> None:
        """Note what was built, before anything runs: weights, inputs, and the attributes of every module."""
        module, digest = workload.module, self._digest
        tensors = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
        self._parts["weights"] = {name: digest.tensor(tensor) for name, tensor in tensors}
        given = {**{f"argument {index}": value for index, value in enumerate(workload.args)}, **workload.kwargs}
        self._parts["inputs"] = {name: digest(value) for name, value in given.items()}
        apart = {"_parameters", "_buffers", "_modules"}
        self._parts["modules"] = {
            name or "the model": digest_text(
                digest(type(each)), digest({key: value for key, value in vars(each).items() if key not in apart})
            )
            for name, each in module.named_modules()
        }
        self._parts["modules"]["the function that builds it"] = digest(builder)
        digest(workload.loss)

    def trace(self, arms: Mapping[str, Arm], is_new_graph: Callable[[], bool]) -> dict[str, Any]:
        """Trace one iteration of every arm; return `{"digests", "parts", "doubts"}`.

        digests: by part. parts: by part and name, of functions `[file, line, calls, digest]`, else a digest. doubts:
        why equal digests would not prove an equal program. is_new_graph: tells whether something was compiled since it
        was asked last.
        """
        watches = {}
        is_new_graph()
        for name, arm in arms.items():
            watches[name] = watch = _Watch(self._places, self._doubts)
            before = torch.get_rng_state()
            self._run(arm, watch)
            if name == "eager" and not torch.equal(before, torch.get_rng_state()) and _reads_values(arm):
                self._doubts["random numbers decide what it runs"] = None
        if is_new_graph():
            self._doubts["it compiled again while it was traced"] = None
        self._note_code(watches)
        watched = (self._load, *watches.values())
        self._parts["files"] = self._digest_files({path for watch in watched for path in watch.files})
        self._parts["variables"] = self._digest_variables({name for watch in watched for name in watch.variables})
        self._parts["settings"] = self._digest_settings()
        self._parts["packages"] = self._list_packages()
        try:
            self._parts["libraries"] = digest_libraries(self._places)
        except NoLibraryList as error:
            self._doubts[str(error)] = None
        for unseen in self._digest.unseen:
            self._doubts[f"it is not possible to inspect {unseen}"] = None
        return {
            "digests": {part: digest_items(items) for part, items in self._parts.items()},
            "parts": self._parts,
            "doubts": list(self._doubts),
        }

    def _run(self, arm: Arm, watch: _Watch) -> None:
        """Run one iteration while it is watched, without collecting garbage: what that calls is no part of it."""
        prepare_arm(arm, 1)
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            with watch:
                arm()
        finally:
            if was_enabled:
                gc.enable()

    def _note_code(self, watches: Mapping[str, _Watch]) -> None:
        """Note the functions that ran, those of the side's own that the code could call, and the values it reads."""
        reach = _Reach(self._places, self._digest)
        for watch in watches.values():
            for entry in watch.executed.values():
                reach.add_code(entry)
        for key in self._building:
            entry = self._load.executed[key]
            if entry.kind == "own" and entry.code.co_name != "<module>":
                reach.add_code(entry)
        reach.close()
        self._parts["values"] = reach.values
        self._parts["reachable functions"] = reach.functions
        for name, watch in watches.items():
            part = "functions" if name == "eager" else "compiled functions"
            self._parts[part] = self._table(watch)
        self._parts["built-in functions"] = {
            f"{arm}: {name}": str(calls) for arm, watch in watches.items() for name, calls in watch.built_in.items()
        }

    def _table(self, watch: _Watch) -> dict[str, Any]:
        """List what ran by name: file, line, calls, digest. Equal names, for example of lambdas, get a number."""
        table: dict[str, Any] = {}
        for entry in watch.executed.values():
            if entry.kind == "ours" or not entry.calls:
                continue
            code, plain = entry.code, {}
            if entry.kind == "own":
                plain = {name: value for name, value in entry.given.items() if self._digest.is_plain(value)}
            name = spoken = _name_code(self._places, entry)
            number = 1
            while name in table:
                number += 1
                name = f"{spoken} #{number}"
            digest = digest_text(self._digest.code(code), self._digest(plain))
            file = self._places.normalise(code.co_filename) if entry.kind != "generated" else "generated"
            table[name] = [file, code.co_firstlineno if entry.kind != "generated" else 0, entry.calls, digest]
        return table

    def _digest_files(self, paths: set[str]) -> dict[str, str]:
        digests: dict[str, list[str]] = {}
        for path in sorted(paths):
            real = os.path.realpath(path)
            is_info = ".dist-info" + os.sep in real or ".egg-info" + os.sep in real
            if real.endswith(_NO_DATA) or real.startswith(_SYSTEM_FOLDERS) or is_info:
                continue
            if self._places.kind_of(real) in {"torch", "standard", "ours", "generated"}:
                continue
            name = self._places.normalise(real)
            if name.startswith(self._places.scratch):
                name = "a temporary file"
            digests.setdefault(name, []).append(_digest_data(real, is_shared=name == real))
        return {name: ",".join(sorted(each)) for name, each in digests.items()}

    def _digest_variables(self, names: set[str | None]) -> dict[str, str]:
        if None in names:
            names |= set(os.environ)
        names |= set(surroundings.variables(os.environ))
        return {
            name: digest_text(self._places.normalise(os.environ[name])) if name in os.environ else "absent"
            for name in sorted(name for name in names if name is not None)
            if name not in _IGNORED_VARIABLES and not name.startswith("TORCHPERF_")
        }

    def _digest_settings(self) -> dict[str, str]:
        import torch._dynamo.config as dynamo
        import torch._inductor.config as inductor

        backends = torch.backends
        values = {
            "Python": sys.version,
            "flags": tuple(sys.flags),
            "switch interval": sys.getswitchinterval(),
            "timers": [signal.getitimer(each)[1] for each in (signal.ITIMER_REAL, signal.ITIMER_PROF)],
            "CPUs": sorted(surroundings.cpu_set()),
            "torch": (torch.__version__, getattr(torch.version, "git_version", None)),
            "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
            "default dtype": torch.get_default_dtype(),
            "default device": torch.get_default_device() if hasattr(torch, "get_default_device") else None,
            "matmul precision": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "gradients": torch.is_grad_enabled(),
            "anomalies": torch.is_anomaly_enabled(),
            "denormals": (torch.tensor([1e-39]) * 0.5).item(),
            "CPU capability": backends.cpu.get_cpu_capability(),
            "mkldnn": backends.mkldnn.enabled if hasattr(backends.mkldnn, "enabled") else None,
            "cudnn": (backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic),
            "TF32": (backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32),
        }
        for name, config in (("torch._dynamo.config", dynamo), ("torch._inductor.config", inductor)):
            switches = config.get_config_copy() if hasattr(config, "get_config_copy") else config.to_dict()
            values |= {f"{name}.{key}": value for key, value in switches.items()}
        return {name: self._digest(value) for name, value in values.items()}

    def _list_packages(self) -> dict[str, str]:
        """List the versions of imported packages, less those that were installed from a folder, e.g. the side's own."""
        versions = {}
        for name in sorted({name.partition(".")[0] for name in sys.modules}):
            if name in sys.stdlib_module_names or name == "torchperf_ci":
                continue
            with contextlib.suppress(Exception):  # one without metadata, or with metadata that cannot be read
                distribution = metadata.distribution(name)
                if '"file:' not in (distribution.read_text("direct_url.json") or ""):
                    versions[name] = distribution.version
        return versions


class _Reach:
    """The side's own code that can be reached by name from code that ran, and the values that it reads.

    Names are resolved as Python does it for globals and modules. For attributes of objects nobody can, so that a name
    stands for that attribute of every class of the side's own that was met. This takes too much rather than too little.
    """

    def __init__(self, places: Places, digest: Digester) -> None:
        self._places, self._digest = places, digest
        self.values: dict[str, str] = {}
        self.functions: dict[str, Any] = {}
        self._names: set[str] = set()
        self._codes: dict[int, types.CodeType] = {}
        self._handled: set[tuple[int, str]] = set()
        self._pending: list[tuple[types.CodeType, Mapping[str, Any], str]] = []

    def add_code(self, entry: _Executed) -> None:
        """Add code that ran. Of code that is not the side's own only the plain values that it reads are noted."""
        module = str(entry.variables.get("__name__"))
        if entry.kind == "own":
            self._pending.append((entry.code, entry.variables, module))
        elif entry.kind in {"torch", "shared", "standard"}:
            for name in entry.code.co_names:
                value = entry.variables.get(name)
                if value is not None and self._digest.is_plain(value):
                    self.values[f"{module}.{name}"] = self._digest(value)

    def close(self) -> None:
        """Follow names until there is nothing new."""
        is_new = True
        while is_new:
            is_new = self._follow_functions() | self._follow_code() | self._follow_classes()

    def _follow_code(self) -> bool:
        pending, self._pending = self._pending, []
        is_new = False
        for code, variables, module in pending:
            if id(code) in self._codes:
                continue
            is_new = True
            self._codes[id(code)] = code
            names = set(_names_of(code))
            self._names |= names
            read = set(variables) if names & _INDIRECT else names & variables.keys()
            for name in read:
                if name.startswith("__"):
                    continue
                if isinstance(value := variables[name], types.ModuleType):
                    self._note_module(value, names)
                else:
                    self.values[f"{module}.{name}"] = self._digest(value)
        return is_new

    def _note_module(self, module: types.ModuleType, names: set[str]) -> None:
        """Note what the names may mean in a module; in one of others only plain values and the side's own functions."""
        attributes = vars(module)
        is_own = self._places.kind_of_module(module.__name__) == "own"
        read = set(attributes) if is_own and names & (_INDIRECT | _BY_NAME) else names & attributes.keys()
        for name in read:
            if (id(module), name) in self._handled or name.startswith("__"):
                continue
            self._handled.add((id(module), name))
            value = attributes[name]
            is_ours = isinstance(value, types.FunctionType) and self._is_own(value.__code__)
            if isinstance(value, types.ModuleType):
                self._note_module(value, names)
            elif is_own or is_ours or self._digest.is_plain(value):
                self.values[f"{module.__name__}.{name}"] = self._digest(value)

    def _follow_functions(self) -> bool:
        is_new = False
        for key, function in list(self._digest.functions.items()):
            if (key, "") in self._handled:
                continue
            self._handled.add((key, ""))
            code = function.__code__
            if self._is_own(code):
                is_new = True
                entry = _Executed(code=code, variables=function.__globals__, kind="own")
                name = _name_code(self._places, entry)
                digests = [self._digest(function)]
                if name in self.functions:
                    digests = sorted({*self.functions[name][3].split(","), *digests})
                place = self._places.normalise(code.co_filename)
                self.functions[name] = [place, code.co_firstlineno, 0, ",".join(digests)]
                self._pending.append((code, function.__globals__, function.__module__ or ""))
        return is_new

    def _follow_classes(self) -> bool:
        is_new = False
        for kind in list(self._digest.classes.values()):
            for base in kind.__mro__:
                if self._places.kind_of_module(base.__module__) != "own":
                    continue
                for name, value in list(vars(base).items()):
                    if (id(base), name) in self._handled or not self._is_used(base, name, value):
                        continue
                    self._handled.add((id(base), name))
                    is_new = True
                    self.values[f"{base.__module__}.{base.__qualname__}.{name}"] = self._digest(value)
        return is_new

    def _is_used(self, kind: type, name: str, value: Any) -> bool:  # noqa: ANN401 - any value
        if name in _CLASS_PARTS or isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType)):
            return False
        is_code = isinstance(
            value, (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)
        )
        is_special = name.startswith("__") or issubclass(kind, torch.autograd.Function)
        return not is_code or is_special or name in self._names

    def _is_own(self, code: types.CodeType) -> bool:
        return self._places.kind_of(code.co_filename) == "own"


def _names_of(code: types.CodeType) -> Iterator[str]:
    """List every name that code and the code within it may look up; a text that could be one counts, for `getattr`."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_of(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            yield constant


def _name_code(places: Places, entry: _Executed) -> str:
    name = getattr(entry.code, "co_qualname", entry.code.co_name)  # from Python 3.11 on
    return places.normalise(f"{entry.variables.get('__name__')}.{name}")


def _digest_data(path: str, *, is_shared: bool) -> str:
    """Digest a file; a large one that both sides read in the same place by its size and time."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a path as text
        if is_shared and status.st_size > _LARGE:
            return digest_bytes(f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ino}".encode())
        return digest_file(path)
    except OSError:
        return "gone"


def _reads_values(arm: Arm) -> bool:
    """Say whether an iteration reads a number out of a tensor, as a branch that depends on one does."""
    mode = _ReadFinder()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    prepare_arm(arm, 1)
    with mode:
        arm()
    return mode.has_read


class _ReadFinder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as above
    """Notes whether an operator gives a number to Python."""

    has_read = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 - torch's signature
        self.has_read |= function.name().partition(".")[0] in _READS
        return function(*args, **(kwargs or {}))
