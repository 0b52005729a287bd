"""The annotation CSV: its rows, checked, as clips."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avloc import DataError, unknown
from avloc.data import Row, hold_out, read_boxes, read_csv
from avloc.data.prepared import SPLITS

REQUIRED = ("id", "media", "label", "split", "boxes|mask")
IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

FEWEST = 10
"""Smallest number of training clips of which some are held out for validation."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Source:
    """One row's part of a clip: a class and its location; neither boxes nor mask if it is not annotated."""

    label: str
    boxes: tuple[Box, ...]
    mask: str
    line: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip of the CSV, with paths as written there."""

    id: str
    media: str
    audio: str
    split: str
    group: str
    sources: list[Source] = field(default_factory=list)

    @property
    def line(self) -> int:
        """Line of its first row."""
        return self.sources[0].line

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes, without duplicates."""
        return tuple(dict.fromkeys(source.label for source in self.sources))

    @property
    def sound(self) -> str:
        """The file that has its sound."""
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
        """All files that loading the clip reads, without duplicates."""
        return tuple(dict.fromkeys((self.media, self.sound, *self.masks)))

    @property
    def annotated(self) -> bool:
        """Whether every source has boxes or a mask."""
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
    """Like `read_entries`, with all problems, a sentence each; wrong cells are left empty in the clips."""
    entries: dict[str, Entry] = {}
    wrong: list[str] = []
    for row in read_csv(path, REQUIRED, wrong):
        complaints: list[str] = []
        _add(entries, row, classes, complaints)
        wrong += [f"{row.where}: {complaint}" for complaint in complaints]
    return entries, wrong


def require_right(path: Path, wrong: Sequence[str]) -> None:
    """Raise the first problem, with the command that lists the others.

    Raises:
        DataError: There is a problem.
    """
    if wrong:
        others = f" {len(wrong) - 1} more problems: avloc data check {path}" if len(wrong) > 1 else ""
        raise DataError(wrong[0] + others)


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
    """Whether a path leaves its folder by its name; links inside the folder may point anywhere."""
    return bool(name) and (Path(name).is_absolute() or Path(os.path.normpath(name)).parts[:1] == ("..",))


def _add(entries: dict[str, Entry], row: Row, classes: Sequence[str] | None, wrong: list[str]) -> None:
    """Check a row and add its source to its clip."""
    wrong += [f"{name} is empty." for name in ("id", "media", "label", "split") if not row[name]]
    if row["split"] and row["split"] not in SPLITS:
        wrong.append(unknown("split", row["split"], SPLITS))
    if classes is not None and row["label"] and row["label"] not in classes:
        wrong.append(unknown("class", row["label"], classes))
    if leaves(row["id"]):
        wrong.append(f"the id {row['id']} reads as a path that leaves the folder; choose another.")
    media, audio, mask = (_inside(row[name], wrong) for name in ("media", "audio", "mask"))
    if is_image(media) and not row["audio"]:
        wrong.append(f"{media} is an image, so the column audio must name its sound file.")
    boxes = _boxes(row, wrong)
    source = Source(row["label"], boxes or (), mask, row.line)
    if row["split"] == "test" and boxes == () and not row["mask"]:
        wrong.append("a test clip needs boxes or a mask, or it cannot be scored.")
    if row["id"]:
        fresh = Entry(row["id"], media, audio, row["split"], row["group"] or row["id"])
        entry = entries.setdefault(fresh.id, fresh)
        _compare(entry, fresh, source, wrong)
        entry.sources.append(source)


def _compare(entry: Entry, fresh: Entry, source: Source, wrong: list[str]) -> None:
    """Report a row that contradicts earlier rows with the same id."""
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


def _boxes(row: Row, wrong: list[str]) -> tuple[Box, ...] | None:
    """``None`` if there is a problem with them."""
    if row["boxes"].replace(" ", "") in ("", "[]"):
        return ()
    try:
        found = read_boxes(row.where, row["boxes"], corners=True)
    except DataError as error:
        wrong.append(str(error).removeprefix(f"{row.where}: "))
        return None
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in found.tolist())
