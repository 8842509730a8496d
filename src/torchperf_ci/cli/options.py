"""What the commands' options have in common: environment variables, lists, shared decorators."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from torchperf_ci.core.errors import UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.github.client import Client

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_SEPARATORS = re.compile(r"[\s,]+(?![^{}]*\})")


def split_list(text: str) -> list[str]:
    """The parts of a list written with spaces, commas or new lines. A comma inside `{…}` belongs to its part."""
    return [part for part in _SEPARATORS.split(text.strip()) if part]


def split_lines(text: str) -> list[str]:
    """The parts of a list written one a line, since they may hold spaces and commas."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def shell_words(text: str, *, name: str) -> list[str]:
    """The arguments in `text`, which is quoted as in a shell. Raises `click.UsageError` naming where it comes from."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.UsageError(f"{name} cannot be split into arguments: {error}") from error


class ListItem(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """Text; from the environment variable a whole list of it."""

    name = "text"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return split_list(rv)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401, ARG002
        return str(value)


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


def option(*names: str, **settings: Any) -> Callable[[Decorated], Decorated]:  # noqa: ANN401 - click's keywords
    """`click.option` with our habits.

    The environment variable is `TORCHPERF_` and the first long name; the default is shown in the help; a long name
    with a hyphen is accepted with underscores as well (hidden from the help); `multiple` options take lists from the
    environment.
    """
    long_names = [part for name in names for part in name.split("/") if part.strip().startswith("--")]
    first = long_names[0].strip()
    settings.setdefault("envvar", "TORCHPERF_" + first[2:].replace("-", "_").upper())
    settings.setdefault("show_default", settings.get("default") is not None or settings.get("is_flag", False))
    settings.setdefault("show_envvar", True)
    if settings.get("multiple") and "type" not in settings:
        settings["type"] = ListItem()
    settings.setdefault("cls", UnderscoreOption)
    return click.option(*names, **settings)


def decorated(function: Decorated, options: Sequence[Callable[[Any], Any]]) -> Decorated:
    """`function` with options, which `--help` shows in this order."""
    result: Decorated = functools.reduce(lambda made, decorate: decorate(made), reversed(options), function)
    return result


class UnderscoreOption(click.Option):
    """An option whose hyphens may be typed as underscores, as in the scripts people come from."""

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


def results_dir_argument(function: Decorated) -> Decorated:
    """The argument DIR: an existing results folder."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    return click.argument("directory", metavar="DIR", type=folder, envvar="TORCHPERF_RESULTS")(function)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubOptions:
    """Where GitHub is and who asks: what `github_options` gives a command."""

    repository: str
    token_file: Path | None
    api_url: str
    patience_s: float

    def client(self, environ: Mapping[str, str]) -> Client:
        """GitHub's API with the token of the options or of the environment. Raises `UsageProblem`."""
        from torchperf_ci.github.client import Access, Client, token_from

        token = token_from(environ, self.token_file)
        access = Access(api_url=self.api_url, token=token, patience_s=self.patience_s)
        return Client(access, say=lambda text: click.echo(text, err=True))


_GITHUB_OPTIONS = (
    option(
        "--repo",
        metavar="OWNER/NAME",
        default="",
        show_default=False,
        envvar=["TORCHPERF_REPO", "GITHUB_REPOSITORY"],
        help="The repository on GitHub.",
    ),
    option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="A file with GitHub's token.  [default: the token in GITHUB_TOKEN or GH_TOKEN]",
    ),
    option(
        "--api-url",
        default="https://api.github.com",
        envvar=["TORCHPERF_API_URL", "GITHUB_API_URL"],
        help="Where GitHub's REST API is: another address for GitHub Enterprise.",
    ),
    option(
        "--patience",
        type=click.FloatRange(min=0),
        default=900.0,
        metavar="SECONDS",
        help="How long a request may wait for GitHub's rate limits before the command gives up.",
    ),
)


def github_options(function: Decorated) -> Decorated:
    """Options of commands that talk to GitHub; the command gets them as `github: GitHubOptions`."""

    @functools.wraps(function)
    def command(
        *arguments: Any,  # noqa: ANN401 - the command's own
        repo: str,
        token_file: Path | None,
        api_url: str,
        patience: float,
        **settings: Any,  # noqa: ANN401 - the command's own
    ) -> Any:  # noqa: ANN401 - what the command returns
        options = GitHubOptions(repository=repo, token_file=token_file, api_url=api_url, patience_s=patience)
        return function(*arguments, github=options, **settings)

    wrapped: Any = command
    result: Decorated = decorated(wrapped, _GITHUB_OPTIONS)
    return result


def summary_file_option(function: Decorated) -> Decorated:
    """The option --summary-file: a file to append Markdown to."""
    return option(
        "--summary-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Append the summary to this file as Markdown, say $GITHUB_STEP_SUMMARY.",
    )(function)


def append_markdown(path: Path | None, markdown: str) -> None:
    """Append to the file of --summary-file, if there is one. Raises `UsageProblem`."""
    if path is None:
        return
    try:
        with path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(markdown.rstrip("\n") + "\n")
    except OSError as error:
        raise UsageProblem(f"--summary-file {path} cannot be written ({error.strerror})") from error


class ManyValues(click.Command):
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
