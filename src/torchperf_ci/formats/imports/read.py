"""Find out what a file is, by its content, and have the reader of its format read it; and what runs its records are."""

from __future__ import annotations

import json
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.file_systems import is_url, open_file_system, shown
from torchperf_ci.core.records import Record, Source
from torchperf_ci.core.results import Results
from torchperf_ci.core.text import one_line
from torchperf_ci.formats.foreign import Defaults
from torchperf_ci.formats.imports import Columns, Format, Imported
from torchperf_ci.formats.imports.asv import is_asv, read_asv, read_asv_file
from torchperf_ci.formats.imports.google_benchmark import Clock, ingest_google_benchmark
from torchperf_ci.formats.imports.hud import read_hud
from torchperf_ci.formats.imports.pytest_benchmark import ingest_pytest_benchmark
from torchperf_ci.formats.imports.series import DATA_JS, read_bencher, read_custom, read_data_js, read_fastrnns
from torchperf_ci.formats.imports.tables import read_csv, read_openmetrics, read_parquet
from torchperf_ci.formats.inputs import InputProblem
from torchperf_ci.formats.pytest_benchmark import read_pytest_benchmark
from torchperf_ci.history.store import Run, moment_of

LARGEST = 2**30
"""Bytes of one file, unpacked."""

_ENDINGS = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".js", ".csv", ".csv.gz", ".parquet", ".txt", ".prom")
_GIT_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How to read what does not say it itself.

    form: None to go by the content. time: UTC in ISO 8601, for formats without one. tool: what github-action-benchmark
        calls values whose list does not say which are better. columns: of a table.
    """

    defaults: Defaults
    form: Format | None = None
    time: str = ""
    tool: str = ""
    columns: Columns = field(default_factory=dict)
    clock: Clock = Clock.REAL

    @property
    def source(self) -> Source:
        """Where numbers come from that do not say it."""
        made = self.defaults.source
        commit, branch = self.defaults.commit or made.commit, self.defaults.branch or made.branch
        return replace(made, commit=commit, branch=branch, time=self.time or made.time)


def read_location(location: str, request: Request, *, git_branch: str = "") -> Imported:
    """Read a file, a folder, a URL that fsspec knows, or with `git_branch` that branch of a repository.

    Raises `UsageProblem` when there is nothing to read, and `InputProblem` for one file that cannot be used; of many
    files those that cannot be used are left out.
    """
    if git_branch:
        with _git_branch(location, git_branch) as files:
            return _read_all(files, request)
    if is_url(location):
        return _read_all(_url_files(location), request)
    path = Path(location)
    if path.is_file():
        content = path.read_bytes()
        form = request.form or detect(_unpacked(content, str(path)), file=location)
        return read_asv_file(path, request.defaults) if form is Format.ASV else read_content(content, location, request)
    if not path.is_dir():
        raise UsageProblem(f"{location} is not there; give a file, a folder, or a URL")
    if request.form is Format.ASV or (request.form is None and _is_asv_folder(path)):
        return read_asv(path, request.defaults)
    found = sorted(each for each in path.rglob("*") if each.is_file() and each.name.endswith(_ENDINGS))
    return _read_all([(str(each), each.read_bytes()) for each in found], request)


def read_content(content: bytes, file: str, request: Request) -> Imported:
    """Read the content of a file. Raises `InputProblem` naming what is wrong and where."""
    content = _unpacked(content, file)
    form = request.form or detect(content, file=file)
    defaults, source = request.defaults, request.source
    match form:
        case Format.PYTEST_BENCHMARK:
            bench = read_pytest_benchmark(content, file=file, needed=())
            return Imported(records=ingest_pytest_benchmark(bench, defaults).records)
        case Format.GOOGLE_BENCHMARK:
            return Imported(records=ingest_google_benchmark(content, defaults, file=file, clock=request.clock).records)
        case Format.PARQUET:
            return read_parquet(content, request.columns, defaults, source, file=file)
        case Format.ASV:
            raise InputProblem([f"{file}: a file of asv is read where it lies, beside its machine and its benchmarks"])
        case _:
            return _read_text(form, content.decode("utf-8-sig", errors="replace"), file, request)


def detect(content: bytes, *, file: str) -> Format:
    """Tell the format by the content. Raises `InputProblem` when it is none of ours."""
    if content.startswith(b"PAR1"):
        return Format.PARQUET
    text = content.decode("utf-8-sig", errors="replace")
    start = text.lstrip()
    if start.startswith(DATA_JS):
        return Format.GITHUB_ACTION_BENCHMARK
    if start.startswith(("# TYPE", "# HELP", "# UNIT", "# EOF")):
        return Format.OPENMETRICS
    raw: Any = None
    if start.startswith(("{", "[")):
        try:
            raw = json.loads(start)
        except (ValueError, RecursionError):
            raw = _first_line(start)
        form = _form_of_json(raw)
        if form is not None:
            return form
    elif "," in start.partition("\n")[0]:
        return Format.CSV
    raise InputProblem([f"{file}: is in no format that is known here; if it is, say which with --format"])


def runs_of(imported: Imported, *, name: str) -> tuple[list[Run], list[str]]:
    """The runs that the records are of, oldest first, and what cannot be put into one.

    A run is what has one time, commit, machine and workflow run; its key says these, so that importing twice is the
    same as once.
    """
    groups: dict[str, dict[Any, Record]] = {}
    left_out: list[str] = []
    for record in imported.records:
        when = moment_of(record.source.time)
        if when is None:
            left_out.append(f"{record.case}: has no time; give it with --time")
            continue
        source, host = record.source, record.environment.host
        parts = [part for part in (host, source.commit[:12]) if part] or ["imported"]
        key = f"{source.repository}/{source.run_id}" if source.run_id else f"{'-'.join(parts)}@{when:%Y%m%dT%H%M%S.%fZ}"
        group = groups.setdefault(key, {})
        if record.key in group:
            left_out.append(f"{record.case}: is there twice in the run {key}")
        group.setdefault(record.key, record)
    runs = []
    for key, group in groups.items():
        times = [when for record in group.values() if (when := moment_of(record.source.time)) is not None]
        runs.append(Run(name=name, key=key, time=min(times), results=Results(records=tuple(group.values()))))
    return sorted(runs, key=lambda run: run.time), left_out


def _read_text(form: Format, text: str, file: str, request: Request) -> Imported:
    defaults, source = request.defaults, request.source
    match form:
        case Format.HUD:
            return read_hud(text, defaults, source, file=file)
        case Format.CSV:
            return read_csv(text, request.columns, defaults, source, file=file)
        case Format.OPENMETRICS:
            return read_openmetrics(text, defaults, source, file=file)
        case Format.GITHUB_ACTION_BENCHMARK if not text.lstrip().startswith("["):
            return read_data_js(text, defaults, file=file)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputProblem([f"{file}: not JSON: {error}"]) from error
    if form is Format.GITHUB_ACTION_BENCHMARK:
        return read_custom(raw, defaults, source, file=file, tool=request.tool)
    if not isinstance(raw, dict):
        raise InputProblem([f"{file}: holds no JSON object, which {form} writes"])
    read = read_bencher if form is Format.BENCHER else read_fastrnns
    return read(raw, defaults, source, file=file)


def _read_all(files: Sequence[tuple[str, bytes]], request: Request) -> Imported:
    records: list[Record] = []
    left_out: list[str] = []
    for file, content in files:
        try:
            imported = read_content(content, file, request)
        except UsageProblem as error:
            left_out.append(str(error))
            continue
        records += imported.records
        left_out += imported.left_out
    return Imported(records=tuple(records), left_out=tuple(left_out))


def _form_of_json(raw: object) -> Format | None:
    match raw:
        case {"entries": dict()}:
            return Format.GITHUB_ACTION_BENCHMARK
        case {"context": dict(), "benchmarks": list()}:
            return Format.GOOGLE_BENCHMARK
        case {"benchmarks": [{"real_time": _} | {"cpu_time": _} | {"run_type": _} | {"error_occurred": _}, *_]}:
            return Format.GOOGLE_BENCHMARK
        case {"benchmarks": list()}:
            return Format.PYTEST_BENCHMARK
        case {"metric": dict()} | [{"metric": dict()}, *_]:
            return Format.HUD
        case [{"name": _, "value": _}, *_] | []:
            return Format.GITHUB_ACTION_BENCHMARK
        case dict() if is_asv(raw):
            return Format.ASV
        case dict() if raw and all(isinstance(each, dict) for each in raw.values()):
            inner = [item for each in raw.values() for item in each.values()]
            return Format.BENCHER if any(isinstance(item, dict) for item in inner) else Format.FASTRNNS
        case _:
            return None


def _first_line(text: str) -> object:
    try:
        return json.loads(text.partition("\n")[0])
    except (ValueError, RecursionError):
        return None


def _unpacked(content: bytes, file: str) -> bytes:
    """The content of a gzipped file. Raises `InputProblem` when it is damaged, or larger than anybody's results."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    whole = bytearray()
    try:
        while content:
            unpacker = zlib.decompressobj(wbits=31)
            whole += unpacker.decompress(content, LARGEST - len(whole))
            if unpacker.unconsumed_tail or len(whole) >= LARGEST:
                raise InputProblem([f"{file}: is larger than {LARGEST // 2**20} MiB unpacked"])
            if not unpacker.eof:
                raise InputProblem([f"{file}: ends in the middle of its gzip data"])
            content = unpacker.unused_data
    except zlib.error as error:
        raise InputProblem([f"{file}: is damaged: {error}"]) from error
    return bytes(whole)


def _is_asv_folder(path: Path) -> bool:
    roots = (path, path / "results", path / ".asv" / "results")
    return any((root / "benchmarks.json").is_file() or any(root.glob("*/machine.json")) for root in roots)


def _url_files(url: str) -> list[tuple[str, bytes]]:
    system, root = open_file_system(url, extra="history", purpose="reading from a URL")
    try:
        names = [root] if system.isfile(root) else sorted(name for name in system.find(root) if name.endswith(_ENDINGS))
        files = [(name, system.cat_file(name)) for name in names]
    except (OSError, ValueError) as error:
        raise UsageProblem(f"{shown(url)} cannot be read: {one_line(str(error), limit=200)}") from error
    if not files:
        raise UsageProblem(f"{shown(url)} is not there, or holds no files to import")
    return files


@contextmanager
def _git_branch(location: str, branch: str) -> Iterator[list[tuple[str, bytes]]]:
    """The data.js files on a branch, of a repository here or behind a URL that git knows."""
    with tempfile.TemporaryDirectory(prefix="torchperf-import-") as folder:
        clone = Path(folder) / "repository"
        url = location if is_url(location) or not Path(location).exists() else str(Path(location).resolve())
        _git("clone", "--quiet", "--bare", "--single-branch", "--branch", branch, "--", url, str(clone))
        names = _git("--git-dir", str(clone), "ls-tree", "-r", "-z", "--name-only", "HEAD").decode().split("\0")
        found = [name for name in names if name.rpartition("/")[2] == "data.js"]
        if not found:
            raise UsageProblem(
                f"the branch {branch} of {shown(location) if is_url(location) else location} has no data.js"
            )
        yield [(f"{branch}:{name}", _git("--git-dir", str(clone), "show", f"HEAD:{name}")) for name in found]


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False, timeout=_GIT_SECONDS)  # noqa: S607 - the user's git
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageProblem(f"git could not be run: {error}") from error
    if done.returncode:
        raise UsageProblem(f"git {arguments[0]} failed: {one_line(done.stderr.decode(errors='replace'), limit=300)}")
    return done.stdout
