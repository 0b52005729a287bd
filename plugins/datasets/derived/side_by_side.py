"""More sources than in training: single clips to learn from, several side by side to be tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from avloc import AvlocError, DataError, Dataset, Sample, Status, Truth
from avloc.data import draw_mixtures, mix, mixed_truth

from .source import TOYBOX, Named, digest, opened

TEST = 2
"""Of the seeds of the draw: the split."""


class SideBySide(Dataset):
    """Test clips of a data set side by side, of different classes, their sounds summed; training clips as they are.

    Every test clip leads one canvas. The list is drawn once from the whole official list, so it does not depend on
    what a machine has. Training does not depend on `sources`: methods are trained once for all of them.

    Args:
        root: As for the data set.
        split: ``train``, ``val`` or ``test``.
        of: The data set, of clips with one frame.
        sources: Clips side by side in the test, 2 or more.

    Raises:
        AvlocError: An unknown data set, or fewer than two sources.
    """

    title = "Side by side"

    def __init__(self, root: Path | None, *, split: str, of: Named = TOYBOX, sources: int = 2) -> None:
        if sources < 2:
            raise AvlocError(f"side_by_side: there should be 2 or more sources, not {sources}.")
        self._whole = opened(of, root, split)
        self._sources, self._mixing = sources, split == "test"
        self.classes = self._whole.classes
        self.notes = (*self._whole.notes, f"Trained on clips as they are, tested on {sources} side by side.")

    @cached_property
    def _mixtures(self) -> Mapping[str, tuple[str, ...]]:
        """Made late: the labels of built-in data are known once it is made."""
        ids = self._whole.ids()
        if not self._mixing:
            return {id: (id,) for id in ids}
        labels = {id: self._whole.labels(id) for id in ids}
        return draw_mixtures(labels, len(ids), self._sources, [TEST, self._sources])

    def prepare(self) -> None:
        self._whole.prepare()

    def ids(self) -> Sequence[str]:
        """Of the canvases: their clips' ids, joined by ``+``."""
        return list(self._mixtures)

    def status(self) -> Status:
        """A canvas needs all of its clips."""
        status = self._whole.status()
        missing, broken, present = {}, {}, []
        for id, members in self._mixtures.items():
            if gone := next((member for member in members if member in status.missing), None):
                missing[id] = status.missing[gone]
            elif bad := next((member for member in members if member in status.broken), None):
                broken[id] = status.broken[bad]
            else:
                present.append(id)
        return Status(tuple(present), missing, broken)

    def labels(self, id: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(label for member in self._mixtures[id] for label in self._whole.labels(member)))

    def load(self, id: str) -> Sample:
        samples = [self._whole.load(member) for member in self._mixtures[id]]
        if any(sample.clip.tiles > 1 for sample in samples):
            raise DataError(f"side_by_side: {id!r} would hold canvases of several tiles; take single clips.")
        return mix(samples, id) if self._mixing else samples[0]

    def truth(self, id: str) -> Truth:
        """Of a canvas at its own resolution; frames have that of the first clip."""
        truths = [self._whole.truth(member) for member in self._mixtures[id]]
        mixed = mixed_truth(truths, *truths[0].masks.shape[1:]) if self._mixing else truths[0]
        assert mixed is not None  # every clip has one
        return mixed

    def content(self, id: str) -> str:
        contents = [self._whole.content(member) for member in self._mixtures[id]]
        return digest(contents) if self._mixing else contents[0]

    def fingerprint(self) -> str:
        return digest([self._whole.fingerprint(), list(self._mixtures)])[:16]
