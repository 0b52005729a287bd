"""Loading a finished run: the same maps as in the bench for the bench's clips, and errors if files are missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import avloc
from avloc import AvlocError, Batch, Features, Needs, Prediction, Sample, hookimpl
from avloc.registry import registry
from avloc.results import score_external
from avloc.runner import Options, run_suite
from avloc.store import ArrayLog, Row, RunFolder
from avloc.suite import Suite
from helpers.world import Blocks, Dot, Plain


class Pairs(Blocks):
    """Two tiles side by side; only the left one sounds."""

    def load(self, id: str) -> Sample:
        sample = super().load(id)
        assert sample.truth is not None
        image = np.concatenate([sample.clip.image, sample.clip.image[::-1]], axis=1)
        masks = np.pad(sample.truth.masks, ((0, 0), (0, 0), (0, 28)))
        return replace(
            sample, clip=replace(sample.clip, image=image, tiles=2), truth=replace(sample.truth, masks=masks)
        )


class Learning(Plain):
    """Plain with a weight on every image channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(Plain.info.dim))

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens, _, classes = super().encode_image(images)
        tokens = tokens * self.weight[:, None, None]
        return tokens, tokens.mean((2, 3)), classes

    def fingerprint(self) -> str:
        return f"learning{self.weight.tolist()}"


class Detecting(Dot):
    """Maps the class whose text is closest to the sound, among the disclosed ones; draws some noise."""

    needs = Needs(hints="vocabulary", text=True)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        assert features.text is not None
        best = (features.audio @ features.text.T).argmax(1)
        maps = (self.maps(features) + 1e-6 * torch.rand(1)).cpu().numpy()
        return [
            Prediction(id, maps[n : n + 1], (batch.classes[int(best[n])],), np.ones(1))
            for n, id in enumerate(batch.ids)
        ]


class Closed(Dot):
    """Names every class of its training."""

    needs = Needs(hints="vocabulary", closed_set=True)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        assert batch.classes == Blocks.classes and features.backbone_map is not None
        maps = features.backbone_map.cpu().numpy()
        return [Prediction(id, maps[n], batch.classes) for n, id in enumerate(batch.ids)]


class More:
    """A plugin."""

    @hookimpl
    def avloc_datasets(self) -> dict[str, type]:
        return {"pairs": Pairs}

    @hookimpl
    def avloc_encoders(self) -> dict[str, type]:
        return {"learning": Learning}

    @hookimpl
    def avloc_methods(self) -> dict[str, type]:
        return {"detecting": Detecting, "closed": Closed}


@pytest.fixture
def suite(world: Any) -> Iterator[Suite]:
    registry().add_module("more", More())
    yield Suite.model_validate({
        "name": "s", "title": "S", "datasets": [{"name": "blocks", "encoder": "plain"}], "metrics": ["pixel_ap"],
        "protocol": {"preset": "avloc", "size": 28}, "methods": ["dot"],
        "train": {"epochs": 2, "batch_size": 5, "lr": 0.1},
    })  # fmt: skip


def ran(suite: Suite, results: Path, **changes: Any) -> list[Row]:
    data = {**suite.model_dump(), **changes}
    rows = run_suite(Suite.model_validate(data), Options(results, device="cpu")).rows
    assert [(row.status, row.reason) for row in rows] == [("done", "")] * len(rows)
    return rows


def same_as_stored(results: Path, row: Row, data: Blocks, run: str | Path = "") -> None:
    """Localizing the test clips anew, one by one, gives the maps of the bench and its batches, up to half precision."""
    localizer = avloc.load(run or row.run, results=results, device="cpu")
    log = ArrayLog(RunFolder(results, row.run).path)
    for id in data.ids():
        sample, stored = data.load(id), log.read(id)["maps"]
        hints = {"sources": sample.labels} if row.hints == "oracle" else {"vocabulary": data.classes}
        clip = sample.clip
        found = localizer.localize(clip.image, clip.audio, clip.rate, tiles=clip.tiles, **hints)
        assert list(found.labels) == log.records[id]["labels"] and found.maps.shape == stored.shape
        np.testing.assert_allclose(found.maps, stored, rtol=0, atol=2**-11 * np.abs(stored).max())


@pytest.mark.parametrize(
    "train",
    [{}, {"cache": False}, {"encoder": "learning", "train_encoder": True}],
    ids=["cached", "computed", "with its encoder"],
)
def test_a_trained_method_maps_as_in_the_bench(suite: Suite, tmp_path: Path, train: dict[str, Any]) -> None:
    train = dict(train)
    entry = {"name": "blocks", "encoder": train.pop("encoder", "plain")}
    settings = {**suite.train.model_dump(), **train}
    (row,) = ran(suite, tmp_path, datasets=[entry], train=settings)
    runs, data = tmp_path / "runs", Blocks(None, split="test")
    for run in (row.run, row.fit, runs / row.run, runs / row.fit):
        same_as_stored(tmp_path, row, data, run)
    if train.get("train_encoder"):
        encoder = avloc.load(row.run, results=tmp_path, device="cpu").encoder
        assert not torch.equal(encoder.weight, torch.ones(Plain.info.dim)) and not encoder.training


def test_a_relative_folder_and_a_path_into_it_are_found(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = ran(suite, tmp_path / "results")
    places = ((tmp_path, f"results/runs/{row.run}/"), (tmp_path, row.run), (tmp_path / "results/runs", row.run))
    for place, run in places:
        monkeypatch.chdir(place)
        assert avloc.load(run, device="cpu").classes == Blocks.classes


def test_controls_and_untrained_methods_map_as_in_the_bench(suite: Suite, tmp_path: Path) -> None:
    rows = ran(suite, tmp_path, methods=["dot", "hinted"], controls=["untrained", "center"], seeds=[3])
    assert [(row.section, row.method, bool(row.fit)) for row in rows] == [
        ("methods", "dot", True), ("methods", "hinted", False),
        ("untrained", "dot", False), ("controls", "center", False),
    ]  # fmt: skip
    for row in rows:
        same_as_stored(tmp_path, row, Blocks(None, split="test"))


@pytest.mark.parametrize("hints", ["vocabulary", "oracle"])
def test_two_tiles_map_as_in_the_bench(suite: Suite, tmp_path: Path, hints: str) -> None:
    entry = {"name": "pairs", "encoder": "plain"}
    for row in ran(suite, tmp_path, datasets=[entry], methods=["dot", "detecting"], hints=[hints]):
        same_as_stored(tmp_path, row, Pairs(None, split="test"))


def test_maps_are_named_from_the_vocabulary(suite: Suite, tmp_path: Path) -> None:
    detecting, closed = ran(suite, tmp_path, methods=["detecting", "closed"], hints=["vocabulary"])
    sample = Blocks(None, split="test").load("test0")
    clip, (label,) = (sample.clip.image, sample.clip.audio, sample.clip.rate), sample.labels
    others = [name for name in Blocks.classes if name != label]
    localizer = avloc.load(detecting.run, results=tmp_path)
    state = torch.get_rng_state()
    assert localizer.localize(*clip).labels == localizer.localize(*clip, vocabulary=Blocks.classes).labels == (label,)
    assert localizer.localize(*clip, vocabulary=others).labels[0] in others
    assert torch.equal(torch.get_rng_state(), state)
    localizer = avloc.load(closed.run, results=tmp_path)
    found = localizer.localize(*clip, vocabulary=others)
    assert found.labels == tuple(others) and len(found.maps) == 7
    assert localizer.localize(*clip, vocabulary=others, sources=[label]).labels == Blocks.classes
    with pytest.raises(AvlocError, match=r"closed maps only its own classes.*'doog'.*mean 'dog'"):
        localizer.localize(*clip, vocabulary=["doog"])


def test_what_cannot_be_loaded_or_localized_is_a_sentence(suite: Suite, tmp_path: Path) -> None:
    (row,) = ran(suite, tmp_path, methods=["hinted"])
    with pytest.raises(AvlocError, match=r"There is no run .*nonsense"):
        avloc.load("nonsense", results=tmp_path)
    (tmp_path / "runs" / "half").mkdir()
    with pytest.raises(AvlocError, match="half is not finished"):
        avloc.load(tmp_path / "runs" / "half")
    with pytest.raises(AvlocError, match="'gpu' is not auto, cpu, cuda"):
        avloc.load(row.run, results=tmp_path, device="gpu")
    maps = tmp_path / "maps"
    maps.mkdir()
    np.savez(maps / "test0.npz", maps=np.ones((7, 7), np.float32))
    outside = score_external(maps, "blocks", results=tmp_path, metrics=["pixel_ap"]).manifest.rows[0]
    with pytest.raises(AvlocError, match="predictions that were made elsewhere; there is no method"):
        avloc.load(outside.run, results=tmp_path)

    localizer, clip = avloc.load(row.run, results=tmp_path), Blocks(None, split="test").load("test0").clip
    for changes, words in [
        ({"image": clip.image / 255}, r"the image must be \(H, W, 3\) uint8, but is .* float64"),
        ({"audio": clip.audio.astype(np.float64)}, "the audio must be .* float32"),
        ({"audio": [0.1, 0.2]}, "the audio must be .* float32"),
        ({"tiles": 3}, "the width .* a multiple of tiles"),
        ({"sources": None}, r"hinted does not find out what sounds; name the classes: sources="),
        ({"sources": "dog"}, r"sources should be a list, but is 'dog'; write \['dog'\]"),
        ({"vocabulary": []}, "The vocabulary has no class names"),
        ({"sources": ["mauve"]}, "The encoder Plain failed on the class name 'mauve': ValueError"),
        ({"sources": []}, "hinted failed to localize in 'clip': IndexError"),
    ]:
        given = {"image": clip.image, "audio": clip.audio, "rate": clip.rate, "sources": ["dog"], **changes}
        with pytest.raises(AvlocError, match=words):
            localizer.localize(**given)


@pytest.mark.parametrize(
    ("owner", "name", "value", "words"),
    [
        (Dot, "revision", 2, "The method 'dot' has changed since the run was made"),
        (Plain, "revision", 2, "The encoder 'plain' has other weights, or reads clips in another way"),
        (Plain, "fingerprint", lambda self: "other", "The encoder 'plain' has other weights"),
    ],
)
def test_changed_components_are_not_loaded(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, value: Any, words: str
) -> None:
    (row,) = ran(suite, tmp_path)
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(AvlocError, match=words):
        avloc.load(row.run, results=tmp_path)


def test_a_missing_checkpoint_is_named(suite: Suite, tmp_path: Path) -> None:
    (row,) = ran(suite, tmp_path)
    checkpoint = tmp_path / "runs" / row.fit / "checkpoint.safetensors"
    checkpoint.write_bytes(b"damaged")
    with pytest.raises(AvlocError, match=r"checkpoint\.safetensors cannot be read"):
        avloc.load(row.run, results=tmp_path)
    (tmp_path / "runs" / row.fit / "run.json").unlink()
    with pytest.raises(AvlocError, match=f"{row.fit} is not finished"):
        avloc.load(row.run, results=tmp_path)
