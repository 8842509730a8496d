"""Plan what to run: suites, models, devices, precisions and compilers into cases, in a fixed order, in shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import (
    AS_IT_IS,
    DEFAULT_COMPILERS,
    NOT_KNOWN,
    PARTITION,
    Case,
    Metric,
    Mode,
    RecordProblem,
    decode_line,
    encode_line,
)
from torchperf_ci.core.results import read_lines
from torchperf_ci.core.text import count, nearest, search
from torchperf_ci.machine.accelerators import Signs, missing_accelerator
from torchperf_ci.worker.protocol import EXISTING_SPECS, PYTEST_SPEC

Parameters = Mapping[str, str | bool | int | float]

DEFAULT_FLAG_COMPILERS = ("inductor", "inductor_no_cudagraphs")


CPP_COMPILER = "torchperf_ci.worker.cpp_compiler"
"""The module that a preloaded process imports before cases that inductor compiles for the CPU."""

TORCHRUN = "torch.distributed.run"
"""The module that it imports before cases of several processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The cases that are asked for. Empty `devices` means: what the machine has. `filters` keep, `exclude` drops.

    parallel: whether the cases are spread over the devices, instead of each being measured on all of them.

    A filter looks at a model's name; one that has a `/` looks at `suite/model`.
    shard_name: `2-3` for the second of three that were planned elsewhere; blank: as the partition says.
    runner_labels: what the job's machine is called; a label that promises a GPU is held to it.
    device_option: what the command calls the option that chooses devices.
    """

    suites: tuple[str, ...]
    mode: Mode
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    compilers: tuple[str, ...] = DEFAULT_COMPILERS
    filters: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[str, ...] = ()
    quick: bool = False
    partition_id: int = 0
    total_partitions: int = 1
    shard_name: str = ""
    runner_labels: tuple[str, ...] = ()
    parallel: bool = False
    device_option: str = "--devices"

    @property
    def shard(self) -> str:
        """Return `1-4`: the first of four."""
        return self.shard_name or f"{self.partition_id + 1}-{self.total_partitions}"

    def list_narrowings(self) -> list[str]:
        """List what leaves models of the suites out, as `Build.narrowed_by` has it."""
        return [
            *(f"--filter {pattern.pattern}" for pattern in self.filters),
            *(f"--exclude {name}" for name in self.exclude),
            *(["--quick"] if self.quick else []),
            *([PARTITION] if self.total_partitions > 1 else []),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteListing:
    """A suite, as it said about itself. `spec` is what resolves it again; `skips` maps a model to the reason.

    worlds: the number of processes of the models that run in more than one. params: the parameters of those that have
    some. metrics: the suite's own.
    specs, metrics_by_model, broken: of another tool's benchmarks, which run as they are, by model: what loads each, its
        own metrics, and why it cannot be loaded, nor those beside it.
    """

    spec: str
    name: str
    models: tuple[str, ...]
    quick: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    worlds: Mapping[str, int] = field(default_factory=dict)
    params: Mapping[str, Parameters] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    skips: tuple[Mapping[str, str | None], ...] = ()
    specs: Mapping[str, str] = field(default_factory=dict)
    metrics_by_model: Mapping[str, tuple[Metric, ...]] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def metrics_of(self, model: str) -> tuple[Metric, ...]:
        """Return the metrics of a model that are not everybody's."""
        return self.metrics_by_model.get(model, self.metrics)

    def own_name(self, model: str) -> str:
        """Return a model's name without its parameters."""
        return model.partition("[")[0] if model in self.params else model

    def dtypes(self, model: str, asked: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
        """Return the precisions of a model: the one that is its parameter, else those asked for."""
        own = self.params.get(model, {}).get("dtype")
        return (own,) if isinstance(own, str) and own in known else tuple(dict.fromkeys(asked))

    def skip_reason(self, case: Case) -> str | None:
        """Say why the suite leaves this case out, or None."""
        for skip in self.skips:
            device_fits = skip["device"] in {None, case.device.partition(":")[0]}
            if skip["model"] == case.model and device_fits and skip["mode"] in {None, case.mode.value}:
                return skip["reason"] or "skipped by the suite"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Abilities of the Python under test: devices by type and number, compilers, precisions; torch's version, whether
    it is built without CUDA and HIP, and what speaks for an accelerator where it sees none."""

    devices: Mapping[str, int]
    compilers: tuple[str, ...]
    dtypes: tuple[str, ...]
    torch: str = ""
    without_cuda: bool = False
    signs: Signs = Signs()  # noqa: RUF009 - frozen

    @property
    def default_device(self) -> str:
        """Return the first accelerator there is, else the CPU."""
        return next((name for name in self.devices if name != "cpu"), "cpu")

    def why_not_cpu(self, labels: Sequence[str] = (), *, option: str = "--devices") -> str:
        """Say why the CPU is not to be measured unless it is asked for: an accelerator should be here. Else empty."""
        return missing_accelerator(self.devices, self.torch, replace(self.signs, labels=labels), option=option)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCase:
    """A case, where its suite is, and why the suite leaves it out (None: it is run).

    place: the device it runs on, where the case names only the type: cases that are spread over devices.
    world: the processes that run it together. lack: why this machine cannot run so many. broken: why it cannot
    be loaded, where that is known. params: the parameters in the model's name. metrics: the suite's own.
    """

    case: Case
    spec: str
    skip: str | None = None
    place: str = ""
    world: int = 1
    lack: str = ""
    broken: str = ""
    params: tuple[tuple[str, str | bool | int | float], ...] = ()
    metrics: tuple[Metric, ...] = ()

    @property
    def device(self) -> str:
        return self.place or self.case.device

    @property
    def arm(self) -> str:
        """Name the worker's arm that it is timed with: `eager` runs it without a compiler."""
        return "eager" if self.case.compiler in {"eager", AS_IT_IS} else "compiled"

    @property
    def is_test(self) -> bool:
        """Say whether it is a test, whose own end is its accuracy check."""
        return self.spec.startswith(PYTEST_SPEC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every case of a run, in order. places: the devices that the cases are spread over; empty: each has its own."""

    cases: tuple[PlannedCase, ...] = field(default=())
    preload: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


def suite_spec(text: str) -> str:
    """Name a suite as the worker finds it, wherever it runs: files by their absolute path."""
    if text.startswith(EXISTING_SPECS):
        kind, _, path = text.partition(":")
        return f"{kind}:{Path(path).absolute()}"
    return str(Path(text).absolute()) if text.endswith(".py") else text


def make_plan(selection: Selection, suites: Sequence[SuiteListing], machine: Machine) -> Plan:
    """Make the cases of a run. Raises `UsageProblem` listing everything about the request that does not fit."""
    devices, places = devices_of(selection, machine)
    problems = [
        *unknown_names("compiler", selection.compilers, machine.compilers),
        *unknown_names("dtype", selection.dtypes, machine.dtypes),
        *(
            problem
            for device in places or devices
            if (problem := device_problem(device, machine, option=selection.device_option))
        ),
        *parallel_problems(selection, places, machine),
        *_spread_worlds(places, suites),
        *suite_problems(selection, suites),
    ]
    if not selection.devices and (
        problem := machine.why_not_cpu(selection.runner_labels, option=selection.device_option)
    ):
        problems.append(problem)
    if problems:
        raise UsageProblem("\n".join(problems))
    cases = tuple(
        PlannedCase(
            case=case,
            spec=suite.specs.get(model, suite.spec),
            skip=suite.skip_reason(case),
            world=suite.worlds.get(model, 1),
            lack=lack_of_devices(device, suite.worlds.get(model, 1), machine),
            params=tuple(suite.params.get(model, {}).items()),
            broken=suite.broken.get(model, ""),
            metrics=suite.metrics_of(model),
        )
        for suite in suites
        for model in partition(
            chosen_models(selection, suite), index=selection.partition_id, total=selection.total_partitions
        )
        for device in dict.fromkeys(devices)
        for mode, dtype, compiler in _variants(selection, suite, model, machine)
        for case in [Case(suite=suite.name, model=model, mode=mode, device=device, dtype=dtype, compiler=compiler)]
    )
    if not cases:
        raise UsageProblem(nothing_left(selection, suites))
    preload = dict.fromkeys(name for suite in suites for name in suite.preload)
    if any(item.case.device == "cpu" and item.case.compiler.startswith("inductor") for item in cases):
        preload[CPP_COMPILER] = None
    if any(item.world > 1 for item in cases):
        preload[TORCHRUN] = None
    return Plan(cases=cases, places=places, preload=tuple(preload))


def _variants(selection: Selection, suite: SuiteListing, model: str, machine: Machine) -> list[tuple[Mode, str, str]]:
    """List the modes, precisions and compilers of a model: those asked for, or what runs as it is."""
    if suite.specs:
        return [(Mode.INFERENCE, NOT_KNOWN, AS_IT_IS)]
    return [
        (selection.mode, dtype, compiler)
        for dtype in suite.dtypes(model, selection.dtypes, machine.dtypes)
        for compiler in dict.fromkeys(selection.compilers)
    ]


ALL_DEVICES = "all"
"""For `--devices`: every accelerator there is, of the default type."""


def devices_of(selection: Selection, machine: Machine) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the devices that cases name, and those they are spread over.

    Cases that are spread name the type of the devices; others are spread over none.
    """
    asked = selection.devices or ((ALL_DEVICES,) if selection.parallel else (machine.default_device,))
    named: list[str] = []
    for device in asked:
        kind = machine.default_device if device == ALL_DEVICES else device
        is_every = device == ALL_DEVICES or (selection.parallel and kind in machine.devices)
        count = machine.devices.get(kind, 1)
        named += [f"{kind}:{index}" for index in range(count)] if is_every and kind != "cpu" else [kind]
    places = tuple(dict.fromkeys(named))
    if not selection.parallel:
        return places, ()
    return tuple(dict.fromkeys(place.partition(":")[0] for place in places)), places


def parallel_problems(selection: Selection, places: Sequence[str], machine: Machine) -> list[str]:
    """Say why cases cannot be spread over the devices that are asked for."""
    if ALL_DEVICES in selection.devices and machine.default_device == "cpu" and not machine.why_not_cpu():
        option = selection.device_option
        return [f"{option} {ALL_DEVICES}: there is no accelerator here; {option} cpu measures the CPU"]
    if not selection.parallel:
        return []
    kinds = sorted({place.partition(":")[0] for place in places})
    if kinds == ["cpu"]:
        return (
            []
            if machine.why_not_cpu() and not selection.devices
            else [
                "--parallel spreads cases over accelerators, and there is none here; a CPU measures one case at a time"
            ]
        )
    if len(kinds) > 1:
        return [f"--parallel spreads cases over devices of one type, not over {' and '.join(kinds)}; run them apart"]
    return []


def lack_of_devices(device: str, world: int, machine: Machine) -> str:
    """Say why so many processes, each with a device of its own, cannot run on a type of device; else empty."""
    kind, _, index = device.partition(":")
    if world == 1 or kind == "cpu":
        return ""
    if (count := machine.devices.get(kind, 0)) < world:
        return f"needs {world} devices, has {count} (WORLD = {world}, {kind})"
    if index:
        return f"needs {world} devices: it runs on {kind}:0 to {kind}:{world - 1}; give --devices {kind}"
    return ""


def _spread_worlds(places: Sequence[str], suites: Sequence[SuiteListing]) -> list[str]:
    return [
        f"--parallel gives every case one device, and {suite.name}/{model} runs in {world} processes; "
        "leave --parallel out, or leave the model out with --exclude"
        for suite in (suites if places and places != ("cpu",) else ())
        for model, world in suite.worlds.items()
    ]


def partition(models: Iterable[str], *, index: int, total: int) -> list[str]:
    """Return shard `index` (from 0) of `total`, as PyTorch's CI does: chunks of a sorted list, the last takes more."""
    ordered = sorted(models)
    chunk = len(ordered) // total
    end = len(ordered) if index == total - 1 else (index + 1) * chunk
    return ordered[index * chunk : end]


_MOST_CHOICES = 15
"""Choices that a message lists: torch's own backends come after the compilers that people use."""

USUAL_NAMES: Mapping[str, Mapping[str, str]] = {
    "dtype": {
        **dict.fromkeys(("fp16", "f16", "half"), "float16"),
        **dict.fromkeys(("bf16", "bfloat", "brain"), "bfloat16"),
        **dict.fromkeys(("fp32", "f32", "float", "single"), "float32"),
        **dict.fromkeys(("autocast", "mixed"), "amp"),
    },
    "compiler": {
        **dict.fromkeys(("compile", "torch.compile", "default", "reduce-overhead"), "inductor"),
        "max-autotune": "inductor_max_autotune",
        "tensorrt": "trt",
        "onnx": "dynamo-onnx",
    },
    "device": {
        **dict.fromkeys(("gpu", "nvidia", "rocm", "hip", "amd"), "cuda"),
        **dict.fromkeys(("metal", "apple"), "mps"),
        "intel": "xpu",
    },
}
"""Our names for those that people type and that are unlike ours in letters."""


def unknown_names(kind: str, asked: Sequence[str], choices: Sequence[str]) -> list[str]:
    """Return a sentence for every name that is not among the choices, with the one that may be meant."""
    sentences = []
    for name in dict.fromkeys(asked):
        if name not in choices:
            usual = USUAL_NAMES.get(kind, {}).get(name.lower(), "")
            hint = nearest(name, choices, usual=usual if usual in choices else "")
            more = f" and {len(choices) - _MOST_CHOICES} more" if len(choices) > _MOST_CHOICES else ""
            sentences.append(f"unknown {kind} {name!r}.{hint} There are: {', '.join(choices[:_MOST_CHOICES])}{more}.")
    return sentences


def chosen_models(selection: Selection, suite: SuiteListing) -> list[str]:
    """List the models of a suite that are asked for, in all partitions."""
    patterns = [re.compile(text) for text in suite.quick] if selection.quick else []
    return [
        model
        for model in suite.models
        if not {model, suite.own_name(model)} & set(selection.exclude)
        and (not selection.filters or any(_keeps(pattern, model, suite) for pattern in selection.filters))
        and (
            not patterns
            or any(search(pattern, name) for pattern in patterns for name in {model, suite.own_name(model)})
        )
    ]


def _keeps(pattern: re.Pattern[str], model: str, suite: SuiteListing) -> bool:
    """Say whether `--filter` keeps the model.

    It does by the model's own name, or by the whole name of a group it belongs to; if there is a `/` in the pattern,
    by `suite/model`.
    """
    if "/" in pattern.pattern:
        return search(pattern, f"{suite.name}/{model}")
    groups = [name for name, models in suite.groups.items() if model in models]
    names = {model, suite.own_name(model)}  # `^matmul$` is every matmul
    return any(search(pattern, name) for name in names) or any(search(pattern, group, whole=True) for group in groups)


def spelled_as(text: str) -> str:
    """Return a comment for a pattern that was made of another spelling, which messages show in its place."""
    return f"(?#{text})" if ")" not in text else ""


def spelling(pattern: re.Pattern[str]) -> str:
    comment = re.search(r"\(\?#([^)]*)\)$", pattern.pattern)
    return comment[1] if comment else pattern.pattern


def matches(pattern: re.Pattern[str], suite: SuiteListing) -> bool:
    """Say whether `--filter` keeps any model of the suite."""
    return any(_keeps(pattern, model, suite) for model in suite.models)


def suite_problems(selection: Selection, suites: Sequence[SuiteListing]) -> list[str]:
    """List everything about the request that these suites cannot meet."""
    names = [suite.name for suite in suites]
    same = [
        f"two suites are called {name!r}; results are identified by that name, so rename one, or run them separately"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    return [*same, *unknown_models(selection, suites)]


def unknown_models(selection: Selection, suites: Sequence[SuiteListing]) -> list[str]:
    """Return a sentence for everything that `--exclude` and `--filter` name and no suite has."""
    models = list(dict.fromkeys(model for suite in suites for model in suite.models))
    own_names = {suite.own_name(model) for suite in suites for model in suite.params}
    there_are = f"There are: {', '.join(models)}."
    return [
        *(
            f"--exclude {name!r}: no suite has such a model.{nearest(name, models)} {there_are}"
            for name in selection.exclude
            if name not in models and name not in own_names
        ),
        *(
            f"--filter {spelling(pattern)!r}: it matches no model.{nearest(spelling(pattern), models)} {there_are}"
            for pattern in selection.filters
            if not any(matches(pattern, suite) for suite in suites)
        ),
    ]


def device_problem(device: str, machine: Machine, *, option: str = "--devices") -> str | None:
    """Say why `device` cannot be used on this machine, with those that can; None when it can.

    option: the one that chooses the device.
    """
    kind, colon, index = device.partition(":")
    if kind in machine.devices and (not colon or re.fullmatch("0|[1-9][0-9]{0,5}", index)):
        if index and int(index) >= machine.devices[kind]:
            return f"there is no device {device!r} here: {machine.devices[kind]} of type {kind}, counted from 0."
        return None
    words = re.fullmatch(r"([a-z]+)(?:[ :_-]?(\d{1,6}))?", device.lower())  # cuda0, GPU, cuda_1
    hint, meant = "", ""
    if words:
        usual = meant = USUAL_NAMES["device"].get(words[1], words[1])
        number = f":{int(words[2])}" if words[2] else ""
        if usual in machine.devices and int(words[2] or 0) < machine.devices[usual]:
            hint = nearest(device, (), usual=usual + number)
        elif usual == words[1]:
            hint = nearest(usual, machine.devices)
        else:  # it is known what is meant, and it is not here
            hint = f" For torch it is {usual + number}, and there is none."
    known = ", ".join(f"{name} ({count})" if name != "cpu" else name for name, count in machine.devices.items())
    reason = machine.why_not_cpu(option=option)
    if not reason and meant == "cuda" and machine.without_cuda:
        reason = f"this torch ({machine.torch}) is built without CUDA, and no tool of a GPU's driver is here"
    why = f" {reason[:1].upper()}{reason[1:]}." if reason else ""
    return f"there is no device {device!r} here.{hint} There are: {known}.{why}"


def nothing_left(selection: Selection, suites: Sequence[SuiteListing]) -> str:
    """Say why there is no case, and what there is to choose from."""
    if any(chosen_models(selection, suite) for suite in suites):
        return (
            f"partition {selection.partition_id} of {selection.total_partitions} has no model: "
            "there are fewer models than partitions; use fewer"
        )
    models = ", ".join(f"{suite.name}: {' '.join(suite.models)}" for suite in suites)
    return f"no model is left after --filter, --exclude and --quick. Models by suite: {models}"


def write_case_list(cases: Iterable[Case]) -> str:
    return "".join(f"{encode_line('case', case)}\n" for case in cases)


def read_case_list(path: Path) -> frozenset[Case]:
    """Read a list of cases. Raises `UsageProblem` for a line that is none, and for a list without any."""
    cases = set()
    for number, line in read_lines(path):
        try:
            cases.add(decode_line(line, {"case": Case}))
        except RecordProblem as error:
            raise UsageProblem(
                f"{path}:{number}: is no case: {error}; `torchperf-ci dashboard DIR --confirm FILE` writes such a list"
            ) from error
    if not cases:
        raise UsageProblem(f"{path} names no case, so there is nothing to measure")
    return frozenset(cases)


def keep_listed(plan: Plan, cases: frozenset[Case], path: Path) -> Plan:
    """Keep the cases of a plan that are listed. Raises `UsageProblem` when the plan lacks one of them."""
    kept = tuple(planned for planned in plan.cases if planned.case in cases)
    if lost := sorted(cases - {planned.case for planned in kept}):
        raise UsageProblem(
            f"{path} names {count(len(lost), 'case')} that the other options do not choose, e.g. {lost[0]}; give the "
            "options of the run that it was made of"
        )
    return replace(plan, cases=kept)
