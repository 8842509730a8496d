"""The commands a worker answers, in the order a controller sends them: load, eager, accuracy, compile, sample, …

One `Bench` holds one case. Each command does one thing and returns plain JSON values; what is sampled when, and for
how long, is the controller's decision, so that one worker (eager against compiled) and two workers (base against
head) are driven by the same commands.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from torchperf_ci.suites import WORKING_TREE_VARIABLE
from torchperf_ci.suites.asv_benchmarks import load_benchmark
from torchperf_ci.suites.registry import Suite, SuiteError, resolve
from torchperf_ci.worker import environment as surroundings
from torchperf_ci.worker.accelerators import (
    accelerators,
    breaks_process,
    choose_device,
    compile_failure,
    device_types,
    is_out_of_memory,
    probe_device,
    unusable_accelerator,
    word_of_failure,
)
from torchperf_ci.worker.accuracy import CannotJudge, IterationOutcome, deterministic_arithmetic
from torchperf_ci.worker.compile import (
    AS_IT_IS,
    Capture,
    CompileLog,
    GraphCounter,
    Options,
    ShapeWatch,
    calls_until_recorded,
    compile_workload,
    compiled_graphs,
    compiler_names,
    uses_dynamo,
    why_nothing_compiled,
)
from torchperf_ci.worker.copying import CannotCopy, describe_structure
from torchperf_ci.worker.counting import GeneratedCode, IterationCounter, join_digests
from torchperf_ci.worker.environment import describe_suite, known_suites, list_suites
from torchperf_ci.worker.held_test import HeldTest
from torchperf_ci.worker.instructions import (
    CallgrindCounter,
    ProcessorCounter,
    count_instructions,
    why_no_processor_counter,
)
from torchperf_ci.worker.judging import AccuracyCheck, leave_unjudged, make_verdict, observe
from torchperf_ci.worker.load import DTYPES, Workload, build, find_batch_size, find_strays, random_state
from torchperf_ci.worker.memory import free_memory, graph_pools, peak_while, process_peak_while
from torchperf_ci.worker.profiling import Sources, inspect_iteration, profile_calls
from torchperf_ci.worker.protocol import ASV_SPEC, PYTEST_SPEC, CaseError, Channel, Handler, describe, read_message
from torchperf_ci.worker.timing import (
    Arm,
    CacheEmptier,
    Metered,
    find_tf32,
    finish_arm,
    pin_threads,
    prepare_arm,
    sample,
    synchronizer,
)
from torchperf_ci.worker.tracing import CaseTrace
from torchperf_ci.worker.world import World, torch_backend

WHOLE_STEP_SUITES = frozenset({"huggingface", "timm_models", "torchbench"})
"""Suites that bear PyTorch's names: in training its harness compiles the whole step, not the module."""

_EAGER_CALLS = 2
_MAX_COMPILED_CALLS = 6


class Bench:
    """The state of one worker: the workload, the arms that can be sampled, what compiling cost.

    The workload itself runs for the first time when it is compiled. Eager calls and the float64 reference run on copies
    of it, or, where there is no faithful copy, on what the suite's function builds anew: all start from the same state.
    """

    def __init__(self, world: World | None = None, channel: Channel | None = None) -> None:
        """world: the processes that this one runs the case with; None when it is alone. channel: where its requests
        come from, for a case in whose midst it has to answer them."""
        self._world, self._channel = world or World(), channel
        self._device = torch.device("cpu")
        self._arms: dict[str, Arm] = {}
        self._eager_seconds: list[float] = []
        self._compiled_seconds = 0.0
        self._compiled_calls = 0
        self._graphs = GraphCounter()
        self._is_pristine = True
        self._copy_problem: str | None = None
        self._deterministic_compile = False
        self._draws_random_numbers = False
        self._is_spent = False
        self._eager_is_ready = False
        self._calls = 0
        self._captured: Capture | None = None
        self._empty_cache: CacheEmptier | None = None
        self._checked: tuple[Workload, Callable[..., Any]]
        self._watch: ShapeWatch | None = None
        self._test: HeldTest | None = None
        self._pools_before: frozenset[tuple[int, ...]] = frozenset()
        self._trace: CaseTrace | None = None
        self._generated_code: GeneratedCode | None = None
        self._compile_log: CompileLog | None = None

    def handlers(self) -> dict[str, Handler]:
        """List every command by name."""
        return {
            "environment": self.environment,
            "suites": known_suites,
            "describe": describe_suite,
            "suite": list_suites,
            "load": self.load,
            "eager": self.eager,
            "accuracy": self.accuracy,
            "compile": self.compile,
            "trace": self.trace,
            "settle": self.settle,
            "sample": self.sample,
            "memory": self.memory,
            "count": self.count,
            "instructions": self.instructions,
            "capture": self.capture,
            "profile": self.profile,
            "inspect": self.inspect,
            "artefacts": self.artefacts,
            "fastrnns": self.fastrnns,
            "probe_device": probe_device,
        }

    def ends_after(self, error: BaseException) -> bool:
        """Tell whether nothing can follow `error` in this process: its device's context is broken.

        What the error says is certain where it says something. Else the device is waited for, which raises once more
        whatever has broken it.
        """
        if breaks_process(error):
            return True
        if self._device.type == "cpu":
            return False
        try:
            synchronizer(self._device)()
        except Exception:  # noqa: BLE001 - whatever a driver says
            return True
        return False

    def environment(self, threads: int | None = None) -> Mapping[str, Any]:
        """Describe this machine and torch: the `Environment`, flags, packages, devices and compilers there are."""
        _set_threads(threads)
        return {
            "environment": surroundings.describe_environment(),
            "dynamo_flags": surroundings.dynamo_flags(),
            "variables": surroundings.variables(os.environ),
            "packages": surroundings.packages(),
            "devices": device_types(),
            "accelerators": accelerators(),
            "unusable_accelerator": unusable_accelerator(),
            "no_instruction_counter": why_no_processor_counter(),
            "compilers": compiler_names(),
            "dtypes": DTYPES,
        }

    def load(
        self,
        *,
        spec: str,
        case: Mapping[str, str],
        batch_size: int | None,
        threads: int | None,
        seed: int,
        scale: str,
        inductor_mode: str | None,
        cache_dir: str | None,
        cpus: Sequence[int] | None = None,
        compile_scope: str = "auto",
        watch: bool = False,
        artefacts: bool = False,
        dynamic: bool | None = None,
    ) -> Mapping[str, Any]:
        """Build the case's model on its device; the arguments are those of `run.case_worker.CaseSettings`.

        cache_dir: the compiler starts from that cache. watch, artefacts: the command of that name is to follow, so
        loading is watched, or the compilers' logs are kept.
        """
        self._cpus = self._world.share_of(cpus or ())
        _set_threads(threads, most=len(self._cpus or self._world.share_of(sorted(surroundings.cpu_set()))))
        case = {**case, "device": self._world.join(case["device"])}
        try:
            self._device = choose_device(torch.device(case["device"]))
        except Exception as error:  # whatever a driver says
            raise CaseError(word_of_failure(error, "model_fail_to_load"), describe(error)) from error
        if cache_dir is not None:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache_dir
            os.environ["TRITON_CACHE_DIR"] = os.path.join(cache_dir, "triton")  # noqa: PTH118 - text for the environment
        self._case = case
        if artefacts:
            self._compile_log = CompileLog(Sources().shorten)
            self._compile_log.start()
        self._options = Options(inductor_mode=inductor_mode, dynamic=dynamic)

        def load_model(suite: Suite) -> Mapping[str, Any]:
            return self._load_model(suite, batch_size=batch_size, seed=seed, scale=scale, compile_scope=compile_scope)

        if not spec.startswith(PYTEST_SPEC):
            self._trace = CaseTrace() if watch else None
            with self._trace.importing() if self._trace else contextlib.nullcontext():
                is_asv = spec.startswith(ASV_SPEC)
                suite = load_benchmark(spec.removeprefix(ASV_SPEC)) if is_asv else resolve(spec)
            return load_model(suite)
        assert self._channel is not None
        self._test = HeldTest(channel=self._channel, handlers=self.handlers(), ends_after=self.ends_after)
        return self._test.run(spec.removeprefix(PYTEST_SPEC), case["model"], load_model)

    def _load_model(
        self, suite: Suite, *, batch_size: int | None, seed: int, scale: str, compile_scope: str
    ) -> Mapping[str, Any]:
        case, self._suite = self._case, suite
        if reason := self._suite.missing(case["model"]):
            raise CaseError("model_fail_to_load", reason)
        step_asked = compile_scope == "step" or (compile_scope == "auto" and self._suite.name in WHOLE_STEP_SUITES)
        whole_step = step_asked and case["mode"] == "training" and uses_dynamo(case["compiler"])
        self._request: dict[str, Any] = {name: case[name] for name in ("mode", "device", "dtype")}
        self._request |= {"scale": scale, "seed": seed}

        def rebuild(size: int | None) -> Workload:
            workload = build(self._suite, case["model"], batch_size=size, **self._request)
            return replace(workload, whole_step=whole_step and not workload.in_turn)

        self._build = rebuild
        with self._trace.building() if self._trace else contextlib.nullcontext():
            self._workload = self._load_what_fits(batch_size)
        if self._trace is not None:
            self._trace.note_state(self._workload, self._suite.models[case["model"]])
        self._batch_size_is_known = batch_size is not None or self._suite.option("batch_size") is not None
        remarks = list(self._workload.remarks)
        if (dynamic := self._options.dynamic) is not None:
            remarks.append(f"compiled with dynamic={dynamic}")
        if self._world.is_shared:
            size, cpu_count = self._world.size, len(surroundings.cpu_set())
            times = "times are those of the slowest, memory that of the largest"
            remarks.append(f"{size} processes ({torch_backend()}): {times}")
            if self._workload.device.type == "cpu" and size > cpu_count:
                remarks.append(f"{size} processes on {cpu_count} CPUs")
        return {
            "batch_size": self._workload.batch_size,
            "parameters": self._workload.parameters,
            "compile_scope": "step" if self._workload.whole_step else "module",
            "one_call": self._workload.one_call_per_reading,
            "threads": torch.get_num_threads(),
            "remarks": remarks,
            "strays": find_strays(os.environ.get(WORKING_TREE_VARIABLE, "")),
        }

    def _load_what_fits(self, batch_size: int | None) -> Workload:
        """Build the model with the batch size asked for, or, while that does not fit, with half of it.

        Where the suite's own batch does not fit, its size is not known. A batch twice as large would not fit either, so
        sizes are doubled from 1 on until one does not.
        """
        try:
            return self._build(batch_size)
        except CaseError:
            raise
        except BaseException as error:  # a model may raise anything while it loads
            if not is_out_of_memory(error):
                word = word_of_failure(error, "model_fail_to_load")
                reason = str(error) if isinstance(error, SuiteError) else describe(error)
                raise CaseError(word, self._world.explain(reason)) from error
            problem = describe(error)
            self._refuse_to_shrink(problem)
        free_memory(torch.device(self._case["device"]))
        if batch_size is not None:
            if batch_size <= 1:
                raise CaseError("OOM", f"out of memory while loading, at batch size 1: {problem}")
            return self._load_what_fits(batch_size // 2)
        fits: int | None = None
        for size in (2**power for power in range(16)):
            try:
                self._build(size)
            except BaseException as error:  # as above
                if not is_out_of_memory(error):
                    raise CaseError(word_of_failure(error, "model_fail_to_load"), describe(error)) from error
                break
            fits = size
        free_memory(torch.device(self._case["device"]))
        if fits is None:
            raise CaseError("OOM", f"out of memory while loading, at batch size 1 as well: {problem}")
        return self._build(fits)

    def _refuse_to_shrink(self, problem: str) -> None:
        """Raise `CaseError` in several processes: the others do not know that this one has no memory left."""
        if self._world.is_shared:
            raise CaseError("OOM", f"out of memory in one of several processes; give a smaller --batch-size: {problem}")

    def eager(self) -> Mapping[str, Any]:
        """Run the first eager calls. Out of memory halves the batch until it fits; the batch size is in the reply."""
        while True:
            try:
                self._first_eager_calls()
                break
            except BaseException as error:  # as in `load`
                if not is_out_of_memory(error):
                    raise CaseError(word_of_failure(error, "eager_fail_to_run"), describe(error)) from error
                problem = describe(error)
            self._refuse_to_shrink(problem)
            self._shrink(problem)
        self._arms["eager"] = self._workload.iteration()
        program = self._workload.program
        return {
            "batch_size": self._workload.batch_size,
            "seconds": self._eager_seconds,
            "work": {
                "items": program.items or self._workload.batch_size,
                "bytes": program.bytes or 0,
                **find_tf32(self._device),
            },
        }

    def _shrink(self, problem: str) -> None:
        """Build the workload with half of what the suite calls the batch."""
        own: int | None = self._workload.batch_size
        if not self._batch_size_is_known:
            own = find_batch_size(self._suite, self._case["model"], self._workload, **self._request)
        if own is None:
            raise CaseError(
                "OOM", f"out of memory, and its inputs do not tell the batch size; give it with --batch-size: {problem}"
            )
        if own <= 1:
            raise CaseError("OOM", f"out of memory at batch size 1: {problem}")
        self._batch_size_is_known, self._is_pristine = True, True
        del self._workload
        free_memory(torch.device(self._case["device"]))
        self._workload = self._build(own // 2)

    def _first_eager_calls(self) -> None:
        """Time eager calls on a copy; find out whether they draw random numbers and change what their inputs hold."""
        workload = self._workload
        try:
            scratch = workload if workload.program.as_it_is else self._independent()
        except (CannotCopy, torch.OutOfMemoryError) as error:
            self._copy_problem = str(error) if isinstance(error, CannotCopy) else None
            self._is_pristine, scratch = False, workload
        before, structure = random_state(workload.device), _structure_of_inputs(scratch)
        self._eager_seconds = [self._time_once(scratch)]
        self._draws_random_numbers = not torch.equal(before, random_state(workload.device))
        if _structure_of_inputs(scratch) != structure:
            self._workload = workload = replace(workload, inputs_change=True)
        for _ in range(_EAGER_CALLS - 1):
            if workload.inputs_change:
                args, kwargs = workload.fresh_inputs()
                scratch = replace(scratch, args=args, kwargs=kwargs)
            self._eager_seconds.append(self._time_once(scratch))

    def _independent(self) -> Workload:
        """Return the workload's state once more: a copy, or where that would not be faithful what is built anew.

        In several processes it is always built anew: a module holds its process groups, which cannot be copied.
        """
        if self._world.is_shared:
            return self._workload.built_anew()
        try:
            return self._workload.copied()
        except CannotCopy as copying:
            try:
                return self._workload.built_anew()
            except CannotCopy as building:
                raise CannotCopy(f"{copying}, and {building}") from building

    def accuracy(self) -> Mapping[str, Any]:
        """Compare compiled with eager by the rules of `worker.accuracy`: `{"status", "reason", "remarks"}`.

        On a CPU, and where the model draws no random numbers, deterministic settings change nothing about the compiled
        code: then this compilation is the one that is timed afterwards. Elsewhere this worker is spent, and the reply
        has `"is_spent": true`: what comes next is compiled in another one, where no kernel was compiled, chosen or
        loaded yet.
        """
        verdict = self._verdict_of_accuracy()
        is_of_device = self._device.type != "cpu"
        self._is_spent = self._deterministic_compile and (
            is_of_device or self._world.is_any(self._draws_random_numbers)  # all processes answer alike
        )
        return {**verdict, "is_spent": True} if self._is_spent else verdict

    def _verdict_of_accuracy(self) -> Mapping[str, Any]:
        if self._workload.program.as_it_is:
            return make_verdict("pass_due_to_skip", "asv's benchmarks have no check")
        with deterministic_arithmetic(self._workload.device):
            try:
                if self._copy_problem is not None and self._workload.program.check is None:
                    raise CannotCopy(self._copy_problem)
                if not self._is_pristine:
                    self._workload, self._is_pristine = self._workload.built_anew(same_state=False), True
                return AccuracyCheck(
                    workload=self._workload,
                    case=self._case,
                    suite=self._suite,
                    world=self._world,
                    independent=self._independent,
                    observe_compiled=self._observe_compiled,
                    observe_again=self._observe_compiled_again,
                    ends_after=self.ends_after,
                ).judge()
            except CannotCopy as error:
                return make_verdict("not_judged", f"it cannot be copied, so there is nothing to compare with: {error}")
            except CannotJudge as error:
                is_callable = self._workload.function is not None and self._workload.program.check is None
                return make_verdict("not_judged", str(error)) if not is_callable else leave_unjudged(str(error))

    def compile(self) -> Mapping[str, Any]:
        """Run compiled calls until no new graph appears: `compilation_latency` in seconds, beyond eager's calls."""
        if self._is_spent:
            raise CaseError("fail_to_run", "torchperf-ci: this worker has compiled for accuracy; compile in a new one")
        self._captured = None
        try:
            self._first_compiled_calls()
        except BaseException as error:  # a compiler may raise anything
            raise self._find_culprit(compile_failure(error), error, calls=self._compiled_calls + 1) from error
        self._graphs.stop()
        self._calls = self._compiled_calls
        if self._watch is not None:  # what is timed has nothing between it and the compiled code
            self._arms["compiled"] = self._workload.iteration(self._watch.compiled)
        eager = self._compiled_calls * min(self._eager_seconds)
        return {"compilation_latency": max(0.0, self._compiled_seconds - eager), "calls": self._compiled_calls}

    def trace(self) -> Mapping[str, Any]:
        """Trace one iteration of every arm: which program it is (`worker.tracing`). Needs `load` with `watch`.

        Where tracing does not succeed that is a doubt, not an error: the case can be measured all the same.
        """
        if self._trace is None:
            raise CaseError("fail_to_run", "torchperf-ci: it was not watched while it was loaded")
        graphs = [compiled_graphs()]

        def is_new_graph() -> bool:
            graphs.append(compiled_graphs())
            return graphs[-1] != graphs[-2]

        try:
            return self._trace.trace(self._arms, is_new_graph)
        except Exception as error:  # a model may raise anything, and look like anything
            if self.ends_after(error):
                raise
            return {"digests": {}, "parts": {}, "doubts": [f"it could not be traced: {describe(error)}"]}

    def settle(self, cold_l2: bool = False) -> Mapping[str, Any]:  # noqa: FBT001, FBT002 - a request's argument
        """Collect garbage once before timing, and never while timing. `{"remarks"}`: what a reader should know."""
        self._workload.module.zero_grad(set_to_none=True)
        free_memory(torch.device(self._case["device"]))
        gc.freeze()
        gc.disable()
        if self._cpus:  # not before: the compiler's processes inherit the CPUs, and may use them all
            pin_threads(self._cpus)
        if not cold_l2:
            return {"remarks": []}
        self._empty_cache = CacheEmptier(self._device)
        return {"remarks": self._empty_cache.remarks()}

    def sample(
        self,
        order: Sequence[Sequence[str]],
        inner: Mapping[str, int] | None = None,
        discard: int = 0,
        probe: bool = True,  # noqa: FBT001, FBT002 - a request's argument
    ) -> Mapping[str, Any]:
        """Time iterations in the given order, in nanoseconds; `recompiled` says that the sample is not valid."""
        if any("eager" in arms for arms in order):
            self._compile_what_eager_compiles()
        before, recompiles = compiled_graphs(), self._graphs.recompiles()
        inner = inner or {}
        self._calls += sum(inner.get(arm, 1) * (1 + discard) for arms in order for arm in arms)
        try:
            sweep = sample(
                self._metered_arms(),
                order,
                device=self._device,
                inner=inner,
                discard=discard,
                wait_for_all=self._world.wait_for_all,
                before=self._empty_cache,
                probes=probe,
            )
        except CaseError:
            raise
        except Exception as error:  # as in `load`
            failure = CaseError("fail_to_run", describe(error))
            raise self._find_culprit(failure, error, calls=self._calls) from error
        if self._test is not None:
            self._test.readings += sweep.host.get("eager", [])
        return {
            "host": sweep.host,
            "device": sweep.device,
            "probe": sweep.probe,
            "recompiled": compiled_graphs() != before,
            "recompiles": self._graphs.recompiles() - recompiles,
            **({"values": sweep.values} if sweep.values else {}),
        }

    def _find_culprit(self, failure: CaseError, error: BaseException, *, calls: int) -> CaseError:
        """Make `failure` one of eager's where the model, built anew, fails alike in one of so many eager calls.

        A cache of the model's own that is full after some calls, say, is no fault of the compiler's. The workload
        itself would not tell: compiled code may have spoilt its state.
        """
        if failure.status != "fail_to_run" or self._world.is_shared or self.ends_after(error):
            return failure
        try:
            again = self._workload.built_anew(same_state=False).iteration()
        except Exception:  # noqa: BLE001 - it cannot be built anew, so nothing is known
            return failure
        for call in range(calls):
            try:
                prepare_arm(again, 1)
                again()
            except Exception as own:  # noqa: BLE001 - as in `load`
                is_alike = type(own) is type(error) and read_message(own) == read_message(error)
                said = f"{failure.reason} (in eager call {call + 1})"
                return CaseError("eager_fail_to_run", said) if is_alike else failure
            finally:
                finish_arm(again)
        return failure

    def _compile_what_eager_compiles(self) -> None:
        """Let a model that compiles parts of itself do so once more, after its own graphs were forgotten.

        Else its eager arm would compile in the midst of the sample, and count as recompiles of the other one.
        """
        if self._eager_is_ready:
            return
        self._eager_is_ready = True
        if not self._world.is_any(self._graphs.has_forgotten):
            return
        with self._graphs.aside():
            graphs = -1
            for _ in range(_MAX_COMPILED_CALLS):
                if not self._world.is_any(graphs != compiled_graphs()):
                    break
                graphs = compiled_graphs()
                prepare_arm(self._arms["eager"], 1)
                self._arms["eager"]()
                finish_arm(self._arms["eager"])

    def _metered_arms(self) -> Mapping[str, Arm]:
        """Return the arms; those of a suite with metrics of its own make them of every reading."""
        metrics = self._workload.program.metrics
        if metrics is None:
            return self._arms
        return {name: Metered(arm, metrics, self._suite.metrics) for name, arm in self._arms.items()}

    def memory(self) -> Mapping[str, Any]:
        """Measure a settled iteration of each arm: `{"peaks", "process"}`, bytes by arm, None where it cannot be done.

        peaks: as `memory.peak_while` has it. process: the largest resident set of the process, on a CPU.
        """
        device = self._workload.device
        self._empty_cache = None  # its buffer is no part of what the model needs
        peaks: dict[str, int | None] = {}
        process: dict[str, int | None] = {}
        for name, arm in self._arms.items():

            def prepare(arm: Arm = arm) -> None:
                self._workload.module.zero_grad(set_to_none=True)
                prepare_arm(arm, 1)

            has_other = name != "compiled" and "compiled" in self._arms
            others = graph_pools(device).keys() - self._pools_before if has_other else frozenset()
            peaks[name] = peak_while(device, arm, prepare, other_pools=others)
            process[name] = process_peak_while(arm, prepare) if device.type == "cpu" else None
            finish_arm(arm)
        return {"peaks": peaks, "process": process}

    def count(self, arm: str | None = None, *, detail: bool = False) -> Mapping[str, Any]:
        """Count what a settled iteration does: `{"metrics", "digests", "remarks"}`, see `worker.counting`.

        arm: "eager" or "compiled"; the compiled one, where it is there, unless said. detail: the reply has also
        "operators", a list of names and calls, and "code", the generated code as it was hashed.
        """
        name = arm or ("compiled" if "compiled" in self._arms else "eager")
        has_graphs = uses_dynamo(self._case["compiler"]) and self._graphs.read().counters["unique_graphs"] > 0
        counts = IterationCounter(
            arm=self._arms[name],
            eager=self._arms.get("eager"),
            device=self._workload.device,
            code=self._generated_code if name == "compiled" else None,
            is_compiled=name == "compiled" and has_graphs,
        ).count()
        for each in self._arms.values():  # of the plain program floating-point operations were counted
            finish_arm(each)
        digests = join_digests(self._world.gather(counts.digests()))
        reply = {
            "metrics": counts.metrics,
            "digests": digests,
            "remarks": counts.remarks,
            "convolution_flops": counts.convolution_flops,
        }
        return {**reply, **counts.details()} if detail else reply

    def instructions(self, arm: str, method: str) -> Mapping[str, Any]:
        """Count the instructions of a settled iteration of an arm, and by the processor (`pmu`) also those of
        compiling: `{"metrics"}`. Needs a worker that has compiled nothing, with hashes that are not random.

        Under `callgrind` compiling would take minutes, so that is not counted.
        """
        counter = CallgrindCounter() if method == "callgrind" else ProcessorCounter()
        metrics = {}
        if arm == "compiled":
            compiling = self._first_compiled_calls
            if method == "callgrind":
                compiling()
            else:
                metrics["compile_instructions"] = counter.count(compiling)
        self.settle()
        one = self._arms[arm]
        with counter:
            metrics["instructions"] = count_instructions(counter, one, lambda: prepare_arm(one, 1))
        return {"metrics": metrics}

    def capture(self) -> Mapping[str, Any]:
        """Return dynamo's counters, the graph breaks with their reasons, and whether nothing was compiled at all.

        Where compiling was not tried, say since two eager runs differ, the counters are 0.
        """
        nothing = {"graph_breaks": [], "not_compiled": False, "remarks": []}
        if self._case["compiler"] == AS_IT_IS:
            return {"counters": {}, **nothing}
        captured = self._captured or self._graphs.read()
        if "compiled" not in self._arms:
            return {"counters": dict.fromkeys(captured.counters, 0), **nothing}
        has_nothing = uses_dynamo(self._case["compiler"]) and captured.counters["unique_graphs"] == 0
        return {
            "counters": captured.counters,
            "graph_breaks": captured.breaks,
            "not_compiled": has_nothing,
            "remarks": [*captured.remarks, *([why_nothing_compiled()] if has_nothing else [])],
            "recompile_seconds": self._watch.seconds if self._watch is not None else None,
        }

    def profile(self, arm: str, seconds: float) -> Mapping[str, Any]:
        """Profile iterations of an arm for about so many seconds: see `worker.profiling.profile_calls`."""
        return profile_calls(self._arms[arm], self._workload.device, seconds=seconds)

    def inspect(self, arm: str, trace: str = "") -> Mapping[str, Any]:
        """Inspect one iteration of an arm: see `worker.profiling.Inspection`. trace: a file for Chrome's trace of it.

        The lines that run are those of the plain program, which compiled code is made of.
        """
        return inspect_iteration(
            self._arms[arm], self._workload.device, trace=trace, plain=self._arms.get("eager")
        ).reply()

    def artefacts(self) -> Mapping[str, Any]:
        """Return what was heard of compiling since `load` with `artefacts`: see `worker.compile.CompileLog`."""
        if self._compile_log is None:
            raise CaseError("fail_to_run", "torchperf-ci: nobody listened while it was compiled")
        return self._compile_log.reply()

    def fastrnns(self, threads: int | None, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401 - as `fastrnns.measure`
        """Time the forward and backward passes of one fastrnns variant; needs nothing loaded."""
        from torchperf_ci.worker.fastrnns import measure

        self._device = torch.device(request["device"])
        _set_threads(threads)
        return measure(**request)

    def _observe_compiled(self) -> IterationOutcome:
        """Compile the workload itself, and run it on copies of its inputs: what is checked is what is timed."""
        self._is_pristine, self._deterministic_compile = False, True
        try:
            args, kwargs = self._workload.fresh_inputs()
            workload = replace(self._workload, args=args, kwargs=kwargs)
            compiled = self._compile_arm()
            outcome: IterationOutcome
            seconds, outcome = self._timed(lambda: observe(workload, self._case["compiler"], compiled))
        except CaseError:
            raise
        except BaseException as error:  # a compiler may raise anything
            raise compile_failure(error) from error
        self._graphs.first_call_is_over()
        self._compiled_seconds = seconds
        self._compiled_calls = calls_until_recorded(self._case["compiler"], workload.device)
        self._checked = workload, compiled
        return outcome

    def _observe_compiled_again(self) -> IterationOutcome:
        """Run once more what was checked. The record of the check has the counters of its first call, as before; where
        this call compiles again, it is one of those that compiling takes."""
        workload, compiled = self._checked
        if workload.inputs_change:
            args, kwargs = self._workload.fresh_inputs()
            workload = replace(workload, args=args, kwargs=kwargs)
        self._captured, graphs = self._graphs.read(), compiled_graphs()
        outcome: IterationOutcome
        seconds, outcome = self._timed(lambda: observe(workload, self._case["compiler"], compiled))
        if compiled_graphs() != graphs:
            self._compiled_seconds += seconds
            self._compiled_calls += 1
        return outcome

    def _compile_arm(self) -> Callable[..., Any]:
        self._graphs.start()
        self._pools_before = frozenset(graph_pools(self._workload.device))
        self._generated_code = GeneratedCode()
        compiled = compile_workload(self._case["compiler"], self._workload, self._options)
        if self._workload.in_turn:
            compiled = self._watch = ShapeWatch(compiled, self._graphs)
        self._arms["compiled"] = self._workload.iteration(compiled)
        return compiled

    def _first_compiled_calls(self) -> None:
        self._is_pristine = False
        if "compiled" not in self._arms:
            self._compile_arm()
        graphs = -1
        while self._world.is_any(graphs != compiled_graphs()) and self._compiled_calls < _MAX_COMPILED_CALLS:
            graphs = compiled_graphs()
            prepare_arm(self._arms["compiled"], 1)
            self._compiled_seconds += self._timed(self._arms["compiled"])[0]
            finish_arm(self._arms["compiled"])
            self._compiled_calls += 1
            self._graphs.first_call_is_over()

    def _time_once(self, workload: Workload) -> float:
        """Return the seconds of one iteration, without what is set up before it."""
        iteration = workload.iteration()
        prepare_arm(iteration, 1)
        try:
            return self._timed(iteration)[0]
        finally:
            finish_arm(iteration)

    def _timed(self, step: Callable[[], Any]) -> tuple[float, Any]:
        """Return the seconds and result of one synchronized call."""
        synchronize = synchronizer(self._workload.device)
        synchronize()
        start = time.perf_counter()
        result = step()
        synchronize()
        return time.perf_counter() - start, result


def _set_threads(threads: int | None, *, most: int = 0) -> None:
    """Set torch's threads: never more than CPUs this process may run on, or is to be kept on (`most`, 0: all)."""
    most = most or len(surroundings.cpu_set())
    torch.set_num_threads(min(threads or torch.get_num_threads(), most))


def _structure_of_inputs(workload: Workload) -> list[tuple[Any, ...]]:
    try:
        return describe_structure((workload.args, workload.kwargs))
    except CannotCopy:  # too large to be looked through
        return []
