"""Expectation tables on disk: read them with the flaky models beside them, and write a table at once or not at all."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.safe_files import write_whole
from torchperf_ci.expectations.flaky import FLAKY_FILE, Flaky, parse_flaky
from torchperf_ci.expectations.table import Table, TableProblem, has_names, parse_table, write_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A table, what it is called, and the flaky models that its folder knows.

    name: the file's name without `.csv`. config: how the flaky file's patterns call it (`rocm/…` from one folder up).
    doubles: the models that stand there more than once, with the lines.
    """

    path: Path
    name: str
    config: str
    table: Table
    flaky: tuple[Flaky, ...] = ()
    doubles: Mapping[str, str] = field(default_factory=dict)


def read_table(path: Path, doubles: dict[str, str] | None = None) -> Table | None:
    """The table at `path`, or nothing where there is none. `doubles` takes the names that stand there twice; without
    it they are refused. Raises `UsageProblem`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageProblem(f"{path} cannot be read ({error.strerror})") from error
    return parse_table(content, source=str(path), doubles=doubles)


def read_expectation(path: Path) -> Expectation:
    """The table at `path` with its flaky models. Raises `UsageProblem` when there is none, or one that is no table."""
    doubles: dict[str, str] = {}
    table = read_table(path, doubles)
    if table is None:
        raise UsageProblem(f"there is no expectation table {path}")
    config, flaky = _flaky(path)
    return Expectation(path=path, name=path.stem, config=config, table=table, flaky=flaky, doubles=doubles)


def read_expectations(folder: Path) -> tuple[tuple[Expectation, ...], dict[str, str], list[str]]:
    """The tables in `folder`, by name; by name, why a table of models cannot be used; and a sentence for each CSV that
    is no such table. Raises `UsageProblem`."""
    if not folder.is_dir():
        raise UsageProblem(f"{folder} is no folder of expectation tables; make it with torchperf-ci update-expected")
    tables: list[Expectation] = []
    unusable: dict[str, str] = {}
    foreign: list[str] = []
    for path in sorted(path for path in folder.glob("*.csv") if path.is_file()):
        try:
            tables.append(read_expectation(path))
        except TableProblem as error:
            if has_names(path.read_bytes()):
                unusable[path.stem] = str(error)
            else:
                foreign.append(f"{path} is no table of models ({error}); it is passed over")
    return tuple(tables), unusable, foreign


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` by one with `text`: a reader sees the old one or the new one, never half of it.

    A link stays a link, and the file keeps its permissions. Raises `UsageProblem` when it cannot be written.
    """
    target = path.resolve()
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        write_whole(target, text.encode("utf-8"), mode=mode)
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written ({error.strerror})") from error


def write_expectation(path: Path, table: Table) -> None:
    """Write `table` in the conflict-free layout."""
    write_atomically(path, write_table(table))


def _flaky(path: Path) -> tuple[str, tuple[Flaky, ...]]:
    """How the nearest flaky file calls the table at `path`, and its entries: beside it, or one folder up."""
    here = path.absolute().parent
    for folder, config in ((here, path.stem), (here.parent, f"{here.name}/{path.stem}")):
        flaky_file = folder / FLAKY_FILE
        if flaky_file.is_file():
            try:
                text = flaky_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageProblem(f"{flaky_file} cannot be read ({error})") from error
            return config, parse_flaky(text, source=str(flaky_file))
    return path.stem, ()
