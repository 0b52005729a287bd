"""The clips or mixtures of one split, loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avloc import Clip, DataError, Dataset, Sample, Status, Truth, track, unknown
from avloc.data import (
    Look,
    Mask,
    MaskValues,
    Members,
    Mixtures,
    Traits,
    digest,
    file_digest,
    read_frame,
    read_image,
    read_mask,
    remarks,
    resize_mask,
)
from avloc.data.prepared import SPLITS, ChecksAnnotations

from .entries import Entry, Source, assigned, read_entries, unknown_columns
from .linter import check
from .mixtures import draw_bank, read_mixtures
from .moments import read_moment


class Folder(ChecksAnnotations, Mixtures):
    """The clips of one split of a CSV, or mixtures of them; the package's docstring describes the columns.

    Args:
        root: The folder of a relative `csv`; ``None``: the working directory.
        split: ``train``, ``val`` or ``test``.
        csv: The annotation file.
        classes: All class names, in order; ``None``: the labels in the CSV, sorted.
        mixtures: A list of mixtures, relative to the folder of `csv`. A split with rows in it consists of them. If it
            has ``train`` rows, the list is used unchanged, and nothing is held out for validation.
        sources: Clips per mixture: selects rows of the list, and sets the number for the bank (default 2).
        bank: Number of training mixtures to draw, of clips that share no class, if the list has no ``train`` rows. If
            it has no ``val`` rows either, every validation clip is the first of one mixture. 0: none.
        mask_values: What the values of mask files mean, ``{inside: [1, 2], ignore: [255]}``; ignored pixels take part
            in no metric. ``None``: masks have two values, 0 and another one inside.

    Raises:
        DataError: A file is missing or wrong; names the row and the fix.
    """

    title = "Folder"
    license = "the user's own"
    revision = 3
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
        mask_values: Mapping[str, Any] | None = None,
    ) -> None:
        if split not in SPLITS:
            raise DataError(unknown("split", split, SPLITS))
        if bank < 0 or (sources is not None and (sources < 2 or not (mixtures or bank))):
            raise DataError("folder: bank is 0 or more, and sources, 2 or more, goes with mixtures or bank.")
        path = (root or Path()) / csv
        entries = read_entries(path, classes)
        labels = {label for entry in entries.values() for label in entry.labels}
        listed = read_mixtures(path.parent / mixtures, entries, sources) if mixtures else {}
        splits = assigned(entries, holding_out="train" not in listed)
        clips = {id: entry for id, entry in entries.items() if splits[id] == split}
        members = listed.get(split, {})
        if bank and split != "test" and not members:
            size = bank if split == "train" else min(bank, len(clips))
            members = draw_bank(path, split, clips, size, sources or 2)
        members = members or {id: (id,) for id in clips}
        used = {id: clips[id] for ids in members.values() for id in ids}
        names = tuple(sorted(labels) if classes is None else classes)
        values = None if mask_values is None else MaskValues.parse(mask_values)
        super().__init__(_Clips(path, names, used, values), members)
        self.notes = (
            *[f"{path.name}: {name}" for name in unknown_columns(path)],
            *_notes(entries, listed.get("test", {})),
        )

    @classmethod
    def check(cls, file: Path, parameters: Mapping[str, Any]) -> list[str]:
        """All problems of an annotation file or a list of mixtures, and of the media, which are all decoded."""
        given = parameters.get("mask_values")
        return check(file, None if given is None else MaskValues.parse(given))


class _Clips(Dataset):
    """The single clips of the CSV."""

    title = "Folder"

    def __init__(
        self, csv: Path, classes: tuple[str, ...], entries: Mapping[str, Entry], values: MaskValues | None
    ) -> None:
        self.csv, self.classes, self._entries, self._values = csv, classes, entries, values
        self._sizes: dict[str, tuple[int, int]] = {}

    def ids(self) -> Sequence[str]:
        return list(self._entries)

    def status(self) -> Status:
        """A clip is missing if one of its files is, and broken if its boxes are wrong.

        Files that cannot be decoded are found on loading.
        """
        missing: dict[str, str] = {}
        for id, entry in self._entries.items():
            for path in map(self._path, entry.files):
                if id not in missing and not path.is_file():
                    missing[id] = f"{path}: the file is missing."
        broken = {
            id: f"{self.csv}, line {source.line}: {source.unusable}"
            for id, entry in self._entries.items()
            for source in reversed(entry.sources)
            if source.unusable and id not in missing
        }
        present = (id for id in self._entries if id not in missing and id not in broken)
        return Status(tuple(present), missing, broken)

    def remarks(self) -> tuple[str, ...]:
        """Counts of odd clips among those present; decodes every sound and video that was not looked at before."""
        present, found = self.status().present, {}
        with Look() as look:
            for id in track(present, "look for odd clips", len(present)):
                entry = self._entries[id]
                still = not entry.pictured and look.still(self._path(entry.media))
                heard = look.heard(self._path(entry.sound), entry.start, entry.end)
                found[id] = Traits(heard, still=still)
        return remarks(found)

    def load(self, id: str) -> Sample:
        """Its frame and sound; the truth has the frame's size.

        Raises:
            DataError: The media or a mask cannot be used; names the file and the cause.
        """
        entry = self._entries[id]
        image = self._image(entry)
        channels, rate = read_moment(self._path(entry.sound), entry.start, entry.end)
        audio = channels if len(channels) == 2 else channels.mean(axis=0)
        truth = self.truth(id) if entry.annotated else None
        return Sample(Clip(id, image, audio, rate, group=entry.group), truth, entry.labels)

    def labels(self, id: str) -> tuple[str, ...]:
        return self._entries[id].labels

    def truth(self, id: str) -> Truth:
        """One mask per source, at the frame's size; decodes a frame only if its size is not known yet."""
        entry = self._entries[id]
        if not entry.annotated:
            raise DataError(f"{self.csv}: clip {id!r} has neither boxes nor a mask, so it cannot be scored.")
        if id not in self._sizes:
            self._image(entry)
        height, width = self._sizes[id]
        parts = [self._mask(source, height, width) for source in entry.sources]
        ignore = np.any([part.ignore for part in parts], axis=0)
        masks = np.stack([part.inside for part in parts]).astype(np.float32)
        boxes = tuple(np.array(source.boxes, np.float64).reshape(-1, 4) for source in entry.sources)
        labels = tuple(source.label for source in entry.sources)
        return Truth(masks, labels, boxes, ignore if ignore.any() else None)

    def content(self, id: str) -> str:
        """A hash of the files' bytes, the labels and the group; decodes nothing.

        Raises:
            DataError: A file is missing.
        """
        entry = self._entries[id]
        files = [file_digest(self._path(name)) for name in (entry.media, entry.audio) if name]
        moment = [entry.at, entry.start, entry.end]
        return digest([files, entry.pictured, entry.labels, entry.group, moment])

    def media(self, id: str) -> str:
        """A hash of the files' bytes and the moment; decodes nothing."""
        entry = self._entries[id]
        files = [file_digest(self._path(name)) for name in (entry.media, entry.sound)]
        return digest([files, entry.at, entry.start, entry.end])

    def fingerprint(self) -> str:
        """A hash of the clips listed in the CSV, and of the present clips with their content."""
        rows = [
            [
                entry.id,
                entry.media,
                entry.audio,
                entry.group,
                [[s.label, s.boxes, s.mask, s.hidden] for s in entry.sources],
            ]
            for entry in self._entries.values()
        ]
        present = [
            [id, self.content(id), [file_digest(self._path(name)) for name in self._entries[id].masks]]
            for id in self.status().present
        ]
        return digest([self.classes, rows, present, repr(self._values)])

    def _path(self, name: str) -> Path:
        return self.csv.parent / name

    def _image(self, entry: Entry) -> npt.NDArray[np.uint8]:
        path = self._path(entry.media)
        image = read_image(path) if entry.pictured else read_frame(path, entry.moment)
        self._sizes[entry.id] = image.shape[0], image.shape[1]
        return image

    def _mask(self, source: Source, height: int, width: int) -> Mask:
        """``(height, width)``: every pixel that a box touches, or what the mask file says."""
        if source.mask:
            mask = read_mask(self._path(source.mask), self._values, black=True)
            inside, ignore = (resize_mask(part, height, width) > 0 for part in (mask.inside, mask.ignore))
            return Mask(inside, ignore)
        inside = np.zeros((height, width), bool)
        for x1, y1, x2, y2 in source.boxes:
            rows = slice(math.floor(y1 * height), math.ceil(y2 * height))
            inside[rows, math.floor(x1 * width) : math.ceil(x2 * width)] = True
        return Mask(inside, np.zeros_like(inside))


def _notes(entries: Mapping[str, Entry], mixtures: Members) -> tuple[str, ...]:
    """Notes for every table over these data; `mixtures` are the test split's."""
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
