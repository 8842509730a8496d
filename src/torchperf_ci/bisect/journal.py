"""The rounds of a bisection on disk, so that one that was ended goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchperf_ci.bisect.model import Round
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import RecordProblem, decode_line, encode_line
from torchperf_ci.core.results import ROUNDS, ResultsFolder, read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms under which rounds were measured: rounds of other terms tell nothing. By option, values or digests."""

    parts: Mapping[str, str] = field(default_factory=dict)


def open_journal(folder: ResultsFolder, terms: Terms, *, restart: bool = False) -> tuple[Round, ...]:
    """Read the rounds that an earlier run of the same terms left in a folder, and make the folder ready for more.

    The reports that are there are removed, and with `restart` the rounds as well. Raises `UsageProblem` for rounds of
    other terms, which stay.
    """
    rounds: list[Round] = []
    earlier: Terms | None = None
    for _, line in read_lines(folder.path / ROUNDS) if not restart else ():
        try:
            item = decode_line(line, {"terms": Terms, "round": Round})
        except RecordProblem as error:
            raise UsageProblem(f"{folder.path / ROUNDS} cannot be read ({error}); --restart begins anew") from error
        if isinstance(item, Terms):
            earlier = item
        else:
            rounds.append(item)
    if earlier is None:
        folder.empty()
        folder.write_text(".gitignore", "*\n")
        folder.append_lines(ROUNDS, [encode_line("terms", terms)])
        return ()
    other = [name for name, value in terms.parts.items() if earlier.parts.get(name) != value]
    if other:
        raise UsageProblem(
            f"{folder.path} holds what a bisection measured with other terms ({', '.join(other)}); choose another "
            "--output-dir, or begin anew with --restart"
        )
    return tuple(rounds)


def note_round(folder: ResultsFolder, taken: Round) -> None:
    """Add a round to the journal; it is on its way to the disk when this returns."""
    folder.append_lines(ROUNDS, [encode_line("round", taken)])
