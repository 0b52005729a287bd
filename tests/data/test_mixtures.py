"""Clips side by side: pictures, sounds, truth and boxes of the canvas."""

from __future__ import annotations

import numpy as np
import pytest

from avloc import Clip, Sample, Truth
from avloc.data import mix, mixed_truth


def sample(
    id: str, *, label: str = "dog", size: tuple[int, int] = (8, 8), value: int = 50, audio: list[float] | None = None,
    rate: int = 100, group: str | None = None, truth: bool = True,
) -> Sample:  # fmt: skip
    """A flat grey frame whose source is the left half of it."""
    height, width = size
    mask = np.zeros((1, height, width), np.float32)
    mask[:, :, : width // 2] = 1
    image = np.full((height, width, 3), value, np.uint8)
    wave = np.array([0.5] * 6 if audio is None else audio, np.float32)
    clip = Clip(id, image, wave, rate, group=id if group is None else group)
    return Sample(clip, Truth(mask, (label,), (np.array([[0.0, 0.0, 0.5, 1.0]]),)) if truth else None, (label,))


def test_two_clips_on_one_canvas() -> None:
    mixed = mix([sample("a"), sample("b", label="cat", value=200)], "a+b")
    assert mixed.clip.id == "a+b" and mixed.clip.tiles == 2
    assert mixed.clip.image.shape == (8, 16, 3)
    assert (mixed.clip.image[:, :8] == 50).all() and (mixed.clip.image[:, 8:] == 200).all()
    assert mixed.labels == ("dog", "cat") and mixed.truth is not None and mixed.truth.labels == ("dog", "cat")
    assert mixed.truth.masks.shape == (2, 8, 16)
    expected = np.zeros((2, 16), np.float32)
    expected[0, 0:4] = expected[1, 8:12] = 1
    np.testing.assert_array_equal(mixed.truth.masks[:, 3], expected)
    np.testing.assert_allclose(mixed.truth.boxes[0], [[0, 0, 0.25, 1]])
    np.testing.assert_allclose(mixed.truth.boxes[1], [[0.5, 0, 0.75, 1]])


@pytest.mark.parametrize("count", [1, 3, 4])
def test_any_number_of_frames(count: int) -> None:
    parts = [sample(f"clip{n}", label=f"class{n}", value=10 * n) for n in range(count)]
    mixed = mix(parts, "many")
    assert mixed.clip.tiles == count and mixed.clip.image.shape == (8, 8 * count, 3)
    assert mixed.truth is not None
    for n, mask in enumerate(mixed.truth.masks):
        assert mask[0].nonzero()[0].tolist() == [8 * n, 8 * n + 1, 8 * n + 2, 8 * n + 3]
        assert (mixed.clip.image[:, 8 * n : 8 * n + 8] == 10 * n).all()


def test_sounds_are_summed_without_level_control_and_the_shorter_is_repeated() -> None:
    one, two = sample("a", audio=[0.9] * 5), sample("b", audio=[0.8, -0.1])
    mixed = mix([one, two], "a+b").clip
    np.testing.assert_allclose(mixed.audio, [1.7, 0.8, 1.7, 0.8, 1.7], rtol=1e-6)
    assert mixed.audio.dtype == np.float32


def test_sounds_come_to_the_first_ones_rate() -> None:
    time = np.arange(8000) / 8000
    slow = sample("a", audio=(0.4 * np.sin(2 * np.pi * 100 * time)).tolist(), rate=8000)
    fast = sample("b", audio=(0.4 * np.sin(2 * np.pi * 100 * np.arange(16000) / 16000)).tolist(), rate=16000)
    mixed = mix([slow, fast], "a+b").clip
    assert mixed.rate == 8000 and len(mixed.audio) == 8000
    np.testing.assert_allclose(mixed.audio[500:-500], 2 * slow.clip.audio[500:-500], atol=0.01)


def test_tiles_take_the_first_ones_size_and_their_truth_with_them() -> None:
    mixed = mix([sample("a"), sample("b", size=(20, 32))], "a+b")
    assert mixed.clip.image.shape == (8, 16, 3) and mixed.truth is not None
    np.testing.assert_array_equal(mixed.truth.masks[0][:, :8], mixed.truth.masks[1][:, 8:])


def test_clips_of_one_video_are_one_group() -> None:
    apart = mix([sample("a", group="v"), sample("b", group="w")], "a+b")
    together = mix([sample("a", group="v"), sample("b", group="v")], "a+b")
    assert (apart.clip.group, together.clip.group) == ("v+w", "v")


def test_two_sources_of_one_class_stay_two_sources() -> None:
    mixed = mix([sample("a"), sample("b")], "a+b")
    assert mixed.truth is not None and mixed.truth.labels == ("dog", "dog")


def test_without_the_truth_of_every_clip_there_is_none() -> None:
    assert mix([sample("a"), sample("b", truth=False)], "a+b").truth is None


def test_a_silent_tile_adds_no_source() -> None:
    nothing = Truth(np.zeros((0, 8, 8), np.float32), ())
    assert sample("a").truth is not None
    truth = mixed_truth([nothing, sample("a").truth], 8, 8)
    assert truth is not None and truth.masks.shape == (1, 8, 16) and truth.masks[0, :, :8].sum() == 0
    empty = mixed_truth([nothing, nothing], 8, 8)
    assert empty is not None and empty.masks.shape == (0, 8, 16)
