"""Pixel-level average precision: threshold-free, and blind to any monotone change of a map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avloc import Localization, Metric, Truth

FloatArray = npt.NDArray[np.floating]


def pixel_average_precision(scores: FloatArray, masks: FloatArray) -> npt.NDArray[np.float64]:
    """Average precision of every map as a classifier of pixels, equal to scikit-learn's.

    It is the mean, over the true pixels, of the precision among all pixels that score at least as high; ties
    therefore share one precision.

    Args:
        scores: ``(N, H, W)``, any scale.
        masks: ``(N, H, W)``; a pixel is true where the mask is above 0.

    Returns:
        ``(N,)`` in [0, 1]; 0 where the mask is empty.
    """
    return np.array([_average_precision(s, m > 0) for s, m in zip(scores, masks, strict=True)], np.float64)


def _average_precision(score: FloatArray, mask: npt.NDArray[np.bool_]) -> float:
    true, every = np.sort(score[mask]), np.sort(score, axis=None)
    if not len(true):
        return 0.0
    true_above = len(true) - np.searchsorted(true, true)
    all_above = len(every) - np.searchsorted(every, true)
    return float(np.mean(true_above / all_above))


class PixelAP(Metric):
    """Mean pixel-level AP over sources; 0 for a source without a map, or with NaN in it.

    Args:
        drop_undefined: Leave out, as T-VSL's release does, the sources on which its call of scikit-learn fails: truth
            that is not binary, such as a count of overlapping boxes, and maps with NaN. Their rows are NaN, so that
            they can be counted.
    """

    title = "pixel AP"
    name = "pixel_ap"

    def __init__(self, *, drop_undefined: bool = False) -> None:
        self.drop_undefined = drop_undefined
        if drop_undefined:
            self.title = f"{self.title} (where defined)"

    @property
    def key(self) -> str:
        return self.name + ("_where_defined" if self.drop_undefined else "")

    def rows(self, found: Localization, truth: Truth) -> npt.NDArray[np.float64]:
        """``(S, 1)``: the AP of every source's map."""
        finite = np.isfinite(found.scores).all((1, 2))
        values = np.where(found.found & finite, pixel_average_precision(found.scores, truth.masks), 0.0)
        if self.drop_undefined:
            graded = ((truth.masks != 0) & (truth.masks != 1)).any((1, 2))
            values[found.found & (graded | ~finite)] = np.nan
        return values[:, None]

    def reduce(self, rows: FloatArray) -> float:
        """The mean over the sources that are defined; NaN when none is."""
        defined = rows[~np.isnan(rows)]
        return float(defined.mean()) if defined.size else float("nan")


class CAP(PixelAP):
    """Class-aware pixel AP: the same, under the name the papers give it where every source is queried by its class."""

    title = "CAP"
    name = "cap"
