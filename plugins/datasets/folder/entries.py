"""The annotation CSV: its rows, checked, as clips."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avloc import DataError, unknown
from avloc.data import Row, hold_out, read_boxes, read_csv, read_header
from avloc.data.prepared import SPLITS

REQUIRED = ("id", "media", "label", "split", "boxes|mask")
COLUMNS = ("id", "media", "label", "boxes", "mask", "split", "group", "audio", "at", "start", "end")
NOWHERE = "none"
"""In the column ``boxes``: the source is not visible."""
NOTHING = "nothing"
"""The label of a clip in which nothing sounds that could be asked for."""
IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

FEWEST = 10
"""Smallest number of training clips of which some are held out for validation."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Source:
    """One row's part of a clip: a class and its location; neither boxes nor mask if it is not annotated.

    Attributes:
        hidden: Whether it is known not to be visible.
        unusable: What is wrong with its boxes; empty where nothing is.
    """

    label: str
    boxes: tuple[Box, ...]
    mask: str
    hidden: bool
    line: int = field(compare=False)
    unusable: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip of the CSV, with paths as written there; `at`, `start` and `end` are seconds."""

    id: str
    media: str
    audio: str
    split: str
    group: str
    at: float | None = None
    start: float | None = None
    end: float | None = None
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
        """Whether every source has boxes or a mask, or is not visible."""
        return all(source.boxes or source.mask or source.hidden for source in self.sources)

    @property
    def moment(self) -> float | None:
        """The second whose frame is shown: `at`, or the middle from `start` to `end`; ``None``: the file's middle."""
        if self.at is None and self.start is not None and self.end is not None:
            return (self.start + self.end) / 2
        return self.at


def read_entries(path: Path, classes: Sequence[str] | None = None) -> dict[str, Entry]:
    """The clips of an annotation file by id, in its order.

    Args:
        path: The CSV.
        classes: The only labels allowed; ``None``: any.

    Raises:
        DataError: There is no such file, a column is missing, or a row is wrong; names the row's line. Wrong boxes
            make only their clip unusable.
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
    source = _source(row, mask, wrong)
    at, start, end = (_seconds(row, name, wrong) for name in ("at", "start", "end"))
    if at is not None and is_image(media):
        wrong.append(f"{media} is an image, so it has no second {at:g}; leave at empty.")
    if (start is None) != (end is None) or (start is not None and end is not None and start >= end):
        wrong.append("start and end go together, start before end.")
    if row["id"]:
        fresh = Entry(row["id"], media, audio, row["split"], row["group"] or row["id"], at, start, end)
        entry = entries.setdefault(fresh.id, fresh)
        _compare(entry, fresh, source, wrong)
        entry.sources.append(source)


def _compare(entry: Entry, fresh: Entry, source: Source, wrong: list[str]) -> None:
    """Report a row that contradicts earlier rows with the same id."""
    for name in ("media", "audio", "split", "group", "at", "start", "end"):
        before, now = getattr(entry, name), getattr(fresh, name)
        if before != now:
            wrong.append(f"clip {fresh.id!r} has the {name} {now!r} here but {before!r} in line {entry.line}.")
    if NOTHING in (source.label, *entry.labels) and {source.label, *entry.labels} != {NOTHING}:
        wrong.append(f"clip {fresh.id!r} has the label {NOTHING!r} and other ones; write {NOWHERE} in boxes instead.")
    twins = [above.line for above in entry.sources if above == source]
    if twins and not wrong:
        wrong.append(f"the row repeats line {twins[0]}; each row of a clip is another source.")


def _inside(name: str, wrong: list[str]) -> str:
    if leaves(name):
        wrong.append(f"{name} leaves the folder of the CSV; put the file, or a link to it, inside.")
        return ""
    return name


def _source(row: Row, mask: str, wrong: list[str]) -> Source:
    """The row's source; what is wrong with its boxes goes with it."""
    label, cell = row["label"], row["boxes"].replace(" ", "")
    located = cell not in ("", "[]", NOWHERE)
    hidden = cell == NOWHERE or label == NOTHING
    if hidden and (located or row["mask"]):
        reason = f"the label {NOTHING!r} says" if label == NOTHING else f"{NOWHERE} in boxes says"
        wrong.append(f"{reason} that the source is not visible, but there are boxes or a mask.")
    if row["split"] == "test" and not (located or hidden or row["mask"]):
        wrong.append(
            "a test clip needs boxes or a mask, or it cannot be scored; where no source is visible, write "
            f"{NOWHERE} in boxes."
        )
    boxes, unusable = _boxes(row) if located else ((), "")
    return Source(label, boxes, mask, hidden, row.line, unusable)


def _boxes(row: Row) -> tuple[tuple[Box, ...], str]:
    """The boxes, or none and the problem with them."""
    try:
        found = read_boxes(row.where, row["boxes"], corners=True)
    except DataError as error:
        return (), str(error).removeprefix(f"{row.where}: ")
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in found.tolist()), ""


def _seconds(row: Row, column: str, wrong: list[str]) -> float | None:
    """A cell of seconds from the file's start; ``None``: it is empty, or wrong."""
    try:
        found = float(row[column]) if row[column] else None
    except ValueError:
        found = -1.0
    if found is not None and not 0 <= found < float("inf"):
        wrong.append(f"{column} should be seconds from the file's start, such as 12.5, not {row[column]}.")
        return None
    return found


def unknown_columns(path: Path, known: Sequence[str] = COLUMNS) -> list[str]:
    """A sentence for every column that is not read."""
    strange = [name for name in read_header(path) if name not in known]
    return [f"{unknown('column', name, known)} It is not read." for name in strange]
