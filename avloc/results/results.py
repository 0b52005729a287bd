"""What was run, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avloc.store import Manifest


@dataclass(frozen=True)
class Results:
    """Temporary."""

    manifest: Manifest
    folder: Path
