"""Overlap of what a method claims with the truth: cIoU and what is made of it.

A success rate and a mean never share a name: "cIoU success@0.3" is the share of sources whose cIoU is at least 0.3,
"mean cIoU" the average of the cIoUs themselves.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from avloc import AvlocError, Localization, Metric, Truth

FloatArray = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]


def ciou(claimed: npt.NDArray[np.bool_], truth: FloatArray) -> Values:
    """Consensus IoU, ``sum(m g) / (sum(g) + #{m = 1 and g = 0})`` (Senocak et al., CVPR 2018).

    Plain IoU where the truth is binary. Graded truth weights its pixels, and is never a false positive.

    Args:
        claimed: ``(N, H, W)`` masks m.
        truth: ``(N, H, W)`` weights g, not negative.

    Returns:
        ``(N,)``; 0 where neither claims a pixel, since a source that cannot be seen is not localized.
    """
    hit = np.sum(truth, axis=(1, 2), where=claimed, dtype=np.float64)
    total = np.sum(truth, axis=(1, 2), dtype=np.float64) + np.count_nonzero(claimed & (truth == 0), axis=(1, 2))
    return np.where(total > 0, hit / np.where(total > 0, total, 1), 0.0)


def smoothed_iou(claimed: npt.NDArray[np.bool_], truth: FloatArray, epsilon: float = 1e-4) -> Values:
    """``(|m & g| + e) / (|m | g| + e)``, g the pixels where the truth is above 0, as T-VSL's release computes it.

    Args:
        claimed: ``(N, H, W)`` masks m.
        truth: ``(N, H, W)``.
        epsilon: e, in pixels.

    Returns:
        ``(N,)``; 1 where neither claims a pixel.
    """
    true = truth > 0
    both = np.count_nonzero(claimed & true, axis=(1, 2))
    either = np.count_nonzero(claimed | true, axis=(1, 2))
    return np.asarray((both + epsilon) / (either + epsilon), np.float64)


def auc_of(cious: FloatArray) -> float:
    """Area under the success rate over cIoU thresholds 0, 0.05, ..., 1, by trapezoids.

    It is never further than 0.025 from the mean cIoU, and at least 0.025, since everything succeeds at 0. The
    thresholds are the float64 products of the released evaluators: ``0.05 * 6`` exceeds 0.3, so a cIoU of 0.3
    fails there.

    Args:
        cious: ``(n,)``.

    Returns:
        The area; NaN for no sources.
    """
    if not len(cious):
        return float("nan")
    rates = np.mean(cious[:, None] >= 0.05 * np.arange(21), axis=0)
    return float(0.05 * (rates.sum() - (rates[0] + rates[-1]) / 2))


class _Mean(Metric):
    """A metric with one value per source, averaged."""

    @abstractmethod
    def values(self, found: Localization, truth: Truth) -> Values:
        """``(S,)``, one value per source."""

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 1)``: one value per source."""
        return self.values(found, truth)[:, None]

    def reduce(self, rows: FloatArray) -> float:
        """The mean; NaN for no sources."""
        return float(rows.mean()) if len(rows) else float("nan")


class CIoUSuccess(_Mean):
    """Share of the sources whose cIoU is at least `at`; a source without a map fails.

    Args:
        at: Threshold on the cIoU, in (0, 1].

    Raises:
        AvlocError: The threshold is not in (0, 1].
    """

    title = "cIoU success"

    def __init__(self, *, at: float = 0.5) -> None:
        if not 0 < at <= 1:
            raise AvlocError(f"ciou_success: 'at' must be in (0, 1], but is {at!r}.")
        self.at = at
        self.title = f"cIoU success@{at:.12g}"

    @property
    def key(self) -> str:
        return f"ciou_success@{self.at:.12g}"

    def values(self, found: Localization, truth: Truth) -> Values:
        """``(S,)``: 1 for success, 0 for failure."""
        return (ciou(found.masks, truth.masks) >= self.at).astype(np.float64)


class CIoUMean(_Mean):
    """Mean cIoU over sources; what T-VSL's release prints as CIoU@t. 0 for a source without a map."""

    title = "mean cIoU"
    key = "ciou_mean"

    def values(self, found: Localization, truth: Truth) -> Values:
        """``(S,)`` cIoUs."""
        return ciou(found.masks, truth.masks)


class AUC(CIoUMean):
    """Area under the success rate, see `auc_of`."""

    title = "AUC"
    key = "auc"

    def reduce(self, rows: FloatArray) -> float:
        """The area of the sources' cIoUs."""
        return auc_of(rows[:, 0])


class IoUSmoothed(_Mean):
    """Mean smoothed IoU over sources; what T-VSL's release prints as IoU@t. 0 for a source without a map."""

    title = "mean smoothed IoU"
    key = "iou_smoothed"

    def values(self, found: Localization, truth: Truth) -> Values:
        """``(S,)`` smoothed IoUs."""
        return np.where(found.found, smoothed_iou(found.masks, truth.masks), 0.0)
