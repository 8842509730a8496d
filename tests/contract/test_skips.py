"""What .ci/run makes of a test that is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_only_an_allowed_skip_passes(tmp_path: Path) -> None:
    """Of a test and of a whole file alike; everything else that is skipped fails, with its reason."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    for name, reason in (("allowed", "there is no GPU"), ("other", "no engine")):
        skip = f"pytest.skip({reason!r}, allow_module_level=True)"
        (tmp_path / f"test_{name}.py").write_text(f"import pytest\n\ndef test_it():\n    {skip}\n")
        (tmp_path / f"test_{name}_file.py").write_text(f"import pytest\n\n{skip}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--continue-on-collection-errors", "."],
        cwd=tmp_path,
        env={**os.environ, "TORCHPERF_TESTS_NO_SKIP": "1", "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout
    assert "1 failed, 2 skipped, 1 error" in done.stdout
    assert "no engine" in done.stdout
