"""The best of many thresholds on the map, picked on the test set itself: ACL-SSL's numbers, and their flaw."""

from __future__ import annotations

import numpy as np

from avloc import AvlocError, Localization, Metric, Truth

from .iou import FloatArray, Values, auc_of, ciou, defined

THRESHOLDS = np.arange(1, 20) / 20
"""On the map as the protocol normalizes it."""


class AUCBestThreshold(Metric):
    """AUC at the threshold with the best AUC, as ACL-SSL's release picks it, on the test set.

    An empty true mask counts as the protocol's `empty_truth` says: a miss at every threshold, or left out.
    """

    revision = 2
    title = "AUC (best threshold of 19, picked on test)"
    key = "auc_best_threshold"

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 19)``: the cIoU at every threshold; 0 for a source without a map, NaN where it is undefined."""
        cious = [ciou(found.scores >= threshold, truth.masks) for threshold in THRESHOLDS.tolist()]
        values = np.where(found.found[:, None], np.stack(cious, axis=1), 0.0)
        return np.where(defined(found, truth)[:, None], values, np.nan)

    def reduce(self, rows: FloatArray) -> float:
        """The area; NaN for no sources."""
        return auc_of(_best(rows))


class CIoUBestThreshold(AUCBestThreshold):
    """cIoU success at the threshold with the best AUC, as ACL-SSL's release picks it, on the test set.

    An empty true mask counts as the protocol's `empty_truth` says: a miss at every threshold, or left out.

    Args:
        at: Threshold on the cIoU, in (0, 1].

    Raises:
        AvlocError: The threshold is not in (0, 1].
    """

    def __init__(self, *, at: float = 0.5) -> None:
        if not 0 < at <= 1:
            raise AvlocError(f"ciou_best_threshold: 'at' must be in (0, 1], but is {at!r}.")
        self.at = at
        self.title = f"cIoU success rate @{at:.12g} (best threshold of 19, picked on test)"

    @property
    def key(self) -> str:  # type: ignore[override]
        return f"ciou_best_threshold@{self.at:.12g}"

    def reduce(self, rows: FloatArray) -> float:
        """The share; NaN for no sources."""
        best = _best(rows)
        return float(np.mean(best >= self.at)) if len(best) else float("nan")


def _best(rows: FloatArray) -> FloatArray:
    """``(n,)``: the defined cIoUs at the threshold with the best AUC, the lowest such threshold."""
    rows = rows[~np.isnan(rows[:, 0])]
    return rows[:, int(np.argmax([auc_of(column) for column in rows.T]))]
