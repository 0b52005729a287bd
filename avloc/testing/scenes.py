"""A small synthetic world in which it is known what sounds where: what `avloc.testing` tries methods on.

Eight classes, each a color and a tone. A clip is a gray, noisy image with a square per source, and the sum of their
tones. Its encoder maps squares, tones and names of a class to one direction of a joint space, so that the tokens under
a square carry the embedding of what sounds. Sources to learn from fill the frame as well: from small ones alone, a few
dozen clips do not tell heads that start at random what to look for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from avloc.components import Component
from avloc.features import encoder_audio, encoder_image
from avloc.hints import disclose
from avloc.interfaces import Dataset, Encoder, EncoderInfo, Needs
from avloc.runner import Task, make_task
from avloc.suite import SuiteDataset, Train
from avloc.training import TrainingData
from avloc.types import Batch, Clip, Features, Sample, Status, Truth

CLASSES = ("bell", "cat", "dog", "drum", "horn", "rain", "song", "train")
CELLS, PIXELS, RATE, DIM = 7, 4, 800, 64
SPLITS = {"train": 32, "val": 8, "test": 32}
"""Clips of each."""
SIDES = (7, 5)
"""Cells across a source to learn from, for eight clips each in turn."""


class Planted(Dataset):
    """`count` clips of squares and tones: 2 x 2 cells in one of the corners for every source, or one of `SIDES`.

    The ids, `split` among them, are what all else is drawn from; `sources` are 1 to 4, of different classes.
    """

    title = "Planted"
    classes = CLASSES

    def __init__(self, *, split: str, count: int, sources: int = 1, tiles: int = 1, large: bool = False) -> None:
        self.split, self.count, self.sources, self.tiles, self.large = split, count, sources, tiles, large

    def ids(self) -> Sequence[str]:
        return [f"{self.split} {self.sources} {self.tiles} {n}" for n in range(self.count)]

    def status(self) -> Status:
        return Status(tuple(self.ids()))

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.ids()).encode()).hexdigest()

    def load(self, id: str) -> Sample:
        number = self.ids().index(id)
        rng = np.random.default_rng(list(hashlib.sha256(id.encode()).digest()))
        kinds = (number + np.array([0, *(1 + rng.permutation(len(CLASSES) - 1))])) % len(CLASSES)  # all lead in turn
        height, width = CELLS * PIXELS, CELLS * PIXELS * self.tiles
        image = 128 + 20 * rng.standard_normal((height, width, 3))
        audio = 0.03 * rng.standard_normal(RATE)
        masks = np.zeros((self.sources, height, width), np.float32)
        for kind, place, mask in zip(kinds, rng.permutation(4), masks, strict=False):
            side = SIDES[number // len(CLASSES) % len(SIDES)] if self.large else 2
            mask[_square(int(place), side, CELLS * self.tiles, rng)] = 1
            image += mask[:, :, None] * 107 * CORNERS[kind]
            audio += rng.uniform(0.1, 0.2) * np.sin(2 * np.pi * 40 * (kind + 1) * np.arange(RATE) / RATE)
        names = tuple(CLASSES[kind] for kind in kinds[: self.sources])
        pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        clip = Clip(id, pixels, audio.astype(np.float32), RATE, self.tiles, group=id)
        return Sample(clip, Truth(masks, names), names)


CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))
"""The color of every class: the corners of the cube."""


def _square(place: int, side: int, columns: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Pixels of a square, somewhere in one of the four corners where there is room for others."""
    starts = []
    for cells, far in ((CELLS, place // 2), (columns, place % 2)):
        room = cells // 2 if side <= cells // 2 else cells
        starts.append(((cells - room) * far + int(rng.integers(room - side + 1))) * PIXELS)
    top, left = starts
    return slice(top, top + side * PIXELS), slice(left, left + side * PIXELS)


class Prism(Encoder):
    """Takes colors and tones apart. Its first directions are the classes, the others grounds and noise."""

    info = EncoderInfo(
        DIM, image_size=CELLS * PIXELS, image_grid=(CELLS, CELLS), audio_rate=RATE, audio_seconds=1.0,
        audio_grid=(4, 2), backbone_dim=8, weights="planted",
    )  # fmt: skip
    basis: Tensor
    rough: Tensor

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.from_numpy(np.random.default_rng(0).standard_normal((DIM, DIM))).float()
        self.register_buffer("basis", torch.linalg.qr(drawn)[0] * 3)  # (D, D), rows
        rough = torch.from_numpy(np.random.default_rng(1).standard_normal((DIM, 3, PIXELS, PIXELS))).float()
        self.register_buffer("rough", rough - rough.mean((2, 3), keepdim=True))  # blind to plain color

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        colors = nn.functional.avg_pool2d(images, PIXELS)
        corners = torch.from_numpy(CORNERS).to(images)
        classes = (1.5 * torch.einsum("bchw,nc->bnhw", colors, corners) / 2.5 - 0.5).relu()  # (B, 8, h, w)
        noise = 0.15 * nn.functional.conv2d(images, self.rough, stride=PIXELS)
        tokens = torch.einsum("bnhw,nd->bdhw", classes, self.basis[:8]) + noise + self.basis[8, :, None, None]
        return tokens, tokens.mean((2, 3)), classes

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.fft.rfft(waves.reshape(len(waves), 4, -1)).abs()[:, :, 5:85:5] / 15  # (B, 4, 16)
        tones, noise = spectrum[:, :, 1::2], spectrum[:, :, ::2]
        halves = [
            tones[..., part] @ self.basis[:8][part] + noise[..., part] @ self.basis[10:18][part] + 0.3 * self.basis[9]
            for part in (slice(4), slice(4, 8))
        ]
        tokens = torch.stack([half.mT for half in halves], 3)  # (B, D, 4, 2)
        return tokens, tokens.mean((2, 3))

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return self.basis[[CLASSES.index(prompt) for prompt in prompts]]

    def fingerprint(self) -> str:
        return "planted"


@dataclass(frozen=True, slots=True)
class Scene:
    """Clips of a planted world with all hints, where their objects are, and the classes that sound in each."""

    features: Features
    batch: Batch
    truths: tuple[Truth, ...]
    labels: tuple[tuple[str, ...], ...]


@torch.no_grad()
def scene(count: int, *, sources: Sequence[int] = (1,), tiles: int = 1, split: str = "test") -> Scene:
    """`count` clips of each number of sources; other splits, of whatever name, have other clips."""
    worlds = [Planted(split=split, count=count, sources=number, tiles=tiles) for number in sources]
    samples = [world.load(id) for n in range(count) for world in worlds for id in [world.ids()[n]]]
    encoder, clips = Prism(), [sample.clip for sample in samples]
    image_map, image, backbone = encoder.encode_image(torch.stack([encoder_image(c, encoder.info) for c in clips]))
    audio_map, audio = encoder.encode_audio(torch.stack([encoder_audio(c, encoder.info) for c in clips]))
    features = Features(image_map, image, audio_map, audio, backbone)
    truths = tuple(sample.truth for sample in samples if sample.truth is not None)
    return _scene(features, tuple(clip.id for clip in clips), tiles, truths, tuple(s.labels for s in samples))


def _scene(
    features: Features, ids: tuple[str, ...], tiles: int, truths: tuple[Truth, ...], labels: tuple[tuple[str, ...], ...]
) -> Scene:
    batch, text = Batch(ids, torch.full((len(ids),), tiles), ids), Prism().encode_text(CLASSES)
    features, batch = disclose(features, batch, "oracle", classes=CLASSES, text=text, labels=labels)
    return Scene(features, batch, truths, labels)


@torch.no_grad()
def pairs(count: int) -> Scene:
    """Images of two objects, each twice: first the one sounds, then the other.

    Of the two masks of a truth, the first is the source's and the second that of the silent object.
    """
    seen, heard = scene(count, sources=(2,)), scene(len(CLASSES))
    turned = tuple(Truth(truth.masks[::-1].copy(), truth.labels[::-1]) for truth in seen.truths)
    truths = seen.truths + turned
    labels = tuple(truth.labels[:1] for truth in truths)
    sounds = [next(n for n, heard_labels in enumerate(heard.labels) if heard_labels == names) for names in labels]
    found = {name: getattr(heard.features, name)[sounds] for name in ("audio_map", "audio")}
    found |= {name: getattr(seen.features, name).repeat(2, *[1] * (getattr(seen.features, name).ndim - 1))
              for name in ("image_map", "image", "backbone_map")}  # fmt: skip
    ids = tuple(f"{id} {n}" for n in range(2) for id in seen.batch.ids)
    return _scene(replace(seen.features, **found), ids, 1, truths, labels)


@cache
def _folder() -> TemporaryDirectory[str]:
    """Goes away with the process."""
    return TemporaryDirectory(prefix="avloc-")


@cache
def _task() -> Task:
    splits = {split: Planted(split=split, count=count, large=split != "test") for split, count in SPLITS.items()}
    encoder = Prism().eval().requires_grad_(False)
    return make_task(SuiteDataset(name="planted", encoder=Component(name="prism")), splits, encoder)


def training_data(needs: Needs, train: Train) -> TrainingData:
    """What a method with these needs learns from in the planted world; leaves nothing in the user's cache."""
    with patch.dict(os.environ, AVLOC_CACHE=_folder().name):
        return _task().training_data(needs, train)
