"""``avloc cache``: what it lists and clears. What the cache holds is tested in tests/store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.commands import run


def test_the_cache_is_listed_and_cleared(world: Any, suite_file: Path) -> None:
    assert "0.0 MB in all." in run("cache").output
    assert run("bench", "--suite", suite_file, "--methods", "hinted", "--results", suite_file.parent).exit_code == 0
    assert "features" in run("cache").output
    assert run("cache", "clear").exit_code == run("cache", "clear", "x", "--all").exit_code == 2
    assert " MB freed." in run("cache", "clear", "--all").output
    assert "features" not in run("cache").output
