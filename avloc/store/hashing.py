"""Ids: hashes of what something is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from avloc.types import DataError


def digest(about: object) -> str:
    """The SHA-256 of anything that is JSON, in its canonical form."""
    canonical = json.dumps(about, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def content_id(identity: Mapping[str, Any]) -> str:
    """The id of anything: the first 12 hex digits of its `digest`."""
    return digest(identity)[:12]


def file_digest(path: Path, algorithm: str = "blake2b") -> str:
    """A hash of a file's bytes, computed once per process as long as its size and time stay the same.

    Raises:
        DataError: The file is missing.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: the file is missing.") from error
    return _hashed(path.absolute(), state.st_size, state.st_mtime_ns, algorithm)


@lru_cache(maxsize=1 << 18)
def _hashed(path: Path, size: int, time: int, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
