"""The 48 classes of toybox: 6 adjectives x 8 nouns.

The noun defines a silhouette and a family of timbres, the adjective a surface and a pattern in time, so every word of a
class name is both visible and audible. Everything else about an object is random.
"""

from __future__ import annotations

from typing import NamedTuple

ADJECTIVES = ("striped", "spotted", "checked", "ringed", "zigzag", "plain")
NOUNS = ("bell", "pipe", "drum", "horn", "fiddle", "whistle", "motor", "rattle")


class Kind(NamedTuple):
    """A class, such as "striped bell"."""

    adjective: str
    noun: str

    @property
    def name(self) -> str:
        """The class name as a label and as text."""
        return f"{self.adjective} {self.noun}"


def _held_out(row: int, column: int) -> bool:
    """A Latin square: every adjective keeps 6 nouns, every noun at least 4 adjectives."""
    return (column - row) % 4 == 3


_GRID = [(row, column) for row in range(len(ADJECTIVES)) for column in range(len(NOUNS))]
SEEN = tuple(sorted(Kind(ADJECTIVES[i], NOUNS[k]) for i, k in _GRID if not _held_out(i, k)))
"""The 36 combinations in train, val and test."""
UNSEEN = tuple(sorted(Kind(ADJECTIVES[i], NOUNS[k]) for i, k in _GRID if _held_out(i, k)))
"""The 12 combinations of the zero-shot test only."""
