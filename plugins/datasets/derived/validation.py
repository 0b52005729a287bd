"""A data set that is tested on its validation clips: settings are chosen here, and never on test clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avloc import Dataset, Sample, Status, Truth
from avloc.data import digest

from .source import TOYBOX, Named, opened


class Validation(Dataset):
    """The training clips of a data set, and its validation clips for validation and for the test.

    Args:
        root: As for the data set.
        split: ``train``, ``val`` or ``test``; the last two are the same clips.
        of: The data set.

    Raises:
        AvlocError: An unknown data set.
    """

    title = "Validation clips"
    license = "that of the data set it is made of"
    leaks = True

    def __init__(self, root: Path | None, *, split: str, of: Named = TOYBOX) -> None:
        self._whole = opened(of, root, "val" if split == "test" else split)
        self.classes = self._whole.classes
        self.notes = (
            *self._whole.notes,
            "Scored on the validation clips, which also choose the epoch: for choosing settings, not for reporting.",
        )

    def prepare(self) -> None:
        self._whole.prepare()

    def ids(self) -> Sequence[str]:
        return self._whole.ids()

    def status(self) -> Status:
        return self._whole.status()

    def remarks(self) -> tuple[str, ...]:
        return self._whole.remarks()

    def labels(self, id: str) -> tuple[str, ...]:
        return self._whole.labels(id)

    def load(self, id: str) -> Sample:
        return self._whole.load(id)

    def truth(self, id: str) -> Truth:
        return self._whole.truth(id)

    def content(self, id: str) -> str:
        return self._whole.content(id)

    def media(self, id: str) -> str:
        return self._whole.media(id)

    def fingerprint(self) -> str:
        return digest([self._whole.fingerprint(), self._whole.revision, "validation"])[:16]
