"""Does a method know which sources sound?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avloc import Localization, Metric, Truth

FloatArray = npt.NDArray[np.floating]


class DetectionF1(Metric):
    """F1 of the sources a method names, over all sources; meaningless for a method that is given the names.

    Maps without names detect nothing: their rows are NaN. A clip without sources has no rows, so its false alarms are
    not counted.
    """

    title = "detection F1"
    key = "detection_f1"
    revision = 2

    def rows(self, found: Localization, truth: Truth) -> npt.NDArray[np.float64]:
        """``(S, 2)``: whether the source was found, and its share of the clip's false alarms."""
        alarms = np.full(len(found.found), found.false_alarms / max(1, len(found.found)))
        rows = np.stack([found.found.astype(np.float64), alarms], axis=1)
        return rows if found.named else np.full_like(rows, np.nan)

    def reduce(self, rows: FloatArray) -> float:
        """``2 TP / (2 TP + FP + FN)`` over the sources of clips with names; NaN for none."""
        rows = rows[~np.isnan(rows[:, 0])]
        if not len(rows):
            return float("nan")
        hits, alarms = rows.sum(0)
        return float(2 * hits / (2 * hits + alarms + len(rows) - hits))
