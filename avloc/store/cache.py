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
    logs, tags = sorted(home.glob("features/**/samples.jsonl")), sorted(home.glob(f"*/{CACHE_TAG}"))
    features = [_entry(log.parent, home, _described(log.parent), log.read_bytes().count(b"\n")) for log in logs]
    return [*features, *(_entry(tag.parent, home, "what avloc made of media or found in them") for tag in tags)]


def clear(names: Sequence[str]) -> int:
    """Delete entries; returns how many bytes that freed.

    Args:
        names: As `entries` spells them, or the beginning of some up to a slash (``features``). Empty: everything.

    Raises:
        AvlocError: No entry has such a name.
    """
    home, known = cache_folder(), entries()
    chosen = {} if names else {entry.name: entry for entry in known}
    for name in names:
        found = {entry.name: entry for entry in known if f"{entry.name}/".startswith(f"{name.rstrip('/')}/")}
        if not found:
            raise AvlocError(f"The cache {home} has no entry {name!r}; avloc cache lists what it has.")
        chosen |= found
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
