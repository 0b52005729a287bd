"""Every trainable method can be trained together with its encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from avloc.interfaces import Method
from avloc.registry import registry
from avloc.suite import Train
from avloc.training import ENCODER, Fit, load_weights
from helpers.tasks import task_of
from helpers.world import Blocks, Plain

SMALL: dict[str, dict[str, Any]] = {"avgn": {"dim": 16, "depth": 1, "heads": 2}, "dsol": {"rounds": 1}}
"""Parameters that make large methods faster."""


class Tinted(Plain):
    """Plain, with a weight for every channel of images and one of sounds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.nn.Parameter(torch.ones(self.info.dim))
        self.heard = torch.nn.Parameter(torch.ones(self.info.dim))

    def encode_image(self, images: torch.Tensor) -> Any:
        maps, pooled, backbone = super().encode_image(images)
        return maps * self.seen[:, None, None], pooled * self.seen, backbone

    def encode_audio(self, waves: torch.Tensor) -> Any:
        maps, pooled = super().encode_audio(waves)
        return maps if maps is None else maps * self.heard[:, None, None], pooled * self.heard


def learning() -> list[str]:
    kinds = {name: registry().get("method", name) for name in registry().entries("method")}
    return [name for name, kind in kinds.items() if issubclass(kind, Method) and kind.trainable]


@pytest.mark.parametrize("name", learning())
def test_an_encoder_learns_under_it(name: str, tmp_path: Path) -> None:
    encoder, kind = Tinted(), registry().get("method", name)
    splits = {split: Blocks(None, split=split, count=8) for split in ("train", "val", "test")}
    task = task_of(splits, encoder)
    how = Train(epochs=2, batch_size=4, lr=0.01, train_encoder=True)
    torch.manual_seed(0)
    method = kind(encoder.info, Blocks.classes, **SMALL.get(name, {}))
    fabric = Fabric(accelerator="cpu", devices=1)
    fit = Fit(method, task.training_data(method.needs, how), how, seed=0, folder=tmp_path, fabric=fabric)
    tensors = load_weights(fit.run())
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    for part in ("seen", "heard"):
        assert not torch.equal(tensors[f"{ENCODER}{part}"], torch.ones(encoder.info.dim)), part
