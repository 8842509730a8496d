"""The command line in this process: as `torchperf-ci` does it, without the second that starting Python takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from torchperf_ci.cli.main import main


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Call it with the arguments of the command line, and the folder to be in."""

    def call(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["torchperf-ci", *arguments])
            patch.chdir(cwd)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Done(returncode=code if isinstance(code, int) else 0, stdout=captured.out, stderr=captured.err)

    return call
