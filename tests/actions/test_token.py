"""What measured code can read of the token, in the actions that measure."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NOSY = """
import os, pathlib, torch

def read_all():
    texts, pid = [repr(dict(os.environ))], os.getpid()
    while pid > 1:
        folder = pathlib.Path("/proc", str(pid))
        try:
            texts.append((folder / "environ").read_text(errors="replace"))
            pid = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return "\\n".join(texts)

def note():
    with open(pathlib.Path(os.environ["NOSY"]), "a") as file:
        file.write(read_all())

if "NOSY" in os.environ:
    note()  # a plan imports the suite and builds no model

def nosy(batch_size):
    note()
    return torch.nn.Linear(4, 4), (torch.randn(2, 4),)

MODELS = {"nosy": nosy}
"""


@pytest.mark.parametrize(("name", "step"), [("run", "run"), ("compare", "live"), ("gate", "compare"), ("plan", "plan")])
def test_no_process_above_measured_code_has_the_token(action: Any, name: str, step: str) -> None:
    """Neither its own environment nor that of any process that started it: the steps that have it do not measure."""
    seen = action.workspace / "seen"
    (action.workspace / "nosy.py").write_text(NOSY)
    subprocess.run(["git", "init", "-q"], cwd=action.workspace, check=True)
    common = {"suites": "nosy.py", "compilers": "eager", "devices": "cpu", "threads": "1", "python": sys.executable}
    if name == "plan":
        common = {"suites": "nosy.py", "python": sys.executable}
    more = f"--extra-env {shlex.quote(f'NOSY={seen}')}"
    inputs = {
        "run": {"repeat": "10", "extra-args": f"--warmup 0 {more}"},
        "compare": {"launches": "2", "budget-per-case": "1", "base-ref": "", "extra-args": f"--head-env A=1 {more}"},
        "gate": {"launches": "2", "budget-per-case": "1", "base-ref": "", "extra-args": f"--head-env A=1 {more}"},
        "plan": {},
    }
    done = action.run(
        name, {**common, **inputs[name]}, step=step, env={"GITHUB_ACTION": "measured-step", "NOSY": str(seen)}
    )
    assert done.code in {0, 3, 4}, done.stderr
    assert "measured-step" in seen.read_text(errors="replace")
    assert "secret-token" not in seen.read_text(errors="replace")
