"""Intervals and tests against brute force, and their coverage and error rates on synthetic data."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from avloc.tables import statistics
from avloc.tables.statistics import holm, mean_and_deviation, percentile_interval, replicate, replicate_means, sign_flip

Values = npt.NDArray[np.float64]
Groups = npt.NDArray[np.intp]


def videos(rng: np.random.Generator, count: int, spread: float = 1.0) -> tuple[Values, Groups]:
    """Values of sources that are correlated within a video; videos have one to four sources."""
    groups = np.repeat(np.arange(count), rng.integers(1, 5, size=count)).astype(np.intp)
    return spread * rng.normal(size=count)[groups] + rng.normal(size=len(groups)), groups


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_replicates_equal_resampling_whole_videos_one_by_one(rng: np.random.Generator) -> None:
    values, groups = videos(rng, 12)
    columns = np.stack([values, rng.normal(size=len(values))], axis=1)
    columns[3:7, 1] = np.nan
    draws, chosen = 300, np.random.default_rng(9)
    expected = []
    for start in range(0, draws, 250):  # numbers are drawn in portions of 250 lines
        for line in chosen.integers(12, size=(min(250, draws - start), 12)):
            taken = np.concatenate([columns[groups == video] for video in line])
            expected.append(np.nanmean(taken, axis=0))
    assert np.allclose(replicate_means(columns, groups, draws=draws, seed=9), expected)


def test_a_reducer_sees_the_same_draws_as_the_fast_means(rng: np.random.Generator) -> None:
    values, groups = videos(rng, 9)
    fast = replicate_means(values[:, None], groups, draws=300)[:, 0]
    assert np.allclose(replicate(values[:, None], groups, lambda rows: float(rows.mean()), draws=300), fast)
    pooled = replicate(np.stack([values, values], axis=1), groups, lambda rows: float(rows.sum() / len(rows)), draws=50)
    assert np.allclose(pooled, 2 * fast[:50])


def test_rows_in_another_order_change_nothing(rng: np.random.Generator) -> None:
    values, groups = videos(rng, 40)
    order = rng.permutation(len(values))
    pairs = [(values[:, None], groups), (values[order, None], groups[order])]
    assert np.allclose(*(replicate_means(*pair) for pair in pairs))
    assert np.allclose(*(sign_flip(*pair) for pair in pairs))


def test_the_same_seed_gives_the_same_draws_and_another_gives_others(rng: np.random.Generator) -> None:
    values, groups = videos(rng, 40)
    first, again, other = (replicate_means(values[:, None], groups, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_percentile_interval_is_the_replicates_middle() -> None:
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert np.isnan(percentile_interval(np.array([0.0, np.nan]))).all()


def test_few_videos_are_tested_exactly(rng: np.random.Generator) -> None:
    values, groups = videos(rng, 7)
    columns = np.stack([values + 0.8, values], axis=1)
    columns[2, 1] = np.nan
    sums = np.stack([np.nansum(columns[groups == video], axis=0) for video in range(7)])
    flipped = [np.abs((np.array(signs)[:, None] * sums).sum(0)) for signs in product((1, -1), repeat=7)]
    expected = np.mean(np.array(flipped) >= np.abs(sums.sum(0)) - 1e-12, axis=0)
    assert np.allclose(sign_flip(columns, groups), expected)


def test_drawn_patterns_come_close_to_all_of_them(rng: np.random.Generator) -> None:
    values, groups = videos(rng, 12)
    exact = sign_flip(values[:, None] + 0.3, groups)
    drawn = sign_flip(values[:, None] + 0.3, groups, flips=4000)
    assert exact != drawn
    assert abs(exact - drawn) < 0.03


def test_no_difference_is_not_significant_and_p_is_never_0() -> None:
    groups = np.arange(60)
    none, clear = sign_flip(np.stack([np.zeros(60), np.ones(60)], axis=1), groups)
    assert none == 1
    assert clear == 1 / (statistics.FLIPS + 1)


def test_holm() -> None:
    # By hand: 4 x 0.01, 3 x 0.02, then 2 x 0.03 raised to it, 1 x 0.5.
    assert np.allclose(holm(np.array([0.03, 0.01, 0.5, 0.02])), [0.06, 0.04, 0.5, 0.06])
    assert np.allclose(holm(np.array([0.9, 0.8])), [1, 1])
    assert len(holm(np.array([]))) == 0


def test_holm_equals_its_definition(rng: np.random.Generator) -> None:
    p = rng.uniform(size=9) ** 3
    corrected = holm(p)
    for level in (0.01, 0.05, 0.2, 0.5):
        rejected: set[int] = set()
        for step, index in enumerate(np.argsort(p)):  # reject from the smallest on until one is too large
            if p[index] > level / (len(p) - step):
                break
            rejected.add(int(index))
        assert rejected == set(np.flatnonzero(corrected <= level).tolist())


def test_mean_and_deviation() -> None:
    assert mean_and_deviation(np.array([0.4, 0.5, 0.6])) == pytest.approx((0.5, 0.1))
    assert mean_and_deviation(np.array([0.4])) == (0.4, None)
    assert np.isnan(mean_and_deviation(np.array([]))[0])


@pytest.mark.slow
def test_the_interval_covers_the_truth_95_times_in_100() -> None:
    rng, covered, trials = np.random.default_rng(0), 0, 1000
    for trial in range(trials):
        values, groups = videos(rng, 60)
        low, high = percentile_interval(replicate_means(values[:, None], groups, draws=600, seed=trial)[:, 0])
        covered += low <= 0 <= high
    assert 0.92 <= covered / trials <= 0.97  # the binomial's own spread is 0.007


@pytest.mark.slow
def test_intervals_that_ignore_videos_do_not() -> None:
    rng, covered, trials = np.random.default_rng(1), 0, 500
    for trial in range(trials):
        values, groups = videos(rng, 60, spread=2.0)
        alone = np.arange(len(groups))
        low, high = percentile_interval(replicate_means(values[:, None], alone, draws=600, seed=trial)[:, 0])
        covered += low <= 0 <= high
    assert covered / trials < 0.9


@pytest.mark.slow
def test_the_test_is_wrong_5_times_in_100_and_after_holm_5_tables_in_100_are() -> None:
    rng, trials = np.random.default_rng(2), 600
    raw, tables = 0, 0
    for trial in range(trials):
        _, groups = videos(rng, 45)
        differences = rng.normal(size=(45, 6))[groups] + rng.normal(size=(len(groups), 6))
        p = sign_flip(differences, groups, flips=999, seed=trial)
        raw += int((p < 0.05).sum())
        tables += bool((holm(p) < 0.05).any())
    assert 0.035 <= raw / (6 * trials) <= 0.065
    assert tables / trials <= 0.07
