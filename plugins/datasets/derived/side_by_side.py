"""More sources than in training: train on single clips, test on several side by side."""

from __future__ import annotations

from pathlib import Path

from avloc import AvlocError
from avloc.data import Members, Mixtures, draw_mixtures

from .source import TOYBOX, Named, opened

TEST = 2
"""The split's part of the random seed."""


class SideBySide(Mixtures):
    """Test clips of a data set side by side, of different classes, their sounds summed; training clips are unchanged.

    Every test clip is the first of one canvas. The list is drawn once from the full official list, so it does not
    depend on which clips are present. Training does not depend on `sources`, so methods are trained once for all.

    Args:
        root: As for the data set.
        split: ``train``, ``val`` or ``test``.
        of: The data set, of clips with one tile.
        sources: Number of test clips side by side, 2 or more.

    Raises:
        AvlocError: An unknown data set, or fewer than two sources.
    """

    title = "Side by side"
    license = "that of the data set it is made of"
    revision = 2

    def __init__(self, root: Path | None, *, split: str, of: Named = TOYBOX, sources: int = 2) -> None:
        if sources < 2:
            raise AvlocError(f"side_by_side: there should be 2 or more sources, not {sources}.")
        whole = opened(of, root, split)

        def members() -> Members:
            if split != "test":
                return {id: (id,) for id in whole.ids()}
            labels = {id: whole.labels(id) for id in whole.ids()}
            return draw_mixtures(labels, len(labels), sources, [TEST, sources])

        super().__init__(whole, members)
        self.notes = (*whole.notes, f"Trained on clips as they are, tested on {sources} side by side.")
