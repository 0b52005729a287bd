"""Whether a map picks the right tile of a canvas of several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avloc import Localization, Metric, Truth

FloatArray = npt.NDArray[np.floating]


def picks_own_tile(scores: FloatArray, truth: FloatArray, tiles: int) -> npt.NDArray[np.float64]:
    """Whether the mean of each map is higher on its source's tile than on every other.

    The mean rather than the peak, because a single cell should not decide. If several tiles tie, none is picked.

    Args:
        scores: ``(N, H, W)``.
        truth: ``(N, H, W)``; a source's own tile is the one with most of its mask.
        tiles: K, equal and side by side.

    Returns:
        ``(N,)``: 1, 0, or NaN where there is only one tile or the mask is empty.
    """
    split = (len(scores), scores.shape[1], tiles, scores.shape[2] // tiles)
    means, area = (a.reshape(split).mean((1, 3), dtype=np.float64) for a in (scores, truth))  # (N, K)
    own = np.arange(tiles) == area.argmax(1)[:, None]
    # Rounding must not pick a side where the map does not.
    margin = np.where(own, np.inf, means[own][:, None] - means).min(1)
    undefined = (tiles == 1) | (area.sum(1) == 0)
    return np.where(undefined, np.nan, margin > 1e-6)


class SideAccuracy(Metric):
    """Share of the sources whose map is higher on their own tile than on any other (see `picks_own_tile`).

    For canvases of several tiles that are scored whole. Rows are NaN, and left out, if there is only one tile; a
    source without a map counts as wrong.

    Rows are NaN as well where the true mask is empty, or pixels are ignored.
    """

    title = "side accuracy"
    key = "side_accuracy"

    def rows(self, found: Localization, truth: Truth) -> npt.NDArray[np.float64]:
        """``(S, 1)``: 1 for the right tile, 0 for another or none, NaN if there is only one tile."""
        height, width = truth.masks.shape[1:]  # tiles are square
        return picks_own_tile(found.scores, truth.masks, max(1, width // height))[:, None]

    def reduce(self, rows: FloatArray) -> float:
        """The mean over the sources with a defined row; NaN if there are none."""
        defined = rows[~np.isnan(rows)]
        return float(defined.mean()) if defined.size else float("nan")
