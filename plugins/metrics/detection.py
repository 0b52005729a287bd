"""Whether a method detects which classes sound."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avloc import Localization, Metric, Truth

FloatArray = npt.NDArray[np.floating]


class DetectionF1(Metric):
    """F1 of the classes that a method detects, over all sources; meaningless if the hints disclose the classes.

    Maps without labels detect nothing: their rows are NaN. A clip without sources has no rows, so its false positives
    are not counted.

    A source with an empty true mask counts like any other: its class is there, though it is not seen.
    """

    title = "detection F1"
    key = "detection_f1"
    revision = 2

    def rows(self, found: Localization, truth: Truth) -> npt.NDArray[np.float64]:
        """``(S, 2)``: whether the source was detected, and its share of the clip's false positives."""
        alarms = np.full(len(found.found), found.false_alarms / max(1, len(found.found)))
        rows = np.stack([found.found.astype(np.float64), alarms], axis=1)
        return rows if found.named else np.full_like(rows, np.nan)

    def reduce(self, rows: FloatArray) -> float:
        """``2 TP / (2 TP + FP + FN)`` over the sources of clips with labeled maps; NaN if there are none."""
        rows = rows[~np.isnan(rows[:, 0])]
        if not len(rows):
            return float("nan")
        hits, alarms = rows.sum(0)
        return float(2 * hits / (2 * hits + alarms + len(rows) - hits))
