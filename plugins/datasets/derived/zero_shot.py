"""Zero-shot test: half of a data set's classes are held out of training.

The split of T-VSL's table 4 was not published. Here, hashes of the class names define it, so it is the same everywhere
and does not depend on which clips are present.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from avloc import AvlocError, Dataset, Sample, Status, Truth, unknown
from avloc.data import digest, hold_out

from .source import TOYBOX, Named, opened


class ZeroShot(Dataset):
    """The clips of a data set whose classes are all seen (``train``, ``val``) or all unseen (``test``).

    A clip with classes of both halves, such as most duets, is in no split. The class names differ too: training has
    only the seen names, the test only the unseen ones.

    Args:
        root: As for the data set.
        split: ``train``, ``val`` or ``test``.
        of: The data set.
        unseen: The classes that are held out for the test; ``None``: half of them, by the hashes of their names.

    Raises:
        AvlocError: An unknown data set or class, or no seen or unseen class is left.
    """

    title = "Zero-shot"
    license = "that of the data set it is made of"

    def __init__(
        self, root: Path | None, *, split: str, of: Named = TOYBOX, unseen: Sequence[str] | None = None
    ) -> None:
        self._whole = opened(of, root, split)
        self.leaks = self._whole.leaks
        names = set(self._whole.classes)
        chosen = hold_out(names, 0.5) if unseen is None else set(unseen)
        for name in chosen:
            if name not in names:
                raise AvlocError(unknown("class", name, names))
        if not chosen or chosen == names:
            raise AvlocError(f"zero_shot: with {len(chosen)} of {len(names)} classes unseen, one half is empty.")
        kept = chosen if split == "test" else names - chosen
        self.classes = tuple(name for name in self._whole.classes if name in kept)
        self.notes = (
            *self._whole.notes,
            f"Zero-shot: {len(chosen)} of {len(names)} classes are tested on, the others trained on; clips that have "
            "classes of both are left out.",
        )

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        """Computed on first use, because the labels of built-in data are known only after it is generated."""
        kept = set(self.classes)
        found = tuple(id for id in self._whole.ids() if kept.issuperset(self._whole.labels(id)))
        if not found and self._whole.ids():
            raise AvlocError(
                f"zero_shot: no clip of this split has only the classes {', '.join(self.classes)}; say which to keep "
                "for the test with unseen: [...]."
            )
        return found

    def prepare(self) -> None:
        self._whole.prepare()

    def ids(self) -> Sequence[str]:
        """The data set's status, without clips that are left out."""
        return self._ids

    def status(self) -> Status:
        status, kept = self._whole.status(), set(self._ids)
        missing, broken = (
            {id: reason for id, reason in reasons.items() if id in kept} for reasons in (status.missing, status.broken)
        )
        return Status(tuple(id for id in status.present if id in kept), missing, broken)

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
        return digest([self._whole.fingerprint(), self._whole.revision, self.classes, self._ids])[:16]
