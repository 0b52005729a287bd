"""K clips on one canvas: tile side by side, sounds summed, truth moved along.

The construction of VGGSound-Duet (T-VSL, AVGN): a plain sum of the waveforms, without level control.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from avloc.data.media import resample, resize_image
from avloc.types import AvlocError, Clip, FloatArray, Sample, Truth


def mix(samples: Sequence[Sample], id: str) -> Sample:
    """Put one-frame samples next to each other, left to right.

    Tiles are resized to the first one's size; sounds are brought to the first one's rate, the shorter ones are
    repeated to the longest, and summed.

    Args:
        samples: One or more samples of one frame each, all with truth or all without.
        id: The mixture's id.

    Returns:
        A sample with ``tiles = len(samples)``, all sources and labels in order, and boxes normalized to the canvas.
    """
    clips = [sample.clip for sample in samples]
    height, width = clips[0].image.shape[:2]
    clip = Clip(
        id,
        np.concatenate([resize_image(clip.image, height, width) for clip in clips], axis=1),
        _sum([resample(clip.audio, clip.rate, clips[0].rate) for clip in clips]),
        clips[0].rate,
        tiles=len(clips),
        group="+".join(dict.fromkeys(clip.group for clip in clips)),
    )
    labels = tuple(dict.fromkeys(label for sample in samples for label in sample.labels))
    return Sample(clip, mixed_truth([sample.truth for sample in samples], height, width), labels)


def mixed_truth(truths: Sequence[Truth | None], height: int, width: int) -> Truth | None:
    """The truth of tiles of ``height x width`` side by side; ``None`` when a tile has none."""
    masks: list[npt.NDArray[np.float32]] = []
    labels: list[str] = []
    boxes: list[FloatArray] = []
    for position, truth in enumerate(truths):
        if truth is None:
            return None
        for mask in truth.masks:
            canvas = np.zeros((height, width * len(truths)), np.float32)
            canvas[:, position * width : (position + 1) * width] = _nearest(mask, height, width)
            masks.append(canvas)
        shift, scale = np.array([position, 0, position, 0]), np.array([len(truths), 1, len(truths), 1])
        boxes += [(box + shift) / scale for box in truth.boxes]
        labels += truth.labels
    stacked = np.stack(masks) if masks else np.zeros((0, height, width * len(truths)), np.float32)
    return Truth(stacked, tuple(labels), tuple(boxes) if len(boxes) == len(labels) else ())


def _nearest(mask: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    resized: npt.NDArray[np.float32] = mask[rows][:, columns]
    return resized


def _sum(waves: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    length = max(len(wave) for wave in waves)
    total = np.zeros(length, np.float32)
    for wave in waves:
        total += np.tile(wave, -(-length // len(wave)))[:length]
    return total


def hold_out(groups: Iterable[str], share: float = 0.1) -> set[str]:
    """The groups (videos) of a training list that become ``val``, chosen by the hash of their names; at least one."""
    ranked = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    return set(ranked[: max(1, round(len(ranked) * share))])


def draw_mixtures(
    labels: Mapping[str, Sequence[str]], size: int, sources: int, entropy: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Draw a finite bank of mixtures of clips that share no class; clips take turns to lead one.

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
    ids: Sequence[str], labels: Mapping[str, Sequence[str]], sources: int, lead: str, rng: np.random.Generator
) -> list[str]:
    """`lead` and clips drawn after it, none with a class that an earlier one has."""
    members, heard = [lead], set(labels[lead])
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
