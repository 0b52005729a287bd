"""Any user's own data: a CSV and the media files beside it.

One row per sounding source::

    id,media,label,boxes,split
    a1,videos/a1.mp4,"dog, barking","[[0.1, 0.2, 0.5, 0.9]]",test
    a1,videos/a1.mp4,cat,"[[0.6, 0.2, 0.9, 0.9], [0.0, 0.0, 0.1, 0.1]]",test
    b7,videos/b7.mp4,cat,,train

* ``id``: rows with the same id are sources of the same clip.
* ``media``: a video, whose middle frame is taken; or an image, with the sound file in the column ``audio``.
* ``label``: the class; put it in quotes where it holds a comma.
* ``boxes``: JSON list of ``[x1, y1, x2, y2]``, as shares of width and height; their union is the source. Or
  ``mask``: an image file of any size, bright where the source is. Test clips need one of them.
* ``split``: ``train``, ``val`` or ``test``.
* ``group`` (optional): the video or recording a clip comes from; clips of a group stay together, and statistics
  cluster by it. Default: the id.
* ``audio`` (optional): a sound file to hear instead of the video's own sound.

Paths are relative to the CSV and stay in its folder. Without ``val`` rows a tenth of the training groups is held
out as ``val``, chosen by the hash of the group's name, so that train and val never share a group.
"""

from __future__ import annotations

import csv as comma_separated
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from avloc import Clip, DataError, Dataset, Sample, Status, Truth, unknown
from avloc.media import read_audio, read_frame, read_image

SPLITS = ("train", "val", "test")
REQUIRED = ("id", "media", "label", "split")
IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

ENDS = 1 << 20
"""Bytes at either end of a file that its fingerprint reads; a file of twice that size is read whole."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Source:
    """One row's part of a clip: a class, and where it is; neither boxes nor mask where that is not annotated."""

    label: str
    boxes: tuple[Box, ...]
    mask: str


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
    def files(self) -> list[str]:
        """Everything that loading the clip reads."""
        return [name for name in (self.media, self.audio, *(source.mask for source in self.sources)) if name]

    @property
    def annotated(self) -> bool:
        """Whether it is known where every source is."""
        return all(source.boxes or source.mask for source in self.sources)


class Folder(Dataset):
    """The clips of one split of a CSV; see the module's text for its columns.

    Args:
        root: What a relative `csv` starts from; ``None``: the working directory.
        split: ``train``, ``val`` or ``test``.
        csv: The annotation file.
        classes: All class names, in the order wanted; ``None``: the labels in the CSV, sorted.

    Raises:
        DataError: The CSV is missing or wrong; names the row and what to put there.
    """

    title = "Folder"
    license = "the user's own"

    def __init__(
        self, root: Path | None, *, split: str, csv: str = "annotations.csv", classes: list[str] | None = None
    ) -> None:
        if split not in SPLITS:
            raise DataError(unknown("split", split, SPLITS))
        self.csv = (root or Path()) / csv
        entries = read_entries(self.csv, classes)
        labels = {source.label for entry in entries for source in entry.sources}
        self.classes = tuple(sorted(labels) if classes is None else classes)
        chosen = [entry for entry, where in zip(entries, _splits(entries), strict=True) if where == split]
        self._entries = {entry.id: entry for entry in chosen}
        self._sizes: dict[str, tuple[int, int]] = {}
        self.notes = _notes(entries)

    def ids(self) -> Sequence[str]:
        """In the order of the CSV."""
        return list(self._entries)

    def status(self) -> Status:
        """A clip is missing where one of its files is; whether a file can be decoded shows when it is loaded."""
        present, missing = [], {}
        for id, entry in self._entries.items():
            gone = [self._path(name) for name in entry.files if not self._path(name).is_file()]
            if gone:
                missing[id] = f"{gone[0]}: the file is missing."
            else:
                present.append(id)
        return Status(tuple(present), missing)

    def load(self, id: str) -> Sample:
        """The middle frame and the whole sound; the truth has the frame's size."""
        entry = self._entry(id)
        image = self._image(entry)
        audio, rate = read_audio(self._path(entry.audio or entry.media))
        truth = self.truth(id) if entry.annotated else None
        labels = tuple(dict.fromkeys(source.label for source in entry.sources))
        return Sample(Clip(id, image, audio, rate, group=entry.group), truth, labels)

    def truth(self, id: str) -> Truth:
        """One mask per source, at the frame's size; decodes the frame only where its size is not yet known."""
        entry = self._entry(id)
        if not entry.annotated:
            raise DataError(f"{self.csv}: clip {id!r} has neither boxes nor a mask, so it cannot be scored.")
        if id not in self._sizes:
            self._image(entry)
        height, width = self._sizes[id]
        masks = np.stack([self._mask(source, height, width) for source in entry.sources])
        boxes = tuple(np.array(source.boxes, np.float64).reshape(-1, 4) for source in entry.sources)
        return Truth(masks, tuple(source.label for source in entry.sources), boxes)

    def fingerprint(self) -> str:
        """Of the rows, and of the present clips with the contents of their files."""
        present = [
            [id, [_content(self._path(name)) for name in self._entries[id].files]] for id in self.status().present
        ]
        rows = [asdict(entry) for entry in self._entries.values()]
        return hashlib.sha256(json.dumps([self.classes, rows, present]).encode()).hexdigest()[:16]

    def _entry(self, id: str) -> Entry:
        if id not in self._entries:
            raise DataError(f"{self.csv}: there is no clip {id!r} in this split.")
        return self._entries[id]

    def _path(self, name: str) -> Path:
        return self.csv.parent / name

    def _image(self, entry: Entry) -> npt.NDArray[np.uint8]:
        path = self._path(entry.media)
        image = read_image(path) if _is_image(entry.media) else read_frame(path)
        self._sizes[entry.id] = image.shape[0], image.shape[1]
        return image

    def _mask(self, source: Source, height: int, width: int) -> npt.NDArray[np.float32]:
        """``(height, width)`` 0 or 1; every pixel that a box touches, or brighter than half of the mask's maximum."""
        mask = np.zeros((height, width), np.float32)
        if source.mask:
            path = self._path(source.mask)
            bright = read_image(path).max(axis=2)  # (h, w)
            if not bright.any():
                raise DataError(f"{path}: the mask is black, so the source is nowhere.")
            inside = (2.0 * bright > bright.max()).astype(np.float32)
            return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)
        for x1, y1, x2, y2 in source.boxes:
            rows = slice(math.floor(y1 * height), math.ceil(y2 * height))
            mask[rows, math.floor(x1 * width) : math.ceil(x2 * width)] = 1
        return mask


def read_entries(path: Path, classes: Sequence[str] | None = None) -> list[Entry]:
    """The clips of an annotation file, in its order.

    Args:
        path: The CSV.
        classes: The only labels allowed; ``None``: any.

    Raises:
        DataError: There is no such file, a column is missing, or a row is wrong; names the row's line.
    """
    if not path.is_file():
        raise DataError(f"{path}: the annotation file is missing.")
    entries: dict[str, Entry] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = comma_separated.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                _add(entries, row, f"{path}, line {reader.line_num}", classes)
    except (UnicodeDecodeError, comma_separated.Error) as error:
        raise DataError(f"{path}: not a CSV in UTF-8 ({error}).") from error
    return list(entries.values())


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    absent = [name for name in REQUIRED if name not in columns]
    if not {"boxes", "mask"} & set(columns):
        absent.append("boxes (or mask)")
    if absent:
        raise DataError(f"{path}: the header has no column {', '.join(absent)}; it has {', '.join(columns) or 'none'}.")


def _add(
    entries: dict[str, Entry], row: Mapping[str | None, object], where: str, classes: Sequence[str] | None
) -> None:
    """Check a row and add its source to its clip."""
    if None in row:
        raise DataError(f"{where}: the row has more cells than the header; put cells that hold commas in quotes.")
    cells = {str(name): str(cell or "").strip() for name, cell in row.items()}
    for name in REQUIRED:
        if not cells[name]:
            raise DataError(f"{where}: {name} is empty.")
    if cells["split"] not in SPLITS:
        raise DataError(f"{where}: {unknown('split', cells['split'], SPLITS)}")
    if classes is not None and cells["label"] not in classes:
        raise DataError(f"{where}: {unknown('class', cells['label'], classes)}")
    media, audio = _inside(cells["media"], where), _inside(cells.get("audio", ""), where)
    if _is_image(media) and not audio:
        raise DataError(f"{where}: {media} is an image, so the column audio must name its sound file.")
    source = Source(cells["label"], _boxes(cells.get("boxes", ""), where), _inside(cells.get("mask", ""), where))
    if cells["split"] == "test" and not (source.boxes or source.mask):
        raise DataError(f"{where}: a test clip needs boxes or a mask, or it cannot be scored.")
    fresh = Entry(cells["id"], media, audio, cells["split"], cells.get("group") or cells["id"])
    entry = entries.setdefault(fresh.id, fresh)
    for name in ("media", "audio", "split", "group"):
        if getattr(entry, name) != getattr(fresh, name):
            before, now = getattr(entry, name), getattr(fresh, name)
            raise DataError(f"{where}: clip {fresh.id!r} has the {name} {now!r} here but {before!r} in a row above.")
    entry.sources.append(source)


def _inside(name: str, where: str) -> str:
    """The path, if it stays in the CSV's folder (by name: a link there may point anywhere)."""
    if name and (Path(name).is_absolute() or Path(os.path.normpath(name)).parts[0] == ".."):
        raise DataError(f"{where}: {name} leaves the folder of the CSV; put the file, or a link to it, inside.")
    return name


def _boxes(cell: str, where: str) -> tuple[Box, ...]:
    try:
        found = np.array(json.loads(cell or "[]"), np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: boxes should be a JSON list such as [[0.1, 0.2, 0.5, 0.9]], not {cell}.") from error
    if found.size == 0:
        return ()
    if found.ndim != 2 or found.shape[1] != 4:
        raise DataError(f"{where}: boxes should be a list of [x1, y1, x2, y2], not {cell}.")
    if not (np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1):
        raise DataError(f"{where}: boxes should be shares of width and height, from 0 to 1, not {cell}.")
    if not (found[:, :2] < found[:, 2:]).all():
        raise DataError(f"{where}: boxes should be [x1, y1, x2, y2] with x1 < x2 and y1 < y2, not {cell}.")
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in found.tolist())


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGES


def _splits(entries: Sequence[Entry]) -> list[str]:
    """The split of each clip, after holding out validation clips where the CSV names none."""
    splits = [entry.split for entry in entries]
    groups = {entry.group for entry in entries if entry.split == "train"}
    if "val" in splits or splits.count("train") < 10 or len(groups) < 2:
        return splits
    ranked = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    held_out = set(ranked[: max(1, len(ranked) // 10)])
    return ["val" if e.split == "train" and e.group in held_out else e.split for e in entries]


def _notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What every table over these data should say."""
    learned = {entry.group for entry in entries if entry.split != "test"}
    tested = [entry for entry in entries if entry.split == "test"]
    shared = sum(entry.group in learned for entry in tested)
    if not shared:
        return ()
    return (f"{shared} of {len(tested)} test clips come from groups that are also trained on.",)


def _content(path: Path) -> str:
    """Size and a hash of both ends of a file: cheap for long videos, and no edit of a media file leaves both alone."""
    size, digest = path.stat().st_size, hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        digest.update(file.read(ENDS))
        file.seek(max(ENDS, size - ENDS))
        digest.update(file.read())
    return f"{size}-{digest.hexdigest()}"
