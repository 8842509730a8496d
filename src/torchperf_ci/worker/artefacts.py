"""The compilers' own artefacts of a case: the graphs that dynamo captures, why it breaks and recompiles them, and how
long each phase of compiling takes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import torch

_LONGEST = 20_000
"""Lines that are kept of all graphs."""

_LOGS = ("graph_code", "graph_breaks", "recompiles")
_FILE = re.compile(r"# File: (?P<file>.+?):(?P<line>\d+) in (?P<function>\S+), code: (?P<code>.*)")
_BREAK = re.compile(r"Graph [Bb]reak.* in user code at (?P<file>.+?):(?P<line>\d+)")
_REASON = re.compile(r"(?:Graph Break )?Reason: *(?P<reason>.*(?:\n+.*)?)")
_GENERAL = "Encountered graph break when attempting to trace"
_SECOND = "Failed to handle graph break gracefully"
"""Begins what dynamo says when it gives a frame up for a break that it has named already."""
_RECOMPILED = re.compile(r"Recompiling function (?P<name>\S+) in (?P<file>.+?):(?P<line>\d+)")
_RESUMED = re.compile(r"torch_dynamo_resume_in_(\w+)_at_\d+")


class CompileLog(logging.Handler):
    """Hears what dynamo says of its graphs from `start` on; in the torch of the worker, these logs are for all to read.

    graphs: of each the lines of its code with the place that a line comes from. breaks: reason and place.
    recompiles: function, place and the guards that failed.
    """

    def __init__(self, shorten: Callable[[str], str]) -> None:
        """shorten: writes the path of a file as people know it."""
        super().__init__(logging.DEBUG)
        self._shorten = shorten
        self.graphs: list[list[tuple[str, str]]] = []
        self.breaks: list[tuple[str, str]] = []
        self.recompiles: list[tuple[str, str, str]] = []

    def start(self) -> None:
        """Begin to hear, and let inductor's own kernels be named in profiles on a CPU, as they are on a device."""
        import torch._inductor.config as inductor
        from torch._logging._internal import log_registry, log_state

        inductor.cpp.enable_kernel_profile = True
        log_state.enable_artifact("recompiles")  # dynamo asks this, not the log
        for name in log_registry.artifact_log_qnames:
            if name.rpartition(".")[2].removeprefix("__") in _LOGS:
                log = logging.getLogger(name)
                log.setLevel(logging.DEBUG)
                log.propagate = False
                log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what a record says."""
        kind, text = record.name.rpartition(".")[2].removeprefix("__"), record.getMessage()
        if kind == "graph_code":
            self._note_graph(text)
        elif kind == "graph_breaks" and (place := _BREAK.search(text)):
            reason = _REASON.search(text)
            said = list(filter(None, reason["reason"].splitlines())) if reason else [text.splitlines()[0]]
            if not said[0].startswith(_SECOND):
                self.breaks.append((said[-1 if said[0].startswith(_GENERAL) else 0], self._write_place(place)))
        elif kind == "recompiles" and (place := _RECOMPILED.search(text)):
            guards = [line.strip(" -") for line in text.splitlines()[1:] if line.strip().startswith("-")]
            self.recompiles.append((_name_function(place["name"]), self._write_place(place), "; ".join(guards)))

    def _note_graph(self, text: str) -> None:
        lines: list[tuple[str, str]] = []
        place = ""
        if sum(map(len, self.graphs)) > _LONGEST:
            return
        _, _, body = text.partition("class GraphModule")
        for line in map(str.strip, body.splitlines()[1:]):
            if source := _FILE.match(line):
                place = self._write_place(source)
                lines.append((f"# {_name_function(source['function'])}: {source['code']}", place))
            elif line and not line.startswith("#"):
                lines.append((line.partition(";  ")[0], place))
        self.graphs.append(lines)

    def _write_place(self, match: re.Match[str]) -> str:
        return f"{self._shorten(match['file'])}:{match['line']}"

    def reply(self) -> dict[str, Any]:
        """Return it as JSON, with the seconds of each phase of compiling so far, by torch's names; phases lie within
        others."""
        phases = torch._dynamo.utils.compilation_time_metrics
        return {
            "graphs": self.graphs,
            "breaks": self.breaks,
            "recompiles": self.recompiles,
            "phases": {name: float(sum(times)) for name, times in phases.items()},
        }


def _name_function(name: str) -> str:
    """Name the function that the user wrote, of one that dynamo made to go on after a break."""
    return _RESUMED.sub(r"\1", name)
