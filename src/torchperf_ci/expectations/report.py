"""Put checks against expectations, and updates of them, into words: text for a terminal, Markdown for GitHub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torchperf_ci.core.text import code, count, fenced, html, one_line, some_of
from torchperf_ci.expectations.check import CheckOutcome, ModelCheck, TableCheck
from torchperf_ci.expectations.table import CheckKind
from torchperf_ci.expectations.update import CellChange, ChangeKind, RowChange, TableUpdate, Update
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, fit, markdown_table

LIMIT = 60_000
"""Bytes of a Markdown summary: it fits into a comment and into a pull request's text."""

LOG = "the log"
"""Where everything is that is hidden for length."""

_TITLES = {
    CheckKind.ACCURACY: "accuracy status",
    CheckKind.GRAPH_BREAKS: "graph breaks, captured calls, fallbacks or recompiles",
    CheckKind.PERFORMANCE: "performance",
    CheckKind.MEMORY: "memory compression ratio",
}
_WORDS = {
    CheckOutcome.FAIL: "failed",
    CheckOutcome.MISSING: "missing",
    CheckOutcome.MISSING_ACTUAL: "missing",
    CheckOutcome.MISSING_ACCURACY: "missing",
    CheckOutcome.MISSING_EXPECTED: "new",
    CheckOutcome.IMPROVED: "improved",
    CheckOutcome.FAIL_BUT_FLAKY: "flaky",
    CheckOutcome.PASS_BUT_FLAKY: "flaky",
}
"""The states that a headline counts, the worst first."""
_TAKE_WHAT_THERE_IS = "Repeat the command when the rest is there, or merge what there is with --allow-missing."


def write_check_text(checks: Sequence[TableCheck], command: str, notes: Sequence[str] = ()) -> str:
    """Write a line per model, then what tables do not cover, what failed, the command that updates the expectation, and
    the verdict."""
    parts = []
    for each in checks:
        parts += [f"{each.table} ({each.kind}):", *map(write_check_line, each.lines), ""]
    parts += [*(f"Note: {one_line(note)}" for note in notes), *([""] if notes else [])]
    for kind in CheckKind:
        lines = [line for each in checks if each.kind is kind for line in each.lines]
        improved = dict.fromkeys(line.name for line in lines if line.outcome is CheckOutcome.IMPROVED)
        failed = dict.fromkeys(line.name for line in lines if line.fails and line.outcome is not CheckOutcome.IMPROVED)
        if failed:
            verb = "is" if len(failed) == 1 else "are"
            what = f"{count(len(failed), 'model')} {verb} not as expected in {_TITLES[kind]}"
            parts.append(f"Error: {what}:\n    {' '.join(failed)}\n")
        if improved:
            verb = "is" if len(improved) == 1 else "are"
            parts.append(
                f"Improvement: {count(len(improved), 'model')} {verb} better than expected in {_TITLES[kind]}:"
            )
            parts.append(f"    {' '.join(improved)}\n")
    if command:
        parts.append(f"If these results are right, update the tables with\n    {command}\nand commit them.\n")
    return "\n".join([*parts, " ".join(count_outcomes(checks))])


def write_check_line(line: ModelCheck) -> str:
    """Write one model: padded name, status, and what was compared where it differs."""
    if not line.detail:
        return f"{line.name:34}  {line.outcome}"
    return f"{line.name:34}  {line.outcome.value + ':':9} {one_line(line.detail)}"


def count_outcomes(checks: Sequence[TableCheck]) -> tuple[str, str]:
    """Return a sign and a sentence: first how many are bad, and of how many."""
    lines = [line for each in checks for line in each.lines]
    of = f"{count(len(lines), 'check')} in {count(len({each.table for each in checks}), 'table')}"
    failing = Counter(_WORDS[line.outcome] for line in lines if line.fails)
    differing = Counter(_WORDS[line.outcome] for line in lines if not line.fails and line.outcome in _WORDS)
    words = list(dict.fromkeys(_WORDS.values()))
    bad = [f"{failing[word]:,} {word}" for word in words if failing[word]]
    good = [f"{differing[word]:,} {word}" for word in words if differing[word]]
    if bad:
        return "❌", f"{', '.join(bad)} of {of}"
    return "✅", ", ".join((f"As expected: {of}", *good))


def write_check_markdown(
    checks: Sequence[TableCheck], command: str, notes: Sequence[str] = (), *, limit: int = LIMIT
) -> str:
    """Write the same as Markdown of at most `limit` bytes: what failed first, then what differs without failing."""
    sign, sentence = count_outcomes(checks)
    blocks = [Block(before=f"## {sign} {sentence}\n")]
    blocks += _list_models("Not as expected", [(e, line) for e in checks for line in e.failed], rank=0)
    if command:
        advice = "If these results are right, update the tables with this command, and commit them:"
        blocks.append(Block(before=f"\n{advice}\n\n{fenced(command, language='shell')}\n"))
    differing = [(each, line) for each in checks for line in each.lines if line.detail and not line.fails]
    blocks += _list_models("Different, but no failure", differing, rank=1)
    if notes:
        blocks.append(_list_sentences("Not covered", [("", note) for note in notes], rank=2))
    return fit(blocks, limit, where=LOG)


def _list_models(title: str, lines: Sequence[tuple[TableCheck, ModelCheck]], *, rank: int) -> list[Block]:
    """List models in a narrow table for each expectation table: its name is long, and a phone's screen is not."""
    blocks = [Block(before=f"\n### {title}\n", rank=rank)] if lines else []
    for name in dict.fromkeys(each.table for each, _ in lines):
        # A model that one side lacks fails every kind of check for the same reason.
        models = dict.fromkeys(line for each, line in lines if each.table == name)
        cells = [(code(line.name), f"{_choose_sign(line)} {line.outcome}: {code(line.detail)}") for line in models]
        title = f"\n{code(name)}:\n"
        table = markdown_table(("Model", "Outcome"), cells, rank=rank, where=LOG, before=title)
        blocks.append(Block(before="", tables=(table,), rank=rank))
    return blocks


def _choose_sign(line: ModelCheck) -> str:
    if line.outcome is CheckOutcome.IMPROVED:
        return "⬆️"
    return "❌" if line.fails else "➖"


def write_update_text(update: Update, *, dry_run: bool) -> str:
    """Write, per table, what changed and how, then what is incomplete and what to do about it."""
    parts = []
    for table in _select_changed(update):
        parts.append(f"{table.path}: {_count_changes(table)}")
        parts += [f"  {change.name:34}  {change.kind}: {_describe(change)}" for change in table.merged.changes]
    unchanged = sum(not table.merged.written for table in update.tables)
    parts += [f"unchanged: {count(unchanged, 'table')}"] if unchanged else []
    parts += [f"note: {one_line(_prefix(config, note))}" for config, note in update.notes]
    parts += [f"incomplete: {one_line(_prefix(config, gap))}" for config, gap in update.gaps]
    parts += [f"left untouched: {', '.join(update.untouched)}", _TAKE_WHAT_THERE_IS] if update.untouched else []
    parts += [f"cannot be read: {one_line(why)}" for _, why in update.unusable]
    parts += [_advise_repair(update)] if update.unusable else []
    parts += ["dry run: nothing was written"] if dry_run and update.written else []
    return "\n".join(parts)


def write_update_markdown(update: Update, *, sha: str = "", limit: int = LIMIT) -> str:
    """Write the same as Markdown of at most `limit` bytes: the body of a pull request, or a step summary."""
    kinds = [change.kind for table in update.written for change in table.merged.changes]
    changes = sum(kind is not ChangeKind.KEPT for kind in kinds)
    headline = f"{count(changes, 'change')} in {count(len(update.written), 'table')}" if kinds else "nothing changes"
    incomplete = f"⚠️ Incomplete ({count(len(update.gaps), 'gap')}). " if update.gaps else ""
    broken = f"⚠️ {count(len(update.unusable), 'damaged table')}. " if update.unusable else ""
    source = f" from commit {code(sha[:12])}" if sha else ""
    blocks = [Block(before=f"## {broken}{incomplete}Expectations: {headline}{source}\n")]
    if update.unusable:
        blocks.append(_list_sentences("Cannot be read", [("", why) for _, why in update.unusable], rank=0))
        blocks.append(Block(before=f"\n{html(_advise_repair(update))}\n", rank=0))
    if update.gaps:
        blocks.append(_list_sentences("Incomplete", update.gaps, rank=0))
    if update.untouched:
        tables = f"The tables of {', '.join(map(code, update.untouched))} are as they were."
        blocks.append(Block(before=f"\n{tables} {_TAKE_WHAT_THERE_IS}\n", rank=0))
    for table in _select_changed(update):
        cells = [(code(change.name), f"{change.kind}: {code(_describe(change))}") for change in table.merged.changes]
        title = f"\n### {code(table.path)}: {_count_changes(table)}\n"
        tables_of_it = (markdown_table(("Model", "Row"), cells, rank=1, where="the diff"),) if cells else ()
        blocks.append(Block(before=title, tables=tables_of_it, rank=1))
    if update.notes:
        blocks.append(_list_sentences("Notes", update.notes, rank=2))
    return fit(blocks, limit, where="the diff")


def _advise_repair(update: Update) -> str:
    return f"Repair or delete {some_of([one_line(path) for path, _ in update.unusable])}, then repeat the command."


def _list_sentences(title: str, items: Sequence[tuple[str, str]], *, rank: int) -> Block:
    lines = [TableLine(text=f"- {code(_prefix(config, text), limit=300)}", rank=rank) for config, text in items]
    table = MarkdownTable(before="", lines=tuple(lines), where=LOG)
    return Block(before=f"\n### {title}\n\n", tables=(table,), rank=rank)


def _select_changed(update: Update) -> list[TableUpdate]:
    """Return the tables that change, and those with models that the run does not have."""
    return [table for table in update.tables if table.merged.written or table.merged.of(ChangeKind.KEPT)]


def _count_changes(table: TableUpdate) -> str:
    counts = [(len(table.merged.of(kind)), kind.value) for kind in ChangeKind]
    words = ", ".join(f"{number:,} {word}" for number, word in counts if number)
    return f"new table, {words}" if table.is_new else words or "columns changed"


def _describe(change: RowChange) -> str:
    if change.kind is ChangeKind.KEPT:
        return "not in this run"
    return ", ".join(_describe_cell(cell, change.kind) for cell in change.cells)


def _describe_cell(cell: CellChange, kind: ChangeKind) -> str:
    title = "" if cell.column == "accuracy" else f"{cell.column} "
    if kind is ChangeKind.CHANGED:
        return f"{title}{cell.before or 'blank'} → {cell.after or 'blank'}"
    return f"{title}{cell.after or cell.before}"


def _prefix(config: str, text: str) -> str:
    return f"{config}: {text}" if config else text
