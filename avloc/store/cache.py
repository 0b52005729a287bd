"""What is in the cache: all of it can be made again, so all of it may be deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from avloc.store.disk import CACHE_TAG, cache_folder, exclusive, read_json
from avloc.types import AvlocError


@dataclass(frozen=True, slots=True)
class Cached:
    """One folder of the cache.

    Attributes:
        name: Under the cache folder, with slashes; what `clear` takes.
        what: What it holds, in words.
        clips: Records of a feature log; 0 for other folders.
        size: Bytes on disk.
        written: When a file in it was last written.
    """

    name: str
    what: str
    clips: int
    size: int
    written: datetime


def entries() -> list[Cached]:
    """Every feature log (one per encoder and dataset), and every folder that says it is a cache (built-in media).

    What a user brought there (data sets, weights) says no such thing: it is neither listed nor deleted.
    """
    home = cache_folder()
    if not home.is_dir():
        return []
    features = [_features(log.parent, home) for log in sorted(home.glob("features/**/samples.jsonl"))]
    others = sorted(tag.parent for tag in home.glob(f"*/{CACHE_TAG}"))
    return [*features, *(_entry(path, home, "media that avloc made") for path in others)]


def clear(names: Sequence[str]) -> int:
    """Delete entries; returns how many bytes that freed.

    Args:
        names: As `entries` spells them, or the beginning of some up to a slash (``features``). Empty: everything.

    Raises:
        AvlocError: No entry has such a name.
    """
    home, chosen = cache_folder(), {}
    for entry in entries():
        if not names or any(entry.name == name or entry.name.startswith(f"{name.rstrip('/')}/") for name in names):
            chosen[entry.name] = entry
    for name in names:
        if not any(entry == name.rstrip("/") or entry.startswith(f"{name.rstrip('/')}/") for entry in chosen):
            raise AvlocError(f"The cache {home} has no entry {name!r}; avloc cache lists what it has.")
    for entry in chosen.values():
        _empty(home / entry.name)
    return sum(entry.size for entry in chosen.values())


def _empty(folder: Path) -> None:
    """Delete all files but the locks, each folder's while nobody writes there; the next one to write finds its lock."""
    for lock in sorted(folder.rglob(".lock")):
        with exclusive(lock.parent, lock.parent.name):
            for file in lock.parent.iterdir():
                if file.is_file() and file != lock:
                    file.unlink()
    for file in folder.rglob("*"):
        if file.is_file() and file.name != ".lock":
            file.unlink()


def _features(path: Path, home: Path) -> Cached:
    with (path / "samples.jsonl").open("rb") as lines:
        return _entry(path, home, _described(path), sum(1 for _ in lines))


def _entry(path: Path, home: Path, what: str, clips: int = 0) -> Cached:
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    latest = max((file.st_mtime for file in files), default=path.stat().st_mtime)
    size = sum(file.st_size for file in files)
    return Cached(path.relative_to(home).as_posix(), what, clips, size, datetime.fromtimestamp(latest, UTC))


def _described(path: Path) -> str:
    about = path / "about.json"
    if not about.is_file():
        return "embeddings of class names" if path.name == "text" else "features"
    said = read_json(about)
    by = f"by {said['encoder']}, weights {said['weights']}" if said["encoder"] else "an index of clips"
    return f"{said['dataset']} {by}"
