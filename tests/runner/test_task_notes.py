"""What a table says about the data of a task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from avloc import Dataset, Sample
from avloc.runner.task import task_notes
from helpers.tasks import task_of
from helpers.world import Blocks, Plain


class Copies(Blocks):
    """Some clips are other ones under a name of their own."""

    of: dict[str, str]

    def load(self, id: str) -> Sample:
        split = self.of.get(id, id).rstrip("0123456789")
        source = self if split == self.split else Blocks(None, split=split)
        sample = source.load(self.of[id]) if id in self.of else super().load(id)
        return replace(sample, clip=replace(sample.clip, id=id, group=id))


def splits(of: dict[str, str], **parameters: Any) -> dict[str, Dataset]:
    found: dict[str, Dataset] = {}
    for split in ("train", "val", "test"):
        found[split] = data = Copies(None, split=split, **parameters)
        data.of = of
    return found


@pytest.mark.parametrize("computed", [False, True])
def test_clips_with_the_content_of_others_are_counted(computed: bool) -> None:
    of = {"test1": "train0", "test5": "val2", "test3": "test2", "train4": "train3"}
    notes = task_notes(task_of(splits(of), Plain()), [computed])
    assert notes == [
        "ATTENTION: 2 of 12 test clips have the image and sound of a clip that is trained or validated on under "
        "another name, the first: test1 is train0.",
        "ATTENTION: 1 of 12 test clips have the image and sound of another test clip, the first: test3 is test2.",
    ]


def test_clips_that_are_alike_in_image_or_sound_alone_are_others() -> None:
    class Halves(Copies):
        def load(self, id: str) -> Sample:
            sample = super().load(id)
            if id not in ("test1", "test2"):
                return sample
            clip, first = sample.clip, super().load("test0").clip
            clip = replace(clip, image=first.image) if id == "test1" else replace(clip, audio=first.audio)
            return replace(sample, clip=clip)

    data = Halves(None, split="test")
    data.of = {}
    assert task_notes(task_of({"test": data}, Plain()), [False]) == []


def test_class_names_reach_the_text_encoder_as_words() -> None:
    heard: list[str] = []

    class Listening(Plain):
        def encode_text(self, prompts: list[str]) -> Tensor:  # type: ignore[override]
            heard.extend(prompts)
            return torch.zeros(len(prompts), self.info.dim)

        def fingerprint(self) -> str:
            return "listening"

    spelled = splits({})
    for data in spelled.values():
        data.classes = (*Blocks.classes, "playing_acoustic_guitar", "cello")
    notes = task_notes(task_of(spelled, Listening()), [False])
    assert "playing acoustic guitar" in heard and "cello" in heard and not any("_" in name for name in heard)
    assert notes == [
        f"The text encoder reads the underscores in 1 of {len(Blocks.classes) + 2} class names as spaces, the first: "
        "playing_acoustic_guitar."
    ]
