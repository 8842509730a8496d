"""The results folder: who owns it, what is in it, and how lines get into records.jsonl without ever being lost.

Every file this package writes there is first named in the manifest `.torchperf-ci`; emptying a folder removes just
those files, so that nothing a person put beside them goes away.
"""

from __future__ import annotations

import codecs
import fcntl
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Build, Case, Record, RecordProblem, Status, Testing, from_line, to_line
from torchperf_ci.core.safe_files import PlantedLink, is_below, open_below, prepare_below, write_below
from torchperf_ci.core.text import safe_name, short_name

MANIFEST = ".torchperf-ci"
RECORDS = "records.jsonl"
COMMANDS = "commands.jsonl"
ROUNDS = "rounds.jsonl"
LOGS = "logs"
CONFIRMATION = "confirmation"
"""A results folder inside of another one: what was measured once more in the same job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in the input that could not be used: where (file, line from 1; 0 for the whole file) and why."""

    file: str
    line: int = 0
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The content of a results folder: the newest record of every case and testing, in the order they were planned.

    left_out: the files that were not read because something else was asked for.
    confirmations: of cases that were measured once more in the same job, since their first result was off.
    """

    records: tuple[Record, ...] = ()
    builds: tuple[Build, ...] = ()
    problems: tuple[Problem, ...] = ()
    left_out: tuple[str, ...] = ()
    confirmations: tuple[Record, ...] = ()

    def done(self) -> frozenset[tuple[Case, Testing]]:
        """List the keys a resumed run need not measure again."""
        return frozenset(record.key for record in self.records if record.status is not Status.NOT_RUN)


@dataclass(slots=True)
class ResultsFolder:
    """A folder this program writes to. Make one with `open_folder`."""

    path: Path
    _manifest: io.TextIOWrapper = field(repr=False)
    _named: set[str] = field(default_factory=set, repr=False)

    @property
    def written(self) -> frozenset[str]:
        """The files that this program ever wrote here, as relative paths; some of it may be gone."""
        return frozenset(self._named)

    def claim(self, relative: str) -> Path:
        """Name a file that is about to be written in the manifest, make its folder, and return its path.

        Raises `UsageProblem` where a link stands in the way.
        """
        self._name(relative)
        with _without_links(self.path):
            return prepare_below(self.path, relative)

    def _name(self, relative: str) -> None:
        if relative not in self._named:
            self._manifest.write(relative + "\n")
            self._manifest.flush()
            self._named.add(relative)

    def write_text(self, relative: str, text: str) -> Path:
        """Write a whole file at once: a reader sees the old one or the new one, never half of it."""
        return self.write_bytes(relative, text.encode("utf-8", errors="replace"))

    def write_bytes(self, relative: str, content: bytes) -> Path:
        self._name(relative)
        self._name(f"{relative}.tmp")  # a run that is killed leaves it, and the next one removes it
        with _without_links(self.path):
            return write_below(self.path, relative, content, beside=f"{Path(relative).name}.tmp")

    def append(self, *items: Record | Build) -> None:
        self.append_lines(RECORDS, [to_line(item) for item in items])

    def append_lines(self, relative: str, lines: Sequence[str]) -> None:
        """Add lines to a file, which are on their way to the disk when this returns.

        Raises `UsageProblem` when there is no room for a whole line; nothing of it is left then.
        """
        self._name(relative)
        path = self.path / relative
        with _without_links(self.path):
            descriptor = open_below(self.path, relative, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            for line in lines:
                _append(descriptor, (line + "\n").encode("utf-8", errors="replace"))
            os.fsync(descriptor)
        except OSError as error:
            raise UsageProblem(
                f"{path} cannot be written ({error.strerror}); what was finished before is in it. Make room, and "
                "repeat the command (`run` with --keep-output-dir continues where it stopped)"
            ) from error
        finally:
            os.close(descriptor)

    def append_confirmations(self, records: Sequence[Record]) -> None:
        """Add what was measured once more, without logs, as a results folder of its own inside of this one."""
        relative = f"{CONFIRMATION}/{RECORDS}"
        self.claim(relative)
        self.append_lines(relative, [to_line(replace(record, log="")) for record in records])

    def empty(self) -> None:
        """Remove everything this program wrote here earlier, and nothing else."""
        root = self.path.resolve()
        for relative in self._named:
            target = self.path / relative
            if target.is_file() and target.resolve().is_relative_to(root):
                target.unlink()
        folders = {parent for relative in self._named for parent in Path(relative).parents} - {Path()}
        for folder in sorted(folders, reverse=True):
            target = self.path / folder
            if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
                target.rmdir()
        self._manifest.truncate(0)
        self._named.clear()

    def forget(self, relatives: Sequence[str]) -> None:
        """Remove files this program wrote earlier (say a report part that no longer applies)."""
        for relative in relatives:
            if relative in self._named:
                (self.path / relative).unlink(missing_ok=True)


def _append(descriptor: int, line: bytes) -> None:
    """Write the whole line, or nothing of it."""
    before, left = os.fstat(descriptor).st_size, memoryview(line)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        os.ftruncate(descriptor, before)
        raise


@contextmanager
def open_folder(path: Path, *, adopt: bool = False, option: str = "--output-dir") -> Iterator[ResultsFolder]:
    """Own `path` while the block runs; what is in it stays until `ResultsFolder.empty`.

    With `adopt` a foreign folder is taken as it is: nothing in it counts as written by this program. option: the one
    that chooses the folder; blank where it is an argument.
    Raises `UsageProblem` when it is foreign and not empty, cannot be written, or another run holds it.
    """
    another = f"another with {option}" if option else "another"
    if not adopt:
        _refuse_foreign(path, another)
    is_new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _without_links(path):
            descriptor = open_below(path, MANIFEST, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        manifest = os.fdopen(descriptor, "a+", encoding="utf-8")
    except OSError as error:
        raise UsageProblem(
            f"the results folder {path} cannot be written ({error.strerror}); choose {another}"
        ) from error
    with manifest:
        try:
            fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageProblem(f"another run is writing to {path}; wait for it or choose {another}") from error
        manifest.seek(0)
        # The folder may come from elsewhere, with a manifest that names what is not in it.
        named = {name for line in manifest if is_below(name := line.rstrip("\n"))}
        if not adopt:
            for name in (RECORDS, COMMANDS, ROUNDS):
                _cut_partial_line(path, name)
        folder = ResultsFolder(path, manifest, named)
        try:
            yield folder
        except BaseException:
            is_blank = is_new and not folder.written and [each.name for each in path.iterdir()] == [MANIFEST]
            if is_blank:  # it was made for nothing, and nobody else has put anything into it
                (path / MANIFEST).unlink()
                path.rmdir()
            raise


def read_results(path: Path) -> Results:
    """Read records.jsonl in `path`; lines that cannot be read become problems, the rest stays usable."""
    return parse_results(read_lines(path / RECORDS))


def parse_results(lines: Iterable[tuple[int, str]]) -> Results:
    """Read the lines of a records.jsonl, each with its number from 1."""
    records: dict[tuple[Case, Testing], Record] = {}
    builds: list[Build] = []
    problems: list[Problem] = []
    for number, line in lines:
        try:
            item = from_line(line)
        except RecordProblem as error:
            problems.append(Problem(file=RECORDS, line=number, what=str(error)))
            continue
        if isinstance(item, Build):
            builds.append(item)
        else:
            records[item.key] = item
    return Results(records=tuple(records.values()), builds=tuple(builds), problems=tuple(problems))


def csv_name(case: Case, testing: Testing) -> str:
    """Name a file `{compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv`, of characters that are safe in one."""
    parts = (case.compiler, case.suite, case.dtype, case.mode.value, case.device, testing.value)
    return short_name("_".join(safe_name(part) for part in parts)) + ".csv"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, each with its number from 1; none when there is no such file.

    Raises `UsageProblem` for a file that cannot be read: to go on without it would be to judge without its results.
    """
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise UsageProblem(
            f"{path} cannot be read ({error.strerror}); make it readable, or name another file"
        ) from error
    return lines_of(content)


def lines_of(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file's content that are not blank, each with its number from 1."""
    without_mark = content.removeprefix(codecs.BOM_UTF8)  # editors on Windows put it there
    for number, raw in enumerate(io.BytesIO(without_mark), start=1):
        line = raw.decode("utf-8", errors="replace").strip()
        if line:
            yield number, line


def _refuse_foreign(path: Path, another: str) -> None:
    if path.exists() and not path.is_dir():
        raise UsageProblem(f"{path} is a file, not a folder; choose {another}")
    try:
        foreign = path.is_dir() and not (path / MANIFEST).is_file() and any(path.iterdir())
    except OSError as error:
        raise UsageProblem(f"the results folder {path} cannot be read ({error.strerror})") from error
    if foreign:
        raise UsageProblem(f"{path} holds files that torchperf-ci did not write; choose {another}, empty or new")


def _cut_partial_line(path: Path, name: str) -> None:
    """Cut the line without an end that a run leaves which was killed in the middle of a write."""
    if not (path / name).exists():
        return
    with _without_links(path), os.fdopen(open_below(path, name, os.O_RDWR), "r+b") as stream:
        content = stream.read()
        if content and not content.endswith(b"\n"):
            stream.truncate(content.rfind(b"\n") + 1)


@contextmanager
def _without_links(path: Path) -> Iterator[None]:
    """Turn a link that stands in the way of a write into a `UsageProblem`."""
    try:
        yield
    except PlantedLink as error:
        raise UsageProblem(f"{error.filename} is {error.strerror}, or choose another folder than {path}") from error
