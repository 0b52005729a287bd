"""Shared code. `TESTS` is on the path of every test process, so that helpers import as ``helpers.x``."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
SHARED = ROOT.parent / "shared"
"""Annotation files, golden outputs and real media, where they are; tests skip without them."""
