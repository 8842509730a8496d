"""Whether a package is there, and the command that brings it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from torchperf_ci.suites.requirements import missing_package


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package `ancientpkg` 1.9.3rc1, as an installer leaves it, on the path."""
    (tmp_path / "ancientpkg").mkdir()
    (tmp_path / "ancientpkg" / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    about = tmp_path / "ancientpkg-1.9.3rc1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ancientpkg\nVersion: 1.9.3rc1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_an_absent_package_is_told_with_the_command_that_installs_it() -> None:
    """The command is that of the very Python that lacks it, ready for a shell."""
    assert missing_package("no_such_package", minimum="4.44") == (
        f"no_such_package is not installed in this Python; "
        f"{shlex.quote(sys.executable)} -m pip install 'no_such_package>=4.44'"
    )


@pytest.mark.usefixtures("installed")
def test_a_package_that_is_too_old_is_told_with_both_versions() -> None:
    """1.9.3 is older than 1.10, number by number."""
    assert missing_package("ancientpkg", minimum="1.10") == (
        f"ancientpkg 1.9.3rc1 is too old, 1.10 is needed; "
        f"{shlex.quote(sys.executable)} -m pip install 'ancientpkg>=1.10'"
    )


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("minimum", ["1.9", "1.9.3", "1.2.77"])
def test_a_package_that_is_new_enough_is_fine_and_is_not_imported(minimum: str) -> None:
    """Asking costs no import."""
    assert missing_package("ancientpkg", minimum=minimum) is None
    assert "ancientpkg" not in sys.modules
