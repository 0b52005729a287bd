"""How sure a number is: clustered bootstrap, paired sign-flip test, Holm's correction. Pure, and seeded.

Sources of one video resemble each other, so that videos are what is resampled and what signs are flipped for, never
single sources. Everything here works on stored per-source rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

DRAWS = 2000
"""Bootstrap resamples."""
FLIPS = 19_999
"""Random sign patterns; the smallest p-value is 1 / 20,000, so that Holm can reach 0.05 in a table of 1,000 tests."""
FEW = 30
"""Below so many clusters neither intervals nor tests keep what they promise."""
LEVEL = 0.95
_CHUNK = 250


def replicate_means(values: FloatArray, groups: Indices, *, draws: int = DRAWS, seed: int = 0) -> FloatArray:
    """``(draws, K)`` means over rows, on resampled clusters: as many clusters as there are, drawn with replacement.

    All columns share one draw, so that columns (methods, seeds) can be averaged or compared draw by draw. A mean is
    NaN where a draw holds not one defined value.

    Args:
        values: ``(n, K)``; NaN where a column is not defined.
        groups: ``(n,)`` cluster of every row, 0 to G - 1.
        draws, seed: How many, and what seeds them.
    """
    lost = np.isnan(values)
    sums, counts = _per_cluster(np.where(lost, 0.0, values), groups), _per_cluster((~lost).astype(float), groups)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return np.concatenate([weights @ sums / (weights @ counts) for weights in _weights(len(sums), draws, seed)])


def replicate(
    rows: FloatArray, groups: Indices, reduce: Callable[[FloatArray], float], *, draws: int = DRAWS, seed: int = 0
) -> FloatArray:
    """``(draws,)``: what `reduce` makes of ``(n, k)`` rows on the same clusters as `replicate_means` draws."""
    count = int(groups.max()) + 1
    members = [np.flatnonzero(groups == group) for group in range(count)]
    found = []
    for weights in _weights(count, draws, seed):
        for line in weights.astype(np.intp):
            chosen = np.repeat(np.arange(count), line)
            found.append(reduce(rows[np.concatenate([members[group] for group in chosen])]))
    return np.asarray(found, np.float64)


def percentile_interval(replicates: FloatArray) -> tuple[float, float]:
    """The percentile interval of ``(B,)`` replicates; NaN where one of them is."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def sign_flip(differences: FloatArray, groups: Indices, *, flips: int = FLIPS, seed: int = 0) -> FloatArray:
    """``(K,)`` two-sided p-values of paired differences, in (0, 1].

    Under the null each cluster's sign is as likely as its opposite. The statistic is the mean difference. Where there
    are no more than `flips` + 1 sign patterns, all are tried and p is exact; else patterns are drawn, and the observed
    one counts as one of them, so that p is never 0.

    Args:
        differences: ``(n, K)``, one column per comparison; NaN where a pair is not defined.
        groups: ``(n,)`` cluster of every row, 0 to G - 1.
        flips, seed: Patterns to draw, and what seeds them.
    """
    sums = _per_cluster(np.nan_to_num(differences), groups)  # (G, K)
    observed = np.abs(sums.sum(0))
    # Sums in another order differ by rounding; patterns that tie must count as ties.
    edge = observed - 1e-9 * np.abs(sums).sum(0)
    exact = 2 ** len(sums) <= flips + 1
    reached, tried = (np.zeros(len(observed)), 0) if exact else (np.ones(len(observed)), 1)
    for signs in _signs(len(sums), None if exact else flips, seed):
        reached += (np.abs(signs @ sums) >= edge).sum(0)
        tried += len(signs)
    return np.asarray(reached / tried, np.float64)


def holm(p_values: FloatArray) -> FloatArray:
    """Holm's step-down correction over a family of tests (Holm, 1979); the family-wise error stays below the level.

    ``(m,)`` p-values to ``(m,)``, at most 1, in the same order.
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1) * p_values[order]
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(steps) else steps
    return corrected


def mean_and_deviation(values: FloatArray) -> tuple[float, float | None]:
    """Mean and sample standard deviation over seeds; no deviation of a lone one, NaN for none."""
    if not len(values):
        return float("nan"), None
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def _per_cluster(values: FloatArray, groups: Indices) -> FloatArray:
    """``(n, K)`` rows summed to ``(G, K)``."""
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums


def _weights(clusters: int, draws: int, seed: int) -> Iterator[FloatArray]:
    """How often each cluster is drawn, ``(up to _CHUNK, G)`` at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        chosen = rng.integers(clusters, size=(size, clusters)) + clusters * np.arange(size)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)


def _signs(clusters: int, flips: int | None, seed: int) -> Iterator[FloatArray]:
    """Patterns of -1 and 1, ``(P, G)`` at a time: so many random ones, or all there are."""
    if flips is None:
        patterns = np.arange(2**clusters)[:, None] >> np.arange(clusters)
        yield np.asarray((patterns & 1) * 2 - 1, np.float64)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, flips, _CHUNK):
        yield np.asarray(rng.integers(2, size=(min(_CHUNK, flips - start), clusters)) * 2 - 1, np.float64)
