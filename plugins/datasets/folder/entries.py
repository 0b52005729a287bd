"""The annotation CSV: its rows, checked, as clips."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from avloc import unknown
from avloc.data import hold_out

from .rows import SPLITS, read_rows, require_right

REQUIRED = ("id", "media", "label", "split", "boxes|mask")
IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

FEWEST = 10
"""Training clips from which on some are held out for validation."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Source:
    """One row's part of a clip: a class, and where it is; neither boxes nor mask where that is not annotated."""

    label: str
    boxes: tuple[Box, ...]
    mask: str
    line: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip of the CSV; paths as they stand there."""

    id: str
    media: str
    audio: str
    split: str
    group: str
    sources: list[Source] = field(default_factory=list)

    @property
    def line(self) -> int:
        """Where it first stands."""
        return self.sources[0].line

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes, each once."""
        return tuple(dict.fromkeys(source.label for source in self.sources))

    @property
    def sound(self) -> str:
        """The file with its sound."""
        return self.audio or self.media

    @property
    def pictured(self) -> bool:
        """Whether `media` is an image rather than a video."""
        return is_image(self.media)

    @property
    def masks(self) -> tuple[str, ...]:
        """Its mask files."""
        return tuple(source.mask for source in self.sources if source.mask)

    @property
    def files(self) -> tuple[str, ...]:
        """Everything that loading the clip reads, each once."""
        return tuple(dict.fromkeys((self.media, self.sound, *self.masks)))

    @property
    def annotated(self) -> bool:
        """Whether it is known where every source is."""
        return all(source.boxes or source.mask for source in self.sources)


def read_entries(path: Path, classes: Sequence[str] | None = None) -> dict[str, Entry]:
    """The clips of an annotation file by id, in its order.

    Args:
        path: The CSV.
        classes: The only labels allowed; ``None``: any.

    Raises:
        DataError: There is no such file, a column is missing, or a row is wrong; names the row's line.
    """
    entries, wrong = scan_entries(path, classes)
    require_right(path, wrong)
    return entries


def scan_entries(path: Path, classes: Sequence[str] | None = None) -> tuple[dict[str, Entry], list[str]]:
    """As `read_entries`, with all that is wrong, a sentence each; wrong cells are left empty in the clips."""
    entries: dict[str, Entry] = {}
    wrong: list[str] = []
    for line, cells in read_rows(path, REQUIRED, wrong):
        complaints: list[str] = []
        _add(entries, cells, line, classes, complaints)
        wrong += [f"{path}, line {line}: {complaint}" for complaint in complaints]
    return entries, wrong


def assigned(entries: Mapping[str, Entry], *, holding_out: bool) -> dict[str, str]:
    """The split of each clip, after holding out validation clips where the CSV names none."""
    splits = {entry.id: entry.split for entry in entries.values()}
    trained = [entry for entry in entries.values() if entry.split == "train"]
    groups = {entry.group for entry in trained}
    if holding_out and "val" not in splits.values() and len(trained) >= FEWEST and len(groups) > 1:
        held_out = hold_out(groups)
        splits |= {entry.id: "val" for entry in trained if entry.group in held_out}
    return splits


def is_image(name: str) -> bool:
    """By its ending."""
    return PurePosixPath(name).suffix.lower() in IMAGES


def leaves(name: str) -> bool:
    """Whether a path leaves the folder it starts in, by its name: a link there may point anywhere."""
    return bool(name) and (Path(name).is_absolute() or Path(os.path.normpath(name)).parts[:1] == ("..",))


def _add(
    entries: dict[str, Entry], cells: Mapping[str, str], line: int, classes: Sequence[str] | None, wrong: list[str]
) -> None:
    """Check a row and add its source to its clip."""
    wrong += [f"{name} is empty." for name in ("id", "media", "label", "split") if not cells[name]]
    if cells["split"] and cells["split"] not in SPLITS:
        wrong.append(unknown("split", cells["split"], SPLITS))
    if classes is not None and cells["label"] and cells["label"] not in classes:
        wrong.append(unknown("class", cells["label"], classes))
    if leaves(cells["id"]):
        wrong.append(f"the id {cells['id']} reads as a path that leaves the folder; choose another.")
    media, audio, mask = (_inside(cells.get(name, ""), wrong) for name in ("media", "audio", "mask"))
    if is_image(media) and not cells.get("audio"):
        wrong.append(f"{media} is an image, so the column audio must name its sound file.")
    boxes = _boxes(cells.get("boxes", ""), wrong)
    source = Source(cells["label"], boxes or (), mask, line)
    if cells["split"] == "test" and boxes == () and not cells.get("mask"):
        wrong.append("a test clip needs boxes or a mask, or it cannot be scored.")
    if cells["id"]:
        fresh = Entry(cells["id"], media, audio, cells["split"], cells.get("group") or cells["id"])
        entry = entries.setdefault(fresh.id, fresh)
        _compare(entry, fresh, source, wrong)
        entry.sources.append(source)


def _compare(entry: Entry, fresh: Entry, source: Source, wrong: list[str]) -> None:
    """Note where a row does not fit the rows above with the same id."""
    for name in ("media", "audio", "split", "group"):
        before, now = getattr(entry, name), getattr(fresh, name)
        if before != now:
            wrong.append(f"clip {fresh.id!r} has the {name} {now!r} here but {before!r} in line {entry.line}.")
    twins = [above.line for above in entry.sources if above == source]
    if twins and not wrong:
        wrong.append(f"the row repeats line {twins[0]}; each row of a clip is another source.")


def _inside(name: str, wrong: list[str]) -> str:
    if leaves(name):
        wrong.append(f"{name} leaves the folder of the CSV; put the file, or a link to it, inside.")
        return ""
    return name


def _boxes(cell: str, wrong: list[str]) -> tuple[Box, ...] | None:
    """``None`` where something is wrong with them."""
    try:
        found = np.array(json.loads(cell or "[]"), np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError):
        wrong.append(f"boxes should be a JSON list such as [[0.1, 0.2, 0.5, 0.9]], not {cell}.")
        return None
    if found.size == 0:
        return ()
    if found.ndim != 2 or found.shape[1] != 4:
        wrong.append(f"boxes should be a list of [x1, y1, x2, y2], not {cell}.")
    elif not (np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1):
        wrong.append(f"boxes should be shares of width and height, from 0 to 1, not {cell}.")
    elif not (found[:, :2] < found[:, 2:]).all():
        wrong.append(f"boxes should be [x1, y1, x2, y2] with x1 < x2 and y1 < y2, not {cell}.")
    else:
        return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in found.tolist())
    return None
