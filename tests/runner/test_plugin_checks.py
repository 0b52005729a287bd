"""Plugins' return values are checked; an error names the plugin and the clip, and only they fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avloc import Batch, DataError, EncoderInfo, Features, Prediction, Sample
from avloc.runner import Options, run_suite
from avloc.runner.run import localized
from avloc.store import Manifest, Score, score_path
from avloc.suite import Suite, load_suite
from helpers.world import Blocks, Dot, Plain

CLIP = "'test0'"


@pytest.fixture
def suite(world: Any, suite_file: Path) -> Suite:
    return load_suite(suite_file).override(methods=["dot"], seeds=[0], limit=4)


def bench(suite: Suite, results: Path, **train: Any) -> Manifest:
    settings = suite.train.model_copy(update=train)
    return run_suite(suite.model_copy(update={"train": settings}), Options(results, device="cpu"))


def answer(tiles: int, size: tuple[int, int], cells: tuple[int, int] = (7, 7)) -> list[Prediction]:
    """What `localized` makes of a map of this size on a canvas whose tiles have so many cells."""
    canvas = torch.ones(1, 3, cells[0], cells[1] * tiles)
    features = Features(canvas, torch.ones(1, 3), torch.ones(1, 3, 1, 1), torch.ones(1, 3))
    method = Dot(EncoderInfo(3), ("a", "b"))
    method.localize = lambda features, batch: [Prediction("x", np.ones((2, *size)))]  # type: ignore[method-assign]
    return localized("mine", method, features, Batch(("x",), torch.tensor([tiles]), ("x",)))


@pytest.mark.parametrize(
    ("tiles", "size"),
    [(1, (7, 7)), (1, (224, 224)), (1, (1, 1)), (2, (7, 14)), (2, (14, 28)), (2, (7, 15)), (3, (5, 15))],
)
def test_maps_of_any_resolution_cover_the_canvas(tiles: int, size: tuple[int, int]) -> None:
    assert answer(tiles, size)[0].maps.shape == (2, *size)


@pytest.mark.parametrize(("tiles", "size"), [(2, (7, 7)), (1, (7, 14)), (2, (14, 7)), (3, (7, 14)), (2, (224, 224))])
def test_maps_of_another_aspect_are_named(tiles: int, size: tuple[int, int]) -> None:
    words = f"mine mapped clip 'x' in {size[0]} x {size[1]} cells.*its image map has 7 x {7 * tiles}"
    with pytest.raises(Exception, match=words):
        answer(tiles, size)


def test_cells_need_not_be_square() -> None:
    assert answer(2, (8, 12), cells=(8, 6))
    with pytest.raises(Exception, match="whose aspect is not that of its canvas"):
        answer(2, (8, 6), cells=(8, 6))


@pytest.mark.parametrize(
    ("localize", "words"),
    [
        (lambda found: {}["nothing"], f"dot failed to localize in {CLIP}: KeyError: 'nothing'"),
        (lambda found: None, "TypeError"),
        (lambda found: [], f"dot must return one prediction per clip, in order: for {CLIP} it returned ()"),
        (lambda found: [*found, *found], "in order"),
        (lambda found: [replace(one, clip="test1") for one in found], "it returned ('test1',)"),
        (lambda found: [one.maps for one in found], "it returned ('ndarray',)"),
        (lambda found: [_named(one, "mauve") for one in found], "for clip 'test0' that were not disclosed: ['mauve']"),
        (lambda found: [_wide(one) for one in found], "dot mapped clip 'test0' in 7 x 14 cells"),
    ],
)
def test_a_wrong_prediction_fails_its_row_only(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, localize: Callable[[Any], Any], words: str
) -> None:
    original = Dot.localize
    monkeypatch.setattr(Dot, "localize", lambda self, features, batch: localize(original(self, features, batch)))
    (row,) = bench(suite, tmp_path).rows
    assert row.status == "failed" and words in row.reason


def _named(one: Prediction, name: str) -> Prediction:
    return Prediction(one.clip, one.maps, (name,))


def _wide(one: Prediction) -> Prediction:
    return Prediction(one.clip, np.tile(one.maps, (1, 1, 2)))


def _first(images: torch.Tensor) -> bool:
    """Whether the clip ``test0`` is among these images."""
    return bool((images.sum((1, 2, 3)) - TEST0[0]).abs().min() < 1e-3)


TEST0: list[float] = []


@pytest.fixture
def first_clip() -> None:
    from avloc.features import encoder_image
    from helpers.world import Blocks

    TEST0[:] = [float(encoder_image(Blocks(None, split="test").load("test0").clip, Plain().info).sum())]


@pytest.mark.usefixtures("first_clip")
@pytest.mark.parametrize("cache", [True, False], ids=["cached", "computed"])
@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (lambda tokens, classes: {}["nothing"], ["The encoder Plain failed on clip 'test0'", "KeyError: 'nothing'"]),
        (
            lambda tokens, classes: (tokens[..., :5], tokens.mean((2, 3)), classes),
            ["promised image_map", "(", "7, 7)", "7, 5)"],
        ),
        (lambda tokens, classes: (tokens, tokens.mean(2), classes), ["promised image of shape", "64)", "64, 7)"]),
        (lambda tokens, classes: (tokens, None, classes), ["promised image of shape", "but returned NoneType"]),
        (lambda tokens, _: (tokens, tokens.mean((2, 3)), tokens), ["promised backbone_map of shape", "8, 7, 7)"]),
        (lambda tokens, _: (tokens, tokens.mean((2, 3))), ["failed on clip 'test0'", "ValueError"]),
    ],
)
def test_an_encoder_with_wrong_outputs_fails_its_rows_only(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: Any, words: list[str], cache: bool
) -> None:
    original = Plain.encode_image

    def encode_image(self: Plain, images: torch.Tensor) -> Any:
        tokens, pooled, classes = original(self, images)
        return encode(tokens, classes) if _first(images) else (tokens, pooled, classes)

    monkeypatch.setattr(Plain, "encode_image", encode_image)
    manifest = bench(suite, tmp_path, cache=cache)
    assert manifest.rows[0].status == "failed"
    for word in (*words, "'test0'"):
        assert word in manifest.rows[0].reason
    assert (manifest.datasets[0].status == "failed") == cache  # computed features are those of one row's training


@pytest.mark.usefixtures("first_clip")
@pytest.mark.parametrize("error", [None, DataError("test0 is too dark")])
def test_a_clip_that_an_encoder_cannot_use_is_broken_and_the_others_go_on(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: DataError | None
) -> None:
    original = Plain.encode_image

    def encode_image(self: Plain, images: torch.Tensor) -> Any:
        tokens, pooled, classes = original(self, images)
        if _first(images):
            if error is not None:
                raise error
            tokens[0, 0, 3, 3] = torch.inf
        return tokens, pooled, classes

    monkeypatch.setattr(Plain, "encode_image", encode_image)
    (row,) = bench(suite, tmp_path).rows
    assert row.status == "done"
    counts = Score.load(score_path(tmp_path, row.run, row.score)).counts
    reason = "test0 is too dark" if error else "The encoder Plain made values of clip 'test0' that are not finite"
    assert list(counts.broken) == ["test0"] and reason in counts.broken["test0"] and counts.scored == 3


def test_a_clip_that_is_another_when_it_is_loaded_again_stops_its_data_set(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Blocks.load

    def load(self: Blocks, id: str) -> Sample:
        sample = original(self, id)
        return replace(sample, clip=replace(sample.clip, audio=sample.clip.audio + np.float32(1e-3 * torch.rand(1))))

    monkeypatch.setattr(Blocks, "load", load)
    monkeypatch.setattr(Blocks, "content", lambda self, id: id)
    manifest = bench(suite, tmp_path)
    assert manifest.datasets[0].status == "failed"
    assert "returned another image or sound the second time" in manifest.datasets[0].reason


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda self, names: torch.ones(len(names), 4), "The encoder Plain promised text of shape (1, 64) for one"),
        (lambda self, names: torch.full((len(names), 64), np.nan), "made values of the class name 'bell' that are not"),
        (
            lambda self, names: {}["nothing"],
            "Plain failed on the class name 'bell': KeyError",
        ),
    ],
)
def test_wrong_text_features_fail_their_rows_only(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, words: str
) -> None:
    monkeypatch.setattr(Plain, "encode_text", value)
    manifest = bench(suite, tmp_path)
    assert manifest.datasets[0].status == "failed" and words in manifest.datasets[0].reason


def test_an_encoder_that_exits_fails_its_rows_only(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_audio(self: Plain, waves: torch.Tensor) -> Any:
        raise SystemExit(3)

    monkeypatch.setattr(Plain, "encode_audio", encode_audio)
    manifest = bench(suite, tmp_path)
    assert manifest.datasets[0].status == "failed" and "SystemExit: 3" in manifest.datasets[0].reason


def test_features_of_two_tiles_are_twice_as_wide(world: Any) -> None:
    from avloc import Clip
    from avloc.features import clip_features

    clip = Clip("wide", np.zeros((28, 56, 3), np.uint8), np.zeros(800, np.float32), 800, tiles=2)
    assert clip_features(clip, Plain(), "cpu", rounded=False).image_map.shape == (1, 64, 7, 14)
    square = Plain()
    square.encode_image = lambda images: Plain.encode_image(square, images[..., :28])  # type: ignore[method-assign]
    with pytest.raises(Exception, match=r"image_map of shape \(1, 64, 7, 14\) for clip 'wide', but .* \(1, 64, 7, 7\)"):
        clip_features(clip, square, "cpu", rounded=False)
