"""MUSIC-Solo and MUSIC-Duet: frames of music videos with boxes around one or two instruments that play.

The files are those of the AVGN and T-VSL releases, read as published. Class names are the lists' with spaces ("acoustic
guitar"), sorted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from avloc import AvlocError, DataError, unknown
from avloc.data import data_folder, on_canvas, rasterize, read_boxes
from avloc.data.prepared import (
    SPLITS,
    Entry,
    Listed,
    Recording,
    Tile,
    annotation,
    learning_part,
    read_objects,
    read_rows,
)

SHAPE = r"[A-Za-z0-9_-]{11}_[0-9]{3}_[0-9]{5}"
"""The parts of an id: the YouTube video, the frame's second, and its number in the video."""
RATE = 30.0
"""Frames per second of most videos; none has more."""
WHERE = "https://github.com/stoneMo/AVGN (metadata)"

Boxes = npt.NDArray[np.floating]


class _MUSIC(Listed):
    """The common base: frames of videos, each with a window of its video's sound."""

    revision = 2
    license = "lists and boxes Apache-2.0 (AVGN); the videos are their makers'"
    url = "https://github.com/roudimit/MUSIC_dataset"
    family = "music"
    name: ClassVar[str]
    keys: ClassVar[tuple[tuple[str, str], ...]]
    """Keys of class and box in the JSON file, per source."""

    def __init__(self, root: Path | None, *, split: str, boxes: str, sound: str, seconds: float) -> None:
        for what, value, known in (
            ("split", split, SPLITS),
            ("value of boxes", boxes, ("right", "released")),
            ("value of sound", sound, ("frame", "center")),
        ):
            if value not in known:
                raise AvlocError(unknown(what, value, known))
        if not seconds > 0:
            raise AvlocError(f"{self.name}: seconds should be above 0, but is {seconds}.")
        self._around, self._seconds = sound == "frame", seconds
        folder = data_folder(root) / self.family
        found: dict[str, tuple[Tile, ...]]
        notes: tuple[str, ...] = ()
        if split == "test":
            tiles = self._tested(folder / "annotations", right=boxes == "right")
            notes = (*self._about_media(tiles), *self._about_boxes(tiles, boxes == "right"))
            found = {id: (tile,) for id, tile in tiles.items()}
        else:
            found = learning_part(self._trained(folder / "annotations"), split)
        super().__init__(folder, type(self).classes, found, notes=notes)

    def _trained(self, files: Path) -> dict[str, Tile]:
        """The training list."""
        path = annotation(files, f"{self.name}_train.txt", self.annotations, self.name)
        classes = [name for name, _ in self.keys]
        rows = read_rows(path, ("id", *classes), SHAPE)
        rates = _rates(rows)
        return {
            id: self._tile(id, self._labels([row[name] for name in classes], row.where), rates)
            for id, row in rows.items()
        }

    def _tested(self, files: Path, right: bool) -> dict[str, Tile]:
        """The official test list, with its boxes read right or as two corners."""
        keys = [key for pair in self.keys for key in pair]
        entries = read_objects(annotation(files, f"{self.name}.json", self.annotations, self.name), keys, SHAPE)
        path = annotation(files, f"{self.name}_test.csv", self.annotations, self.name)
        rows = read_rows(path, ("id", "class") if len(self.keys) == 1 else ("id",), SHAPE)
        rates, tiles = _rates(rows), {}
        for id, row in rows.items():
            if id not in entries:
                raise DataError(f"{row.where}: the frame {id!r} has no boxes in {self.name}.json.")
            entry = entries[id]
            labels = self._labels([str(entry.values[key]) for key, _ in self.keys], entry.where)
            if row["class"] and self._labels([row["class"]], row.where) != labels:
                raise DataError(f"{row.where}: the class should be that of {self.name}.json, {labels[0]!r}.")
            boxes = [_box(entry, key) for _, key in self.keys]
            tiles[id] = self._tile(id, labels, rates, tuple(_corners(box) if right else box for box in boxes))
        return tiles

    def _tile(
        self, id: str, labels: tuple[str, ...], rates: Mapping[str, float], boxes: tuple[Boxes, ...] | None = None
    ) -> Tile:
        video, number = id[:11], int(id[-5:])
        at = number / rates[video]
        recording = Recording(id, video, (video,), at=at)
        return Tile(recording, labels, video, boxes, around=at if self._around else None, seconds=self._seconds)

    def _labels(self, names: Sequence[str], where: str) -> tuple[str, ...]:
        """Classes of the lists' names."""
        labels = tuple(name.replace("_", " ") for name in names)
        for label in labels:
            if label not in self.classes:
                raise DataError(f"{where}: {unknown('class', label, self.classes)}")
        return labels

    def _about_media(self, tiles: Mapping[str, Tile]) -> Iterator[str]:
        """Notes for tables about the test list's videos and sounds."""
        frames = Counter(tile.group for tile in tiles.values())
        held = np.cumsum([count for _, count in frames.most_common()])  # by the largest video, the two largest, ...
        few = int(np.searchsorted(held, 0.95 * len(tiles)))
        yield f"{held[few]:,} of {len(tiles):,} test frames come from {few + 1} of {len(frames)} videos (groups)."
        absent = sorted(set(self.classes) - {label for tile in tiles.values() for label in tile.labels})
        if absent:
            yield f"{len(absent)} of {len(self.classes)} classes have no test frame: {', '.join(absent)}."
        if self._around:
            window = f"the {self._seconds:g} s around it (released loaders: the middle of the video for all its frames)"
        else:
            window = f"the middle {self._seconds:g} s of its video, as released, whatever the frame shows"
        yield f"The sound of each of the {len(tiles):,} test frames is {window}."

    def _about_boxes(self, tiles: Mapping[str, Tile], right: bool) -> Iterator[str]:
        """Notes for tables about the interpretation of the boxes."""
        boxes = [box for tile in tiles.values() for box in tile.boxes or ()]
        misread = [_sizes(box) for box in boxes] if right else boxes
        empty = sum(not rasterize(box, 224, 224).any() for box in misread)
        count = f"{empty:,} of {len(boxes):,} sources nowhere (at 224 x 224 pixels)"
        if right:
            yield f"Boxes are x, y, width, height and read so; released loaders read two corners, which puts {count}."
        else:
            yield f"ATTENTION: boxes are x, y, width, height but read as two corners, as released, which puts {count}."


class MUSICSolo(_MUSIC):
    """Frames of solos, each with one box. 2,124 test frames of 20 videos.

    Known flaws, and how they are handled:

    * The boxes are x, y, width, height, but AVGN's and T-VSL's loaders read them as two corners: 1,648 of 2,124 truths
      are then empty. Here, they are read correctly.
    * 2,094 of the test frames come from 7 videos, and 4 of 11 classes have no test frame. Statistics cluster by video.
      The papers report 95 test videos.
    * Released loaders give every frame the sound in the middle of its video. Here, it is the sound around the frame.
    * Frames are numbered at their video's own rate, 30 per second in the test lists but as few as 6 in the training
      lists. The rate is derived from the list, which contains the second of each frame.

    Args:
        root: The data folder; ``None``: the one in the user's cache.
        split: ``train``, ``val`` (a tenth of the training list's videos) or ``test``.
        boxes: ``right``, or ``released``: read as two corners.
        sound: Around the ``frame``, or from the ``center`` of the video, as released.
        seconds: Length of the sound.

    Raises:
        DataError: An annotation file is missing or malformed; names file and row.
    """

    title = "MUSIC-Solo"
    citation = "Zhao et al., The Sound of Pixels, ECCV 2018; Hu et al., Discriminative Sounding Objects, NeurIPS 2020"
    name = "music_solo"
    keys = (("class", "bbox"),)
    annotations: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("music_solo.json", "music_solo_test.csv", "music_solo_train.txt"), WHERE
    )
    classes = ("accordion", "acoustic guitar", "cello", "clarinet", "erhu", "flute", "saxophone", "trumpet", "tuba",
               "violin", "xylophone")  # fmt: skip

    def __init__(
        self,
        root: Path | None,
        *,
        split: str,
        boxes: str = "right",
        sound: str = "frame",
        seconds: float = 5.0,
    ) -> None:
        super().__init__(root, split=split, boxes=boxes, sound=sound, seconds=seconds)


class MUSICDuet(_MUSIC):
    """Frames of duets, one frame with two boxes each. 1,020 test frames of 6 videos.

    The flaws of `MUSICSolo`, with these counts: 1,008 test frames come from one video, a cello and a guitar; 2 of 8
    classes have no test frame; read as two corners, the boxes of 11 first and 1,016 second sources are empty. The
    papers report 22 test videos.

    Args:
        root, split, boxes, sound, seconds: As in `MUSICSolo`.

    Raises:
        DataError: An annotation file is missing or malformed; names file and row.
    """

    title = "MUSIC-Duet"
    citation = MUSICSolo.citation
    name = "music_duet"
    keys = (("class_src1", "bbox_src1"), ("class_src2", "bbox_src2"))
    annotations: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("music_duet.json", "music_duet_test.csv", "music_duet_train.txt"), WHERE
    )
    classes = ("acoustic guitar", "cello", "clarinet", "flute", "saxophone", "trumpet", "violin", "xylophone")

    def __init__(
        self,
        root: Path | None,
        *,
        split: str,
        boxes: str = "right",
        sound: str = "frame",
        seconds: float = 5.0,
    ) -> None:
        super().__init__(root, split=split, boxes=boxes, sound=sound, seconds=seconds)


def _rates(ids: Iterable[str]) -> dict[str, float]:
    """Video -> frames per second: a frame of second s has a number of s times that or a little more."""
    rates: dict[str, float] = {}
    for id in ids:
        video, second, number = id[:11], int(id[12:15]), int(id[16:])
        rate = number / second if second else RATE
        rates[video] = min(rates.get(video, RATE), rate)
    return rates


def _box(entry: Entry, key: str) -> Boxes:
    """``(1, 4)`` x, y, width, height, as published."""
    box = read_boxes(entry.where, [entry.values[key]])
    if on_canvas(_corners(box)) is None or box[0, 2:].min() <= 0:
        raise DataError(f"{entry.where}: {key} should be x, y, width, height within [0, 1], not {box[0].tolist()}.")
    return box


def _corners(box: Boxes) -> Boxes:
    """x, y, width, height to the two corners."""
    return np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)


def _sizes(box: Boxes) -> Boxes:
    """Two corners to x, y, width, height."""
    return np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)
