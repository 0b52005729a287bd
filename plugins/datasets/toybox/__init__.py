"""Toybox: a built-in procedural data set of real mp4 files with exact masks, generated on first use; see `datasets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .datasets import ToyboxDuet as ToyboxDuet, ToyboxScene as ToyboxScene, ToyboxSingle as ToyboxSingle


def __getattr__(name: str) -> Any:
    """Load the dataset classes on first use: processes that make clips import this package without torch."""
    if not name.startswith("Toybox"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import datasets

    return getattr(datasets, name)
