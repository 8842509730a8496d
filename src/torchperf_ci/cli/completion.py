"""Complete values in a shell: suites, models, compilers, devices, dtypes. Nothing here imports torch.

What the Python under test really has is known only to it, so these are the usual names: others work as well.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

COMPILERS = (
    *("eager", "inductor", "aot_eager", "inductor_no_cudagraphs"),
    *("inductor_max_autotune", "inductor_max_autotune_no_cudagraphs", "cudagraphs", "ts_nnc", "trt"),
    *("torchscript-onnx", "dynamo-onnx"),
)
DEVICES = ("cpu", "cuda", "xpu", "mps", "all")
DTYPES = ("float32", "float16", "bfloat16", "amp")

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_list(choices: Iterable[str] | Callable[[click.Context], Iterable[str]]) -> Completer:
    """Return a completer for an option whose values may be a list with commas: it completes the last one."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's signature
        before, comma, last = incomplete.rpartition(",")
        written = before.split(",")
        names = choices(context) if callable(choices) else choices
        return [
            CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(last) and name not in written
        ]

    return complete


def complete_suites(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of suites, and paths, which the shell completes."""
    from torchperf_ci.suites.registry import known

    names = complete_list(known())(context, parameter, incomplete)
    return names or [CompletionItem(incomplete, type="file")]


def list_models(context: click.Context) -> list[str]:
    """List the models of the suites that are typed already, of `tiny` where there are none, as far as files tell."""
    suites: Sequence[str] = context.params.get("suites") or ("tiny",)
    return list(dict.fromkeys(model for suite in suites for model in _models_of(str(suite))))


def _models_of(suite: str) -> list[str]:
    from torchperf_ci.suites.fastrnns.catalog import VARIANTS

    folder = Path(__file__).parents[1] / "suites"
    if suite == "fastrnns":
        return [variant for variants in VARIANTS.values() for variant in variants]
    if suite == "huggingface":
        return list(json.loads((folder / "data" / "huggingface.json").read_text(encoding="utf-8"))["models"])
    if suite == "timm_models":
        with (folder / "data" / "timm_models.csv").open(newline="", encoding="utf-8") as stream:
            return [row["name"] for row in csv.DictReader(stream)]
    try:
        tree = ast.parse((folder / "tiny.py" if suite == "tiny" else Path(suite)).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return []
    # The keys that MODELS spells out; else the functions that take a batch size.
    for node in tree.body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "MODELS" and isinstance(value, ast.Dict):
            return [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return [each.name for each in functions if each.args.args and each.args.args[0].arg == "batch_size"]
