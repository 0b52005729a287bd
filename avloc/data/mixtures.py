"""Canvases: clips side by side, sounds summed, truth moved along; and the lists of which clips go together.

The construction of VGGSound-Duet (T-VSL, AVGN): a plain sum of the waveforms, without level control.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from avloc.data.masks import resize_mask
from avloc.data.media import resample, resize_image
from avloc.interfaces import Dataset
from avloc.store import digest
from avloc.types import AvlocError, Clip, DataError, FloatArray, Sample, Status, Truth

Members = Mapping[str, tuple[str, ...]]
"""Id of a canvas -> ids of its clips, left to right."""
MIXTURES_REVISION = 1
"""Raise it when canvases come out otherwise."""
KEPT = 1 << 28
"""Bytes of decoded clips that stay in memory: a training list has every clip on several canvases."""


class Mixtures(Dataset):
    """Clips of a data set side by side, their sounds summed; a canvas of one clip is that clip.

    Tiles are resized to the first one's size; sounds are brought to the first one's rate, the shorter ones are repeated
    to the longest, and summed. Status, labels, truth, content and fingerprint follow from those of the members.

    Args:
        dataset: The clips, of one tile each.
        members: Id of a canvas -> its clips; or a function that returns them, called when they are first needed.
    """

    def __init__(self, dataset: Dataset, members: Members | Callable[[], Members]) -> None:
        self.dataset, self._given = dataset, members
        self.classes, self.notes, self.leaks = dataset.classes, dataset.notes, dataset.leaks
        self._kept: dict[str, Sample] = {}
        self._room = KEPT

    @cached_property
    def members(self) -> Members:
        """Id of a canvas -> ids of its clips, left to right."""
        return self._given() if callable(self._given) else self._given

    def prepare(self) -> None:
        self.dataset.prepare()

    def ids(self) -> Sequence[str]:
        return list(self.members)

    def status(self) -> Status:
        """A canvas needs all of its clips, and is broken where one of them is."""
        status = self.dataset.status()
        present, missing, broken = [], {}, {}
        for id, members in self.members.items():
            if bad := next((member for member in members if member in status.broken), None):
                broken[id] = status.broken[bad]
            elif gone := next((member for member in members if member in status.missing), None):
                missing[id] = status.missing[gone]
            else:
                present.append(id)
        return Status(tuple(present), missing, broken)

    def remarks(self) -> tuple[str, ...]:
        return self.dataset.remarks()

    def labels(self, id: str) -> tuple[str, ...]:
        """The classes of its clips, each once."""
        return tuple(dict.fromkeys(label for member in self._members(id) for label in self.dataset.labels(member)))

    def load(self, id: str) -> Sample:
        members = self._members(id)
        if len(members) == 1:
            sample = self.dataset.load(members[0])
            return replace(sample, clip=replace(sample.clip, id=id))
        samples = [self._part(member) for member in members]
        if any(sample.clip.tiles > 1 for sample in samples):
            raise DataError(f"{id!r} would hold canvases of several tiles; put single clips side by side.")
        return _mixed(samples, id)

    def _part(self, member: str) -> Sample:
        """A clip; the first ones that are asked for stay in memory, as many as fit."""
        if member in self._kept:
            return self._kept[member]
        sample = self.dataset.load(member)
        size = sample.clip.image.nbytes + sample.clip.channels.nbytes
        size += 0 if sample.truth is None else sample.truth.masks.nbytes
        if size <= self._room:
            self._room -= size
            self._kept[member] = sample
        return sample

    def truth(self, id: str) -> Truth:
        """At the size of the first clip's truth, for every tile."""
        return _side_by_side([self.dataset.truth(member) for member in self._members(id)])

    def content(self, id: str) -> str:
        contents = [self.dataset.content(member) for member in self._members(id)]
        return contents[0] if len(contents) == 1 else digest([MIXTURES_REVISION, contents])

    def media(self, id: str) -> str:
        parts = [self.dataset.media(member) for member in self._members(id)]
        return parts[0] if len(parts) == 1 else digest(parts)

    def fingerprint(self) -> str:
        whole = [self.dataset.fingerprint(), self.dataset.revision]
        return digest([whole, MIXTURES_REVISION, list(self.members.items())])[:16]

    def _members(self, id: str) -> tuple[str, ...]:
        if id not in self.members:
            raise DataError(f"There is no clip {id!r} in this split of {self.title or type(self).__name__}.")
        return self.members[id]


def _mixed(samples: Sequence[Sample], id: str) -> Sample:
    """A canvas of samples of one tile each, with a truth where all have one."""
    clips = [sample.clip for sample in samples]
    height, width = clips[0].image.shape[:2]
    stereo = all(clip.stereo is not None for clip in clips)
    clip = Clip(
        id,
        np.concatenate([resize_image(clip.image, height, width) for clip in clips], axis=1),
        _sum([resample(clip.channels if stereo else clip.audio[None], clip.rate, clips[0].rate) for clip in clips]),
        clips[0].rate,
        tiles=len(clips),
        group="+".join(dict.fromkeys(clip.group or clip.id for clip in clips)),
    )
    truths = [sample.truth for sample in samples if sample.truth is not None]
    labels = tuple(dict.fromkeys(label for sample in samples for label in sample.labels))
    return Sample(clip, _side_by_side(truths) if len(truths) == len(samples) else None, labels)


def _side_by_side(truths: Sequence[Truth]) -> Truth:
    """The truth of a canvas: masks at the first one's size, boxes normalized to the canvas."""
    if len(truths) == 1:
        return truths[0]
    height, width = truths[0].masks.shape[1:]
    masks: list[npt.NDArray[np.float32]] = []
    labels: list[str] = []
    boxes: list[FloatArray] = []
    for position, truth in enumerate(truths):
        for mask in resize_mask(truth.masks, height, width):
            canvas = np.zeros((height, width * len(truths)), np.float32)
            canvas[:, position * width : (position + 1) * width] = mask
            masks.append(canvas)
        shift, scale = np.array([position, 0, position, 0]), np.array([len(truths), 1, len(truths), 1])
        boxes += [(box + shift) / scale for box in truth.boxes]
        labels += truth.labels
    ignore = None
    if any(truth.ignore is not None for truth in truths):
        parts = [np.zeros(t.masks.shape[1:], bool) if t.ignore is None else t.ignore for t in truths]
        ignore = np.concatenate([resize_mask(part, height, width) > 0 for part in parts], axis=1)
    stacked = np.stack(masks) if masks else np.zeros((0, height, width * len(truths)), np.float32)
    return Truth(stacked, tuple(labels), tuple(boxes) if len(boxes) == len(labels) else (), ignore)


def _sum(waves: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Of waves ``(C, T)``; shorter ones are repeated."""
    length = max(wave.shape[1] for wave in waves)
    total = np.zeros((len(waves[0]), length), np.float32)
    for wave in waves:
        total += np.tile(wave, (1, -(-length // wave.shape[1])))[:, :length]
    return total


def hold_out(groups: Iterable[str], share: float = 0.1) -> set[str]:
    """The groups (videos) of a training list that become ``val``, chosen by the hash of their names; at least one."""
    ranked = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    return set(ranked[: max(1, round(len(ranked) * share))])


def draw_mixtures(
    labels: Mapping[str, Sequence[str]], size: int, sources: int, entropy: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Draw a finite bank of mixtures of clips that share no class; clips take turns to come first.

    Args:
        labels: Clip id -> its class names.
        size: Mixtures.
        sources: Clips of a mixture.
        entropy: Seeds the draw.

    Returns:
        Mixture id (its members' ids joined by ``+``) -> the members, all mixtures different.

    Raises:
        AvlocError: There are too few clips or classes for that many mixtures.
    """
    ids, rng = list(labels), np.random.default_rng(list(entropy))
    mixtures: dict[str, tuple[str, ...]] = {}
    repeats = 0
    while len(mixtures) < size:
        members = _draw(ids, labels, sources, ids[len(mixtures) % len(ids)], rng) if ids else []
        if len(members) < sources:
            raise AvlocError(f"{len(ids)} clips have too few classes for mixtures of {sources}.")
        before = len(mixtures)
        mixtures.setdefault("+".join(members), tuple(members))
        repeats = 0 if len(mixtures) > before else repeats + 1
        if repeats > 1000:
            raise AvlocError(f"{len(ids)} clips do not make {size} different mixtures; lower the bank.")
    return mixtures


def _draw(
    ids: Sequence[str], labels: Mapping[str, Sequence[str]], sources: int, first: str, rng: np.random.Generator
) -> list[str]:
    """`first` and clips drawn after it, none with a class that an earlier one has."""
    members, heard = [first], set(labels[first])
    for _ in range(64 * sources):  # a draw at random nearly always fits; what is left is searched once, in order
        if len(members) == sources:
            return members
        _join(members, heard, ids[int(rng.integers(len(ids)))], labels)
    for index in rng.permutation(len(ids)):
        if len(members) == sources:
            break
        _join(members, heard, ids[index], labels)
    return members


def _join(members: list[str], heard: set[str], id: str, labels: Mapping[str, Sequence[str]]) -> None:
    if not heard & set(labels[id]):
        members.append(id)
        heard |= set(labels[id])
