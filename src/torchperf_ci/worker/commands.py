"""The commands a worker answers, in the order a controller sends them: load, eager, accuracy, compile, sample, …

One `Bench` holds one case. Each command does one thing and returns plain JSON values; what is sampled when, and for
how long, is the controller's decision, so that one worker (eager against compiled) and two workers (base against
head) are driven by the same commands.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from torchperf_ci.suites.registry import resolve
from torchperf_ci.worker import environment as surroundings
from torchperf_ci.worker.accelerators import accelerators, device_types, probe_device, unusable_accelerator
from torchperf_ci.worker.accuracy import SEED, Determinism, Tolerance, difference
from torchperf_ci.worker.compile import (
    Options,
    capture_so_far,
    compile_workload,
    compiled_graphs,
    compiler_names,
    forget_compilations,
)
from torchperf_ci.worker.listing import describe_suite, find_suite, known_suites
from torchperf_ci.worker.load import DTYPES, Workload, build, seed_all, tensors_of
from torchperf_ci.worker.memory import device_module, peak_while
from torchperf_ci.worker.processes import pin_threads
from torchperf_ci.worker.protocol import CaseError, Handler, describe
from torchperf_ci.worker.timing import Arm, sample, synchronizer

_EAGER_CALLS = 2
_MAX_COMPILED_CALLS = 6
_MEMORY_CALLS = 3


class Bench:
    """The state of one worker: what was loaded, the arms that can be sampled, what compiling cost."""

    def __init__(self) -> None:
        self._arms: dict[str, Arm] = {}
        self._peaks: dict[str, int | None] = {}
        self._eager_seconds: list[float] = []
        self._copied_bytes = 0
        self._compiled_seconds: list[float] = []
        self._graphs_at_first = 0
        self._deterministic_compile = False
        self._draws_random_numbers = False

    def handlers(self) -> dict[str, Handler]:
        """Every command by name."""
        return {
            "environment": self.environment,
            "suites": known_suites,
            "describe": describe_suite,
            "suite": self.suite,
            "load": self.load,
            "eager": self.eager,
            "accuracy": self.accuracy,
            "compile": self.compile,
            "settle": self.settle,
            "sample": self.sample,
            "memory": self.memory,
            "capture": self.capture,
            "fastrnns": self.fastrnns,
            "probe_device": probe_device,
        }

    def environment(self, threads: int | None = None) -> Mapping[str, Any]:
        """What this machine and torch are: the `Environment`, flags, packages, devices and compilers there are."""
        _set_threads(threads)
        return {
            "environment": surroundings.describe_environment(),
            "dynamo_flags": surroundings.dynamo_flags(),
            "variables": surroundings.variables(os.environ),
            "packages": surroundings.packages(),
            "devices": device_types(),
            "accelerators": accelerators(),
            "unusable_accelerator": unusable_accelerator(),
            "compilers": compiler_names(),
            "dtypes": DTYPES,
        }

    def suite(self, spec: str) -> Mapping[str, Any]:
        """The models of a suite, what `--quick` keeps, what is skipped, what takes long to import."""
        found = find_suite(spec)
        return {
            "name": found.name,
            "missing": found.missing(),
            "models": list(found.models),
            "quick": list(found.quick),
            "groups": {name: list(models) for name, models in found.groups.items()},
            "preload": list(getattr(found.module, "PRELOAD", ())),
            "skips": [
                {"model": skip.model, "reason": skip.reason, "device": skip.device, "mode": skip.mode}
                for skip in found.skips
            ],
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
    ) -> Mapping[str, Any]:
        """Build the case's model on its device. With `cache_dir` the compiler starts from that cache."""
        self._cpus = tuple(cpus or ())
        _set_threads(threads, most=len(self._cpus))
        _choose(torch.device(case["device"]))
        self._cache_dir = cache_dir
        self._use_cache("first")
        self._case, self._seed = case, seed
        self._options = Options(inductor_mode=inductor_mode)
        self._suite = resolve(spec)
        if reason := self._suite.missing(case["model"]):
            raise CaseError("model_fail_to_load", reason)

        def rebuild(size: int | None) -> Workload:
            names = {name: case[name] for name in ("mode", "device", "dtype")}
            return build(self._suite, case["model"], **names, scale=scale, batch_size=size, seed=seed)

        self._build = rebuild
        try:
            self._workload = rebuild(batch_size)
        except CaseError:
            raise
        except BaseException as error:  # a model may raise anything while it loads
            raise CaseError("model_fail_to_load", describe(error)) from error
        return {"batch_size": self._workload.batch_size, "parameters": self._workload.parameters}

    def eager(self) -> Mapping[str, Any]:
        """The first eager calls. Out of memory halves the batch until it fits; the batch size is in the reply."""
        while True:
            try:
                peak = peak_while(self._workload.device, self._first_eager_calls)
                # On a CPU `memory` reads it again, without copies.
                self._peaks["eager"] = None if peak is None else max(0, peak - self._copied_bytes)
                break
            except BaseException as error:  # as in `load`
                if not _is_out_of_memory(error):
                    raise CaseError("eager_fail_to_run", describe(error)) from error
                smaller = self._workload.batch_size // 2
                if smaller < 1:
                    raise CaseError("OOM", f"out of memory at batch size 1: {describe(error)}") from error
            del self._workload
            _free(self._case["device"])
            self._workload = self._build(smaller)
        self._arms["eager"] = self._workload.iteration()
        return {"batch_size": self._workload.batch_size, "seconds": self._eager_seconds}

    def _first_eager_calls(self) -> None:
        before = _random_state(self._workload.device)
        fresh = self._workload.with_fresh_inputs()
        self._copied_bytes = sum(tensor.nbytes for tensor in tensors_of((fresh.args, fresh.kwargs)))
        step = fresh.iteration()
        self._eager_seconds = [self._timed(step)[0] for _ in range(_EAGER_CALLS)]
        self._draws_random_numbers = not torch.equal(before, _random_state(self._workload.device))

    def accuracy(self) -> Mapping[str, Any]:
        """Compare compiled with eager by the rules of `worker.accuracy`: `{"status", "reason"}`.

        On a CPU, and where the model draws no random numbers, deterministic settings change nothing about the compiled
        code: then this compilation is the one that is timed afterwards. Elsewhere `compile` starts over.
        """
        with Determinism():
            float64, tolerance = self._float64_reference(), self._tolerance()
            first = self._eager_results("1st", self._workload)
            second = self._eager_results("2nd", self._workload)
            exact = replace(tolerance, value=0.0, cosine=False, nan_equals_nan=True)
            if differs := difference(first, second, None, exact):
                return {"status": "eager_two_runs_differ", "reason": f"two eager runs differ: {differs}"}
            del second
            self._deterministic_compile = True
            result = self._compiled_results()
            if float64 is None:
                tolerance = replace(tolerance, cosine=True)
            if differs := difference(first, result, float64, tolerance):
                return {"status": "fail_accuracy", "reason": differs}
        return {"status": "pass", "reason": ""}

    def compile(self) -> Mapping[str, Any]:
        """First compiled calls until no new graph appears: `compilation_latency` in seconds, beyond eager's calls."""
        device = self._workload.device
        if self._deterministic_compile and (device.type != "cpu" or self._draws_random_numbers):
            self._arms.pop("compiled", None)
            forget_compilations()
            self._use_cache("second")
            self._compiled_seconds = []
            _free(self._case["device"])
        try:
            self._peaks["compiled"] = peak_while(device, self._first_compiled_calls)
        except BaseException as error:  # a compiler may raise anything
            raise _compiled_error(error) from error
        typical = min(self._eager_seconds)
        eager = self._eager_seconds[: len(self._compiled_seconds)]
        eager += [typical] * (len(self._compiled_seconds) - len(eager))
        return {
            "compilation_latency": max(0.0, sum(self._compiled_seconds) - sum(eager)),
            "calls": len(self._compiled_seconds),
        }

    def settle(self) -> Mapping[str, Any]:
        """Before timing: collect garbage once, and never while timing."""
        self._workload.module.zero_grad(set_to_none=True)
        _free(self._case["device"])
        gc.freeze()
        gc.disable()
        if self._cpus:  # not before: the compiler's processes inherit the CPUs, and may use them all
            pin_threads(self._cpus)
        return {}

    def sample(
        self, order: Sequence[Sequence[str]], inner: Mapping[str, int] | None = None, discard: int = 0
    ) -> Mapping[str, Any]:
        """Timed iterations in the given order, in nanoseconds; `recompiled` says that the sample is not valid."""
        before = compiled_graphs()
        sweep = sample(self._arms, order, device=self._workload.device, inner=inner or {}, discard=discard)
        return {
            "host": sweep.host,
            "device": sweep.device,
            "probe": sweep.probe,
            "recompiled": compiled_graphs() != before,
        }

    def memory(self) -> Mapping[str, Any]:
        """Peak bytes of each arm, None where it cannot be measured.

        On an accelerator: of its first calls, compiling included, as PyTorch's dashboards have it. On a CPU: resident
        set over iterations of each arm after compiling, so that the compiler's own memory is in neither.
        """
        device = self._workload.device
        if device.type == "cpu":
            for name, arm in self._arms.items():
                self._peaks[name] = peak_while(device, lambda arm=arm: [arm() for _ in range(_MEMORY_CALLS)])  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        return {name: self._peaks.get(name) for name in self._arms}

    def capture(self) -> Mapping[str, Any]:
        """Dynamo's counters and the graph breaks with their reasons."""
        found = capture_so_far(self._graphs_at_first)
        return {"counters": found.counters, "graph_breaks": found.breaks}

    def fastrnns(self, threads: int | None, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401 - as `fastrnns.measure`
        """Forward and backward times of one fastrnns variant; needs nothing loaded."""
        from torchperf_ci.worker.fastrnns import measure

        _set_threads(threads)
        return measure(**request)

    def _float64_reference(self) -> Any:  # noqa: ANN401 - whatever the model returns, or None
        """The results in float64, or None where the model cannot run so; then cosine similarity decides."""
        try:
            return self._results(self._workload.in_float64())
        except BaseException as error:  # noqa: BLE001 - a model may raise anything, and an interrupt does not come here
            print(f"torchperf-ci: no float64 reference: {describe(error)}")  # noqa: T201 - goes to the case's log
            return None
        finally:
            _free(self._case["device"])

    def _eager_results(self, which: str, workload: Workload) -> Any:  # noqa: ANN401 - whatever the model returns
        try:
            return self._results(workload.copied())
        except BaseException as error:  # as in `load`
            word = "OOM" if _is_out_of_memory(error) else "fail"
            raise CaseError(f"eager_{which}_run_{word}", describe(error)) from error
        finally:
            _free(self._case["device"])

    def _compiled_results(self) -> Any:  # noqa: ANN401 - whatever the model returns
        try:
            workload = self._workload.with_fresh_inputs()
            compiled = compile_workload(self._case["compiler"], self._workload, self._options)
            self._arms["compiled"] = self._workload.iteration(compiled)
            return self._results(workload, compiled, seconds=self._compiled_seconds)
        except CaseError:
            raise
        except BaseException as error:  # a compiler may raise anything
            raise _compiled_error(error) from error

    def _results(
        self, workload: Workload, call: Callable[..., Any] | None = None, *, seconds: list[float] | None = None
    ) -> Any:  # noqa: ANN401 - outputs; in training also the loss and the gradients by name
        """Outputs of one iteration from fixed seeds; in training with the loss and the gradients."""
        seed_all(SEED)
        elapsed, outputs = self._timed(workload.iteration(call))
        if seconds is not None:
            seconds.append(elapsed)
            self._graphs_at_first = compiled_graphs()
        if not workload.training:
            return outputs
        gradients = {
            name: None if parameter.grad is None else parameter.grad.detach().clone()
            for name, parameter in workload.module.named_parameters()
        }
        workload.module.zero_grad(set_to_none=True)
        return [*outputs, gradients]

    def _first_compiled_calls(self) -> None:
        if "compiled" not in self._arms:
            compiled = compile_workload(self._case["compiler"], self._workload, self._options)
            self._arms["compiled"] = self._workload.iteration(compiled)
        graphs = -1
        while graphs != compiled_graphs() and len(self._compiled_seconds) < _MAX_COMPILED_CALLS:
            graphs = compiled_graphs()
            self._compiled_seconds.append(self._timed(self._arms["compiled"])[0])
            self._graphs_at_first = self._graphs_at_first or compiled_graphs()

    def _timed(self, step: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds and result of one synchronized call."""
        synchronize = synchronizer(self._workload.device)
        synchronize()
        start = time.perf_counter()
        result = step()
        synchronize()
        return time.perf_counter() - start, result

    def _tolerance(self) -> Tolerance:
        case, suite = self._case, self._suite
        default = 1e-4 if case["dtype"] == "float32" else 1e-3
        asked, cosine = suite.option("tolerance"), suite.option("use_cosine")
        return Tolerance(
            value=float(asked(case["model"], case["mode"], case["dtype"])) if asked else default,
            cosine=bool(cosine and cosine(case["model"])),
            nan_equals_nan=case["dtype"] != "float32",
        )

    def _use_cache(self, part: str) -> None:
        if self._cache_dir is not None:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(self._cache_dir, part)  # noqa: PTH118 - text for the environment
            os.environ["TRITON_CACHE_DIR"] = os.path.join(self._cache_dir, part, "triton")  # noqa: PTH118


def _set_threads(threads: int | None, *, most: int = 0) -> None:
    """Never more threads than CPUs this process may run on, or is to be kept on (`most`, 0: all of them)."""
    most = most or len(surroundings.cpu_set())
    torch.set_num_threads(min(threads or torch.get_num_threads(), most))


def _choose(device: torch.device) -> None:
    """Make it the current one: events, and a context where none is asked for, belong to that."""
    module = device_module(device)
    chosen: int | None = device.index
    if chosen is not None and hasattr(module, "set_device"):
        module.set_device(device)


def _free(device: str) -> None:
    gc.collect()
    module = device_module(torch.device(device))
    if hasattr(module, "empty_cache"):
        module.empty_cache()


def _random_state(device: torch.device) -> torch.Tensor:
    """The state of the generators a model on `device` draws from."""
    module = device_module(device)
    states = [torch.get_rng_state()]
    if hasattr(module, "get_rng_state"):
        states.append(module.get_rng_state() if device.type == "mps" else module.get_rng_state(device))
    return torch.cat(states)


def _is_out_of_memory(error: BaseException) -> bool:
    message = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)
    )


def _compiled_error(error: BaseException) -> CaseError:
    if isinstance(error, CaseError):
        return error
    if isinstance(getattr(error, "inner_exception", error), ImportError):  # a backend whose library is not there
        return CaseError("compiler_not_available", describe(error))
    return CaseError("OOM" if _is_out_of_memory(error) else "fail_to_run", describe(error))
