"""The types validate their values and name the clip in errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from avloc import AvlocError, Clip, DataError, Localization, Prediction, Truth

IMAGE = np.zeros((4, 6, 3), np.uint8)
AUDIO = np.zeros(10, np.float32)


def clip(**changes: Any) -> Clip:
    return Clip(**{"id": "clip7", "image": IMAGE, "audio": AUDIO, "rate": 16000, **changes})


def test_a_clip_contains_no_truth() -> None:
    names = {field.name for field in dataclasses.fields(Clip)}
    assert names == {"id", "image", "audio", "rate", "tiles", "group", "stereo"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        clip().id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": IMAGE.astype(np.float32)}, "uint8"),
        ({"image": IMAGE[..., 0]}, r"\(H, W, 3\)"),
        ({"image": IMAGE[:0]}, "no pixels"),
        ({"audio": AUDIO.astype(np.float64)}, "float32"),
        ({"audio": np.zeros((3, 10), np.float32)}, r"\(T,\)"),
        ({"stereo": np.ones((2, 10), np.float32)}, "not the mean of stereo"),
        ({"audio": AUDIO[:0]}, "no samples"),
        ({"audio": np.full(3, np.nan, np.float32)}, "not finite"),
        ({"audio": np.full(3, 12000, np.float32)}, "reaches 1.2e.04 times full scale"),
        ({"rate": 0}, "positive"),
        ({"tiles": 0}, "positive"),
        ({"tiles": 4}, "multiple of tiles"),
    ],
)
def test_a_bad_clip_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=rf"clip 'clip7'.*({words})"):
        clip(**changes)


def test_two_channels_are_kept_beside_their_mean() -> None:
    channels = np.float32([[0.5, 0.25, 0], [0, 0.25, 0.5]])
    both = clip(audio=channels)
    assert both.audio.tolist() == [0.25, 0.25, 0.25]
    assert both.stereo is not None and both.stereo.tolist() == both.channels.tolist() == channels.tolist()
    turned = dataclasses.replace(both, audio=channels[::-1])
    assert turned.channels.tolist() == channels[::-1].tolist()
    with pytest.raises(DataError, match="not the mean of stereo"):
        dataclasses.replace(both, audio=channels[0])
    one = dataclasses.replace(both, audio=channels[0], stereo=None)
    assert one.stereo is None and one.channels.tolist() == channels[:1].tolist()


def test_a_mixture_may_be_as_loud_as_its_parts() -> None:
    assert clip(tiles=2, audio=np.full(3, 19, np.float32)).tiles == 2


def test_a_decoders_overshoot_is_no_error() -> None:
    assert clip(audio=np.full(3, 1.5, np.float32)).audio[0] == 1.5


@pytest.mark.parametrize(
    ("masks", "labels", "boxes", "words"),
    [
        (np.zeros((4, 4)), (), (), r"\(S, H, W\)"),
        (np.zeros((1, 4, 4)), (), (), "1 masks but 0 labels"),
        (np.zeros((1, 4, 4)), ("dog",), (np.zeros((1, 4)),) * 2, "boxes of 2 sources"),
        (np.full((1, 4, 4), -1.0), ("dog",), (), "not negative"),
        (np.full((1, 4, 4), np.nan), ("dog",), (), "finite"),
    ],
)
def test_invalid_truths_are_rejected(masks: Any, labels: Any, boxes: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Truth(masks.astype(np.float32), labels, boxes)


def test_a_clip_in_which_nothing_visible_sounds_has_an_empty_truth() -> None:
    assert Truth(np.zeros((0, 4, 4), np.float32), ()).labels == ()


@pytest.mark.parametrize(
    ("maps", "labels", "scores", "words"),
    [
        (np.zeros((2, 2)), (), None, r"\(Q, h, w\)"),
        (np.zeros((1, 2, 2), np.int64), (), None, "floats"),
        (np.full((1, 2, 2), np.inf), (), None, "not finite"),
        (np.zeros((2, 2, 2)), ("dog",), None, "2 maps but 1 labels"),
        (np.zeros((2, 2, 2)), (), np.zeros(1), "scores of shape"),
        (np.zeros((1, 2, 2)), (), np.array([np.nan]), "not finite"),
    ],
)
def test_a_bad_prediction_is_named(maps: Any, labels: Any, scores: Any, words: str) -> None:
    with pytest.raises(AvlocError, match=rf"'clip7'.*({words})"):
        Prediction("clip7", maps, labels, scores)


def test_a_localization_has_one_value_per_source() -> None:
    scores, masks = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), bool)
    assert Localization(scores, masks, np.zeros(2), np.ones(2, bool)).false_alarms == 0
    with pytest.raises(AvlocError, match="differ"):
        Localization(scores, masks[:1], np.zeros(2), np.ones(2, bool))
    with pytest.raises(AvlocError, match="one value per source"):
        Localization(scores, masks, np.zeros(1), np.ones(2, bool))
