"""Every check of data sets passes for a correct one and fails, with a sentence, for one with its defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avloc import AvlocError, Clip, DataError, Dataset, Sample, Status, Truth
from avloc.testing import CHECKS, ConformanceError, conformance, conformance_checks

NUMBERS = {"train": range(6), "val": range(6, 9), "test": range(9, 15)}


class Sound(Dataset):
    """A small correct data set, made of noise."""

    title = "Sound"
    classes = ("a", "b")

    def __init__(self, root: Path | None, *, split: str, loud: float = 0.5) -> None:
        self.root, self.split, self.loud = root, split, loud

    def ids(self) -> Sequence[str]:
        return [f"clip{n}" for n in NUMBERS[self.split]]

    def load(self, id: str) -> Sample:
        rng = np.random.default_rng(int(id.removeprefix("clip")))
        masks = np.zeros((1, 12, 12), np.float32)
        masks[0, 2:7, 3:9] = 1
        audio = (self.loud * rng.uniform(-1, 1, 100)).astype(np.float32)
        clip = Clip(id, rng.integers(0, 256, (12, 12, 3), np.uint8), audio, 100, group=f"video of {id}")
        return Sample(clip, Truth(masks, ("a",), (np.array([[0.25, 0.2, 0.75, 0.6]]),)), ("a",))


class Listed(Sound):
    """A test list only, and one broken clip."""

    def __init__(self, root: Path | None, *, split: str) -> None:
        if split != "test":
            raise AvlocError("there is no training list")
        super().__init__(root, split=split)

    def load(self, id: str) -> Sample:
        if id == "clip10":
            raise DataError("clip10.mp4 is truncated")
        return super().load(id)


class Leaking(Sound):
    """A published list with videos in two splits, which says so."""

    leaks = True

    def load(self, id: str) -> Sample:
        sample = super().load(id)
        return replace(sample, clip=replace(sample.clip, group="video"))


class Nameless(Sound):
    title = "Nameless"


class Positional(Sound):
    """Broken."""

    def __init__(self, root: Path | None, split: str) -> None:
        super().__init__(root, split=split)


class Unsplit(Sound):
    """Broken."""

    def __init__(self, root: Path | None, *, loud: float = 0.5) -> None:
        super().__init__(root, split="test", loud=loud)


class Twice(Sound):
    """Broken."""

    def ids(self) -> Sequence[str]:
        return [*super().ids(), "clip0"]


class Shared(Sound):
    """Broken."""

    def ids(self) -> Sequence[str]:
        return ["clip0", "clip1"]


class Unvalidated(Sound):
    """Broken."""

    def __init__(self, root: Path | None, *, split: str) -> None:
        if split == "val":
            raise DataError("there is none")
        super().__init__(root, split=split)


class Silenced(Sound):
    """Broken."""

    def status(self) -> Status:
        return Status(tuple(self.ids()[1:]))


class Reasonless(Sound):
    """Broken."""

    def status(self) -> Status:
        return Status(tuple(self.ids()[1:]), missing={self.ids()[0]: ""})


class Other(Sound):
    """Broken in what `change` makes of a sample."""

    def change(self, sample: Sample) -> Sample:
        return sample

    def load(self, id: str) -> Sample:
        return self.change(super().load(id))


class Lower(Other):
    """Broken."""

    def change(self, sample: Sample) -> Sample:
        return replace(sample, truth=Truth(np.ones((1, 6, 6), np.float32), ("a",)))


class Pixels(Other):
    """Broken."""

    def change(self, sample: Sample) -> Sample:
        assert sample.truth is not None
        return replace(sample, truth=Truth(sample.truth.masks, ("a",), (np.array([[2.0, 3.0, 9.0, 7.0]]),)))


class Unknown(Other):
    """Broken."""

    def change(self, sample: Sample) -> Sample:
        return replace(sample, labels=("c",))


class Renamed(Other):
    """Broken."""

    def change(self, sample: Sample) -> Sample:
        return replace(sample, clip=replace(sample.clip, id="other"))


class Crashing(Sound):
    """Broken."""

    def load(self, id: str) -> Sample:
        raise KeyError(id)


class Unguarded(Crashing):
    """Broken, where its files are looked for."""

    def status(self) -> Status:
        return Status(tuple(self.ids()))


class Buggy(Sound):
    """Broken: but for some clips, which the default status takes for broken files."""

    def load(self, id: str) -> Sample:
        if id in ("clip1", "clip10"):
            raise KeyError(id)
        return super().load(id)


class Absent(Sound):
    """Broken."""

    def load(self, id: str) -> Sample:
        raise DataError("it is not here")

    def status(self) -> Status:
        return Status(tuple(self.ids()))


class Gone(Sound):
    """Broken."""

    def status(self) -> Status:
        return Status((), missing=dict.fromkeys(self.ids(), "no file"))


class Untrue(Other):
    """Broken."""

    def change(self, sample: Sample) -> Sample:
        return replace(sample, truth=None)


class Heavy(Other):
    """Broken."""

    def change(self, sample: Sample) -> Sample:
        assert sample.truth is not None
        return replace(sample, truth=replace(sample.truth, masks=sample.truth.masks * 2))


class Contrary(Sound):
    """Broken."""

    def truth(self, id: str) -> Truth:
        return Truth(np.ones((1, 12, 12), np.float32), ("a",))


class Mislabeled(Sound):
    """Broken."""

    def labels(self, id: str) -> tuple[str, ...]:
        return ("b",)


class Random(Other):
    """Broken."""

    def change(self, sample: Sample) -> Sample:
        noise = np.random.default_rng().uniform(-1, 1, 100).astype(np.float32)
        return replace(sample, clip=replace(sample.clip, audio=noise))


class Remembering(Sound):
    """Broken: each object draws once."""

    def __init__(self, root: Path | None, *, split: str) -> None:
        super().__init__(root, split=split, loud=float(np.random.default_rng().uniform(0.1, 1)))


class Positioned(Sound):
    """Broken: a file that is open is shared."""

    def __init__(self, root: Path | None, *, split: str) -> None:
        super().__init__(root, split=split)
        self.at = ""

    def load(self, id: str) -> Sample:
        import time

        self.at = id
        time.sleep(0.005)
        sample = super().load(self.at)
        return replace(sample, clip=replace(sample.clip, id=id))


class Keeping(Sound):
    """Broken: hands out what it keeps."""

    def __init__(self, root: Path | None, *, split: str) -> None:
        super().__init__(root, split=split)
        self.kept: dict[str, Sample] = {}

    def load(self, id: str) -> Sample:
        return self.kept.setdefault(id, super().load(id))


class Constant(Sound):
    """Broken."""

    def content(self, id: str) -> str:
        return "the same"


class Moody(Sound):
    """Broken."""

    def content(self, id: str) -> str:
        return f"{super().content(id)} {np.random.default_rng().random()}"


class Fixed(Sound):
    """Broken."""

    def fingerprint(self) -> str:
        return "fixed"


class Fickle(Sound):
    """Broken."""

    def fingerprint(self) -> str:
        return f"{np.random.default_rng().random()}"


class OneVideo(Other):
    """Broken."""

    def change(self, sample: Sample) -> Sample:
        return replace(sample, clip=replace(sample.clip, group="video"))


class OneClip(Sound):
    """Broken: under other names, all is one clip."""

    def load(self, id: str) -> Sample:
        sample = super().load("clip0")
        return replace(sample, clip=replace(sample.clip, id=id, group=id))


Nameless.__doc__ = None
BROKEN: list[tuple[type[Dataset], str, str]] = [
    (Nameless, "title and docstring are there", "no docstring"),
    (Positional, "parameters are keyword-only JSON values with defaults", "must be keyword-only"),
    (Unsplit, "parameters are keyword-only JSON values with defaults", r"\(self, root, \*, split, \.\.\.\)"),
    (Twice, "splits open, with unique ids", "'clip0' is in the train split twice"),
    (Shared, "splits open, with unique ids", "'clip0' is in the train and the val split"),
    (Unvalidated, "splits open, with unique ids", "has a train split, but val does not open"),
    (Silenced, "every clip is present, missing or broken", "'clip0' is in ids.. and status.. of the train split not"),
    (Reasonless, "every clip is present, missing or broken", "no reason for the clip 'clip0'"),
    (Lower, "clips are what they should be", r"masks must have the image's size, \(12, 12\), but have \(6, 6\)"),
    (Pixels, "clips are what they should be", "boxes must be shares of the canvas"),
    (Unknown, "clips are what they should be", "the label 'c' is not in the data set's classes"),
    (Renamed, "clips are what they should be", "load returned the clip 'other'"),
    (
        Crashing,
        "clips are what they should be",
        "No clip of the train split can be loaded. The first: KeyError: 'clip0'",
    ),
    (Unguarded, "clips are what they should be", r"load\('clip0'\) raised KeyError: 'clip0'\. What cannot be used"),
    (Buggy, "clips are what they should be", r"load\('clip1'\) raised KeyError: 'clip1'"),
    (Absent, "clips are what they should be", "No clip of the train split can be used. The first: it is not here"),
    (Gone, "clips are what they should be", "No clip of the train split can be loaded. The first: no file"),
    (Untrue, "truth and labels are those of the clip", "'clip9' has no truth"),
    (Heavy, "truth and labels are those of the clip", r"must be in \[0, 1\], but reach 2"),
    (Contrary, "truth and labels are those of the clip", r"truth\('clip0'\) is not the truth"),
    (Mislabeled, "truth and labels are those of the clip", r"labels\('clip0'\) are not the labels"),
    (Random, "a clip loaded again is the same", "Loaded a second time, the clip 'clip0' has another sound"),
    (Remembering, "a clip loaded again is the same", "Loaded by another object, the clip 'clip0' has another sound"),
    (Positioned, "threads may load", "by one of 4 threads"),
    (Keeping, "loaded arrays are the caller's", "hands out its own arrays: changing them changes the image"),
    (Constant, "one content, one clip", "'clip0' and 'clip1' have one content.., but not the same image"),
    (Moody, "one content, one clip", "is another in a second object"),
    (Fixed, "fingerprints are stable, one per split", "splits train and val list other clips, but share a fingerprint"),
    (Fickle, "fingerprints are stable, one per split", "of train is another the next time"),
    (OneVideo, "no video is in two splits", r"'clip0' \(train\) and 'clip6' \(val\) have the same group"),
    (OneClip, "no video is in two splits", "have the same image and sound"),
]


@pytest.mark.parametrize("kind", [Sound, Listed, Leaking])
def test_a_sound_data_set_passes(kind: type[Dataset]) -> None:
    for _, run in conformance_checks(kind):
        run()


@pytest.mark.parametrize(("kind", "title", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_data_set_fails(kind: type[Dataset], title: str, words: str) -> None:
    with pytest.raises(ConformanceError, match=words):
        dict(conformance_checks(kind))[title]()


def test_every_check_can_fail() -> None:
    assert {title for _, title, _ in BROKEN} == set(CHECKS["dataset"])


def test_root_and_parameters_are_passed_on(tmp_path: Path) -> None:
    class Rooted(Sound):
        """Needs its folder."""

        def load(self, id: str) -> Sample:
            assert self.root == tmp_path and self.loud == 0.25
            return super().load(id)

    for _, run in conformance_checks(Rooted, root=tmp_path, loud=0.25):
        run()


test_conformance: Any = conformance(Sound)
