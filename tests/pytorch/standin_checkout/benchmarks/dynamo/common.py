"""A stand-in for the harness in a PyTorch checkout: the same command line and files, models that only pretend.

STANDIN in the environment makes commands misbehave: a JSON object from the name of a command's CSV file to one of
raise, segfault, silent, binary, `hang:SECONDS` with a child that hangs as well, or `lose:MODEL`, which begins a
model and then writes no row for it.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

COUNTERS = [
    "calls_captured",
    "unique_graphs",
    "fallbacks_to_eager",
    "graph_breaks",
    "unique_graph_breaks",
    "autograd_captures",
    "autograd_compiles",
    "cudagraph_skips",
]
PERFORMANCE = {
    "speedup": 1.25,
    "abs_latency": 8.0,
    "compilation_latency": 3.5,
    "compression_ratio": 0.9,
    "eager_peak_mem": 1.0,
    "dynamo_peak_mem": 1.1,
}


def parse(arguments):
    parser = argparse.ArgumentParser()
    testing = parser.add_mutually_exclusive_group(required=True)
    testing.add_argument("--performance", action="store_true")
    testing.add_argument("--accuracy", action="store_true")
    dtype = parser.add_mutually_exclusive_group(required=True)
    for name in ("float32", "float16", "bfloat16", "amp"):
        dtype.add_argument(f"--{name}", action="store_true")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--training", action="store_true")
    mode.add_argument("--inference", action="store_true")
    backend = parser.add_mutually_exclusive_group(required=True)
    backend.add_argument("--backend")
    for name in ("inductor", "speedup-ts", "speedup-dynamo-ts", "speedup-trt", "torchscript-onnx", "dynamo-onnx"):
        backend.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--devices", "-d", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--exclude", "-x", action="append", default=[])
    parser.add_argument("--filter", "-k", action="append", default=[])
    parser.add_argument("--repeat", "-n", type=int, default=30)
    parser.add_argument("--inductor-compile-mode")
    for name in ("batch-size", "threads", "total-partitions", "partition-id"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("nvfuser", "disable-cudagraphs", "no-skip", "dashboard", "log-operator-inputs", "freezing"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--cold-start-latency", action="store_true")
    return parser.parse_args(arguments)


def main(models):
    args = parse(sys.argv[1:])
    output = Path(args.output)
    behaviour = json.loads(os.environ.get("STANDIN", "{}")).get(output.name, "")
    if behaviour == "silent":
        return
    for name in models:
        if any(re.search(pattern, name) for pattern in args.exclude):
            continue
        if args.filter and not any(re.search(pattern, name) for pattern in args.filter):
            continue
        print(f"{args.devices:4} {'train' if args.training else 'eval':5} {name:34} ", flush=True)
        if behaviour != f"lose:{name}":
            write(output, args, name)
            misbehave(behaviour, output)


def misbehave(behaviour, output):
    if behaviour == "raise":
        raise RuntimeError("the harness itself | fails <b>here</b>")
    if behaviour == "segfault":
        ctypes.string_at(0)
    if behaviour.startswith("hang:"):
        seconds = behaviour.removeprefix("hang:")
        sleep = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
        subprocess.Popen(sleep, start_new_session=True)  # in a session of its own, as models may
        time.sleep(float(seconds))
    if behaviour == "binary":
        output.write_bytes(b"\x00\xff\xfe" * 100)


def write(output, args, name):
    if args.performance:
        header = ["dev", "name", "batch_size", *PERFORMANCE, *COUNTERS]
        values = [f"{value:.6f}" for value in PERFORMANCE.values()]
        row = [args.devices, name, args.batch_size or 4, *values, *[1] * 8]
    else:
        header = ["dev", "name", "batch_size", "accuracy", *COUNTERS, "compilation_latency"]
        row = [args.devices, name, args.batch_size or 4, "pass", *[1] * 8, "3.500000"]
    is_new = not output.exists()
    for path, rows in {output: [header, row], output.with_name(f"{output.stem}_stats.csv"): [["name"], [name]]}.items():
        with path.open("a", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows if is_new else rows[1:])
