"""State of contrastive methods besides weights: neighbors, averages; a killed run resumes with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric

from avloc import Batch, Context, EncoderInfo, Features, Method
from avloc.suite import Train
from avloc.training import Fit, load_weights
from avloc_plugins.methods.alignment import Alignment, nearest
from avloc_plugins.methods.fnac import FNAC
from avloc_plugins.methods.slavc import SLAVC
from helpers.tasks import task_of
from helpers.world import Blocks, Plain

D = 16


def build(share: float) -> Alignment:
    return Alignment(EncoderInfo(D), (), dim=8, neighbor_share=share)


def _pass(count: int, size: int, seed: int = 0) -> Callable[[], Iterator[tuple[Features, Batch]]]:
    """A pass over clips whose pooled features are random."""
    torch.manual_seed(seed)
    images, sounds = torch.randn(count, D), torch.randn(count, D)
    ids = [f"clip {n}, Ü" for n in range(count)]

    def run() -> Iterator[tuple[Features, Batch]]:
        for start in range(0, count, size):
            part = slice(start, start + size)
            image, audio, some = images[part], sounds[part], tuple(ids[part])
            features = Features(image[..., None, None], image, audio[..., None, None], audio)
            yield features, Batch(some, torch.ones(len(some)).long(), some)

    return run


def _partners(method: Method, count: int) -> tuple[Sequence[str], Sequence[str]]:
    return method.neighbors([f"clip {n}, Ü" for n in range(count)], Context())


class TestNeighbours:
    @pytest.mark.parametrize("at_once", [1, 100, 2**24])
    def test_nearest_against_a_full_sort(self, at_once: int) -> None:
        torch.manual_seed(0)
        vectors = torch.randn(37, 8) * torch.rand(37, 1)
        cosines = F.cosine_similarity(vectors[:, None], vectors[None], dim=2).fill_diagonal_(-2)
        expected = cosines.argsort(1, descending=True)[:, :5]
        assert torch.equal(nearest(vectors, 5, at_once=at_once), expected.int())

    def test_neighbors_are_drawn_independently_per_modality(self) -> None:
        method = build(0.1)
        method.before_phase("main", run := _pass(40, 7))
        features = [features for features, _ in run()]
        near = {
            "images": nearest(torch.cat([f.image for f in features]), 4).tolist(),
            "sounds": nearest(torch.cat([f.audio for f in features]), 4).tolist(),
        }
        torch.manual_seed(1)
        seen = set()
        for _ in range(30):
            images, sounds = _partners(method, 40)
            for n, (image, sound) in enumerate(zip(images, sounds, strict=True)):
                one, other = (int(id.removeprefix("clip ").removesuffix(", Ü")) for id in (image, sound))
                assert one in near["images"][n] and other in near["sounds"][n] and n not in (one, other)
                seen.add((near["images"][n].index(one), near["sounds"][n].index(other)))
        assert seen == set(itertools.product(range(4), repeat=2))

    def test_the_draw_is_torchs(self) -> None:
        method = build(0.5)
        method.before_phase("main", _pass(12, 5))
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            drawn.append(_partners(method, 12))
        assert drawn[0] == drawn[1] != drawn[2]

    @pytest.mark.parametrize(
        ("count", "share", "expected"), [(1000, 0.007, 7), (20, 0.007, 1), (2, 0.9, 1), (1, 0.5, 1)]
    )
    def test_how_many_neighbors(self, count: int, share: float, expected: int) -> None:
        method = build(share)
        method.before_phase("main", _pass(count, 64))
        for neighbors in (method.image_neighbors, method.audio_neighbors):
            assert neighbors.shape == (count, expected) and neighbors.dtype == torch.int32
        assert len(_partners(method, count)[0]) == count


def _learn(kind: type[Method], folder: Path, **params: Any) -> Path:
    """A short training in the small world, with views where the method wants them."""
    torch.manual_seed(0)
    encoder, splits = Plain(), {split: Blocks(None, split=split) for split in ("train", "val")}
    how = Train(epochs=2, batch_size=4, lr=0.01)
    method = kind(encoder.info, Blocks.classes, dim=8, **params)
    data = task_of(splits, encoder).training_data(method.needs, how)
    return Fit(
        method, data, how, seed=0, folder=folder, fabric=Fabric(accelerator="cpu", devices=1), save_every=0
    ).run()


@pytest.mark.parametrize(
    ("kind", "params"), [(SLAVC, {"momentum": 0.5}), (Alignment, {"neighbor_share": 0.3}), (FNAC, {"warmup": 1})]
)
def test_killed_and_resumed_it_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Method], params: dict[str, Any]
) -> None:
    whole = load_weights(_learn(kind, tmp_path / "whole", **params))
    steps, original = [], Fit._step

    def step(self: Fit, *args: Any) -> None:
        steps.append(1)
        if len(steps) > 4:
            raise KeyboardInterrupt
        original(self, *args)

    monkeypatch.setattr(Fit, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        _learn(kind, tmp_path / "killed", **params)
    monkeypatch.setattr(Fit, "_step", original)
    resumed = load_weights(_learn(kind, tmp_path / "killed", **params))
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
