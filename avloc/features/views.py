"""Other versions of training clips that a method's loss may want: altered copies, and canvases of several clips.

Pixels change and sounds mix before the encoder, so a view is a data set of its own whose clips are encoded like any
other: a finite bank of copies per clip, drawn once by the clip's id, so that it can be cached and made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from avloc.data import Image, Mixtures, digest, draw_mixtures
from avloc.interfaces import Dataset
from avloc.types import Sample, Status

VIEWS_REVISION = 1
"""Raise it when altered copies come out otherwise."""
COPY = "~"


def copy_of(id: str, number: int) -> str:
    """The id of an altered copy."""
    return f"{id}{COPY}{number}"


class Altered(Dataset):
    """Altered copies of a split's clips: the sound shifted in time, and where asked every tile's pixels changed.

    The sound is rotated by a random amount, so that the encoder's window covers another part of it. Pixels
    are changed by quarter turns, flips, shifts, blur, colors and grayscale (after Senocak et al., ICCV 2023).

    Args:
        dataset: The split.
        ids: Its usable clips.
        copies: Of every clip.
        pixels: Whether images change too.
    """

    def __init__(self, dataset: Dataset, ids: Sequence[str], copies: int, *, pixels: bool) -> None:
        self._dataset, self._pixels, self.classes = dataset, pixels, dataset.classes
        self._ids = tuple(copy_of(id, number) for id in ids for number in range(copies))

    def ids(self) -> Sequence[str]:
        return self._ids

    def status(self) -> Status:
        return Status(self._ids)

    def load(self, id: str) -> Sample:
        sample = self._dataset.load(id.rpartition(COPY)[0])
        clip, rng = sample.clip, np.random.default_rng(list(hashlib.sha256(id.encode()).digest()))
        audio = np.roll(clip.channels, int(rng.integers(len(clip.audio))), axis=1)
        tiles = np.split(clip.image, clip.tiles, axis=1)
        image = np.concatenate([altered(tile, rng) for tile in tiles], axis=1) if self._pixels else clip.image
        return Sample(replace(clip, id=id, image=image, audio=audio), None, sample.labels)

    def content(self, id: str) -> str:
        origin = self._dataset.content(id.rpartition(COPY)[0])
        return digest([origin, id, self._pixels, VIEWS_REVISION])

    def fingerprint(self) -> str:
        return digest([self._dataset.fingerprint(), self._ids, self._pixels, VIEWS_REVISION])[:16]


def canvases(dataset: Dataset, groups: Mapping[str, str], tiles: int) -> Mixtures:
    """Clips of different videos side by side, their sounds summed; every clip comes first on one canvas.

    Args:
        dataset: A split of one-tile clips.
        groups: Usable clip -> its video.
        tiles: Clips on a canvas.

    Raises:
        AvlocError: There are too few clips or videos.
    """
    names = {id: [group] for id, group in groups.items()}
    return Mixtures(dataset, draw_mixtures(names, len(names), tiles, [tiles]))


def altered(image: Image, rng: np.random.Generator) -> Image:
    """One image ``(H, W, 3)``, changed but no larger or smaller."""
    height, width = image.shape[:2]
    turned = np.rot90(image, int(rng.integers(4)))
    turned = turned[:, ::-1] if rng.random() < 0.5 else turned
    turned = np.ascontiguousarray(turned[::-1] if rng.random() < 0.5 else turned)
    changed = np.asarray(cv2.resize(turned, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    across, down = rng.uniform(-0.2, 0.2, 2) * (width, height)
    changed = np.asarray(cv2.warpAffine(changed, np.array([[1, 0, across], [0, 1, down]]), (width, height)), np.float32)
    if rng.random() < 0.5:
        blur = rng.uniform(0.1, 2.0) * min(height, width) / 224
        changed = np.asarray(cv2.GaussianBlur(changed, (0, 0), blur), np.float32)
    if rng.random() < 0.8:
        changed = _jittered(changed, rng)
    if rng.random() < 0.2:
        changed = np.repeat(changed.mean(axis=2, keepdims=True), 3, axis=2)
    return cast(Image, np.clip(np.rint(changed), 0, 255).astype(np.uint8))


def _jittered(image: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Brightness, contrast and saturation by a factor of 0.6 to 1.4, hue by a tenth of the circle at most."""
    bright, contrast, saturated = rng.uniform(0.6, 1.4, 3)
    image = (image * bright - 127.5) * contrast + 127.5
    colors = cv2.cvtColor(np.clip(image, 0, 255).astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    colors[..., 0] = (colors[..., 0] + rng.uniform(-36, 36)) % 360
    colors[..., 1] = np.clip(colors[..., 1] * saturated, 0, 1)
    return np.asarray(cv2.cvtColor(colors, cv2.COLOR_HSV2RGB) * 255, np.float32)
