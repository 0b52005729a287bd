"""A world for methods that map several sources: one object of a class on every tile, and its sound in the mixture."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from avloc import Batch, EncoderInfo, Features, Method

D, N = 16, 5
INFO = EncoderInfo(D)
CLASSES = tuple("abcde")
WORLD = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(5)))[0]
"""Row c: how class c looks; row N + c: how it sounds."""


def build(kind: type[Method], **params: Any) -> Method:
    """A method over the planted world, in eval mode, always with the same weights."""
    torch.manual_seed(0)
    return kind(INFO, CLASSES, **params).eval()


def plant(count: int, tiles: int = 1, *, seed: int = 0, views: bool = True) -> tuple[Features, Batch, Tensor]:
    """Canvases with one object on every tile, features, batch, and where each is: ``(B, tiles, 7, 7 * tiles)``."""
    torch.manual_seed(seed)
    classes = torch.stack([torch.randperm(N)[:tiles] for _ in range(count)])  # (B, tiles)
    image_map = 0.1 * torch.randn(count, D, 7, 7 * tiles)
    where = torch.zeros(count, tiles, 7, 7 * tiles, dtype=torch.bool)
    for n, t in itertools.product(range(count), range(tiles)):
        y, x = int(torch.randint(5, ())), 7 * t + int(torch.randint(4, ()))
        where[n, t, y : y + 3, x : x + 3] = True
        image_map[n, :, where[n, t]] += WORLD[classes[n, t], :, None]
    audio_map = WORLD[N + classes].mT[..., None] + 0.1 * torch.randn(count, D, tiles, 6)
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
