"""A suite file for one function: what `torchperf-ci time` measures, and what a user can keep."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOff:
    """One function with its arguments, as people type them.

    target: `module:function`, `file.py:function` or `module:Class.method`. args: what stands in the brackets of the
    call. kwargs: a mapping of named arguments, or `name=value` ones.
    """

    target: str
    args: str = ""
    kwargs: str = ""

    @property
    def name(self) -> str:
        """Return the name of the model: that of the function."""
        return self.target.rpartition(":")[2].rpartition(".")[2]

    def write_suite(self) -> str:
        """Write the suite file. Raises `UsageProblem` for a target or arguments that are none."""
        module, colon, attribute = self.target.rpartition(":")
        if not colon or not module or not all(part.isidentifier() for part in attribute.split(".")):
            raise UsageProblem(
                f"{self.target!r} does not say which function; write module:function, for example mypkg.ops:softmax, "
                "file.py:function, or module:Class.method"
            )
        path = Path(module)
        is_file = module.endswith(".py")
        if is_file and not path.is_file():
            raise UsageProblem(f"there is no file {module}")
        imported, root = _find_module(path) if is_file else (module, Path.cwd())
        is_elsewhere = root != Path.cwd()
        if not all(part.isidentifier() for part in imported.split(".")):
            raise UsageProblem(f"{imported!r} is not the name of a module that can be imported")
        args, kwargs = self._read_arguments()
        arguments = f'"args": ({"".join(f"{each}, " for each in args).strip()}), ' if args else ""
        arguments += f'"kwargs": {kwargs}, ' if kwargs else ""
        lines = [
            f'"""{imported}:{attribute}, with the arguments that it was timed with."""',
            "",
            *(["import sys", ""] if is_elsewhere else []),
            "import torch",
            *(["", f"sys.path.insert(0, {str(root)!r})"] if is_elsewhere else []),
            f"import {imported}",
            "",
            "",
            f"def {self.name}(batch_size):",
            f'    return {{"call": {imported}.{attribute}, {arguments}"cast": False}}',
            "",
            "",
            f'MODELS = {{"{self.name}": {self.name}}}',
            "",
        ]
        return "\n".join(lines)

    def _read_arguments(self) -> tuple[list[str], str]:
        """Return the expressions of the positional arguments, and that of a mapping of the named ones."""
        call = _parse_call("--args", self.args)
        named = [(each.arg, ast.unparse(each.value)) for each in call.keywords]
        if self.kwargs.strip().startswith(("{", "dict(")):
            named.append((None, ast.unparse(_parse("--kwargs", self.kwargs.strip()))))
        else:
            given = _parse_call("--kwargs", self.kwargs)
            if given.args:
                raise UsageProblem(f"--kwargs {self.kwargs!r} has an argument without a name; write dim=-1")
            named += [(each.arg, ast.unparse(each.value)) for each in given.keywords]
        pairs = ", ".join(f"**{value}" if name is None else f'"{name}": {value}' for name, value in named)
        return [ast.unparse(each) for each in call.args], f"{{{pairs}}}" if pairs else ""


def _find_module(path: Path) -> tuple[str, Path]:
    """Find the name by which a file is imported, and the folder it is imported from: that of its outermost package."""
    root, parts = path.absolute().parent, [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    return ".".join(parts), root


def _parse_call(option: str, text: str) -> ast.Call:
    call = _parse(option, f"f({text})", shown=text)
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):  # brackets that close what we opened
        raise UsageProblem(f"{option} {text!r} is not a list of arguments")
    return call


def _parse(option: str, text: str, *, shown: str = "") -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageProblem(
            f"{option} {shown or text!r} is not Python: {said}; write it as in a call, "
            'say "torch.randn(1024, 1024), dim=-1"'
        ) from error
