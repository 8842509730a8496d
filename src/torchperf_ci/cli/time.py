"""`torchperf-ci time`: whether torch.compile helps one function, in one sentence; and a suite file of it."""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from torchperf_ci.cli.case_options import COMPILERS, DEVICES, Seconds, TalkOptions, complete_list
from torchperf_ci.cli.finish import Interrupted, echo_coloured, interrupted, signals_interrupt
from torchperf_ci.cli.options import PYTHON, argument, command, command_options, option, takes
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.core.records import Mode, Record, Source, Status
from torchperf_ci.core.results import open_folder


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


@command_options
class TimeOptions:
    target: str = argument(metavar="MODULE:FUNCTION")
    args: str = option(help="Its arguments, written as in a call: Python, with torch imported, run by --python.")
    kwargs: str = option(help="Named arguments: dim=-1, or a mapping {'dim': -1}.")
    compiler: str = option(
        default="inductor",
        shell_complete=complete_list(COMPILERS),
        help="The compiler to try; none: time the function uncompiled.",
    )
    device: str | None = option(
        shell_complete=complete_list(DEVICES),
        help="cpu, cuda, cuda:1, …  [default: the accelerator; the CPU where there is no sign of one]",
    )
    threads: int | None = option(
        "-t", type=click.IntRange(min=1), help="Threads of torch on the CPU.  [default: torch's own choice]"
    )
    seconds: float = option(type=Seconds(min=0, min_open=True), default=4.0, help="Seconds of sampling, at most.")
    python: str = PYTHON
    suite_file: Path | None = option(
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write the suite that this is, to measure it again with `run` and `compare`; - prints it.",
    )
    talk: TalkOptions


@command(name="time", short_help="Say in one sentence whether torch.compile helps a function.")
@takes(TimeOptions)
def time(options: TimeOptions) -> int:
    """Say in one sentence whether torch.compile helps a function.

    MODULE:FUNCTION is what Python imports, e.g. mypkg.ops:softmax, a file as in ops.py:softmax, or a method as in
    mypkg.nets:Net.forward, whose first argument is then the object. A process of its own compares the compiled results
    with eager ones and times both in turn. Tensors go to the device and keep their precision.

    \b
    Examples:
      torchperf-ci time torch:softmax --args "torch.randn(1024, 1024), dim=-1"
      torchperf-ci time mypkg.ops:attention --args "*[torch.randn(2, 8, 128, 64)] * 3" --device cuda
      torchperf-ci time ops.py:tokenize --args "'a text ' * 1000" --compiler none
      torchperf-ci time ops.py:gelu --args "torch.randn(4096)" --suite-file bench.py

    Exit code 0, whatever the answer; 3 when the compiled results are wrong, 6 when it could not be measured.
    """
    from torchperf_ci.report.words import answer_for_one

    suite = OneOff(target=options.target, args=options.args, kwargs=options.kwargs).write_suite()
    try:
        with signals_interrupt():
            records = _measure(options, suite)
    except Interrupted as error:
        return interrupted(error, "Nothing was written.")
    sign, answer = answer_for_one(records, options.target)
    echo_coloured(f"{sign} {answer}", {"✅": "green", "❌": "red"}.get(sign, "yellow"))
    if options.suite_file is not None and str(options.suite_file) == "-":
        click.echo(f"\n{suite}", nl=False)
    elif options.suite_file is not None:
        options.suite_file.write_text(suite, encoding="utf-8")
        again = ["--suites", str(options.suite_file), "--compilers", options.compiler]
        again += ["--devices", options.device] if options.device else []
        again += ["--threads", str(options.threads)] if options.threads else []
        options.talk.say(f"Measure it again: torchperf-ci run --inference {shlex.join(again)}")
    elif records and all(record.status.is_pass for record in records):
        options.talk.say("--suite-file bench.py keeps it as a suite, which `run` and `compare` measure again.")
    elif not (options.args or options.kwargs) and any("TypeError" in record.reason for record in records):
        options.talk.say('Give the arguments of the call, for example --args "torch.randn(1024, 1024)".')
    if all(record.status.is_pass for record in records):
        return int(ExitCode.OK)
    is_wrong = any(record.status is Status.FAIL_ACCURACY for record in records)
    return int(ExitCode.FAILED_CHECK if is_wrong else ExitCode.SOME_FAILED)


def _measure(options: TimeOptions, suite: str) -> list[Record]:
    """Measure the one case of the suite; return its records."""
    from torchperf_ci.cli.progress import LogLines
    from torchperf_ci.run.case_worker import CaseSettings
    from torchperf_ci.run.plan import Selection, make_plan
    from torchperf_ci.run.runner import measure_plan
    from torchperf_ci.run.sampler import StopRule
    from torchperf_ci.run.survey import preload, python_under_test, survey

    with tempfile.TemporaryDirectory(prefix="torchperf-time-") as place:
        file = Path(place) / "suite" / "one_off.py"
        file.parent.mkdir()
        file.write_text(suite, encoding="utf-8")
        selection = Selection(
            suites=(str(file),),
            mode=Mode.INFERENCE,
            compilers=(options.compiler,),
            devices=(options.device,) if options.device else (),
            device_option="--device",
        )
        settings = CaseSettings(threads=options.threads, rule=StopRule(seconds=options.seconds))
        with (
            open_folder(Path(place) / "results") as folder,
            python_under_test(options.python, os.environ, threads=options.threads, extra={}) as python,
            python.start() as preloaded,
        ):
            options.talk.say(f"Measuring {options.target} with {options.python} …")
            try:
                surveyed = survey(preloaded, selection.suites, threads=settings.threads, command=sys.argv[1:])
            except UsageProblem as error:  # of a suite that the user did not write
                ours = re.escape(str(file))
                text = re.sub(rf"suite {ours} cannot be imported: ({ours}:\d+: )?", f"{options.target}: ", str(error))
                raise UsageProblem(text) from error
            plan = make_plan(selection, surveyed.suites, surveyed.machine)
            return measure_plan(
                plan,
                preload(preloaded, plan, surveyed),
                settings,
                source=Source(),
                folder=folder,
                python=python,
                preloaded=preloaded,
                progress=LogLines(quiet=True),
            )
