"""Every check of metrics passes for a correct one and fails, with a sentence, for one with its defect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from avloc import Localization, Metric, Truth
from avloc.testing import CHECKS, ConformanceError, conformance, conformance_checks

Rows = npt.NDArray[Any]


class Sound(Metric):
    """A small correct metric: how much of the source is claimed, of what is claimed."""

    def __init__(self, *, at: float = 0.5) -> None:
        self.at, self.title = at, f"precision@{at:g}"

    @property
    def key(self) -> str:
        return f"precision@{self.at:g}"

    def rows(self, found: Localization, truth: Truth) -> Rows:
        hit = (found.masks & (truth.masks >= self.at)).sum((1, 2))
        return np.where(truth.masks.any((1, 2)), hit / np.maximum(found.masks.sum((1, 2)), 1), np.nan)[:, None]

    def reduce(self, rows: Rows) -> float:
        defined = rows[~np.isnan(rows)]
        return float(defined.mean()) if len(defined) else float("nan")


class Miss(Sound):
    """The lower, the better."""

    title, higher_is_better = "miss", False
    key = "miss"

    def __init__(self) -> None:
        self.at = 0.5

    def reduce(self, rows: Rows) -> float:
        return 1 - super().reduce(rows)


class Nameless(Sound):
    pass


class Untitled(Sound):
    """Broken."""

    def __init__(self, *, at: float = 0.5) -> None:
        self.at = at


class Positional(Sound):
    """Broken."""

    def __init__(self, at: float = 0.5) -> None:
        super().__init__(at=at)


class Unkeyed(Sound):
    """Broken."""

    key = "precision"


class Column(Sound):
    """Broken."""

    key = "label"


class PerClip(Sound):
    """Broken: one row per clip."""

    def rows(self, found: Localization, truth: Truth) -> Rows:
        return super().rows(found, truth).sum(0, keepdims=True)


class Vector(Sound):
    """Broken."""

    def rows(self, found: Localization, truth: Truth) -> Rows:
        return super().rows(found, truth)[:, 0]


class Growing(Sound):
    """Broken: as many columns as sources."""

    def rows(self, found: Localization, truth: Truth) -> Rows:
        return np.repeat(super().rows(found, truth), max(1, len(truth.masks)), axis=1)


class Peaky(Sound):
    """Broken: of a map that is not there."""

    def rows(self, found: Localization, truth: Truth) -> Rows:
        if not found.found.all():
            raise IndexError("no map")
        return super().rows(found, truth)


class Writing(Sound):
    """Broken."""

    def rows(self, found: Localization, truth: Truth) -> Rows:
        found.scores[found.scores < 0.5] = 0
        return super().rows(found, truth)


class Counting(Sound):
    """Broken: remembers the clips that it saw."""

    def __init__(self, *, at: float = 0.5) -> None:
        super().__init__(at=at)
        self.seen = 0

    def rows(self, found: Localization, truth: Truth) -> Rows:
        self.seen += 1
        return super().rows(found, truth) / self.seen


class LastCounts(Sound):
    """Broken."""

    def reduce(self, rows: Rows) -> float:
        return float(np.nan_to_num(rows[-1, 0], nan=0.5))


class Percent(Sound):
    """Broken."""

    def reduce(self, rows: Rows) -> float:
        return 100 * super().reduce(rows)


class Zeroing(Sound):
    """Broken: undefined is nought."""

    def reduce(self, rows: Rows) -> float:
        return float(np.nan_to_num(super().reduce(rows)))


class Sorting(Sound):
    """Broken."""

    def reduce(self, rows: Rows) -> float:
        rows.sort(axis=0)
        return super().reduce(rows)


class Forgetting(Sound):
    """Broken: no rows of sources that are not visible."""

    def rows(self, found: Localization, truth: Truth) -> Rows:
        return super().rows(found, truth)[truth.masks.any((1, 2))]


class Spoiled(Sound):
    """Broken: one undefined row is enough."""

    def reduce(self, rows: Rows) -> float:
        return float(rows.mean())


class Grouping(Sound):
    """Broken: one row per image."""

    def by_image(self, rows: Rows, images: Sequence[str]) -> Rows:
        return np.array([rows[[name == image for image in images]].mean(0) for name in sorted(set(images))])


class UpsideDown(Sound):
    """Broken."""

    higher_is_better = False


class Indifferent(Sound):
    """Broken."""

    def reduce(self, rows: Rows) -> float:
        return 0.5 + 0 * super().reduce(rows)


Nameless.__doc__ = None
BROKEN: list[tuple[type[Metric], str, str]] = [
    (Nameless, "title and docstring are there", "no docstring"),
    (Untitled, "title and docstring are there", "title is empty"),
    (Positional, "parameters are keyword-only JSON values with defaults", "must be keyword-only"),
    (Unkeyed, "the key tells metrics apart", r"does not tell at=0\.5 from at=0\.45"),
    (Column, "the key tells metrics apart", "'label' should be none of clip, group, source, label"),
    (PerClip, "one row per source, of one width", r"must be \(0, k\), but are \(1, 1\)"),
    (Vector, "one row per source, of one width", r"must be \(0, k\), but are \(0,\)"),
    (Growing, "one row per source, of one width", "1 or 2 or 3 columns"),
    (Peaky, "sources that are not found or not visible have rows", "no map"),
    (Writing, "one row per source, of one width", "changes its input"),
    (Counting, "threads and order change nothing", "in 4 threads are others"),
    (LastCounts, "threads and order change nothing", "In another order"),
    (Percent, "it reduces to a fraction", "but returned 100; tables print percent"),
    (Zeroing, "it reduces to a fraction", "all undefined it makes 0"),
    (Sorting, "it reduces to a fraction", "changes its rows"),
    (Forgetting, "sources that are not found or not visible have rows", r"must be \(2, k\), but are \(1, 1\)"),
    (Spoiled, "it reduces to a fraction", "some are undefined it makes NaN"),
    (Grouping, "rows seen by image keep their shape", r"must return \(24, 1\) like its rows, but returned \(12, 1\)"),
    (UpsideDown, "right is better than wrong", "1 and its opposite 0; higher_is_better is False"),
    (Indifferent, "right is better than wrong", r"0\.5 and its opposite 0\.5"),
]


@pytest.mark.parametrize("kind", [Sound, Miss])
def test_a_sound_metric_passes(kind: type[Metric]) -> None:
    for _, run in conformance_checks(kind):
        run()


@pytest.mark.parametrize(("kind", "title", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_metric_fails(kind: type[Metric], title: str, words: str) -> None:
    with pytest.raises((ConformanceError, IndexError), match=words):
        dict(conformance_checks(kind))[title]()


def test_every_check_can_fail() -> None:
    assert {title for _, title, _ in BROKEN} == set(CHECKS["metric"])


test_conformance: Any = conformance(Sound, at=0.7)
