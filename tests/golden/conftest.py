"""The recorded outputs of official implementations, and the code that made their weights and inputs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The golden files; the test is skipped where they are absent."""
    folder = Path(os.environ.get("AVLOC_GOLDEN", PROJECT.parent / "shared" / "golden"))
    if not (folder / "fill.py").is_file():
        pytest.skip(f"no golden files in {folder} (AVLOC_GOLDEN)")
    return folder


@pytest.fixture(scope="session")
def golden_module(golden_folder: Path) -> Callable[[str], ModuleType]:
    """Imports a Python file of the golden folder, such as ``fill.py``."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"golden_{Path(name).stem}", golden_folder / name)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
