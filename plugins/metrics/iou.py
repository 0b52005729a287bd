"""Overlap of claimed pixels with the truth, and the area under its success curve, as functions over stacks of masks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from avloc import Localization, Truth

FloatArray = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]


def ciou(claimed: npt.NDArray[np.bool_], truth: FloatArray) -> Values:
    """Consensus IoU, ``sum(m g) / (sum(g) + #{m = 1 and g = 0})`` (Senocak et al., CVPR 2018).

    Plain IoU where the truth is binary. Graded truth weights its pixels, and is never a false positive.

    Args:
        claimed: ``(N, H, W)`` masks m.
        truth: ``(N, H, W)`` weights g, not negative.

    Returns:
        ``(N,)``; 0 if both masks are empty, because a source that is not visible cannot be localized.
    """
    return np.array([_ciou(mask, weights) for mask, weights in zip(claimed, truth, strict=True)], np.float64)


def _ciou(claimed: npt.NDArray[np.bool_], weights: FloatArray) -> float:
    inside = weights > 0
    true, hit = np.count_nonzero(inside), np.count_nonzero(inside & claimed)
    wrong = np.count_nonzero(claimed) - hit
    if np.count_nonzero(weights == 1) == true:  # binary, so that counting is enough
        return hit / (true + wrong) if true + wrong else 0.0
    return float(weights[claimed].sum(dtype=np.float64) / (weights.sum(dtype=np.float64) + wrong))


def defined(found: Localization, truth: Truth) -> npt.NDArray[np.bool_]:
    """``(S,)``: which sources an overlap is defined for: all, unless the protocol leaves out those with empty masks."""
    return np.asarray(found.empty_is_miss | (truth.masks > 0).any((1, 2)))


@lru_cache(maxsize=32)  # several metrics use the values of one localization, in several threads
def own_cious(found: Localization, truth: Truth) -> Values:
    """``(S,)``: the cIoU of every source, read-only; NaN where it is undefined."""
    values = np.where(defined(found, truth), ciou(found.masks, truth.masks), np.nan)
    values.flags.writeable = False
    return values


def smoothed_iou(claimed: npt.NDArray[np.bool_], truth: FloatArray, epsilon: float = 1e-4) -> Values:
    """``(|m & g| + e) / (|m | g| + e)``, g the pixels where the truth is above 0, as T-VSL's release computes it.

    Args:
        claimed: ``(N, H, W)`` masks m.
        truth: ``(N, H, W)``.
        epsilon: e, in pixels.

    Returns:
        ``(N,)``; 1 if both masks are empty.
    """
    true = truth > 0
    both = np.count_nonzero(claimed & true, axis=(1, 2))
    either = np.count_nonzero(claimed | true, axis=(1, 2))
    return np.asarray((both + epsilon) / (either + epsilon), np.float64)


def auc_of(cious: FloatArray, weights: FloatArray | None = None) -> float:
    """Area under the success rate over cIoU thresholds 0, 0.05, ..., 1, by trapezoids.

    It differs from the mean cIoU by at most 0.025, and is at least 0.025, since everything succeeds at 0. The
    thresholds are the float64 products of the released evaluators: ``0.05 * 6`` exceeds 0.3, so a cIoU of 0.3
    fails there. They sum the strips with scikit-learn's ``auc``, and so does this, to the last bit: otherwise exact
    ties between thresholds would be broken the other way.

    Args:
        cious: ``(n,)``.
        weights: ``(n,)``; ``None``: equal weights.

    Returns:
        The area; NaN for no sources.
    """
    if not len(cious):
        return float("nan")
    thresholds = 0.05 * np.arange(21)
    return float(np.trapezoid(np.average(cious[:, None] >= thresholds, axis=0, weights=weights), thresholds))
