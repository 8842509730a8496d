"""How checks against expectations and updates of them read: text for a terminal, Markdown for GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchperf_ci.core.text import code, count, fenced, one_line
from torchperf_ci.expectations.flaky import Kind
from torchperf_ci.expectations.merge import CellChange, ChangeKind, RowChange
from torchperf_ci.expectations.rules import Checked, Line, Outcome, failed_names
from torchperf_ci.expectations.update import TableUpdate, Update
from torchperf_ci.report.document import Block, fit
from torchperf_ci.report.document import MarkdownTable as Rows
from torchperf_ci.report.document import TableLine as Row

LIMIT = 60_000
"""Bytes of a Markdown summary: it fits into a comment and into a pull request's text."""

LOG = "the log"
"""Where everything is that is hidden for length."""

_TITLES = {
    Kind.ACCURACY: "accuracy status",
    Kind.GRAPH_BREAKS: "graph breaks, captured calls, fallbacks or recompiles",
    Kind.PERFORMANCE: "performance",
    Kind.MEMORY: "memory compression ratio",
}
_WORDS = {
    ChangeKind.CHANGED: "changed",
    ChangeKind.NEW: "new",
    ChangeKind.GONE: "gone",
    ChangeKind.KEPT: "kept",
}


def check_text(checks: Sequence[Checked], command: str, notes: Sequence[str] = ()) -> str:
    """A line per model, then what tables do not cover, what failed, and the command that updates the expectation."""
    parts = []
    for checked in checks:
        parts.append(f"{checked.table} ({checked.kind}):")
        parts += [check_line(line) for line in checked.lines]
        parts.append("")
    parts += [f"Note: {one_line(note)}" for note in notes]
    parts += [""] if notes else []
    parts += _failure_text(checks, command)
    return "\n".join(parts).rstrip()


def check_line(line: Line) -> str:
    """One model: padded name, status, and what was compared where it differs."""
    if not line.detail:
        return f"{line.name:34}  {line.outcome}"
    return f"{line.name:34}  {line.outcome.value + ':':9} {one_line(line.detail)}"


def verdict(checks: Sequence[Checked]) -> tuple[str, str]:
    """A sign and a sentence."""
    models = sum(len(checked.lines) for checked in checks)
    failed = sum(len(checked.failed) for checked in checks)
    what = f"{count(models, 'expectation')} in {count(len({checked.table for checked in checks}), 'table')}"
    return ("❌", f"Not met: {failed:,} of {what}") if failed else ("✅", f"Met: {what}")


def check_markdown(checks: Sequence[Checked], command: str, notes: Sequence[str] = (), *, limit: int = LIMIT) -> str:
    """The same as Markdown of at most `limit` bytes: what failed first, then what differs without failing."""
    sign, sentence = verdict(checks)
    blocks = [Block(before=f"## {sign} {sentence}\n")]
    if command:
        shell = fenced(command, language="shell")
        blocks.append(Block(before=f"\nIf this is expected, update the tables with\n\n{shell}\n"))
    failing = [(checked, line) for checked in checks for line in checked.failed]
    differing = [(c, line) for c in checks for line in c.lines if line.detail and not line.fails]
    blocks += _check_block("Not as expected", failing, rank=0)
    blocks += _check_block("Different, but no failure", differing, rank=1)
    if notes:
        blocks.append(_listed("Not covered", [("", note) for note in notes], rank=2))
    return fit(blocks, limit, where=LOG)


def update_text(update: Update, *, dry_run: bool) -> str:
    """Per table what changed and how, then what is incomplete."""
    parts = []
    for table in _worth_telling(update):
        parts.append(f"{table.path}: {_counts(table)}")
        parts += [f"  {_change_text(change)}" for change in table.merged.changes]
    unchanged = sum(not table.merged.written for table in update.tables)
    parts += [f"unchanged: {count(unchanged, 'table')}"] if unchanged else []
    parts += [f"note: {one_line(_prefixed(config, note))}" for config, note in update.notes]
    parts += [f"incomplete: {one_line(_prefixed(config, gap))}" for config, gap in update.gaps]
    parts += [f"left untouched: {', '.join(update.untouched)}"] if update.untouched else []
    parts += ["dry run: nothing was written"] if dry_run and update.written else []
    return "\n".join(parts)


def update_markdown(update: Update, *, sha: str = "", limit: int = LIMIT) -> str:
    """The same as Markdown of at most `limit` bytes: the body of a pull request, or a step summary."""
    source = f" from commit {code(sha)}" if sha else ""
    blocks = [Block(before=f"## {_headline(update)}{source}\n")]
    if update.gaps:
        blocks.append(_listed("Incomplete", update.gaps, rank=0))
    for table in _worth_telling(update):
        lines = [_change_row(change) for change in table.merged.changes]
        before = f"\n### {code(table.path)}: {_counts(table)}\n"
        blocks.append(_tabled(before, ("Model", "What", "Change"), lines, where="the diff", rank=1))
    if update.notes:
        blocks.append(_listed("Notes", update.notes, rank=2))
    return fit(blocks, limit, where="the diff")


def _failure_text(checks: Sequence[Checked], command: str) -> Iterator[str]:
    for kind in Kind:
        if failed := failed_names(checks, kind):
            yield f"Error: {_models(len(failed))} not as expected in {_TITLES[kind]}:\n    {' '.join(failed)}\n"
        improved = list(dict.fromkeys(line.name for c in checks if c.kind is kind for line in c.improved))
        if improved:
            yield f"Improvement: {_models(len(improved))} better than expected in {_TITLES[kind]}:"
            yield f"    {' '.join(improved)}\n"
    if command:
        yield f"If this change is expected, update the tables with\n    {command}\nand commit the result."


def _models(number: int) -> str:
    return "1 model is" if number == 1 else f"{number:,} models are"


def _check_block(title: str, lines: Sequence[tuple[Checked, Line]], *, rank: int) -> list[Block]:
    cells = [
        (code(checked.table), code(line.name), f"{_sign(line)} {line.outcome}", code(line.detail))
        for checked, line in lines
    ]
    before = f"\n### {title} ({len(cells):,})\n"
    return [_tabled(before, ("Table", "Model", "Status", "What"), cells, where=LOG, rank=rank)] if cells else []


def _tabled(before: str, columns: Sequence[str], cells: Sequence[Sequence[str]], *, where: str, rank: int) -> Block:
    if not cells:
        return Block(before=before, rank=rank)
    head = f"\n{_row(columns)}\n{_row(['---'] * len(columns))}\n"
    rows = tuple(Row(text=_row(line), rank=rank) for line in cells)
    return Block(before=before, tables=(Rows(before=head, lines=rows, where=where),), rank=rank)


def _listed(title: str, items: Sequence[tuple[str, str]], *, rank: int) -> Block:
    rows = tuple(Row(text=f"- {code(_prefixed(config, text), limit=300)}", rank=rank) for config, text in items)
    return Block(before=f"\n### {title}\n\n", tables=(Rows(before="", lines=rows, where=LOG),), rank=rank)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sign(line: Line) -> str:
    if line.outcome is Outcome.IMPROVED:
        return "⬆️"
    return "❌" if line.fails else "➖"


def _worth_telling(update: Update) -> list[TableUpdate]:
    """The tables that change, and those with models that the run does not have."""
    return [table for table in update.tables if table.merged.written or table.merged.of(ChangeKind.KEPT)]


def _counts(table: TableUpdate) -> str:
    counts = [(len(table.merged.of(kind)), _WORDS[kind]) for kind in ChangeKind]
    words = ", ".join(f"{number} {word}" for number, word in counts if number)
    return f"new table, {words}" if table.is_new else words or "columns changed"


def _change_text(change: RowChange) -> str:
    return f"{change.name:34}  {_WORDS[change.kind]}: {_cells_text(change)}"


def _change_row(change: RowChange) -> tuple[str, str, str]:
    return code(change.name), _WORDS[change.kind], code(_cells_text(change))


def _cells_text(change: RowChange) -> str:
    if change.kind is ChangeKind.KEPT:
        return "not in this run"
    return ", ".join(_cell_text(cell, change.kind) for cell in change.cells)


def _cell_text(cell: CellChange, kind: ChangeKind) -> str:
    title = "" if cell.column == "accuracy" else f"{cell.column} "
    if kind is ChangeKind.CHANGED:
        return f"{title}{cell.before or 'blank'} → {cell.after or 'blank'}"
    return f"{title}{cell.after or cell.before}"


def _headline(update: Update) -> str:
    incomplete = f"⚠️ Incomplete ({count(len(update.gaps), 'gap')}). " if update.gaps else ""
    if not update.written:
        return f"{incomplete}Expectations: nothing changes"
    kinds = [change.kind for table in update.written for change in table.merged.changes]
    changes = sum(kind is not ChangeKind.KEPT for kind in kinds)
    return f"{incomplete}Expectations: {count(changes, 'change')} in {count(len(update.written), 'table')}"


def _prefixed(config: str, text: str) -> str:
    return f"{config}: {text}" if config else text
