"""Measure what sparing equal programs saves: a pull request that touches one of several small models, compared by
`torchperf-ci compare` with and without it, the two taking turns. Prints a Markdown table.

    python benchmarks/sameness_wall.py [--models 20] [--rounds 1] [--compiler eager] [--budget-per-case 10]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

MODEL = '''"""A small model."""

import torch


class Net(torch.nn.Module):
    def __init__(self, width={width}):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x
'''
SUITE = '''"""One model per file of the package."""

import importlib

import torch


def make(number):
    def build(batch_size):
        module = importlib.import_module(f"models.net{number}")
        net = module.Net()
        return net, (torch.randn(batch_size or 32, net.layers[0].in_features),)

    return build


MODELS = {f"net{number}": make(number) for number in range(COUNT)}
'''


def make_repository(folder: Path, models: int) -> None:
    """Make a repository of two commits; the second one makes one model do its work twice."""
    package = folder / "models"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (folder / "suite.py").write_text(SUITE.replace("COUNT", str(models)))
    for number in range(models):
        (package / f"net{number}.py").write_text(MODEL.replace("{width}", str(256 + 16 * number)))
    git = ("git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    for command in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "Add models")):
        subprocess.run([*git, *command], cwd=folder, check=True)
    touched = package / "net0.py"
    touched.write_text(touched.read_text().replace("torch.relu(layer(x))", "torch.relu(layer(torch.relu(layer(x))))"))
    subprocess.run([*git, "commit", "-q", "-a", "-m", "Run the layers of a model twice"], cwd=folder, check=True)


def compare(folder: Path, arguments: list[str]) -> tuple[float, Counter[str]]:
    """Compare the last two commits; return the seconds that took and how often each verdict was given."""
    command = [sys.executable, "-m", "torchperf_ci", "compare", "--base-ref", "HEAD~1", "--head-ref", "HEAD"]
    command += ["--suites", "suite.py", "--inference", "--threads", "1", *arguments]
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode not in {0, 3}:
        sys.exit(f"the comparison failed with exit code {done.returncode}:\n{done.stderr}")
    found = json.loads((folder / "compare_logs/compare.json").read_text())["comparisons"]
    own = [each for each in found if each["metric"] == "abs_latency"]
    return seconds, Counter("spared" if each["spared"] else each["verdict"] for each in own)


def main() -> None:
    """Measure in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--compiler", default="eager")
    parser.add_argument("--budget-per-case", type=float, default=10.0)
    options = parser.parse_args()
    usual = ["--compilers", options.compiler, "--budget-per-case", f"{options.budget_per_case:g}"]
    ways = {"spared": usual, "measured in full": [*usual, "--measure-all"]}
    print("| way | seconds | verdicts |\n| --- | --- | --- |")
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="torchperf-sameness-") as scratch:
        folder = Path(scratch) / "project"
        make_repository(folder, options.models)
        for _ in range(options.rounds):
            for name, arguments in ways.items():
                seconds, verdicts = compare(folder, arguments)
                total[name] += seconds  # type: ignore[assignment]  # a Counter of seconds
                said = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
                print(f"| {name} | {seconds:.0f} | {said} |", flush=True)
    share = total["spared"] / total["measured in full"]
    print(f"\nA pull request that touches one of {options.models} models needs {share:.2f} of the wall time.")


if __name__ == "__main__":
    main()
