"""What every metric must do so that its number can be trusted, tried on localizations known to be right or wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from avloc.components import ABOUT_ROWS, parameters
from avloc.interfaces import Metric
from avloc.testing.findings import ConformanceError, require, require_attributes, require_parameters
from avloc.types import AvlocError, Localization, Truth

SIDE, CLIPS, READERS = 24, 24, 4
Rows = npt.NDArray[np.float64]
World = Sequence[tuple[Localization, Truth]]


class Subject:
    """A metric on trial with parameters of its constructor."""

    def __init__(self, kind: type[Metric], given: Mapping[str, Any]) -> None:
        self.kind, self.parameters = kind, given

    def build(self, **changed: Any) -> Metric:
        """The metric."""
        return self.kind(**{**self.parameters, **changed})

    @cached_property
    def metric(self) -> Metric:
        """One that the checks share."""
        return self.build()

    def rows(self, found: Localization, truth: Truth) -> Rows:
        """Of one clip."""
        try:
            rows = np.asarray(self.metric.rows(found, truth))
        except ValueError as error:
            if "read-only" in str(error):
                raise ConformanceError(f"rows() changes its input, which others read, too ({error}).") from error
            raise
        count = len(truth.labels)
        good = rows.ndim == 2 and len(rows) == count and rows.shape[1] > 0
        require(good, f"rows() of a clip with {count} sources must be ({count}, k), but are {rows.shape}.")
        return rows

    def all_rows(self, world: World) -> Rows:
        """Of all clips, as they are stored: two clips in turn are of one image."""
        parts = [self.rows(*pair) for pair in world]
        images = [f"image {n // 2}" for n, part in enumerate(parts) for _ in part]
        return np.asarray(self.metric.by_image(np.concatenate(parts), images))

    def value(self, rows: Rows) -> float:
        """What `reduce` makes of rows that it cannot change."""
        rows = rows.copy()
        rows.flags.writeable = False
        try:
            return float(self.metric.reduce(rows))
        except ValueError as error:
            if "read-only" in str(error):
                raise ConformanceError(f"reduce() changes its rows ({error}).") from error
            raise


def localization(
    masks: npt.NDArray[np.float32], *, right: bool, found: bool = True, empty_is_miss: bool = True
) -> tuple[Localization, Truth]:
    """Sources with these true masks, found exactly and surely, or everywhere but there; empty ones are not visible."""
    claimed = (masks > 0) == right
    seen = (masks > 0).any((1, 2))
    confidence = np.where(seen == right, 0.9, 0.1)
    scores = (claimed * confidence[:, None, None]).astype(np.float32)
    if not found:
        scores, claimed = np.zeros_like(scores), np.zeros_like(claimed)
    offered = np.full(len(masks), found)
    for array in (scores, claimed, confidence, offered, masks):
        array.flags.writeable = False
    truth = Truth(masks, tuple(f"class {n}" for n in range(len(masks))))
    return Localization(scores, claimed, confidence, offered, empty_is_miss=empty_is_miss), truth


def world(sources: int = 1, *, right: bool = True, unseen: bool = False, tiles: int = 1) -> World:
    """Clips with boxes of many sizes for truth; of every other clip the sources are not visible, where asked.

    Where they are wrong, a third of them has no map at all.
    """
    pairs = []
    for n in range(CLIPS):
        rng = np.random.default_rng(n)
        masks = np.zeros((sources, SIDE, SIDE * tiles), np.float32)
        for place, mask in enumerate(masks):
            top, left = rng.integers(0, SIDE // 2, 2)
            height, width = rng.integers(2, SIDE // 2, 2)
            left += SIDE * (place % tiles)
            mask[top : top + height, left : left + width] = 0 if unseen and n % 2 else 1
        pairs.append(localization(masks, right=right, found=right or n % 3 > 0))
    return pairs


def described(subject: Subject) -> None:
    """Tables print them."""
    require_attributes(subject.kind, ())
    require(subject.metric.title, "Its title is empty; tables print it.")


def parametrized(subject: Subject) -> None:
    """So that a suite can set them."""
    require_parameters(subject.kind, ())


def keyed(subject: Subject) -> None:
    """Files and tables tell metrics apart by their keys."""
    key = subject.metric.key
    require(isinstance(key, str) and key, f"Its key must be a string, but is {key!r}.")
    taken = f"{', '.join(ABOUT_ROWS)}, and hold no #, since rows have such columns"
    require(key not in ABOUT_ROWS and "#" not in key, f"Its key {key!r} should be none of {taken}.")
    require(subject.build().key == key, "Built twice, it has another key.")
    for name, default in {**parameters(subject.kind), **subject.parameters}.items():
        if isinstance(default, float) and default:
            try:
                other = subject.build(**{name: default * 0.9}).key
            except AvlocError:  # it is beyond what the metric takes
                continue
            require(other != key, f"Its key does not tell {name}={default:g} from {name}={default * 0.9:g}.")


def shaped(subject: Subject) -> None:
    """Rows of all clips become one table."""
    widths = set()
    for sources in (0, 1, 2, 3):
        for tiles in (1, 2):
            for right in (True, False):
                rows = subject.rows(*world(sources, right=right, tiles=tiles)[0])
                where = f"rows() of a clip with {sources} sources"
                require(np.issubdtype(rows.dtype, np.number), f"{where} must be numbers, but are {rows.dtype}.")
                widths.add(rows.shape[1])
    require(len(widths) == 1, f"rows() have {' or '.join(map(str, sorted(widths)))} columns; k must be one number.")


def survives(subject: Subject) -> None:
    """A source that was not found, or is not visible, is in every data set."""
    masks = np.zeros((2, SIDE, SIDE), np.float32)
    masks[0, 3:9, 3:9] = 1
    for right in (True, False):
        for found in (True, False):
            _fraction(subject, subject.rows(*localization(masks.copy(), right=right, found=found)))


def repeatable(subject: Subject) -> None:
    """Several threads score; the order of the clips means nothing."""
    clips = [*world(2, right=True), *world(2, right=False, unseen=True)]
    one_by_one = [subject.rows(*pair) for pair in clips]
    with ThreadPoolExecutor(READERS) as pool:
        at_once = list(pool.map(lambda pair: subject.rows(*pair), clips))
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one_by_one, at_once, strict=True))
    require(same, f"rows() in {READERS} threads are others than one by one; they must not change the metric.")
    rows = subject.all_rows(clips)
    one, other = _fraction(subject, rows), _fraction(subject, rows[::-1])
    require(np.isclose(one, other, atol=1e-9, equal_nan=True), f"In another order, rows give {other:g}, not {one:g}.")


def fractions(subject: Subject) -> None:
    """Tables print percent of them, and intervals draw rows again."""
    rows = subject.all_rows(world(right=True, unseen=True))
    for count in (1, 2, len(rows)):
        _fraction(subject, rows[:count])
    defined = rows[~np.isnan(rows).any(1)]
    if not np.isnan(_fraction(subject, defined)):
        whole = _fraction(subject, rows)
        require(not np.isnan(whole), "Of rows of which some are undefined it makes NaN; it should leave those out.")
    nothing = np.zeros((2, SIDE, SIDE), np.float32)
    rows = subject.rows(*localization(nothing, right=True, empty_is_miss=False))
    if np.isnan(rows).any(1).all():
        lost = _fraction(subject, rows)
        require(np.isnan(lost), f"Of rows that are all undefined it makes {lost:g}; it should be NaN.")


def _fraction(subject: Subject, rows: Rows) -> float:
    value = subject.value(rows)
    sentence = f"reduce() must return a fraction, from -1 to 1, or NaN, but returned {value:g}; tables print percent."
    require(np.isnan(value) or abs(value) <= 1 + 1e-9, sentence)
    return value


def by_image(subject: Subject) -> None:
    """Rows are stored as they come back, beside those of other metrics."""
    rows = np.concatenate([subject.rows(*pair) for pair in world()])
    shape = np.shape(subject.metric.by_image(rows, [f"image {n // 2}" for n in range(len(rows))]))
    require(shape == rows.shape, f"by_image() must return {rows.shape} like its rows, but returned {shape}.")


def prefers_right(subject: Subject) -> None:
    """A perfect localization is better than its opposite."""
    tried = []
    for unseen in (False, True):
        for tiles in (1, 2):
            right, wrong = (
                _fraction(subject, subject.all_rows(world(tiles, right=right, unseen=unseen, tiles=tiles)))
                for right in (True, False)
            )
            if not (np.isnan(right) or np.isnan(wrong)):
                tried.append((right, wrong))
    require(tried, "It is undefined for perfect localizations, with and without invisible sources.")
    sign = 1 if subject.kind.higher_is_better else -1
    best, worst = max(tried, key=lambda pair: sign * (pair[0] - pair[1]))
    finding = f"A perfect localization has {best:g} and its opposite {worst:g}; higher_is_better is"
    require(sign * (best - worst) > 0, f"{finding} {subject.kind.higher_is_better}.")


CHECKS: dict[str, Callable[[Subject], None]] = {
    "title and docstring are there": described,
    "parameters are keyword-only JSON values with defaults": parametrized,
    "the key tells metrics apart": keyed,
    "one row per source, of one width": shaped,
    "sources that are not found or not visible have rows": survives,
    "threads and order change nothing": repeatable,
    "it reduces to a fraction": fractions,
    "rows seen by image keep their shape": by_image,
    "right is better than wrong": prefers_right,
}
