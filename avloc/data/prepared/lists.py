"""Published lists of clips over prepared media: what the loaders of real data sets share.

A loader reads its authors' files with `read_rows` and `read_objects`, states each clip as a tuple of `Tile` objects,
one per frame on its canvas, and inherits everything else from `Listed`::

    class Mine(Listed, Dataset):
        def __init__(self, root, *, split):
            rows = read_rows(annotation(folder / "annotations", "test.csv", self.annotations, "mine"), 2, CUT)
            super().__init__(folder, {id: (Tile(...),) for id, row in rows.items()})
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avloc.data import draw_mixtures, hold_out, mix, mixed_truth, rasterize
from avloc.data.prepared.recordings import HasRecordings, Recording, Recordings
from avloc.types import AvlocError, Clip, DataError, FloatArray, Sample, Status, Truth

SPLITS = ("train", "val", "test")
CUT = r"[A-Za-z0-9_-]{11}_[0-9]{6}"
"""The shape of an id that names a YouTube video and the second that a cut of it starts at."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an annotation file.

    Attributes:
        where: File and row, for errors.
        cells: Its columns.
    """

    where: str
    cells: tuple[str, ...]


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


class Listed(HasRecordings):
    """All of a `Dataset` but its lists: to inherit from, before `Dataset`.

    Args:
        folder: Its family's, as `Recordings` describes it.
        clips: Clip id -> its tiles, left to right, in the order of the official list.
        counted: Pixels in n boxes of a source weigh n in its mask, as in released loaders, instead of 1.
    """

    classes: tuple[str, ...]

    def __init__(self, folder: Path, clips: Mapping[str, tuple[Tile, ...]], *, counted: bool = False) -> None:
        self._media, self._clips, self._counted = Recordings(folder), clips, counted

    def ids(self) -> Sequence[str]:
        """In the order of the official list."""
        return list(self._clips)

    def labels(self, id: str) -> tuple[str, ...]:
        """The classes of a clip, each once."""
        return tuple(dict.fromkeys(label for tile in self._tiles(id) for label in tile.labels))

    def recordings(self) -> Sequence[Recording]:
        """What the clips are made of, each once."""
        found = {tile.recording.id: tile.recording for tiles in self._clips.values() for tile in tiles}
        return list(found.values())

    def status(self) -> Status:
        """Clips whose truth cannot be scored are broken, whether their media are there or not."""
        status = self._media.status({id: [tile.recording for tile in tiles] for id, tiles in self._clips.items()})
        spoilt = {id: tile.unusable for id, tiles in self._clips.items() for tile in tiles if tile.unusable}
        present = tuple(id for id in status.present if id not in spoilt)
        missing = {id: reason for id, reason in status.missing.items() if id not in spoilt}
        return Status(present, missing, {**status.broken, **spoilt})

    def load(self, id: str) -> Sample:
        """Frame, sound and labels; the truth, at the frame's size, where the clip is annotated."""
        samples = [self._sample(tile) for tile in self._tiles(id)]
        return mix(samples, id) if len(samples) > 1 else samples[0]

    def truth(self, id: str) -> Truth:
        """One mask per source at the frame's size; decodes no prepared media.

        Raises:
            DataError: The clip is not annotated, or its annotation or mask cannot be used.
        """
        tiles = self._tiles(id)
        truths = [self._truth(tile) for tile in tiles]
        found = mixed_truth(truths, *self._media.size(tiles[0].recording)) if len(tiles) > 1 else truths[0]
        if found is None:
            raise DataError(f"Clip {id!r} is not annotated, so it cannot be scored.")
        return found

    def content(self, id: str) -> str:
        """Of the prepared files, the windows of sound, the labels and the groups; decodes nothing."""
        about = [
            [self._media.content(tile.recording), tile.labels, tile.group, tile.around, tile.seconds]
            for tile in self._tiles(id)
        ]
        return _digest(about)

    def fingerprint(self) -> str:
        """Of the annotations as they were understood, and of what is present with its content and masks."""
        present = set(self.status().present)
        digest = hashlib.sha256(json.dumps([self.classes, self._counted]).encode())
        for id, tiles in self._clips.items():
            about: list[object] = [id, [[t.labels, t.group, bool(t.unusable), _lists(t.boxes)] for t in tiles]]
            if id in present:
                about.append(self._state(id, tiles))
            digest.update(json.dumps(about).encode())
        return digest.hexdigest()[:16]

    def _state(self, id: str, tiles: Sequence[Tile]) -> list[str]:
        """Digests of a clip's media and masks, or why they cannot be read: one bad file is no reason to stop."""
        try:
            masks = [_digest(self._media.mask(t.recording).tolist()) for t in tiles if t.recording.mask]
            return [self.content(id), *masks]
        except DataError as error:
            return [str(error)]

    def _tiles(self, id: str) -> tuple[Tile, ...]:
        if id not in self._clips:
            raise DataError(f"There is no clip {id!r} in this split of {type(self).__name__}.")
        return self._clips[id]

    def _sample(self, tile: Tile) -> Sample:
        image = self._media.image(tile.recording)
        audio, rate = self._media.audio(tile.recording, around=tile.around, seconds=tile.seconds)
        labels = tuple(dict.fromkeys(tile.labels))
        return Sample(Clip(tile.recording.id, image, audio, rate, group=tile.group), self._truth(tile), labels)

    def _truth(self, tile: Tile) -> Truth | None:
        if tile.unusable:
            raise DataError(f"Clip {tile.recording.id!r} cannot be scored: {tile.unusable}")
        if tile.boxes is None and not tile.recording.mask:
            return None
        height, width = self._media.size(tile.recording)
        if tile.boxes is None:
            mask = self._media.mask(tile.recording)
            if not mask.any():
                raise DataError(f"Clip {tile.recording.id!r}: its mask is black, so the source is nowhere.")
            rows, columns = (np.arange(n) * size // n for n, size in zip((height, width), mask.shape, strict=True))
            return Truth(mask[rows[:, None], columns][None], tile.labels)
        masks = np.stack([rasterize(boxes, height, width) for boxes in tile.boxes])
        return Truth(masks if self._counted else np.minimum(masks, 1), tile.labels, tile.boxes)


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


def read_rows(path: Path, columns: int, shape: str) -> dict[str, Row]:
    """The rows of a CSV without header, in UTF-8, by the id in their first column.

    Args:
        path: The file.
        columns: How many a row has.
        shape: A regular expression that ids match, without an ending ``.mp4``; it must let no path through.

    Raises:
        DataError: The file is no CSV or empty, a row has another number of columns or an empty one, an id has another
            shape or stands in two rows.
    """
    rows: dict[str, Row] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for cells in filter(None, reader):
                row = Row(f"{path}, row {reader.line_num}", tuple(cell.strip() for cell in cells))
                if len(cells) != columns or not all(row.cells):
                    raise DataError(f"{row.where}: there should be {columns} filled columns, not {','.join(cells)!r}.")
                _add(rows, row.cells[0].removesuffix(".mp4"), row, shape)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV in UTF-8 ({error}).") from error
    if not rows:
        raise DataError(f"{path}: the annotation file is empty.")
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
    """A cut of ten seconds of a YouTube video, its id of the shape `CUT`; no truth.

    The source file may be named after the start in seconds, with or without zeros, start and end in milliseconds, or
    start and end in seconds: as the usual downloaders do.
    """
    video, start = id[:11], int(id[12:])
    ends = (f"{start:06d}", f"{start}", f"{start * 1000}_{start * 1000 + 10000}", f"{start:06d}_{start + 10:06d}")
    return Tile(Recording(id, id, tuple(f"{video}_{end}" for end in ends)), (label,), video)


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
        tile: From id, class and row.

    Raises:
        DataError: A row is malformed, or a clip is its own partner.
    """
    pairs = {}
    for id, row in read_rows(path, 4, shape).items():
        other = require_id(row.cells[2], shape, row.where)
        if id == other:
            raise DataError(f"{row.where}: the clip {id!r} cannot be its own partner.")
        pairs[f"{id}+{other}"] = tile(id, row.cells[1], row), tile(other, row.cells[3], row)
    return pairs


def _add(found: dict[str, Any], id: str, row: Row | Entry, shape: str) -> None:
    """Put a row under its id, which must be right and new."""
    require_id(id, shape, row.where)
    if id in found:
        raise DataError(f"{row.where}: the id {id!r} is also in {found[id].where.rpartition(', ')[2]}.")
    found[id] = row


def _lists(boxes: tuple[FloatArray, ...] | None) -> list[list[list[float]]] | None:
    return None if boxes is None else [array.tolist() for array in boxes]


def _digest(about: object) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
