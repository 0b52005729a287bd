"""The clips or mixtures of one split, loaded."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avloc import Clip, DataError, Dataset, Sample, Status, Truth, unknown
from avloc.data import mix, mixed_truth, read_audio, read_frame, read_image
from avloc.data.prepared import ChecksAnnotations

from .entries import Entry, Source, assigned, read_entries
from .linter import check
from .mixtures import Mixtures, draw_bank, read_mixtures
from .rows import SPLITS


class Folder(ChecksAnnotations, Dataset):
    """The clips of one split of a CSV, or mixtures of them; see the package's text for the files' columns.

    Args:
        root: What a relative `csv` starts from; ``None``: the working directory.
        split: ``train``, ``val`` or ``test``.
        csv: The annotation file.
        classes: All class names, in the order wanted; ``None``: the labels in the CSV, sorted.
        mixtures: A list of mixtures, relative to the folder of `csv`. A split with rows there consists of them; with
            ``train`` rows the list is used as it stands, and nothing is held out for validation.
        sources: Clips of a mixture: only rows of the list with so many, and the bank's number (2 where not given).
        bank: Training mixtures to draw where the list has no ``train`` rows, of clips that share no class; every
            validation clip then leads one mixture where the list has no ``val`` rows. 0: none.

    Raises:
        DataError: A file is missing or wrong; names the row and what to put there.
    """

    title = "Folder"
    license = "the user's own"
    checks = (".csv",)

    def __init__(
        self,
        root: Path | None,
        *,
        split: str,
        csv: str = "annotations.csv",
        classes: list[str] | None = None,
        mixtures: str | None = None,
        sources: int | None = None,
        bank: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise DataError(unknown("split", split, SPLITS))
        if bank < 0 or (sources is not None and (sources < 2 or not (mixtures or bank))):
            raise DataError("folder: bank is 0 or more, and sources, 2 or more, goes with mixtures or bank.")
        self.csv = (root or Path()) / csv
        entries = read_entries(self.csv, classes)
        labels = {label for entry in entries.values() for label in entry.labels}
        self.classes = tuple(sorted(labels) if classes is None else classes)
        listed = read_mixtures(self.csv.parent / mixtures, entries, sources) if mixtures else {}
        splits = assigned(entries, holding_out="train" not in listed)
        self._entries = {id: entry for id, entry in entries.items() if splits[id] == split}
        self._mixtures = listed.get(split, {})
        if bank and split != "test" and not self._mixtures:
            size = bank if split == "train" else min(bank, len(self._entries))
            self._mixtures = draw_bank(self.csv, split, self._entries, size, sources or 2)
        self._sizes: dict[str, tuple[int, int]] = {}
        self.notes = _notes(entries, listed.get("test", {}))

    @classmethod
    def check(cls, file: Path) -> list[str]:
        """Everything wrong with an annotation file or a list of mixtures, and with the media; decodes them all."""
        return check(file)

    def ids(self) -> Sequence[str]:
        """Of the mixtures where the split has any, else of the clips; in the order of the file."""
        return list(self._mixtures or self._entries)

    def status(self) -> Status:
        """A clip is missing where one of its files is; whether a file can be decoded shows when it is loaded."""
        gone: dict[str, str] = {}
        for id, entry in self._entries.items():
            for name in entry.files:
                if id not in gone and not self._path(name).is_file():
                    gone[id] = f"{self._path(name)}: the file is missing."
        present, missing = [], {}
        for id in self.ids():
            reasons = [gone[member] for member in self._members(id) if member in gone]
            if reasons:
                missing[id] = reasons[0]
            else:
                present.append(id)
        return Status(tuple(present), missing)

    def load(self, id: str) -> Sample:
        """The middle frame and the whole sound; the truth has the frame's size. Mixtures as `mix` makes them.

        Raises:
            DataError: The media or a mask cannot be used; names the file and the cause.
        """
        samples = [self._load(member) for member in self._members(id)]
        return mix(samples, id) if id in self._mixtures else samples[0]

    def labels(self, id: str) -> tuple[str, ...]:
        """As the CSV has them, each once."""
        return tuple(dict.fromkeys(label for member in self._members(id) for label in self._entries[member].labels))

    def truth(self, id: str) -> Truth:
        """One mask per source, at the frame's size; decodes a frame only where its size is not yet known."""
        members = self._members(id)
        truths = [self._truth(member) for member in members]
        if id not in self._mixtures:
            return truths[0]
        mixed = mixed_truth(truths, *self._sizes[members[0]])
        assert mixed is not None  # every part has one
        return mixed

    def content(self, id: str) -> str:
        """Of the files' bytes, the labels and the group; decodes nothing.

        Raises:
            DataError: A file is missing.
        """
        return _digest([self._about(member) for member in self._members(id)])

    def fingerprint(self) -> str:
        """Of the clips and mixtures as the files name them, and of what is present with its content."""
        rows = [
            [entry.id, entry.media, entry.audio, entry.group, [[s.label, s.boxes, s.mask] for s in entry.sources]]
            for entry in self._entries.values()
        ]
        present = []
        for id in self.status().present:
            masks = [name for member in self._members(id) for name in self._entries[member].masks]
            present.append([id, self.content(id), [_content(self._path(name)) for name in masks]])
        return _digest([self.classes, rows, self._mixtures, present])[:16]

    def _members(self, id: str) -> tuple[str, ...]:
        """The clips of a mixture; a clip by itself."""
        if id not in (self._mixtures or self._entries):
            raise DataError(f"{self.csv}: there is no clip {id!r} in this split.")
        return self._mixtures.get(id, (id,))

    def _path(self, name: str) -> Path:
        return self.csv.parent / name

    def _about(self, id: str) -> list[object]:
        entry = self._entries[id]
        picture = _content(self._path(entry.media))
        sound = _content(self._path(entry.audio)) if entry.audio else ""
        return [picture, sound, entry.pictured, entry.labels, entry.group]

    def _load(self, id: str) -> Sample:
        entry = self._entries[id]
        image = self._image(entry)
        audio, rate = read_audio(self._path(entry.sound))
        truth = self._truth(id) if entry.annotated else None
        return Sample(Clip(id, image, audio, rate, group=entry.group), truth, entry.labels)

    def _truth(self, id: str) -> Truth:
        entry = self._entries[id]
        if not entry.annotated:
            raise DataError(f"{self.csv}: clip {id!r} has neither boxes nor a mask, so it cannot be scored.")
        if id not in self._sizes:
            self._image(entry)
        masks = np.stack([self._mask(source, *self._sizes[id]) for source in entry.sources])
        boxes = tuple(np.array(source.boxes, np.float64).reshape(-1, 4) for source in entry.sources)
        return Truth(masks, tuple(source.label for source in entry.sources), boxes)

    def _image(self, entry: Entry) -> npt.NDArray[np.uint8]:
        path = self._path(entry.media)
        image = read_image(path) if entry.pictured else read_frame(path)
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


def _notes(entries: Mapping[str, Entry], mixtures: Mixtures) -> tuple[str, ...]:
    """What every table over these data should say; `mixtures` are the test split's."""
    learned = {entry.group for entry in entries.values() if entry.split != "test"}
    tested = [entry for entry in entries.values() if entry.split == "test"]
    shared = sum(entry.group in learned for entry in tested)
    notes = []
    if shared:
        notes.append(f"{shared} of {len(tested)} test clips come from groups that are also trained on.")
    if mixtures:
        members = {member for mixture in mixtures.values() for member in mixture}
        if len(members) < len(tested):
            notes.append(f"{len(tested) - len(members)} of {len(tested)} test clips are in no mixture.")
        classes = [[label for member in mixture for label in entries[member].labels] for mixture in mixtures.values()]
        alike = sum(len(set(labels)) < len(labels) for labels in classes)
        if alike:
            notes.append(f"{alike} of {len(mixtures)} test mixtures have two clips of the same class.")
    return tuple(notes)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _content(path: Path) -> str:
    """Size and hash of all bytes of a file: any of them may be in the frame or the sound that a clip is made of."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: the file is missing.") from error
    return _hashed(path.absolute(), stat.st_size, stat.st_mtime_ns)


@cache
def _hashed(path: Path, size: int, changed: int) -> str:
    """Read once per process; `changed` makes an edited file another one."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=8))
    return f"{size}-{digest.hexdigest()}"
