"""Where avloc keeps things, and how several processes write there without hurting each other."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from avloc.progress import say
from avloc.types import AvlocError

CHECKSUM = "crc32"
"""The key of a JSON file that holds the checksum of all others."""
CACHE_TAG = "CACHEDIR.TAG"
"""The file by which backup programs, and ``avloc cache``, know a folder whose content can be made again."""


def cache_folder() -> Path:
    """What avloc can make again (built-in media, features): ``AVLOC_CACHE``, or the user's cache directory."""
    return Path(os.environ.get("AVLOC_CACHE") or platformdirs.user_cache_dir("avloc"))


def weights_folder() -> Path:
    """Checkpoints of encoders: ``AVLOC_WEIGHTS``, or a folder in the user's cache."""
    return Path(os.environ.get("AVLOC_WEIGHTS") or cache_folder() / "weights")


def data_folder(root: Path | None) -> Path:
    """Prepared data sets: what ``--data`` says, or a folder in the user's cache."""
    return root or cache_folder() / "data"


def tag_as_cache(folder: Path) -> None:
    """Say that all of a folder can be made again."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / CACHE_TAG).is_file():
            (folder / CACHE_TAG).write_text("Signature: 8a477f597d28d172789f06886806bc55\n", encoding="ascii")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's errors (full, read-only, no permission) into a sentence that names `path`."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        advice = "Choose a folder that can be written."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "Free space and run the same command again: it goes on from what is committed."
        raise AvlocError(f"Cannot write to {path}: {cause}. {advice}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file to fill, which then takes the place of `path`: a reader sees the old file or the new one.

    Raises:
        AvlocError: The disk is full or cannot be written; the old file stays.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with a checksum, so that a reader sees the old file or the new one, never half of it."""
    checked = {**content, CHECKSUM: _checksum(content)}
    text = json.dumps(checked, indent=1, sort_keys=True, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        AvlocError: The file is no JSON object, or was changed since.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        damage = "" if isinstance(content, dict) else "it is no JSON object"
        if not damage and content.pop(CHECKSUM, None) != _checksum(content):
            damage = "its checksum differs"
    except (OSError, ValueError) as error:
        damage = str(error)
    if damage:
        raise AvlocError(f"{path} is damaged or was edited ({damage}). Delete it and run the same command again.")
    return dict(content)


def _checksum(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


@contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold the folder's lock; a second process waits and says so. A killed process's lock is free at once."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(folder / ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"Another avloc process is working on {what} ({folder}); waiting for it.")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
