"""From what was sampled to the metrics of a record: times, speedup, memory, rates, and the suite's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from torchperf_ci.core.records import Metric
from torchperf_ci.core.statistics import median_interval, paired_ratio, slow_share
from torchperf_ci.machine.peaks import find_peak
from torchperf_ci.run.case_worker import Counted, Memory, Work
from torchperf_ci.run.sampler import SamplePair

Samples = Mapping[str, tuple[float, ...]]


def collect_samples(pairs: Sequence[SamplePair], *, one_arm: bool = False) -> dict[str, tuple[float, ...]]:
    """Collect the readings of a case by the names that `Record.samples` has. one_arm: both of a pair are of one arm."""
    if one_arm:
        halves = [
            half
            for pair in pairs
            for half in (
                (pair.first, pair.first_device, pair.first_values),
                (pair.second, pair.second_device, pair.second_values),
            )
        ]
        arms = {"": [values for _, _, values in halves]}
        samples = {
            "compiled": tuple(host for host, _, _ in halves),
            "compiled_device": tuple(device for _, device, _ in halves if device is not None),
        }
    else:
        arms = {"": [pair.second_values for pair in pairs], "eager.": [pair.first_values for pair in pairs]}
        samples = {
            "eager": tuple(pair.first for pair in pairs),
            "compiled": tuple(pair.second for pair in pairs),
            "eager_device": tuple(pair.first_device for pair in pairs if pair.first_device is not None),
            "compiled_device": tuple(pair.second_device for pair in pairs if pair.second_device is not None),
        }
    samples["probe"] = tuple(pair.probe for pair in pairs)
    for arm, readings in arms.items():
        for name in dict.fromkeys(name for values in readings for name in values):
            samples[f"{arm}{name}"] = tuple(values[name] for values in readings if name in values)
    return {name: values for name, values in samples.items() if values}


def measure_both_arms(samples: Samples, memory: Memory) -> dict[str, float]:
    """Compute what both arms say together; latencies in milliseconds, memory in bytes where it could be measured."""
    eager, compiled = median(samples["eager"]), median(samples["compiled"])
    estimate = paired_ratio(samples["eager"], samples["compiled"])
    metrics = {
        "speedup": estimate.ratio,
        "speedup_of_medians": eager / compiled,
        "abs_latency": compiled * 1e3,
        "eager_latency": eager * 1e3,
        "slow_share": slow_share(samples["probe"]),
    }
    if estimate.low > 0 and estimate.high < float("inf"):
        metrics |= {"speedup_low": estimate.low, "speedup_high": estimate.high}
    for name, measured in (("peak", memory.peaks), ("process", memory.process)):
        eager_bytes, compiled_bytes = measured.get("eager"), measured.get("compiled")
        if eager_bytes and compiled_bytes:
            metrics |= {f"eager_{name}_mem": eager_bytes, f"dynamo_{name}_mem": compiled_bytes}
    if "eager_peak_mem" in metrics:
        metrics["compression_ratio"] = metrics["eager_peak_mem"] / metrics["dynamo_peak_mem"]
    return metrics


def measure_as_it_is(samples: Samples, memory: Memory) -> dict[str, float]:
    """Compute what the one arm of a case says that runs as it is: its latency with an interval, and its memory."""
    metrics = {
        "abs_latency": median(samples["compiled"]) * 1e3,
        "slow_share": slow_share(samples["probe"]),
    }
    if interval := median_interval(samples["compiled"]):
        metrics |= {"abs_latency_low": interval[0] * 1e3, "abs_latency_high": interval[1] * 1e3}
    for name, measured in (("peak", memory.peaks), ("process", memory.process)):
        if size := measured.get("eager"):
            metrics[f"dynamo_{name}_mem"] = size
    return metrics


def measure_rates(work: Work, seconds: float, *, counted: Counted, gpu: str, dtype: str) -> dict[str, float]:
    """Compute what is done in a second, as far as the work of a call of `seconds` is known.

    The share of the device's peak is the least time in which it could do the arithmetic, over `seconds`: convolutions
    may run in another precision than the rest, with another peak.
    """
    flops = counted.metrics.get("flops", 0)
    rates = {"throughput": work.items, "flops_per_second": flops, "bytes_per_second": work.bytes}
    metrics = {name: amount / seconds for name, amount in rates.items() if amount and seconds > 0}
    if not gpu or "flops_per_second" not in metrics:
        return metrics
    parts = ((flops - counted.convolution_flops, work.tf32), (counted.convolution_flops, work.tf32_convolutions))
    least = [(amount, find_peak(gpu, dtype, tf32=tf32)) for amount, tf32 in parts if amount]
    if all(peak for _, peak in least):
        metrics["peak_share"] = sum(amount / peak for amount, peak in least if peak) / seconds
    return metrics


def measure_own(samples: Samples, own: Iterable[Metric]) -> dict[str, float]:
    """Compute the suite's own metrics: the median of what the readings said of each."""
    return {metric.name: median(samples[metric.name]) for metric in own if metric.name in samples}
