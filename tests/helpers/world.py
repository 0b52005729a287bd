"""The planted world of `avloc.testing` as a plugin, with methods that need no training time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avloc import (
    Batch,
    Context,
    DataError,
    EncoderInfo,
    Features,
    Method,
    Needs,
    Prediction,
    Sample,
    Status,
    hookimpl,
)
from avloc.interfaces import Phase
from avloc.testing.scenes import Planted, Prism


class Blocks(Planted):
    """The planted world as a registered data set. Clips named in `bad` are broken, those in `gone` missing."""

    title = "Blocks"

    def __init__(
        self, root: Path | None, *, split: str, count: int = 12, bad: Sequence[str] = (), gone: Sequence[str] = ()
    ) -> None:
        super().__init__(split=split, count=count)
        self.bad, self.gone = tuple(bad), tuple(gone)

    def ids(self) -> list[str]:
        return [f"{self.split}{n}" for n in range(self.count)]

    def status(self) -> Status:
        present = tuple(id for id in self.ids() if id not in self.gone)
        return Status(present, missing={id: "no file" for id in self.ids() if id in self.gone})

    def load(self, id: str) -> Sample:
        if id in self.bad:
            raise DataError(f"{id}.mp4 is truncated")
        return super().load(id)

    def fingerprint(self) -> str:
        return f"{self.count}{self.gone}"


class Plain(Prism):
    """Its encoder, whose image tokens may be scaled."""

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens, pooled, classes = super().encode_image(images)
        return tokens * self.scale, pooled * self.scale, classes

    def fingerprint(self) -> str:
        return f"plain{self.scale}"


class Dot(Method):
    """Cosine-free: image tokens times a trained diagonal times the audio."""

    title = "Dot"
    paper = "none"

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, dropout: float = 0.2, stages: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(encoder.dim) + 0.1 * torch.randn(encoder.dim))
        self.dropout, self.stages = nn.Dropout(dropout), stages

    def phases(self) -> list[Phase]:
        return [Phase(f"part{n}", lr_scale=1 / (n + 1)) for n in range(self.stages)]

    def maps(self, features: Features) -> Tensor:
        return torch.einsum("bdhw,d,bd->bhw", self.dropout(features.image_map), self.weight, features.audio)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        queries = self.weight * features.audio
        logits = torch.einsum("bdhw,cd->bchw", self.dropout(features.image_map), queries).amax((2, 3))
        return {"match": nn.functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        maps = self.maps(features).cpu().numpy()
        return [Prediction(id, maps[n : n + 1]) for n, id in enumerate(batch.ids)]


class Oracle(Dot):
    """Needs the class names of the clip."""

    needs = Needs(hints="oracle", labels=True, text=True)
    trainable = False

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        assert batch.sources is not None and features.text is not None
        queries = features.text[batch.sources[:, 0]]
        maps = torch.einsum("bdhw,bd->bhw", features.image_map, queries).cpu().numpy()
        names = [batch.classes[int(k)] for k in batch.sources[:, 0]]
        return [Prediction(id, maps[n : n + 1], (names[n],)) for n, id in enumerate(batch.ids)]


class Failing(Dot):
    """Raises an error in the function named by `where`."""

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, where: str = "loss") -> None:
        super().__init__(encoder, classes)
        self.where = where

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        if self.where == "loss":
            raise RuntimeError("the loss failed")
        return super().loss(features, batch, context)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        raise RuntimeError("the map failed")


class World:
    """The plugin module."""

    events: list[tuple[str, str]] = []  # noqa: RUF012

    @hookimpl
    def avloc_datasets(self) -> dict[str, str | type]:
        return {"blocks": Blocks}

    @hookimpl
    def avloc_encoders(self) -> dict[str, str | type]:
        return {"plain": Plain}

    @hookimpl
    def avloc_methods(self) -> dict[str, str | type]:
        return {"dot": Dot, "hinted": Oracle, "failing": Failing, "absent": "no_such_module:Method"}

    @hookimpl
    def avloc_run_event(self, run: Any, event: str) -> None:
        self.events.append((run.method.name, event))


SUITE = """
title: Blocks
datasets: [{name: blocks, encoder: plain}]
protocol: {preset: avloc, size: 28}
hints: oracle
metrics: [pixel_ap, {name: ciou_success, at: 0.3}]
methods: [dot, hinted]
train: {epochs: 3, batch_size: 5, lr: 0.01}
seeds: [0, 1]
"""
