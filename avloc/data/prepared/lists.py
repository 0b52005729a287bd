"""Published lists of clips over prepared media: what the loaders of real data sets share.

A loader reads its authors' files with `read_rows` and `read_objects`, states each clip as a tuple of `Tile` objects,
one per frame on its canvas, and inherits everything else from `Listed`::

    class Mine(Listed):
        def __init__(self, root, *, split):
            path = annotation(folder / "annotations", "test.csv", self.annotations, "mine")
            rows = read_rows(path, ("id", "class"), CUT)
            super().__init__(folder, CLASSES, {id: (Tile(...),) for id, row in rows.items()})
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avloc.data import Mixtures, Row, digest, draw_mixtures, hold_out, rasterize, read_csv, resize_mask
from avloc.data.prepared.recordings import HasRecordings, Recording, Recordings
from avloc.data.traits import remarks
from avloc.interfaces import Dataset
from avloc.types import AvlocError, Clip, DataError, FloatArray, Sample, Status, Truth

SPLITS = ("train", "val", "test")
CUT = r"[A-Za-z0-9_-]{11}_[0-9]{6}"
"""The shape of an id that names a YouTube video and the second that a cut of it starts at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of an annotation file.

    Attributes:
        where: File and number, for errors.
        values: By key.
    """

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A frame with its sound, as a list names it: a clip, or a part of a mixture.

    Attributes:
        recording: Its media.
        labels: Class names of its sources.
        group: The video it comes from.
        boxes: Per source ``(n, 4)``, xyxy, normalized to the frame; ``None``: the truth is a mask where the recording
            has one, and not known otherwise.
        around: The second of the sound that the clip's window has in its middle; ``None``: the sound's own middle.
        seconds: Length of that window; ``None``: the whole sound.
        unusable: Why its truth cannot be scored; empty where it can.
    """

    recording: Recording
    labels: tuple[str, ...]
    group: str
    boxes: tuple[FloatArray, ...] | None = None
    around: float | None = None
    seconds: float | None = None
    unusable: str = ""


class Listed(HasRecordings, Mixtures):
    """All of a data set but its lists, to inherit from.

    Args:
        folder: Its family's, as `Recordings` describes it.
        classes: Class names.
        clips: Clip id -> its tiles, left to right, in the order of the official list.
        notes: Sentences that every table over the data set prints.
        counted: Pixels in n boxes of a source weigh n in its mask, as in released loaders, instead of 1.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        clips: Mapping[str, tuple[Tile, ...]],
        *,
        notes: Iterable[str] = (),
        counted: bool = False,
    ) -> None:
        self._tiles: dict[str, Tile] = {}
        members = {id: tuple(self._named(tile) for tile in tiles) for id, tiles in clips.items()}
        super().__init__(_Tiles(Recordings(folder), tuple(classes), self._tiles, counted), members)
        self.notes = tuple(notes)

    def recordings(self) -> Sequence[Recording]:
        """What the clips are made of, each once."""
        return list({tile.recording.id: tile.recording for tile in self._tiles.values()}.values())

    def _named(self, tile: Tile) -> str:
        """A tile's id among all tiles: that of its recording, which several tiles may share that differ in boxes."""
        name = tile.recording.id
        while self._tiles.setdefault(name, tile) is not tile:
            name += "'"
        return name


class _Tiles(Dataset):
    """Single frames with their sounds."""

    def __init__(self, media: Recordings, classes: tuple[str, ...], tiles: Mapping[str, Tile], counted: bool) -> None:
        self._media, self.classes, self._tiles, self._counted = media, classes, tiles, counted

    def ids(self) -> Sequence[str]:
        return list(self._tiles)

    def labels(self, id: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._tiles[id].labels))

    def status(self) -> Status:
        """Tiles whose truth cannot be scored are broken, whether their media are there or not."""
        status = self._media.status({id: [tile.recording] for id, tile in self._tiles.items()})
        spoiled = {id: tile.unusable for id, tile in self._tiles.items() if tile.unusable}
        present = tuple(id for id in status.present if id not in spoiled)
        missing = {id: reason for id, reason in status.missing.items() if id not in spoiled}
        return Status(present, missing, {**status.broken, **spoiled})

    def remarks(self) -> tuple[str, ...]:
        return remarks(self._media.traits({id: self._tiles[id].recording for id in self.status().present}))

    def load(self, id: str) -> Sample:
        """Frame, sound and labels; the truth where the tile is annotated."""
        tile = self._tiles[id]
        image = self._media.image(tile.recording)
        audio, rate = self._media.audio(tile.recording, around=tile.around, seconds=tile.seconds)
        annotated = tile.unusable or tile.boxes is not None or tile.recording.mask
        clip = Clip(id, image, audio, rate, group=tile.group)
        return Sample(clip, self.truth(id) if annotated else None, self.labels(id))

    def truth(self, id: str) -> Truth:
        """One mask per source at the frame's size; decodes no prepared media but masks."""
        tile = self._tiles[id]
        if tile.unusable:
            raise DataError(f"Clip {tile.recording.id!r} cannot be scored: {tile.unusable}")
        if tile.boxes is None and not tile.recording.mask:
            raise DataError(f"Clip {tile.recording.id!r} is not annotated, so it cannot be scored.")
        height, width = self._media.size(tile.recording)
        if tile.boxes is None:
            return Truth(resize_mask(self._media.mask(tile.recording)[None], height, width), tile.labels)
        masks = np.stack([rasterize(boxes, height, width) for boxes in tile.boxes])
        return Truth(masks if self._counted else np.minimum(masks, 1), tile.labels, tile.boxes)

    def content(self, id: str) -> str:
        """Of the prepared files, the window of sound, the labels and the group; decodes nothing."""
        tile = self._tiles[id]
        return digest([self._media.content(tile.recording), tile.labels, tile.group, tile.around, tile.seconds])

    def media(self, id: str) -> str:
        """Of the prepared files and the window of sound; decodes nothing."""
        tile = self._tiles[id]
        return digest([self._media.content(tile.recording), tile.around, tile.seconds])

    def fingerprint(self) -> str:
        """Of the annotations as they were understood, and of what is present with its content and masks."""
        present = set(self.status().present)
        found = []
        for id, tile in self._tiles.items():
            boxes = None if tile.boxes is None else [array.tolist() for array in tile.boxes]
            state = self._state(id) if id in present else []
            found.append([id, tile.labels, tile.group, bool(tile.unusable), boxes, state])
        return digest([self.classes, self._counted, found])

    def _state(self, id: str) -> list[str]:
        """Digests of a tile's media and mask, or why they cannot be read: one bad file is no reason to stop."""
        recording = self._tiles[id].recording
        try:
            mask = [digest(self._media.mask(recording).tolist())] if recording.mask else []
            return [self.content(id), *mask]
        except DataError as error:
            return [str(error)]


def annotation(folder: Path, name: str, published: Mapping[str, str], dataset: str) -> Path:
    """An annotation file that must be there.

    Args:
        folder: Where it should be.
        name: Of the file.
        published: File name -> where its authors publish it (`Dataset.annotations`).
        dataset: Registered name of the data set.

    Raises:
        DataError: It is missing; says how to get it.
    """
    if not (folder / name).is_file():
        raise DataError(
            f"{folder / name}: the annotation file is missing. It is published at {published[name]}; save it "
            f"in a folder DIR and run: avloc data prepare {dataset} --from DIR"
        )
    return folder / name


def read_rows(path: Path, columns: Sequence[str], shape: str) -> dict[str, Row]:
    """The rows of a CSV without header by the id in their first column.

    Args:
        path: The file.
        columns: Names of all of its columns.
        shape: A regular expression that ids match, without an ending ``.mp4``; it must let no path through.

    Raises:
        DataError: The file is no CSV or empty, a row has another number of cells or an empty one, an id has another
            shape or is in two rows.
    """
    rows: dict[str, Row] = {}
    wrong: list[str] = []
    for row in read_csv(path, columns, wrong, header=False):
        _add(rows, row[columns[0]].removesuffix(".mp4"), row, shape)
    if wrong or not rows:
        raise DataError(wrong[0] if wrong else f"{path}: the annotation file is empty.")
    return rows


def read_objects(path: Path, keys: Sequence[str], shape: str) -> dict[str, Entry]:
    """The objects in a JSON list by the id that their key ``file`` has.

    Args:
        path: The file.
        keys: Which an object must have beside ``file``.
        shape: Of ids, as in `read_rows`.

    Raises:
        DataError: The file is no JSON, no list of objects or empty, an object lacks a key, an id has another shape or
            stands there twice.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: there should be a JSON list of objects, not {str(found)[:40]!r}.")
    entries: dict[str, Entry] = {}
    for number, values in enumerate(found, start=1):
        where = f"{path}, entry {number}"
        if not isinstance(values, dict) or not {"file", *keys} <= set(values):
            raise DataError(f"{where}: there should be an object with file, {', '.join(keys)}, not {str(values)[:80]}.")
        _add(entries, str(values["file"]), Entry(where, values), shape)
    return entries


def require_id(id: str, shape: str, where: str) -> str:
    """The id itself.

    Raises:
        DataError: It does not match `shape`.
    """
    if not re.fullmatch(shape, id):
        raise DataError(f"{where}: {id!r} is no id of this data set; ids look like {shape}.")
    return id


def cut(id: str, label: str) -> Tile:
    """A cut of ten seconds of a YouTube video, its id of the shape `CUT`; its frame is that of second 5; no truth.

    The source file may be named after the start in seconds, or start and end in seconds, with or without zeros, or
    start and end in milliseconds: as the usual downloaders do.
    """
    video, start = id[:11], int(id[12:])
    end = start + 10
    ends = (f"{start:06d}", f"{start}", f"{start * 1000}_{end * 1000}", f"{start:06d}_{end:06d}", f"{start}_{end}")
    return Tile(Recording(id, id, tuple(f"{video}_{end}" for end in ends), lasts=10.0), (label,), video)


def cuts(classes: Mapping[str, str]) -> dict[str, Tile]:
    """A `cut` for every id with its class."""
    return {id: cut(id, label) for id, label in classes.items()}


def learning_part(tiles: Mapping[str, Tile], split: str) -> dict[str, tuple[Tile, ...]]:
    """The clips of a training list that are trained on, or those held out for ``val``, by video."""
    held_out = hold_out(tile.group for tile in tiles.values())
    return {id: (tile,) for id, tile in tiles.items() if (tile.group in held_out) == (split == "val")}


def learning_pairs(tiles: Mapping[str, Tile], split: str, bank: int) -> dict[str, tuple[Tile, ...]]:
    """A finite bank of pairs of clips of different classes, of those that `learning_part` gives, drawn once.

    Args:
        tiles: The training list's.
        split: ``train`` or ``val``.
        bank: Pairs for training; a tenth as many for ``val``.

    Raises:
        AvlocError: The bank is below 10, or there are too few clips or classes for it.
    """
    if bank < 10:
        raise AvlocError(f"The bank of mixtures should hold 10 or more, but is {bank}.")
    part = learning_part(tiles, split)
    labels = {id: tile.labels for id, (tile,) in part.items()}
    drawn = draw_mixtures(labels, bank if split == "train" else bank // 10, 2, [SPLITS.index(split), 2])
    return {id: tuple(part[member][0] for member in members) for id, members in drawn.items()}


def listed_pairs(path: Path, shape: str, tile: Callable[[str, str, Row], Tile]) -> dict[str, tuple[Tile, Tile]]:
    """The pairs of a list with rows ``id, class, id, class``, under both ids joined by ``+``.

    Args:
        path: The list.
        shape: Of ids, as in `read_rows`.
        tile: Made from id, class and row.

    Raises:
        DataError: A row is malformed, or a clip is its own partner.
    """
    pairs = {}
    for id, row in read_rows(path, ("id", "class", "second id", "second class"), shape).items():
        other = require_id(row["second id"], shape, row.where)
        if id == other:
            raise DataError(f"{row.where}: the clip {id!r} cannot be its own partner.")
        pairs[f"{id}+{other}"] = tile(id, row["class"], row), tile(other, row["second class"], row)
    return pairs


def _add(found: dict[str, Any], id: str, row: Row | Entry, shape: str) -> None:
    """Put a row under its id, which must be right and new."""
    require_id(id, shape, row.where)
    if id in found:
        raise DataError(f"{row.where}: the id {id!r} is also in {found[id].where.rpartition(', ')[2]}.")
    found[id] = row
