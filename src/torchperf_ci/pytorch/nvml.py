"""The GPUs of this machine by NVML, for results whose environment does not name them."""

from __future__ import annotations

import importlib.util
import socket
from dataclasses import dataclass, replace

from torchperf_ci.core.records import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """What NVML says: the first GPU's name and memory, how many there are, the driver; and whose GPUs they are."""

    host: str
    name: str
    count: int
    memory_bytes: int
    driver: str

    def complete(self, environment: Environment) -> Environment:
        """`environment` with what it lacks, when it was measured on this machine."""
        if environment.host != self.host:
            return environment
        return replace(
            environment,
            gpu=environment.gpu or self.name,
            gpu_count=environment.gpu_count or self.count,
            gpu_memory_bytes=environment.gpu_memory_bytes or self.memory_bytes,
            driver=environment.driver or self.driver,
        )


def gpus_here() -> Gpus | None:
    """The GPUs of this machine; None without NVML, its Python library, or a GPU."""
    if importlib.util.find_spec("pynvml") is None:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        count = pynvml.nvmlDeviceGetCount()
        if not count:
            return None
        first = pynvml.nvmlDeviceGetHandleByIndex(0)
        return Gpus(
            host=socket.gethostname(),
            name=_text(pynvml.nvmlDeviceGetName(first)),
            count=int(count),
            memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(first).total),
            driver=_text(pynvml.nvmlSystemGetDriverVersion()),
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _text(value: object) -> str:
    """Older versions of the library answer with bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
