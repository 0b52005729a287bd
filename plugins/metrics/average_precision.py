"""Pixel-level average precision and related metrics: threshold-free and invariant to monotone changes of a map."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from avloc import Localization, Metric, Truth

FloatArray = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.intp]
Masks = npt.NDArray[np.floating] | npt.NDArray[np.bool_]


def pixel_average_precision(scores: FloatArray, masks: Masks) -> Values:
    """Average precision of every map as a classifier of pixels, equal to scikit-learn's.

    It is the mean, over the true pixels, of the precision among all pixels that score at least as high; ties
    therefore share one precision.

    Args:
        scores: ``(N, H, W)``, any scale.
        masks: ``(N, H, W)``; a pixel is true where the mask is above 0.

    Returns:
        ``(N,)`` in [0, 1]; 0 where the mask is empty, as in scikit-learn and in releases that use it.
    """
    return np.array([_average_precision(s, m > 0) for s, m in zip(scores, masks, strict=True)], np.float64)


def pixel_auroc(scores: FloatArray, masks: Masks) -> Values:
    """Probability that a true pixel scores higher than another, ties counted half; equal to scikit-learn's.

    Args:
        scores: ``(N, H, W)``, any scale.
        masks: ``(N, H, W)``; a pixel is true where the mask is above 0.

    Returns:
        ``(N,)`` in [0, 1]; NaN where all pixels are true or none is.
    """
    return np.array([_auroc(s, m > 0) for s, m in zip(scores, masks, strict=True)], np.float64)


def permutation_ap(precisions: FloatArray) -> Values:
    """The assignment of S maps to S sources with the greatest mean AP: ``precisions`` is ``(maps, sources)``.

    Returns:
        ``(S,)``: the AP of every source.
    """
    from scipy.optimize import linear_sum_assignment  # late: slow to import

    maps, sources = linear_sum_assignment(precisions, maximize=True)
    values = np.zeros(precisions.shape[1])
    values[sources] = precisions[maps, sources]
    return values


def _places(score: FloatArray, mask: npt.NDArray[np.bool_]) -> tuple[Counts, Counts, Counts]:
    """Ranks of the true pixels among all pixels in ascending order; in a tie they come after the others.

    The lowest bit of each sort key holds the truth, so only values are sorted, without an index.

    Returns:
        For every true pixel, lowest first: its rank, the rank of the first pixel with its value, and how many true
        pixels have a lower value.
    """
    keys = _keys(score)
    keys |= mask.ravel()
    keys.sort()
    true = np.flatnonzero(np.bitwise_and(keys, 1, dtype=np.uint8, casting="unsafe").view(bool))
    lowest, lower = true.copy(), np.arange(len(true))
    values = keys[true] >> 1
    tied = np.flatnonzero((keys[true - 1] >> 1 == values) & (true > 0))
    if len(tied):
        lowest[tied] = np.searchsorted(keys, values[tied] << 1)
        lower[tied] = np.searchsorted(true, lowest[tied])
    return true, lowest, lower


def _keys(score: FloatArray) -> npt.NDArray[np.uint32] | npt.NDArray[np.int64]:
    """New even integers in the same order as the scores, with the same ties."""
    if score.dtype != np.float32:
        return np.unique(score, return_inverse=True)[1].ravel().astype(np.int64) << 1
    bits = np.ascontiguousarray(score).reshape(-1).view(np.int32)
    if not bits.size or bits.min() >= 0:  # the bits of positive floats are ordered like integers
        return bits.view(np.uint32) << 1
    bits = (score.reshape(-1) + np.float32(0)).view(np.int32)  # the sum has no negative zero
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64) << 1  # those of negative floats in reverse


def _average_precision(score: FloatArray, mask: npt.NDArray[np.bool_]) -> float:
    if not mask.any():
        return 0.0
    true, lowest, lower = _places(score, mask)
    return float(np.mean((len(true) - lower) / (mask.size - lowest)))


def _auroc(score: FloatArray, mask: npt.NDArray[np.bool_]) -> float:
    positives = np.count_nonzero(mask)
    negatives = mask.size - positives
    if not positives or not negatives:
        return float("nan")
    true, lowest, lower = _places(score, mask)
    beaten = (lowest - lower) + (true[lower] - lowest) / 2
    return float(np.mean(beaten) / negatives)


def _finite(scores: FloatArray) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(scores.min((1, 2))) & np.isfinite(scores.max((1, 2))))


@lru_cache(maxsize=32)  # several metrics use the values of one localization, in several threads
def own_precisions(found: Localization, truth: Truth) -> Values:
    """``(S,)``: the AP of every source's own map, read-only; 0 if it has none, or one that contains NaN."""
    usable = found.found & _finite(found.scores)
    values = np.zeros(len(usable))
    for source in np.flatnonzero(usable):
        values[source] = _average_precision(found.scores[source], truth.masks[source] > 0)
    values.flags.writeable = False
    return values


def _unseen(truth: Truth) -> npt.NDArray[np.bool_]:
    """``(S,)``: which sources have no true pixel, so that recall and AP are undefined."""
    return ~(truth.masks > 0).any((1, 2))


class _Mean(Metric):
    """A metric with one value per source, averaged over those that are defined."""

    def reduce(self, rows: FloatArray) -> float:
        """The mean over the sources that are defined; NaN when none is."""
        defined = rows[~np.isnan(rows)]
        return float(defined.mean()) if defined.size else float("nan")


class PixelAP(_Mean):
    """Mean pixel-level AP over sources; 0 for a source without a map, or whose map contains NaN.

    Rows are NaN, and left out, where the true mask is empty.

    Args:
        drop_undefined: Leave out the same sources as T-VSL's release, on which its call of scikit-learn fails: truth
            that is not binary, such as a count of overlapping boxes, and maps with NaN. Their rows are NaN, so that
            they can be counted. An empty mask then counts as 0.
    """

    revision = 2
    title = "pixel AP"
    name = "pixel_ap"

    def __init__(self, *, drop_undefined: bool = False) -> None:
        self.drop_undefined = drop_undefined
        if drop_undefined:
            self.title = f"{self.title} (where defined)"

    @property
    def key(self) -> str:
        return self.name + ("_where_defined" if self.drop_undefined else "")

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 1)``: the AP of every source's map."""
        values = own_precisions(found, truth).copy()
        if self.drop_undefined:
            graded = ((truth.masks != 0) & (truth.masks != 1)).any((1, 2))
            values[found.found & (graded | ~_finite(found.scores))] = np.nan
        else:
            values[_unseen(truth)] = np.nan
        return values[:, None]


class CAP(PixelAP):
    """Class-aware pixel AP: pixel AP, as papers call it if every source is queried by its class.

    Rows are NaN, and left out, where the true mask is empty.
    """

    title = "CAP"
    name = "cap"


class PermutationAP(_Mean):
    """Mean pixel AP under the best assignment of a clip's maps to its sources.

    Ours: papers name a permutation-invariant AP (PIAP), but no released code computes one. The assignment uses the
    truth, so this measures how well a method separates sources, but not whether it identifies them. Rows are NaN, and
    left out, where the true mask is empty.
    """

    revision = 2
    title = "permutation-invariant AP (ours)"
    key = "permutation_ap"

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 1)``: the AP of every source under the best of all assignments of the clip's maps."""
        own, unseen = own_precisions(found, truth), _unseen(truth)
        if len(own) < 2:
            return np.where(unseen, np.nan, own)[:, None]
        every = np.diag(own)  # (maps, sources)
        usable = found.found & _finite(found.scores)
        for source, mask in enumerate(truth.masks):
            for other in np.flatnonzero(usable & (np.arange(len(own)) != source)):
                every[other, source] = _average_precision(found.scores[other], mask > 0)
        return np.where(unseen, np.nan, permutation_ap(every))[:, None]


class SwappedPIAP(_Mean):
    """What AVGN's release prints as PIAP: AP with truth and prediction swapped.

    The claimed pixels serve as truth and the true mask as scores, so a map that claims everything scores 1. 0 for a
    source without a map.

    With an empty true mask it is the share of the pixels that is claimed.
    """

    title = "PIAP as AVGN's release computes it"
    key = "piap_swapped"

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 1)``: the AP of the true mask as a score of the claimed pixels."""
        return pixel_average_precision(truth.masks, found.masks)[:, None]


class PixelAUROC(_Mean):
    """Mean pixel AUROC over sources, see `pixel_auroc`; 0 for a source without a map, or whose map contains NaN.

    Rows are NaN, and left out, where the true mask is empty or covers everything.
    """

    revision = 2
    title = "pixel AUROC"
    key = "pixel_auroc"

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 1)``: the AUROC of every source's map."""
        usable = found.found & _finite(found.scores)
        values = pixel_auroc(np.nan_to_num(found.scores), truth.masks)
        return np.where(usable | np.isnan(values), values, 0.0)[:, None]
