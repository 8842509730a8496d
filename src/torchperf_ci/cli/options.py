"""Declare the options of a command as one typed object, and share what commands have in common.

A command's options are a frozen dataclass, made by `command_options`. A field is given the option or argument that it
is; `option` says only what the field's name and type do not. A field that is such a dataclass itself is a group of
options that commands share, with a section of the help, `@command_options("GitHub")`:

    @command_options
    class PlanOptions:
        cases: CaseOptions
        runners: int = option(default=1, help="How many runners there are.")

    @command()
    @takes(PlanOptions)
    def plan(options: PlanOptions) -> None: ...
"""

from __future__ import annotations

import difflib
import errno
import functools
import itertools
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints, overload

import click
from click.core import ParameterSource

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.safe_files import find_write_problem
from torchperf_ci.core.text import nearest

if TYPE_CHECKING:
    from torchperf_ci.github.client import Client

Options = TypeVar("Options")

_SEPARATORS = re.compile(r"[\s,]+(?![^{}]*\})")
_COMMAND_PART = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s"']|[ ](?![->]))+""")
"""A word of a command, or an option with its values; quoted spaces are part of it."""
_COMMAS = re.compile(r"\s*,\s*(?![^{}]*\})")


def split_list(text: str) -> list[str]:
    """Split a list written with spaces, commas or new lines. A comma inside `{…}` belongs to its part."""
    return [part for part in _SEPARATORS.split(text.strip()) if part]


def split_lines(text: str) -> list[str]:
    """Split a list written one a line, since its parts may hold spaces and commas."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def shell_words(text: str, *, name: str) -> list[str]:
    """Split `text`, quoted as in a shell, into arguments. Raises `click.UsageError` naming where it comes from."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.UsageError(f"{name} cannot be split into arguments: {error}") from error


class Number(click.FloatRange):
    """A number in a range, and no other: NaN is in no range, though click takes it, and nothing reaches infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's signature
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value!r} is not a finite number", param, ctx)


class ListItem(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """Text; from the environment variable a whole list of it."""

    name = "text"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return split_list(rv)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401, ARG002
        return str(value)


class PatternItem(ListItem):
    """A pattern, whose commas on the command line are its own."""


class LineItem(ListItem):
    """Text that may hold spaces and commas; from the environment variable one a line."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return split_lines(rv)


class LineFolder(click.Path):
    """A folder that exists; from the environment variable one a line."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return split_lines(rv)


class KeyValues(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """`KEY=VALUE`; from the environment variable one a line, since values may hold spaces and commas."""

    name = "key=value"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return split_lines(rv)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:  # noqa: ANN401
        if isinstance(value, tuple):
            return (str(value[0]), str(value[1]))
        key, equals, rest = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, rest


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option or argument that is declared and belongs to no command yet."""

    decorate: Callable[..., Callable[[Any], Any]]
    names: tuple[str, ...]
    settings: Mapping[str, Any]

    def add_to(self, function: Callable[..., Any], name: str, hint: object, section: str) -> Callable[..., Any]:
        """Add it to a command's function as the parameter `name` of the type `hint`, in a section of the help."""
        settings = dict(self.settings)
        if self.decorate is click.argument:
            return self.decorate(name, **settings)(function)  # type: ignore[no-any-return]
        names = self.names
        if not any("--" in each for each in names):
            names = (f"--{name.replace('_', '-')}", *names)
        if hint is bool:
            settings.setdefault("is_flag", True)
        elif hint is str and not settings.get("required"):
            settings.setdefault("default", "")
        elif get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis:
            settings.setdefault("multiple", True)
            settings.setdefault("type", ListItem())
        first = next(part for each in names for part in each.split("/") if part.startswith("--"))
        settings.setdefault("envvar", "TORCHPERF_" + first[2:].replace("-", "_").upper())
        settings.setdefault("show_default", settings.get("default") not in (None, ""))
        if type(settings.get("type")) is ListItem and "help" in settings:
            settings["help"] = settings["help"].replace("Repeatable.", "Repeatable, or a list with commas.")
        settings = {"cls": Option, "section": section, **settings}
        return self.decorate(*names, name, **settings)(function)  # type: ignore[no-any-return]


def option(*names: str, **settings: Any) -> Any:  # noqa: ANN401 - click's keywords, and the field's type
    """Declare an option as `click.option` does, with our habits.

    names: its long name only where it is not the field's, its short one, and every pair `--name/--no-name`.

    A field of `bool` is a flag, one of `tuple[X, ...]` may be given several times, and one of `str` is "" by default.
    The environment variable is `TORCHPERF_` and the first long name; the default is shown in the help; a long name
    with a hyphen is accepted with underscores as well (hidden from the help); `multiple` options take lists with
    commas, and any list from the environment. section: the section of the help, where it is not the group's.
    """
    return Parameter(click.option, names, settings)


def argument(**settings: Any) -> Any:  # noqa: ANN401 - as above
    """Declare an argument as `click.argument` does."""
    return Parameter(click.argument, (), settings)


if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: object) -> Callable[[Any], Any]:
        """Stand in for what type checkers alone need, and Python 3.10 lacks."""
        return lambda function: function


@overload
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, argument))
def command_options(kind: type[Options]) -> type[Options]: ...


@overload
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, argument))
def command_options(kind: str) -> Callable[[type[Options]], type[Options]]: ...


def command_options(kind: type[Options] | str) -> type[Options] | Callable[[type[Options]], type[Options]]:
    """Make a frozen dataclass of a class whose fields are options; a value must be given for every one of them.

    Called with a text, it returns the decorator for a group with a section of that name in the help.
    """
    if isinstance(kind, str):
        return functools.partial(_make_options, section=kind)
    return _make_options(kind)


def _make_options(kind: type[Options], section: str = "") -> type[Options]:
    own = {name: value for name, value in vars(kind).items() if isinstance(value, Parameter)}
    for name in own:
        delattr(kind, name)
    kind.PARAMETERS = {**getattr(kind, "PARAMETERS", {}), **own}  # type: ignore[attr-defined]
    if section:
        kind.SECTION = section  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)


def takes(kind: type[Options]) -> Callable[[Callable[[Options], Any]], Callable[..., Any]]:
    """Give a command the options that the dataclass `kind` declares; its function gets one object of it.

    The help shows them in the order of the fields. Groups whose sections have the same name share one.
    """

    def decorate(function: Callable[[Options], Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**values: Any) -> Any:  # noqa: ANN401 - click's values
            return function(build(kind, values))

        decorated_command: Callable[..., Any] = command
        declared = [*declared_parameters(kind)]
        names = [name for name, *_ in declared]
        assert len(set(names)) == len(names), f"{kind.__name__}: two options have the same field name in {names}"
        for name, parameter, hint, section in reversed(declared):
            decorated_command = parameter.add_to(decorated_command, name, hint, section)
        return decorated_command

    return decorate


def declared_parameters(kind: type[Any]) -> Iterator[tuple[str, Parameter, object, str]]:
    """List what a dataclass and its groups declare, in order: name, parameter, type and section of the help."""
    section = str(getattr(kind, "SECTION", ""))
    for name, hint in _hints(kind).items():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from declared_parameters(hint)
            continue
        parameters = getattr(kind, "PARAMETERS", {})
        assert name in parameters, f"{kind.__name__}.{name} says not which option it is"
        yield name, parameters[name], hint, section


def build(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Make the object of click's values, groups inside first."""
    return kind(
        **{
            name: build(hint, values) if isinstance(hint, type) and is_dataclass(hint) else values[name]
            for name, hint in _hints(kind).items()
        }
    )


def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


_NUMBERS = {
    "integer range": "a whole number",
    "integer": "a whole number",
    "float range": "a number",
    "float": "a number",
}
"""Words of click's, by ours."""


class Option(click.Option):
    """An option in a section of the help, whose hyphens may be typed as underscores, as in scripts people come from.

    One that may be given several times takes several values at once, too: `--compilers eager,inductor`.
    """

    def __init__(self, *arguments: Any, section: str = "", **settings: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(*arguments, **settings)
        self.section = section
        if self.metavar is None and isinstance(self.type, (click.types.IntParamType, click.types.FloatParamType)):
            self.metavar = "N" if isinstance(self.type, click.types.IntParamType) else "NUMBER"

    def get_help_extra(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's dictionary
        """Leave the range of a number to the error that names it: `[x>=1]` in every line tells users little."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:  # noqa: ANN401 - click's signature
        if self.multiple and type(self.type) is ListItem and value is not None:
            value = tuple(part for text in value for part in _COMMAS.split(str(text)) if part)
        try:
            return super().type_cast_value(ctx, value)
        except click.BadParameter as error:
            message = error.message
            for numbers, words in _NUMBERS.items():
                message = message.replace(f"is not a valid {numbers}.", f"is not {words}.")
            if isinstance(self.type, click.Choice) and isinstance(value, str):
                message += nearest(value, map(str, self.type.choices))
            if ctx.get_parameter_source(str(self.name)) is ParameterSource.ENVIRONMENT:
                message += f" It is the value of the variable {self.envvar}."
            raise click.BadParameter(message, error.ctx, error.param) from error

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:  # noqa: ANN401 - click's private parser type
        self.opts, shown = _with_underscores(self.opts), self.opts
        self.secondary_opts, shown_secondary = _with_underscores(self.secondary_opts), self.secondary_opts
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts, self.secondary_opts = shown, shown_secondary


def _with_underscores(names: list[str]) -> list[str]:
    spelled = ["--" + name[2:].replace("-", "_") for name in names if name.startswith("--")]
    return names + [name for name in spelled if name not in names]


RESULTS_DIR = argument(
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="TORCHPERF_RESULTS",
)
"""The argument DIR: an existing results folder."""


@command_options("GitHub")
class GitHubOptions:
    repository: str = option(
        "--repo", metavar="OWNER/NAME", envvar=["TORCHPERF_REPO", "GITHUB_REPOSITORY"], help="The repository on GitHub."
    )
    token_file: Path | None = option(
        type=click.Path(path_type=Path),
        help="A file with GitHub's token.  [default: the token in GITHUB_TOKEN or GH_TOKEN]",
    )
    api_url: str = option(
        default="https://api.github.com",
        envvar=["TORCHPERF_API_URL", "GITHUB_API_URL"],
        help="Where GitHub's REST API is: another address for GitHub Enterprise.",
    )
    patience_s: float = option(
        "--patience",
        type=Number(min=0),
        default=900,
        metavar="SECONDS",
        help="How long a request may wait for GitHub's rate limits before the command gives up.",
    )

    def require_repository(self) -> str:
        """Return the repository of --repo. Raises `UsageProblem` when it is not given, or cannot be one."""
        from torchperf_ci.github.runs import require_repository

        return require_repository(self.repository)

    def can_ask(self, environ: Mapping[str, str]) -> bool:
        """Say whether a repository is named, and there is a token to ask for it. Raises `UsageProblem`."""
        from torchperf_ci.github.client import read_token

        return bool(self.repository) and bool(read_token(environ, self.token_file))

    def client(self, environ: Mapping[str, str]) -> Client:
        """GitHub's API with the token of the options or of the environment. Raises `UsageProblem`."""
        from torchperf_ci.github.client import Access, Client, read_token

        token = read_token(environ, self.token_file)
        access = Access(api_url=self.api_url, token=token, patience_s=self.patience_s)
        return Client(access, say=lambda text: click.echo(text, err=True))


GITHUB_FILES = option(section="GitHub", help="Write step outputs and the step summary for GitHub Actions.")

GITHUB_OUTPUTS = option(section="GitHub", help="Write step outputs for GitHub Actions.")
"""For commands that have no summary."""

ACCEPT_LABEL = option(
    default="torchperf-accepted",
    section="GitHub",
    help="The label on a pull request that accepts what its description says. Blank: labels accept nothing.",
)

PYTHON = option(
    default=sys.executable,
    show_default=False,
    help="The Python to measure; it needs torch, and nothing is installed into it.  [default: the one that runs "
    "torchperf-ci]",
)


class _AppendedFile(click.Path):
    """A file that is appended to at the end; one that cannot be is refused before anything is said."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        path = Path(value)
        problem = "" if path.parent.is_dir() else os.strerror(errno.ENOENT)
        if problem := problem or find_write_problem(path):
            self.fail(f"{os.fspath(value)} cannot be written ({problem})", param, ctx)
        return super().convert(value, param, ctx)


SUMMARY_FILE = option(
    type=_AppendedFile(dir_okay=False, path_type=Path),
    help="Append the summary to this file as Markdown, for example $GITHUB_STEP_SUMMARY.",
)


def append_markdown(path: Path | None, markdown: str) -> None:
    """Append to the file of --summary-file, if there is one. Raises `UsageProblem`."""
    if path is None:
        return
    try:
        with path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(markdown.rstrip("\n") + "\n")
    except OSError as error:
        raise UsageProblem(f"--summary-file {path} cannot be written ({error.strerror})") from error


def list_given(left_out: Collection[str], known: Collection[str] | None = None) -> list[str]:
    """List the options that the command in progress was given, as they are typed, but for those `left_out`.

    known: only those of these names; None is all. Values of variables may be secrets, and stay out.
    """
    context = click.get_current_context()
    words: list[str] = []
    for item in context.command.params:
        value = context.params[str(item.name)]
        if not isinstance(item, click.Option) or item.name in left_out or value == item.get_default(context):
            continue
        if known is not None and item.name not in known:
            continue
        for each in value if item.multiple else [value]:
            if isinstance(each, bool):
                words.append(item.opts[0] if each else item.secondary_opts[0])
            elif each not in {None, ""}:
                words += [item.opts[0], f"{each[0]}=…" if isinstance(each, tuple) else str(each)]
    return words


LAST_SECTIONS = (
    "How to measure",
    "Where to measure",
    "PyTorch's own suite runner",
    "Recorded runs",
    "History",
    "GitHub",
)
"""Sections that come behind all others in a help, in this order: most people never need them."""

_HYPHEN = "\ue000"
"""Stands for a hyphen while lines are filled, so that no name is broken at one."""


class Formatter(click.HelpFormatter):
    """A formatter that breaks no names, and folds commands that are longer than a line, as a shell reads them."""

    def write_text(self, text: str) -> None:
        room = self.width - self.current_indent
        parts = []
        for paragraph in text.split("\n\n"):  # those that begin with \b are printed as they are
            lines = paragraph.splitlines()
            parts.append("\n".join(_fold_command(line, room) for line in lines) if lines[:1] == ["\b"] else paragraph)
        super().write_text("\n\n".join(parts).replace("-", _HYPHEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], *arguments: Any, **settings: Any) -> None:  # noqa: ANN401
        super().write_dl([(term, text.replace("-", _HYPHEN)) for term, text in rows], *arguments, **settings)

    def getvalue(self) -> str:
        return super().getvalue().replace(_HYPHEN, "-")


def _fold_command(line: str, width: int) -> str:
    """Fold a line of shell that is longer than `width`, in front of its options."""
    indent = line[: len(line) - len(line.lstrip())]
    lines: list[str] = []
    for part in _COMMAND_PART.findall(line.strip()):
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" {part}"
        else:
            lines.append(f"{indent}{'    ' if lines else ''}{part}")
    return line if len(line) <= width else " \\\n".join(lines)


class HelpContext(click.Context):
    """A context whose help is folded."""

    formatter_class = Formatter


class Command(click.Command):
    """A command whose help has a section per group of options, and which explains a list that was typed with spaces."""

    context_class = HelpContext

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and record[1]:  # an argument without a text is in the usage line already
                sections.setdefault(getattr(parameter, "section", "") or "Options", []).append(record)
        order = {title: place for place, title in enumerate(LAST_SECTIONS, start=1)}
        for title, records in sorted(sections.items(), key=lambda section: order.get(section[0], 0)):
            with formatter.section(title):
                formatter.write_dl(records)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
            raise click.NoSuchOption(name, f"No such option {name}.{self._option_hint(ctx, name)}", ctx=ctx) from error
        except click.UsageError as error:
            hint = self._list_hint(typed) if type(error) is click.UsageError else ""
            if not hint:
                raise
            raise click.UsageError(f"{error.message}\n{hint}", ctx) from error

    def _option_hint(self, ctx: click.Context, name: str) -> str:
        """Say which options may be meant: those that begin so, else those with these words, else like ones; of one that
        belongs before the command, that it does."""
        if ctx.parent is not None and any(name in item.opts for item in ctx.parent.command.params):
            return f" Write it before the command: {ctx.parent.command_path} {name} … {ctx.info_name}"
        names = [
            each
            for item in self.params
            if isinstance(item, click.Option)
            for each in (*item.opts, *item.secondary_opts)
            if each.startswith("--")
        ]
        word = name.lower().replace("_", "-")
        near = (
            [each for each in names if each.startswith(word)]
            or [each for each in names if f"-{word.strip('-')}-" in f"{each}-"]
            or difflib.get_close_matches(word, names, n=1)
        )
        return f" Did you mean {', '.join(near[:3])}?" if near else ""

    def _list_hint(self, args: Sequence[str]) -> str:
        """Say how a list is written, if values follow an option that takes one each time."""
        names = {name for item in self.params if isinstance(item, click.Option) and item.multiple for name in item.opts}
        for position, name in enumerate(args):
            values = list(itertools.takewhile(lambda each: not each.startswith("-"), args[position + 1 :]))
            if name in names and len(values) > 1:
                return f"A list is written with commas: {name} {','.join(values)}"
        return ""


class Group(click.Group):
    """A group that says which command may be meant by one that is not there, and uses the width of the terminal."""

    command_class = Command
    context_class = HelpContext

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:  # noqa: ANN401 - click's
        settings.setdefault("max_content_width", min(120, max(80, shutil.get_terminal_size().columns)))
        return super().make_context(*arguments, **settings)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the first sentence of every command whole."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(limit=1000)) for name, each in commands if each])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"No such command {args[0]!r}.{self.suggest(ctx, args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def suggest(self, ctx: click.Context, name: str) -> str:
        """Say which command may be meant by a name that is none."""
        there = self.list_commands(ctx)
        return nearest(name, there) or f" There are: {', '.join(there)}."


def command(name: str | None = None, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:  # noqa: ANN401
    """Make a command of a function, as `click.command` does, with help in sections."""
    settings.setdefault("cls", Command)
    return click.command(name, **settings)


class ManyValues(Command):
    """A command whose `multiple` options take several values in a row: `--names a b c` is `--names a --names b …`.

    For commands without arguments of their own. An option without any value is as if it were not there.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        many = [item for item in self.params if isinstance(item, click.Option) and item.multiple]
        names = {name for item in many for name in _with_underscores([*item.opts])}
        return super().parse_args(ctx, spread(args, names))


def spread(args: Sequence[str], names: Collection[str]) -> list[str]:
    """`args` with each option of `names` repeated before every value that follows it, up to the next option."""
    made: list[str] = []
    many: str | None = None
    for number, arg in enumerate(args):
        if arg == "--":
            return made + list(args[number:])
        if arg.startswith("-") and arg != "-":
            name, equals, value = arg.partition("=")
            many = name if name in names else None
            if many is None:
                made.append(arg)
            elif equals:
                made += [name, value]
        else:
            made += [arg] if many is None else [many, arg]
    return made
