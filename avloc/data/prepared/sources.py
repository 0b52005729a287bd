"""Where in a folder the media of clips are, whatever the folder's layout and naming convention.

Found anywhere below it:

* videos, by the name before the suffix,
* tar shards (``.tar``, ``.tar.gz``, ``.tgz``), by the names of the videos inside,
* ready-made frames and sounds: images below folders whose names have ``frames`` in them (``visual_frames``), sounds
  below those with ``audio`` or beside a video of the same name,
* masks: pickled arrays and ``.npy`` files, and ``.png`` below folders called ``masks`` or the like, by the name before
  the first dot.

A file is known by its whole name and by what follows a separator or stands in brackets at its end, so that
``vggss_YTID_000030.mp4`` and ``Some title [YTID].mkv`` are found too; whole names come first.
"""

from __future__ import annotations

import os
import re
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import IO, Any, NamedTuple

from avloc.data.extract import transient
from avloc.progress import say, track
from avloc.store import read_json, write_json, writing
from avloc.types import AvlocError, DataError

VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}
IMAGES = {".jpeg", ".jpg", ".png"}
SOUNDS = {".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"}
MASKS = {".npy", ".pickle", ".pkl"}
MASK_FOLDERS = {"anno", "annotation", "annotations", "gt", "mask", "masks"}
"""Below these a ``.png`` is a mask; elsewhere it may be any picture."""
SHARD = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)

DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)
"""What reading a shard raises where it is truncated or damaged."""


class Source(NamedTuple):
    """A file, or a video inside a shard.

    Attributes:
        file: Relative to the folder that was searched.
        member: Its name inside the shard `file`; empty for a file of its own.
    """

    file: str
    member: str = ""

    @property
    def name(self) -> str:
        """For the manifest and for errors."""
        return f"{self.file}:{self.member}" if self.member else self.file

    @property
    def suffix(self) -> str:
        """Of the media file, such as ``.mp4``."""
        return PurePosixPath(self.member or self.file).suffix.lower()


class Names:
    """Sources by name. Of several files of one name the first that was added counts; `doubles` has the name."""

    def __init__(self) -> None:
        self._whole: dict[str, Source] = {}
        self._ends: dict[str, Source] = {}
        self.doubles: set[str] = set()

    def __len__(self) -> int:
        return len(self._whole)

    def __iter__(self) -> Iterator[Source]:
        return iter(self._whole.values())

    def add(self, name: str, source: Source) -> None:
        """Know a source by its name and by the name's ends."""
        if self._whole.setdefault(name, source) is not source:
            self.doubles.add(name)
            return
        for end in _ends(name):
            if self._ends.setdefault(end, source) is not source:
                self.doubles.add(end)

    def find(self, names: Iterable[str]) -> tuple[str, Source] | None:
        """The first of some names, best first, that there is, and its source; whole names before ends of names."""
        for known in (self._whole, self._ends):
            for name in names:
                if name in known:
                    return name, known[name]
        return None


def _ends(name: str) -> Iterator[str]:
    """``a_b-c`` -> ``b-c``, ``c``; ``title [id]`` -> ``id``."""
    for separator in re.finditer(r"[_\-. ]", name):
        yield name[separator.end() :]
    bracket = re.search(r"\[([^\[\]]+)\]$", name)
    if bracket:
        yield bracket[1]


@dataclass(slots=True)
class Index:
    """All that was found below a folder.

    Attributes:
        root: The folder.
        videos, frames, sounds, masks: By name.
        apart: Images and sounds elsewhere, which are not read.
        files: Every file's name -> where it is, for annotation files.
        damaged: Shard -> what is wrong with it; the videos before the damage are known.
    """

    root: Path
    videos: Names = field(default_factory=Names)
    frames: Names = field(default_factory=Names)
    sounds: Names = field(default_factory=Names)
    masks: Names = field(default_factory=Names)
    apart: list[str] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)

    def stamp(self, source: Source) -> tuple[int, int]:
        """Bytes and time (ns) of the file or shard: whether it changed since."""
        state = (self.root / source.file).stat()
        return state.st_size, state.st_mtime_ns


def search(root: Path, *, wanted_files: Collection[str] = (), skip: Iterable[Path] = (), memory: Path) -> Index:
    """Look through a folder, once.

    Args:
        root: The folder.
        wanted_files: Names of the files that `Index.files` should hold.
        skip: Folders below it to leave out: where the prepared media go.
        memory: A JSON file that remembers what is in the shards, which take long to read.

    Raises:
        AvlocError: There is no such folder.
    """
    if not root.is_dir():
        raise AvlocError(f"{root} is not a folder; name the one that holds the videos (--from).")
    index, shards, masks = Index(root), [], []
    say(f"Searching {root}")
    files = walk(root, skip)
    videos = {PurePosixPath(file).with_suffix("") for file in files if PurePosixPath(file).suffix.lower() in VIDEOS}
    for file in files:
        path = PurePosixPath(file)
        suffix, source = path.suffix.lower(), Source(file)
        if path.name in wanted_files:
            index.files.setdefault(path.name, []).append(file)
        if suffix in VIDEOS:
            index.videos.add(path.stem, source)
        elif suffix in IMAGES and "frames" in str(path.parent).lower():
            index.frames.add(path.stem, source)
        elif suffix in SOUNDS and ("audio" in str(path.parent).lower() or path.with_suffix("") in videos):
            index.sounds.add(path.stem, source)
        elif suffix in MASKS or (suffix == ".png" and MASK_FOLDERS & set(path.parent.parts)):
            masks.append(source)
        elif suffix in IMAGES | SOUNDS:
            index.apart.append(file)
        elif SHARD.search(path.name):
            shards.append(file)
    for source in sorted(masks, key=lambda mask: mask.suffix not in MASKS):  # arrays before pictures of them
        index.masks.add(PurePosixPath(source.file).name.split(".")[0], source)
    _look_into(shards, index, memory)
    return index


def walk(root: Path, skip: Iterable[Path] = ()) -> list[str]:
    """Every file below a folder, relative to it, sorted; links to folders are followed, each folder once."""
    found: list[str] = []
    seen = {path.resolve() for path in skip}
    pending = [root]
    while pending:
        folder = pending.pop()
        real = folder.resolve()
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        pending.append(Path(entry.path))
                    elif entry.is_file():
                        found.append(Path(entry.path).relative_to(root).as_posix())
        except PermissionError:
            say(f"{folder} may not be read and is left out.")
    return sorted(found)


def _look_into(shards: Sequence[str], index: Index, memory: Path) -> None:
    """Add the videos inside shards; a shard that did not change since it was last read is not read again."""
    if not shards:
        return
    known: dict[str, Any] = read_json(memory) if memory.is_file() else {}
    for file in track(shards, "read the shards' lists", len(shards)):
        stamp = list(index.stamp(Source(file)))
        if known.get(file, {}).get("stamp") != stamp:
            members, damage, lasting = _members(index.root / file)
            known[file] = {"stamp": stamp if lasting else None, "members": members, "damage": damage}
            write_json(memory, known)
        if known[file]["damage"]:
            index.damaged[file] = known[file]["damage"]
        for member in known[file]["members"]:
            index.videos.add(PurePosixPath(member).stem, Source(file, member))


def _members(shard: Path) -> tuple[list[str], str, bool]:
    """The names of the videos inside, what is wrong with the shard, if anything, and whether that will stay so."""
    members: list[str] = []
    try:
        with _opened(shard) as archive:
            for member in archive:
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in VIDEOS:
                    members.append(member.name)
    except DAMAGE as error:
        return members, f"the shard is damaged after {len(members)} videos ({error})", not transient(error)
    return members, "", True


def unpack(shard: Path, wanted: Collection[str], folder: Path) -> Iterator[tuple[str, Path | DataError]]:
    """Copy videos out of a shard, one after the other in the shard's order.

    Names inside a shard are looked up, never used as paths: what is written lies in `folder`, whatever they say.

    Yields:
        A member of `wanted` and the file that it now is, or why it cannot be had; the caller deletes files.

    Raises:
        AvlocError: `folder` cannot be written.
    """
    left = dict.fromkeys(wanted)
    problem = DataError("the shard does not hold it any more")
    try:
        with _opened(shard) as archive:
            for member in archive if left else ():
                if member.isfile() and member.name in left:
                    content = archive.extractfile(member)
                    assert content is not None  # it is a file
                    path = _copy(content, folder, PurePosixPath(member.name).suffix.lower())
                    del left[member.name]
                    yield member.name, path
                if not left:
                    break
    except DAMAGE as error:
        problem = DataError(f"the shard is truncated or damaged ({error})")
        problem.__cause__ = error
    for name in left:
        yield name, problem


def _copy(content: IO[bytes], folder: Path, suffix: str) -> Path:
    """Write a member to a new file; an error of the shard is told from one of the disk written to."""
    with writing(folder), NamedTemporaryFile(dir=folder, suffix=suffix, delete=False) as file:
        while True:
            try:
                chunk = content.read(1 << 20)
            except OSError as error:
                raise tarfile.ReadError(str(error)) from error
            if not chunk:
                return Path(file.name)
            file.write(chunk)


def _opened(shard: Path) -> tarfile.TarFile:
    """Compressed shards are read as streams: seeking back would unpack them from the start."""
    return tarfile.open(shard, "r:" if shard.suffix.lower() == ".tar" else "r|gz")
