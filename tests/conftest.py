"""Fixtures: the small world of `world`, and a separate cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; two OpenMP threads on two busy cores stall each other

import pytest

from avloc._torch_ext import repair_torch_extensions
from avloc.registry import registry
from helpers.world import SUITE, World

repair_torch_extensions()  # tests import plugins' modules without the registry


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """Tests do not read or write the user's cache, unless they use the shared one."""
    if "shared_cache" not in request.fixturenames:
        monkeypatch.setenv("AVLOC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def world() -> Iterator[type[World]]:
    """The small world, registered for one test."""
    registry.cache_clear()
    registry().add_module("world", World())
    World.events.clear()
    yield World
    registry.cache_clear()


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    """The small world's suite as a file."""
    path = tmp_path / "blocks.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return path
