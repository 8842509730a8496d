"""Lay this checkout's actions out as GitHub's runner does before it starts them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def unpack(repository: Path, target: Path) -> Path:
    """Archive the repository's files as they are now, unpack them, and follow every link, into `target`.

    The runner copies an action with links followed (ActionManager, v2.336.0): a link to a folder arrives as a folder
    that holds what the link's folder holds, and nothing of what lies beside that one.
    """
    scratch = target.with_name(f"{target.name}.links")
    scratch.mkdir(parents=True)
    index = target.with_name(f"{target.name}.index")
    env = {**os.environ, "GIT_INDEX_FILE": str(index)}
    git = ("git", "-c", "safe.directory=*", "-C", str(repository))
    subprocess.run([*git, "add", "--all"], env=env, check=True)
    tree = subprocess.run([*git, "write-tree"], env=env, check=True, capture_output=True, text=True).stdout.strip()
    archive = subprocess.run([*git, "archive", tree], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(scratch)], input=archive, check=True)
    shutil.copytree(scratch, target, symlinks=False)
    shutil.rmtree(scratch)
    index.unlink()
    return target
