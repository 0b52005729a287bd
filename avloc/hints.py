"""Hints: what is disclosed to a method about the clips it localizes, and the one function that discloses it.

Hints belong to a run, not to a protocol: they change no pixel of a map, but a score means nothing without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from avloc.types import Batch, Features

if TYPE_CHECKING:
    from torch import Tensor

Hints = Literal["none", "vocabulary", "count", "oracle"]
"""Each level includes those before it."""

IN_WORDS: dict[Hints, str] = {
    "none": "nothing",
    "vocabulary": "the dataset's class names",
    "count": "the dataset's class names and how many sources sound",
    "oracle": "which classes sound in each clip",
}
HINT_LEVELS: tuple[Hints, ...] = tuple(IN_WORDS)


def suffices(given: Hints, needed: Hints) -> bool:
    """Whether a method that needs one level can run when it is given another."""
    return HINT_LEVELS.index(given) >= HINT_LEVELS.index(needed)


def disclose(
    features: Features,
    batch: Batch,
    hints: Hints,
    *,
    classes: Sequence[str],
    text: Tensor | None,
    labels: Sequence[Sequence[str]],
) -> tuple[Features, Batch]:
    """The features and the batch with what `hints` allow, and nothing else.

    Args:
        features, batch, hints: Of the clips, and the level.
        classes: The class names that predictions are about.
        text: ``(N, D)``, their embeddings, where the encoder has a text tower.
        labels: Per clip the names of the classes that sound.
    """
    import torch  # late: reading a suite needs no torch

    named = suffices(hints, "vocabulary")
    features = replace(features, text=text if named else None)
    batch = replace(batch, classes=tuple(classes) if named else (), sources=None, source_counts=None)
    if suffices(hints, "count"):
        batch = replace(batch, source_counts=torch.tensor([len(names) for names in labels], dtype=torch.int64))
    if suffices(hints, "oracle"):
        index = {name: number for number, name in enumerate(classes)}
        width = max(map(len, labels), default=0)
        rows = [[index[name] for name in names] + [-1] * (width - len(names)) for names in labels]
        batch = replace(batch, sources=torch.tensor(rows, dtype=torch.int64).reshape(len(labels), width))
    return features, batch
