"""Localization with a confidence, over clips of which some show no sounding object.

SLAVC's extended sets (NeurIPS 2022), AVGN's evaluator, and a corrected version (``sound``). A source with an empty
mask is a negative. A localization counts if its confidence reaches a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from avloc import AvlocError, Localization, Metric, Truth

from .iou import FloatArray, Values, own_cious

Curve = Literal["sound", "slavc"]
SIZES = {"small": (1, 32**2), "medium": (32**2, 96**2), "large": (96**2, 144**2), "huge": (144**2, np.inf)}
"""Pixels of 224 x 224."""
SUBSETS = ("all", "visible", *SIZES)


@dataclass(frozen=True, slots=True, eq=False)
class Localized:
    """One localization per source: ``(n,)`` each.

    Attributes:
        ciou: Overlap with the truth.
        confidence: The confidence of the method.
        visible: Whether the source is visible.
    """

    ciou: FloatArray
    confidence: FloatArray
    visible: npt.NDArray[np.bool_]

    def counts(self, at: float, thresholds: FloatArray) -> tuple[Values, Values, Values]:
        """Right, wrong and withheld at every threshold ``(t,)`` on the confidence.

        Right: confident, visible, and a cIoU of at least `at`. Wrong: confident, but not right. Withheld: visible, but
        not confident.
        """
        sure = self.confidence >= thresholds[:, None]
        hit = self.visible & (self.ciou >= at)
        right = np.count_nonzero(sure & hit, axis=1).astype(np.float64)
        wrong = np.count_nonzero(sure & ~hit, axis=1).astype(np.float64)
        return right, wrong, np.count_nonzero(~sure & self.visible, axis=1).astype(np.float64)

    def curve(self, at: float, thresholds: FloatArray, kind: Curve) -> tuple[Values, Values]:
        """Precision and recall at every threshold ``(t,)``; 1 where they are 0 / 0.

        In SLAVC, a visible source that is localized wrongly does not count as missed, so recall reaches 1 however bad
        the maps are. With ``sound``, recall is the share of all visible sources that are right.
        """
        right, wrong, withheld = self.counts(at, thresholds)
        wanted = right + withheld if kind == "slavc" else np.full_like(right, np.count_nonzero(self.visible))
        return _ratio(right, right + wrong), _ratio(right, wanted)


def extended_ap(found: Localized, at: float = 0.5, kind: Curve = "sound") -> float:
    """Average precision over the confidences.

    Args:
        found: At least one localization.
        at: The cIoU that counts as right.
        kind: ``sound``: the mean, over visible sources, of the precision at which each is found, or 0 if it never is.
            ``slavc``: every (n / 200)th confidence, highest first, but without the highest; monotone precision; the
            area starts at the first of these recalls, so a perfect method gets one half on four sources.
    """
    descending = np.sort(_offered(found))[::-1]
    if kind == "slavc":
        thresholds = descending[1:][:: max(1, len(descending) // 200)]
        if not len(thresholds):
            return 0.0
        precision, recall = found.curve(at, thresholds, kind)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(envelope[:-1] * np.diff(recall)))
    precision, recall = found.curve(at, np.unique(descending)[::-1], kind)
    return float(np.sum(precision * np.diff(recall, prepend=0.0))) if found.visible.any() else float("nan")


def extended_f1(found: Localized, at: float = 0.5, kind: Curve = "sound") -> Values:
    """F1 at every confidence (``sound``), or at every (n / 10)th from the lowest (``slavc``)."""
    ascending = np.sort(_offered(found))
    every = max(1, len(ascending) // 10) if kind == "slavc" else 1
    return f1_at(found, at, ascending[::every], kind)


def f1_at(found: Localized, at: float, thresholds: FloatArray, kind: Curve = "sound") -> Values:
    """F1 at given confidences ``(t,)``; 0 where precision and recall are."""
    precision, recall = found.curve(at, thresholds, kind)
    both = precision + recall
    return np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1), 0.0)


class _Extended(Metric):
    """Rows of cIoU, confidence and the area of the truth.

    Args:
        at: The cIoU that counts as right, in (0, 1].
        subset: ``all``, ``visible`` sources only, or those of one size: ``small``, ``medium``, ``large``, ``huge``.
        curve: ``sound``, or ``slavc`` as in SLAVC's release.

    Raises:
        AvlocError: A value is not one of these.
    """

    name = ""

    def __init__(self, *, at: float = 0.5, subset: str = "all", curve: str = "sound") -> None:
        if not 0 < at <= 1:
            raise AvlocError(f"{self.name}: 'at' must be in (0, 1], but is {at!r}.")
        if subset not in SUBSETS:
            raise AvlocError(f"{self.name}: 'subset' must be one of {', '.join(SUBSETS)}, but is {subset!r}.")
        if curve not in ("sound", "slavc"):
            raise AvlocError(f"{self.name}: 'curve' must be sound or slavc, but is {curve!r}.")
        self.at, self.subset = at, subset
        self.curve: Curve = "slavc" if curve == "slavc" else "sound"
        about = [*([subset] if subset != "all" else []), *(["SLAVC's"] if curve == "slavc" else [])]
        self.title = f"{self.title}@{at:.12g}" + (f" ({', '.join(about)})" if about else "")

    @property
    def key(self) -> str:
        parts = [*([self.subset] if self.subset != "all" else []), *([self.curve] if self.curve == "slavc" else [])]
        return "_".join([f"{self.name}@{self.at:.12g}", *parts])

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 3)``: cIoU, confidence (-inf without a map), and the sum of the true mask, 0 for a negative."""
        area = truth.masks.sum((1, 2), dtype=np.float64)
        return np.stack([np.nan_to_num(own_cious(found, truth)), found.confidence, area], axis=1)

    def chosen(self, rows: FloatArray) -> Localized:
        """The rows of the subset."""
        area = rows[:, 2]
        kept = np.full(len(rows), True) if self.subset == "all" else area > 0
        if self.subset in SIZES:
            low, high = SIZES[self.subset]
            kept = (area >= low) & (area < high)
        return Localized(rows[kept, 0], rows[kept, 1], area[kept] > 0)


class ExtendedAP(_Extended):
    """Average precision of confident localizations, see `extended_ap`.

    An empty true mask is a negative: every confident localization of it is wrong.
    """

    title = "extended AP"
    name = "extended_ap"

    def reduce(self, rows: FloatArray) -> float:
        """NaN for no sources."""
        found = self.chosen(rows)
        return extended_ap(found, self.at, self.curve) if len(found.ciou) else float("nan")


class ExtendedF1(_Extended):
    """The best F1 over confidences (SLAVC's max-F1), see `extended_f1`.

    An empty true mask is a negative: every confident localization of it is wrong.
    """

    title = "extended max-F1"
    name = "extended_f1"

    def reduce(self, rows: FloatArray) -> float:
        """NaN for no sources."""
        found = self.chosen(rows)
        return float(extended_f1(found, self.at, self.curve).max(initial=0)) if len(found.ciou) else float("nan")


class ExtendedPrecision(_Extended):
    """Share of all localizations, including negatives, that are right, whatever their confidence.

    An empty true mask is a negative, which is never right.
    """

    title = "extended precision"
    name = "extended_precision"

    def reduce(self, rows: FloatArray) -> float:
        """NaN for no sources."""
        found = self.chosen(rows)
        return float(np.mean(found.visible & (found.ciou >= self.at))) if len(found.ciou) else float("nan")


def _offered(found: Localized) -> FloatArray:
    """The confidences, except for sources without a map, which are below any threshold."""
    return found.confidence[np.isfinite(found.confidence)]


def _ratio(part: Values, whole: Values) -> Values:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 1.0)
