"""Clips side by side: images, sounds, truth and boxes of the canvas."""

from __future__ import annotations

import numpy as np
import pytest

from avloc import Clip, DataError, Dataset, Sample, Status, Truth
from avloc.data import Mixtures, resize_mask


def sample(
    id: str, *, label: str = "dog", size: tuple[int, int] = (8, 8), value: int = 50, audio: list[float] | None = None,
    rate: int = 100, group: str | None = None, truth: bool = True,
) -> Sample:  # fmt: skip
    """A flat gray frame whose source is the left half of it."""
    height, width = size
    mask = np.zeros((1, height, width), np.float32)
    mask[:, :, : width // 2] = 1
    image = np.full((height, width, 3), value, np.uint8)
    wave = np.array([0.5] * 6 if audio is None else audio, np.float32)
    clip = Clip(id, image, wave, rate, group=id if group is None else group)
    return Sample(clip, Truth(mask, (label,), (np.array([[0.0, 0.0, 0.5, 1.0]]),)) if truth else None, (label,))


class Clips(Dataset):
    """Samples in memory, of which some have no file."""

    classes = ("dog", "cat", "class0", "class1", "class2", "class3")

    def __init__(self, *samples: Sample, missing: tuple[str, ...] = (), broken: tuple[str, ...] = ()) -> None:
        self.samples = {sample.clip.id: sample for sample in samples}
        self.missing, self.broken = missing, broken

    def ids(self) -> list[str]:
        return list(self.samples)

    def load(self, id: str) -> Sample:
        return self.samples[id]

    def status(self) -> Status:
        present = tuple(id for id in self.samples if id not in (*self.missing, *self.broken))
        return Status(present, dict.fromkeys(self.missing, "no file"), dict.fromkeys(self.broken, "damaged"))


def mix(samples: list[Sample], id: str) -> Sample:
    """The canvas of all of them."""
    return Mixtures(Clips(*samples), {id: tuple(sample.clip.id for sample in samples)}).load(id)


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
def test_any_number_of_tiles(count: int) -> None:
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
    def silent(id: str) -> Sample:
        return Sample(sample(id).clip, Truth(np.zeros((0, 8, 8), np.float32), ()))

    data = Mixtures(Clips(silent("a"), sample("b"), silent("c")), {"ab": ("a", "b"), "ac": ("a", "c")})
    truth = data.truth("ab")
    assert truth.masks.shape == (1, 8, 16) and truth.masks[0, :, :8].sum() == 0
    assert data.truth("ac").masks.shape == (0, 8, 16)


def test_masks_take_the_value_at_each_pixels_center() -> None:
    row = np.array([[[1.0, 2.0, 3.0]]])
    np.testing.assert_array_equal(resize_mask(row, 1, 2)[0, 0], [1, 3])  # by corners: 1 and 2
    np.testing.assert_array_equal(resize_mask(row, 2, 6)[0], [[1, 1, 2, 2, 3, 3]] * 2)
    found = mix([sample("a"), sample("b", size=(3, 6))], "ab").truth
    assert found is not None and found.masks[1, 0, 8:].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert resize_mask(row > 1, 1, 3).dtype == np.float32 and resize_mask(row, 1, 3).flags.c_contiguous


def test_a_canvas_is_present_if_all_its_clips_are() -> None:
    clips = [sample(name, label="cat" if name == "b" else "dog") for name in "abcd"]
    members = {"ab": ("a", "b"), "ac": ("a", "c"), "cd": ("c", "d"), "b": ("b",)}
    data = Mixtures(Clips(*clips, missing=("c",), broken=("d",)), members)
    status = data.status()
    assert status.present == ("ab", "b") and status.missing == {"ac": "no file"} and status.broken == {"cd": "damaged"}
    assert data.labels("ab") == ("dog", "cat") and data.labels("ac") == ("dog",) and data.classes == Clips.classes
    loaded, alone = data.load("ab").truth, data.truth("ab")
    assert loaded is not None and loaded.labels == alone.labels
    np.testing.assert_array_equal(loaded.masks, alone.masks)
    np.testing.assert_array_equal(loaded.boxes, alone.boxes)


def test_identities_follow_the_members() -> None:
    clips = Clips(*[sample(name, value=n) for n, name in enumerate("abc")])
    one, other = Mixtures(clips, {"x": ("a", "b")}), Mixtures(clips, {"x": ("b", "a"), "y": ("a", "b")})
    assert one.content("x") == other.content("y") != other.content("x")
    assert one.fingerprint() != other.fingerprint()
    alone = Mixtures(clips, {"a": ("a",)})
    assert alone.content("a") == clips.content("a") and alone.load("a").clip.tiles == 1


def test_a_list_may_be_drawn_when_it_is_needed() -> None:
    asked: list[int] = []

    def members() -> dict[str, tuple[str, ...]]:
        asked.append(1)
        return {"ab": ("a", "b")}

    data = Mixtures(Clips(sample("a"), sample("b")), members)
    assert asked == [] and data.ids() == ["ab"] and data.load("ab").clip.tiles == 2 and asked == [1]


def test_invalid_canvases_are_reported() -> None:
    inner = Mixtures(Clips(sample("a"), sample("b")), {"ab": ("a", "b"), "ba": ("b", "a")})
    with pytest.raises(DataError, match="'four' would hold canvases of several tiles"):
        Mixtures(inner, {"four": ("ab", "ba")}).load("four")
    with pytest.raises(DataError, match="no clip 'x' in this split of Mixtures"):
        inner.truth("x")
