"""A package as ``avloc new`` writes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import run


@pytest.fixture
def package(tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new package; its module is forgotten afterwards."""
    monkeypatch.setitem(sys.modules, "avloc_my_idea", sys)
    monkeypatch.delitem(sys.modules, "avloc_my_idea")
    shown = run("new", "method", "my_idea", "--to", tmp_path)
    assert shown.exit_code == 0, shown.output
    return tmp_path / "my_idea"
