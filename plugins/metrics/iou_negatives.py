"""How much a method claims where no sounding object is visible. A source with an empty mask is a negative.

After vssl_eval (2024). All of these are NaN without negatives. F scores balance localization and silence.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from avloc import Localization, Metric, Truth

from .iou import FloatArray, Values, auc_of, own_cious


def claimed_area(masks: npt.NDArray[np.bool_]) -> Values:
    """``(N,)``: pIA, the share of the pixels of ``(N, H, W)`` masks that are claimed."""
    return np.asarray(masks.mean(axis=(1, 2), dtype=np.float64))


def silent_area(scores: FloatArray, at: float = 0.2) -> Values:
    """``(N,)``: NSA, the share of the pixels of ``(N, H, W)`` maps that are at most `at` (Hu et al., NeurIPS 2020)."""
    return np.asarray(np.mean(scores <= at, axis=(1, 2), dtype=np.float64))


def area_auc(areas: FloatArray) -> float:
    """AUC_N: area under the share of negatives with a pIA of at most 0, 0.05, ..., 1, by trapezoids."""
    if not len(areas):
        return float("nan")
    rates = np.mean(areas[:, None] <= 0.05 * np.arange(21), axis=0)
    return float(0.05 * (rates.sum() - (rates[0] + rates[-1]) / 2))


def harmonic_mean(one: float, other: float) -> float:
    """``2 a b / (a + b)``; 0 where both are 0."""
    return 2 * one * other / (one + other) if one + other else one + other


class _Negatives(Metric):
    """Rows of ``(S, 2)``: a value, and 1 where the source is a negative."""

    @abstractmethod
    def value(self, found: Localization, truth: Truth) -> Values:
        """``(S,)``."""

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 2)``: the value, and whether the source is a negative."""
        unseen = ~(truth.masks > 0).any((1, 2))
        return np.stack([self.value(found, truth), unseen.astype(np.float64)], axis=1)


class PIA(_Negatives):
    """Mean share of the image that is claimed for negatives (vssl_eval's pIA).

    Only sources with an empty true mask count; NaN without any.
    """

    title = "pIA"
    key = "pia"
    higher_is_better = False

    def value(self, found: Localization, truth: Truth) -> Values:
        """``(S,)`` claimed areas."""
        return claimed_area(found.masks)

    def reduce(self, rows: FloatArray) -> float:
        """The mean over negatives; NaN when there are none."""
        areas = rows[rows[:, 1] == 1, 0]
        return float(areas.mean()) if len(areas) else float("nan")


class PIAAUC(PIA):
    """Area under the share of negatives whose claimed area stays within a bound (vssl_eval's AUC_N).

    Only sources with an empty true mask count; NaN without any.
    """

    title = "AUC of negatives"
    key = "pia_auc"
    higher_is_better = True

    def reduce(self, rows: FloatArray) -> float:
        """See `area_auc`."""
        return area_auc(rows[rows[:, 1] == 1, 0])


class NSA(_Negatives):
    """Mean share of low pixels in the maps of negatives (DSOL's no-sounding area).

    Only sources with an empty true mask count; NaN without any.

    Args:
        at: The value up to which a pixel is low, on the protocol's scale.
    """

    def __init__(self, *, at: float = 0.2) -> None:
        self.at = at
        self.title = f"NSA@{at:.12g}"

    @property
    def key(self) -> str:
        return f"nsa@{self.at:.12g}"

    def value(self, found: Localization, truth: Truth) -> Values:
        """``(S,)`` silent areas."""
        return silent_area(found.scores, self.at)

    def reduce(self, rows: FloatArray) -> float:
        """The mean over negatives; NaN when there are none."""
        areas = rows[rows[:, 1] == 1, 0]
        return float(areas.mean()) if len(areas) else float("nan")


class FLoc(_Negatives):
    """Harmonic mean of the mean cIoU of visible sources and the unclaimed area of negatives (vssl_eval's F_LOC).

    Sources with an empty true mask are the negatives; NaN unless there are both kinds.
    """

    title = "F-LOC"
    key = "f_loc"

    def value(self, found: Localization, truth: Truth) -> Values:
        """``(S,)``: the cIoU, or the claimed area of a negative."""
        return np.where((truth.masks > 0).any((1, 2)), own_cious(found, truth), claimed_area(found.masks))

    def reduce(self, rows: FloatArray) -> float:
        """NaN unless there are both."""
        negative = rows[:, 1] == 1
        if negative.all() or not negative.any():
            return float("nan")
        return harmonic_mean(float(rows[~negative, 0].mean()), 1 - float(rows[negative, 0].mean()))


class FAUC(FLoc):
    """Harmonic mean of the AUC of visible sources and the AUC of negatives (vssl_eval's F_AUC).

    Sources with an empty true mask are the negatives; NaN unless there are both kinds.
    """

    revision = 2
    title = "F-AUC"
    key = "f_auc"

    def reduce(self, rows: FloatArray) -> float:
        """NaN unless there are both."""
        negative = rows[:, 1] == 1
        return harmonic_mean(auc_of(rows[~negative, 0]), area_auc(rows[negative, 0]))
