"""Success rate, mean and area under the success curve of per-source cIoUs.

A success rate and a mean never share a name: "cIoU success rate @0.3" is the share of sources whose cIoU is at least
0.3, "mean cIoU" the average of the cIoUs. A source with an empty true mask is a miss, or NaN and left out, as the
protocol's ``empty_truth`` says.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from avloc import AvlocError, Localization, Metric, Truth

from .iou import FloatArray, Values, auc_of, defined, own_cious, smoothed_iou


class _Mean(Metric):
    """A metric with one value per source, averaged over those that are defined."""

    @abstractmethod
    def values(self, found: Localization, truth: Truth) -> Values:
        """``(S,)``, one value per source."""

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 1)``: one value per source."""
        return self.values(found, truth)[:, None]

    def reduce(self, rows: FloatArray) -> float:
        """The mean; NaN for no sources."""
        rows = rows[~np.isnan(rows)]
        return float(rows.mean()) if len(rows) else float("nan")


class CIoUSuccess(_Mean):
    """Share of the sources whose cIoU is at least `at`; a source without a map fails.

    An empty true mask counts as the protocol's `empty_truth` says: a miss, or left out.

    Args:
        at: Threshold on the cIoU, in (0, 1].
        strict: The cIoU must exceed `at` rather than reach it, as in what SLAVC and AVGN call precision.

    Raises:
        AvlocError: The threshold is not in (0, 1].
    """

    title = "cIoU success rate"

    def __init__(self, *, at: float = 0.5, strict: bool = False) -> None:
        if not 0 < at <= 1:
            raise AvlocError(f"ciou_success: 'at' must be in (0, 1], but is {at!r}.")
        self.at, self.strict = at, strict
        self.title = f"cIoU success rate @{at:.12g}" + (" (strict)" if strict else "")

    @property
    def key(self) -> str:
        return f"ciou_success@{self.at:.12g}" + ("_strict" if self.strict else "")

    def values(self, found: Localization, truth: Truth) -> Values:
        """``(S,)``: 1 for success, 0 for failure."""
        cious = own_cious(found, truth)
        return np.where(np.isnan(cious), np.nan, cious > self.at if self.strict else cious >= self.at)


class CIoUMean(_Mean):
    """Mean cIoU over sources; what T-VSL's release prints as CIoU@t. 0 for a source without a map.

    An empty true mask counts as the protocol's `empty_truth` says: a miss, or left out.
    """

    title = "mean cIoU"
    key = "ciou_mean"

    def values(self, found: Localization, truth: Truth) -> Values:
        """``(S,)`` cIoUs."""
        return own_cious(found, truth)


class AUC(CIoUMean):
    """Area under the success rate, see `iou.auc_of`.

    An empty true mask counts as the protocol's `empty_truth` says: a miss, or left out.
    """

    revision = 2
    title = "AUC"
    key = "auc"

    def reduce(self, rows: FloatArray) -> float:
        """The area of the sources' cIoUs."""
        return auc_of(rows[~np.isnan(rows)])


class IoUSmoothed(_Mean):
    """Mean smoothed IoU over sources; what T-VSL's release prints as IoU@t. 0 for a source without a map.

    With an empty true mask it is 1 where nothing is claimed, and nearly 0 otherwise.
    """

    title = "mean smoothed IoU"
    key = "iou_smoothed"

    def values(self, found: Localization, truth: Truth) -> Values:
        """``(S,)`` smoothed IoUs."""
        overlaps = np.where(found.found, smoothed_iou(found.masks, truth.masks), 0.0)
        return np.where(defined(found, truth), overlaps, np.nan)
