"""Read what another tool wrote: find the files, tell the format, group records into runs; write what they read."""

from __future__ import annotations

import codecs
import json
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import repeat
from pathlib import Path
from typing import Any

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.file_systems import is_url, open_file_system, shown
from torchperf_ci.core.records import Direction, Record
from torchperf_ci.core.results import Results
from torchperf_ci.core.text import one_line
from torchperf_ci.formats.asv import find_results, import_asv
from torchperf_ci.formats.google_benchmark import import_google_benchmark
from torchperf_ci.formats.hud import import_hud
from torchperf_ci.formats.model import ExportFormat, Imported, ImportFormat, ImportRequest, InputProblem, parse
from torchperf_ci.formats.named_values import (
    DATA_JS,
    as_bencher,
    as_github_action_benchmark,
    import_bencher,
    import_custom,
    import_data_js,
    import_fastrnns,
)
from torchperf_ci.formats.openmetrics import as_openmetrics, import_openmetrics
from torchperf_ci.formats.pytest_benchmark import as_pytest_benchmark, import_pytest_benchmark
from torchperf_ci.formats.tables import as_csv, as_parquet, import_csv, import_parquet
from torchperf_ci.history.runs import HistoryRun, parse_time

LARGEST = 2**30
"""Bytes of one file, unpacked."""

_ENDINGS = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".js", ".csv", ".csv.gz", ".parquet", ".txt", ".prom")
_GIT_SECONDS = 300


def read_location(location: str, request: ImportRequest, *, git_branch: str = "") -> Imported:
    """Read a file, a folder, a URL that fsspec knows, or with `git_branch` that branch of a repository.

    Raises `UsageProblem` when there is nothing to read, and `InputProblem` for one file that cannot be used; of many
    files those that cannot be used are left out.
    """
    if git_branch:
        with _git_branch(location, git_branch) as contents:
            return _read_all(contents, request)
    if is_url(location):
        return _read_all(_url_files(location), request)
    path = Path(location)
    try:
        if path.is_file():
            content = path.read_bytes()
            form = request.form or detect(unpack(content, location), file=location)
            return import_asv(path, request) if form is ImportFormat.ASV else read_content(content, location, request)
        if not path.is_dir():
            raise UsageProblem(f"{location} is not there; give a file, a folder, or a URL")
        if request.form is ImportFormat.ASV or (request.form is None and find_results(path)):
            return import_asv(path, request)
        files = sorted(each for each in path.rglob("*") if each.is_file() and each.name.endswith(_ENDINGS))
        return _read_all([(str(file), file.read_bytes()) for file in files], request)
    except OSError as error:
        raise UsageProblem(f"{error.filename or location} cannot be read ({error.strerror})") from error


_READERS: Mapping[ImportFormat, Callable[..., Imported]] = {
    ImportFormat.BENCHER: import_bencher,
    ImportFormat.HUD: import_hud,
    ImportFormat.PYTEST_BENCHMARK: import_pytest_benchmark,
    ImportFormat.GOOGLE_BENCHMARK: import_google_benchmark,
    ImportFormat.FASTRNNS: import_fastrnns,
    ImportFormat.OPENMETRICS: import_openmetrics,
    ImportFormat.CSV: import_csv,
    ImportFormat.PARQUET: import_parquet,
}


def read_content(content: bytes, file: str, request: ImportRequest) -> Imported:
    """Read the content of a file. Raises `InputProblem` naming what is wrong and where."""
    content = unpack(content, file)
    form = request.form or detect(content, file=file)
    if form is ImportFormat.ASV:
        raise InputProblem([f"{file}: a file of asv is read where it lies, beside its machine and its benchmarks"])
    if form is ImportFormat.GITHUB_ACTION_BENCHMARK:
        is_list = content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        return (import_custom if is_list else import_data_js)(content, request, file=file)
    return _READERS[form](content, request, file=file)


def _read_all(files: Sequence[tuple[str, bytes]], request: ImportRequest) -> Imported:
    records: list[Record] = []
    run_keys: list[str] = []
    left_out: list[str] = []
    warnings: dict[str, None] = {}
    for file, content in files:
        try:
            imported = read_content(content, file, request)
        except UsageProblem as error:
            left_out.append(str(error))
            continue
        records += imported.records
        run_keys += imported.run_keys or [""] * len(imported.records)
        left_out += imported.left_out
        warnings |= dict.fromkeys(imported.warnings)
    return Imported(
        records=tuple(records), run_keys=tuple(run_keys), left_out=tuple(left_out), warnings=tuple(warnings)
    )


def detect(content: bytes, *, file: str) -> ImportFormat:
    """Tell the format by the content. Raises `InputProblem` when it is none of ours."""
    if content.startswith(b"PAR1"):
        return ImportFormat.PARQUET
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(DATA_JS.encode()):
        return ImportFormat.GITHUB_ACTION_BENCHMARK
    if start.startswith((b"# TYPE", b"# HELP", b"# UNIT", b"# EOF")):
        return ImportFormat.OPENMETRICS
    first_line = start.partition(b"\n")[0]
    if start.startswith((b"{", b"[")):
        for text in (start, first_line):  # the whole, or one of several objects
            with suppress(InputProblem):
                if form := _form_of_json(parse(text, file=file)):
                    return form
    elif b"," in first_line:
        return ImportFormat.CSV
    raise InputProblem(
        [f"{file}: is in no format that is known here; the formats are {', '.join(ImportFormat)}: see docs/upload.md"]
    )


def _form_of_json(raw: object) -> ImportFormat | None:
    match raw:
        case {"entries": dict()}:
            return ImportFormat.GITHUB_ACTION_BENCHMARK
        case {"context": dict(), "benchmarks": list()}:
            return ImportFormat.GOOGLE_BENCHMARK
        case {"benchmarks": [{"real_time": _} | {"cpu_time": _} | {"run_type": _} | {"error_occurred": _}, *_]}:
            return ImportFormat.GOOGLE_BENCHMARK
        case {"benchmarks": list()}:
            return ImportFormat.PYTEST_BENCHMARK
        case {"metric": dict()} | [{"metric": dict()}, *_]:
            return ImportFormat.HUD
        case [{"name": _, "value": _}, *_] | []:
            return ImportFormat.GITHUB_ACTION_BENCHMARK
        case {"commit_hash": _, "results": _} | {"commit_hash": _, "result": _}:
            return ImportFormat.ASV
        case dict() if raw and all(isinstance(each, dict) for each in raw.values()):
            inner = [item for each in raw.values() for item in each.values()]
            return ImportFormat.BENCHER if any(isinstance(item, dict) for item in inner) else ImportFormat.FASTRNNS
        case _:
            return None


def runs_of(imported: Imported, *, name: str) -> tuple[list[HistoryRun], list[str]]:
    """Group records into runs, oldest first, and say what cannot be put into one.

    A run is what the file says is one. Else it is what has one time, commit, machine and workflow run; its key says
    these, so that importing twice is the same as once.
    """
    groups: dict[str, dict[Any, Record]] = {}
    left_out: list[str] = []
    for record, run_key in zip(imported.records, imported.run_keys or repeat(""), strict=False):
        when = parse_time(record.source.time)
        if when is None:
            left_out.append(f"{record.case}: has no time; give it with --time")
            continue
        key = run_key or _name_run(record, when)
        group = groups.setdefault(key, {})
        if record.key in group:
            left_out.append(f"{record.case}: is there twice in the run {key}")
        group.setdefault(record.key, record)
    runs = []
    for key, group in groups.items():
        times = [when for record in group.values() if (when := parse_time(record.source.time)) is not None]
        runs.append(HistoryRun(name=name, key=key, time=min(times), results=Results(records=tuple(group.values()))))
    return sorted(runs, key=lambda run: run.time), left_out


def _name_run(record: Record, when: datetime) -> str:
    source = record.source
    if source.run_id:
        return f"{source.repository}/{source.run_id}".lstrip("/")
    parts = [part for part in (record.environment.host, source.commit[:12]) if part] or ["imported"]
    return f"{'-'.join(parts)}@{when:%Y%m%dT%H%M%S.%fZ}"


def unpack(content: bytes, file: str) -> bytes:
    """Unpack a gzipped file, and turn UTF-16 into UTF-8.

    Raises `InputProblem` when it is damaged, or larger than anybody's results.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Windows PowerShell's > writes text
        return content.decode("utf-16", errors="replace").encode(errors="replace")
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


def _url_files(url: str) -> list[tuple[str, bytes]]:
    system, root = open_file_system(url, purpose="reading from a URL")
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
    """Yield the data.js files on a branch, of a repository here or behind a URL that git knows."""
    with tempfile.TemporaryDirectory(prefix="torchperf-import-") as folder:
        clone = Path(folder) / "repository"
        url = location if is_url(location) or not Path(location).exists() else str(Path(location).resolve())
        _git("clone", "--quiet", "--bare", "--single-branch", "--branch", branch, "--", url, str(clone))
        names = _git("--git-dir", str(clone), "ls-tree", "-r", "-z", "--name-only", "HEAD").decode().split("\0")
        paths = [name for name in names if name.rpartition("/")[2] == "data.js"]
        if not paths:
            raise UsageProblem(
                f"the branch {branch} of {shown(location) if is_url(location) else location} has no data.js"
            )
        yield [(f"{branch}:{name}", _git("--git-dir", str(clone), "show", f"HEAD:{name}")) for name in paths]


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False, timeout=_GIT_SECONDS)  # noqa: S607 - the user's git
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageProblem(f"git could not be run: {error}") from error
    if done.returncode:
        raise UsageProblem(f"git {arguments[0]} failed: {one_line(done.stderr.decode(errors='replace'), limit=300)}")
    return done.stdout


def export_records(
    records: Sequence[Record], form: ExportFormat, *, direction: Direction = Direction.LOWER, run_key: str = ""
) -> bytes:
    """Make the content of the file. `direction` chooses the metrics for github-action-benchmark, whose files hold one.

    run_key: what the history calls the run of these records, for the tables; blank where that is not known.
    Raises `UsageProblem` when pyarrow is missing for Parquet.
    """
    value: Any
    match form:
        case ExportFormat.CSV:
            return as_csv(records, run_key=run_key)
        case ExportFormat.PARQUET:
            return as_parquet(records, run_key=run_key)
        case ExportFormat.OPENMETRICS:
            return as_openmetrics(records)
        case ExportFormat.GITHUB_ACTION_BENCHMARK:
            value = as_github_action_benchmark(records, direction)
        case ExportFormat.BENCHER:
            value = as_bencher(records)
        case ExportFormat.PYTEST_BENCHMARK:
            value = as_pytest_benchmark(records)
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
