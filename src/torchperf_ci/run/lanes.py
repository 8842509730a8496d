"""Spread work over the devices of one machine: a lane per device, each with its share of the CPUs, fed from one queue.

Nothing here knows what a job is. A lane that loses its device ends; what is left goes to the others.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from torchperf_ci.machine.accelerators import Accelerator, indexed
from torchperf_ci.machine.host import read

Lane = TypeVar("Lane")
Job = TypeVar("Job")

PROBE_LIMIT = 120.0
"""Seconds in which a device that is there has computed something in a new process."""

_DEVICE_WORDS = re.compile(
    r"\b(CUDA|HIP|ROCm|XPU|SYCL|Level.?Zero|MPS|NPU|GPU|ECC|NVLink|device|driver|accelerator)\b|AcceleratorError|cu(BLAS|DNN)",
    re.IGNORECASE,
)


def work_on_lanes(
    jobs: Iterable[Job],
    lanes: Sequence[Lane],
    work: Callable[[Lane, Job], bool],
    *,
    stop: Callable[[], None] = lambda: None,
) -> list[Job]:
    """Let every lane take jobs from one queue, in order; return the jobs that are left when all lanes have ended.

    `work` returns whether its lane can go on. An error in a lane, or a signal, ends them all: `stop` is called, which
    makes work that is under way fail, and the error is raised when every lane has ended.
    """
    queue, stopping = deque(jobs), threading.Event()

    def drive(lane: Lane) -> None:
        while not stopping.is_set():
            try:
                job = queue.popleft()
            except IndexError:
                return
            if not work(lane, job):
                return

    if len(lanes) == 1:  # in this thread, where a signal can interrupt it
        drive(lanes[0])
        return list(queue)
    with ThreadPoolExecutor(len(lanes)) as pool:
        futures = [pool.submit(drive, lane) for lane in lanes]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopping.set()
            stop()
            raise
    return list(queue)


def may_be_of_the_device(reason: str) -> bool:
    """Say whether a failure may come from a device that is lost, so that it is worth trying."""
    return _DEVICE_WORDS.search(reason) is not None


def cpu_sets(
    places: Sequence[str], accelerators: Sequence[Accelerator], mine: Iterable[int], *, root: Path = Path("/")
) -> dict[str, tuple[int, ...]]:
    """Choose the CPUs for each place: an equal share of those near its device, by the NUMA node of its bus address.

    mine: those this process may use. Where a node has fewer CPUs than devices, or none of them is ours, and where the
    system does not tell, all of ours are shared out.
    """
    ours = sorted(mine)
    if len(ours) < len(places):
        return dict.fromkeys(places, tuple(ours))
    nodes = {place: _numa_node(place, accelerators, root) for place in places}
    near = {
        node: [cpu for cpu in ours if cpu in _parse_cpus(read(root, f"sys/devices/system/node/node{node}/cpulist"))]
        for node in set(nodes.values())
    }
    counts = Counter(nodes.values())
    if any(len(near[node]) < count for node, count in counts.items()):
        near, nodes, counts = {-1: ours}, dict.fromkeys(places, -1), Counter({-1: len(places)})
    sets: dict[str, tuple[int, ...]] = {}
    taken: Counter[int] = Counter()
    for place, node in nodes.items():
        share = len(near[node]) // counts[node]
        sets[place] = tuple(near[node][taken[node] * share :][:share])
        taken[node] += 1
    return sets


def _numa_node(place: str, accelerators: Sequence[Accelerator], root: Path) -> int:
    """Return the NUMA node of a device, -1 where it is not known."""
    address = next((one.pci for one in accelerators if one.device == indexed(place)), "")
    number = read(root, f"sys/bus/pci/devices/{address[-12:].lower()}/numa_node") if address else ""
    return int(number) if number.isdigit() else -1


def _parse_cpus(text: str) -> set[int]:
    """Parse `0-3,8` into numbers."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit():
            numbers.update(range(int(first), int(last if last.isdigit() else first) + 1))
    return numbers


def unlike_devices(places: Sequence[str], accelerators: Sequence[Accelerator]) -> list[str]:
    """Warn where cases are spread over devices of different models."""
    models = {one.device: one.name for one in accelerators}
    names = dict.fromkeys(models[indexed(place)] for place in places if indexed(place) in models)
    if len(names) < 2:
        return []
    return [f"cases are spread over unlike devices ({', '.join(names)}): a slower one looks like slower code"]


def my_cpus() -> list[int]:
    """Return the CPUs this process may use; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
