"""Features of the planted world of `avloc.testing`, made directly, with the geometry that a test asks for.

Classes, encoder and the joint space are that world's. `plant` puts the embedding of every source into a block of image
tokens and into a few audio tokens. `canvases` puts one object on every tile, and lets image and sound point to other
directions, as for methods whose heads start at random.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from avloc import Batch, Features, Method
from avloc.testing.scenes import CLASSES, DIM, Prism

D, N, INFO = DIM, len(CLASSES), Prism.info
BASIS = Prism().basis
TEXT, GROUND = BASIS[:N], BASIS[N]  # (N, D) of length 3
LOOKS, SOUNDS = BASIS[:N] / 3, BASIS[N + 2 : 2 * N + 2] / 3
"""(N, D): how the classes look and sound on `canvases`."""
TWIST = torch.randn(D, D, generator=torch.Generator().manual_seed(1)) / D**0.5
"""A linear change of the image side: a gap between the modalities."""


def build(kind: type[Method], params: dict[str, Any] | None = None, seed: int = 0) -> Method:
    """A method over this world, in eval mode, always with the same weights."""
    torch.manual_seed(seed)
    return kind(INFO, CLASSES, **(params or {})).eval()


def rows(*sources: tuple[int, ...]) -> Tensor:
    """Class indices as a list of sources, padded with -1."""
    width = max(map(len, sources))
    return torch.tensor([(*row, *[-1] * (width - len(row))) for row in sources])


def plant(
    sources: Tensor, width: int = 7, *, seed: int = 0, strength: float = 4.0, noise: float = 0.6, gap: float = 0.0
) -> tuple[Features, Batch, Tensor]:
    """Features, an oracle batch with labels, and where the sources are: ``(B, K, 7, width)`` bool."""
    torch.manual_seed(seed)
    count, most = sources.shape
    image_map = noise * torch.randn(count, D, 7, width) + GROUND[:, None, None]
    audio_map = noise * torch.randn(count, D, 5, 4)
    where = torch.zeros(count, most, 7, width, dtype=torch.bool)
    labels = torch.zeros(count, N)
    for b, k in itertools.product(range(count), range(most)):
        if sources[b, k] < 0:
            continue
        voice = TEXT[sources[b, k]] * strength / 3
        left = k * (width // most) + int(torch.randint(width // most - 1, ()))
        top = int(torch.randint(6, ()))
        where[b, k, top : top + 2, left : left + 2] = True
        image_map[b, :, where[b, k]] += (voice + gap * TWIST @ voice)[:, None]
        audio_map[b, :, k] += voice[:, None]
        labels[b, sources[b, k]] = 1
    ids = tuple(f"clip {seed} {n}" for n in range(count))
    backbone = torch.randn(count, INFO.backbone_dim, 7, width)
    features = Features(image_map, image_map.mean((2, 3)), audio_map, audio_map.mean((2, 3)), backbone, TEXT.clone())
    tiles = torch.full((count,), width // 7)
    return features, Batch(ids, tiles, ids, CLASSES, sources=sources, labels=labels), where


def canvases(count: int, tiles: int = 1, *, seed: int = 0, views: bool = True) -> tuple[Features, Batch, Tensor]:
    """Canvases with one object on every tile, features, batch, and where each is: ``(B, tiles, 7, 7 * tiles)``."""
    torch.manual_seed(seed)
    classes = torch.stack([torch.randperm(N)[:tiles] for _ in range(count)])  # (B, tiles)
    image_map = 0.1 * torch.randn(count, D, 7, 7 * tiles)
    where = torch.zeros(count, tiles, 7, 7 * tiles, dtype=torch.bool)
    for n, t in itertools.product(range(count), range(tiles)):
        y, x = int(torch.randint(5, ())), 7 * t + int(torch.randint(4, ()))
        where[n, t, y : y + 3, x : x + 3] = True
        image_map[n, :, where[n, t]] += LOOKS[classes[n, t], :, None]
    audio_map = SOUNDS[classes].mT[..., None] + 0.1 * torch.randn(count, D, tiles, 6)
    ids = tuple(f"clip{n}" for n in range(count))
    features = Features(image_map, image_map.mean((2, 3)), audio_map, audio_map.mean((2, 3)))
    labels = torch.zeros(count, N).scatter(1, classes, 1)
    batch = Batch(ids, torch.full((count,), tiles), ids, CLASSES, sources=classes, labels=labels)
    if views:
        order = torch.arange(count).roll(1)
        other = replace(changed(features, lambda x: x[order]), views={})
        features = replace(features, views={"shifted_audio": features, "other_video": other})
        batch = replace(batch, views=dict.fromkeys(features.views, batch))
    return features, batch, where


def changed(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    """Apply a function to every tensor of the features and of their views."""
    names = ("image_map", "image", "audio_map", "audio")
    views = {name: changed(view, change) for name, view in features.views.items()}
    return replace(features, **{name: change(getattr(features, name)) for name in names}, views=views)


def total(terms: dict[str, Tensor]) -> Tensor:
    """The sum of a loss's terms."""
    return torch.stack(list(terms.values())).sum()
