"""What a method learns from: clips seen through an encoder, with the views that it asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from avloc.features import FeatureSet, copy_of
from avloc.interfaces import Context, Method
from avloc.types import AvlocError, Batch, Features

DRAWS = 64
"""How often a clip of another video is drawn anew before those of other videos are listed."""

Rows = tuple[FeatureSet, Sequence[str], Sequence[str]]
"""The rows of a batch: for each the clip whose image, and the clip whose sound, is meant."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a method learns from: clips, class names and their text.

    Attributes:
        train, val: Clips; `val` is a held-out part of the training data.
        classes: Class names.
        text: ``(N, D)``, or ``None`` when the encoder has no text tower.
        banks: View -> altered copies of the training and of the held-out clips.
        copies: Per clip in a bank.
    """

    train: FeatureSet
    val: FeatureSet
    classes: tuple[str, ...]
    text: Tensor | None
    banks: Mapping[str, tuple[FeatureSet, FeatureSet]] = field(default_factory=dict)
    copies: int = 1

    def through(self, encode: Callable[[FeatureSet], FeatureSet]) -> TrainingData:
        """The same with every set of clips changed, such as seen through an encoder that is being trained."""
        banks = {name: (encode(train), encode(val)) for name, (train, val) in self.banks.items()}
        return replace(self, train=encode(self.train), val=encode(self.val), banks=banks)

    def draw(self, method: Method, clips: FeatureSet, ids: Sequence[str], context: Context) -> dict[str, Rows]:
        """The rows of a step under ``""``, and those of every view that the method needs under its name.

        Views are drawn with torch's global generator.
        """
        views: dict[str, Rows] = {view: self._view(view, method, clips, ids, context) for view in method.needs.views}
        return {"": (clips, ids, ids), **views}

    def _view(self, view: str, method: Method, clips: FeatureSet, ids: Sequence[str], context: Context) -> Rows:
        if view == "other_video":
            groups = {clips.group(id) for id in clips.ids[:DRAWS]}
            pool = clips if len(groups) > 1 else self.train  # a single held-out video meets training clips
            others = [_of_other_video(pool, clips.group(id)) for id in ids]
            return pool, others, others
        if view == "neighbor":  # of a held-out clip nothing was looked up: it is its own
            images, sounds = method.neighbors(ids, context) if clips is self.train else (ids, ids)
            return clips, images, sounds
        bank = self.banks[view][clips is not self.train]
        numbers = torch.randint(self.copies, (len(ids),)).tolist()
        copies = [copy_of(id, number) for id, number in zip(ids, numbers, strict=True)]
        return bank, copies, copies

    def features(
        self, rows: Mapping[str, Rows], share: Callable[[Sequence[str]], Sequence[str]] = lambda ids: ids
    ) -> Features:
        """Features of drawn rows with the class names' text, or of the share of every batch that this process reads."""
        found = {
            name: clips.features(share(images), audio_of=None if images is sounds else share(sounds))
            for name, (clips, images, sounds) in rows.items()
        }
        own = found.pop("")
        return replace(own, text=self.text, views=found)

    def batch(self, rows: Mapping[str, Rows], *, labels: bool) -> Batch:
        """What else a loss may see of drawn rows; labels only for methods that declared them."""
        found = {name: self._batch(clips, images) for name, (clips, images, _) in rows.items()}
        own = found.pop("")
        if labels:
            clips, ids, _ = rows[""]
            own = replace(own, labels=self._labels(clips, ids))
        return replace(own, views=found)

    def _batch(self, clips: FeatureSet, ids: Sequence[str]) -> Batch:
        tiles = torch.tensor([clips.tiles(id) for id in ids])
        return Batch(tuple(ids), tiles, tuple(clips.group(id) for id in ids), self.classes)

    def _labels(self, clips: FeatureSet, ids: Sequence[str]) -> Tensor:
        """``(B, N)``, multi-hot."""
        index = {name: n for n, name in enumerate(self.classes)}
        found = torch.zeros(len(ids), len(self.classes))
        for row, id in enumerate(ids):
            found[row, [index[name] for name in clips.labels(id)]] = 1
        return found

    def one_pass(self, size: int, *, labels: bool) -> Iterator[tuple[Features, Batch]]:
        """One pass over the training clips, in order, `size` at a time, without views."""
        ids = self.train.ids
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            rows: dict[str, Rows] = {"": (self.train, part, part)}
            yield self.features(rows), self.batch(rows, labels=labels)


def _of_other_video(clips: FeatureSet, group: str) -> str:
    ids = clips.ids
    for number in torch.randint(len(ids), (DRAWS,)).tolist():
        if clips.group(ids[number]) != group:
            return ids[int(number)]
    others = [other for other in ids if clips.group(other) != group]
    if not others:
        raise AvlocError("A method that contrasts clips with those of other videos needs at least two videos.")
    return others[int(torch.randint(len(others), ()))]
