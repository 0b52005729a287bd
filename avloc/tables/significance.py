"""Intervals and tests for the cells of a table, from the stored per-source rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from avloc.store import DatasetEntry, MetricEntry
from avloc.tables import statistics
from avloc.tables.notes import listing, named
from avloc.tables.scores import RowKey, Scores, data_of, read_rows, where
from avloc.tables.statistics import FEW, FloatArray, Indices
from avloc.tables.table import DIFFERS

Place = tuple[int, str, int]
"""Index of the dataset, the metric's key, index of the table's row."""
Reduce = Callable[[FloatArray], float]
SOURCE = ["clip", "source"]


@dataclass(slots=True)
class Evidence:
    """Intervals and tests for the cells of one table.

    Attributes:
        intervals: 95 %, as fractions.
        p_values: Against the reference, corrected over the whole table.
        sentences: How they were computed, and what they do not cover.
    """

    intervals: dict[Place, tuple[float, float]] = field(default_factory=dict)
    p_values: dict[Place, float] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Column:
    """One dataset's stored rows, aligned.

    Attributes:
        index: Which dataset.
        title: Of the column.
        data: Title of the dataset, which columns under several protocols share.
        scored: Index of the table's row -> per seed the stored rows, by clip and source.
        groups: ``(n,)`` the video of every source that any of them has.
        order: Clip and source of the same.
    """

    index: int
    title: str
    data: str
    scored: dict[int, list[pd.DataFrame]]
    groups: pd.Series[str]
    order: pd.MultiIndex

    @property
    def codes(self) -> Indices:
        """``(n,)`` videos as numbers; sorted, so that the order of clips decides nothing."""
        return np.asarray(pd.factorize(self.groups, sort=True)[0], np.intp)

    def values(self, row: int, metric: str) -> FloatArray:
        """``(n, seeds)`` of a metric with one value per source; NaN where a row has no such source."""
        lines = [frame[metric].reindex(self.order).to_numpy(np.float64) for frame in self.scored[row]]
        return np.stack(lines, axis=1)

    def same_sources(self, row: int, other: int) -> bool:
        """Whether two rows were scored on the same sources, all seeds of both."""
        first, *rest = (set(frame.index) for frame in (*self.scored[row], *self.scored[other]))
        return all(sources == first for sources in rest)


class Study:
    """The stored per-source rows of a table.

    Args:
        scores: All scores.
        keys: The rows of the table.
    """

    def __init__(self, scores: Scores, keys: Sequence[RowKey]) -> None:
        self.metrics = {metric.key: metric for metric in scores.manifest.metrics}
        self._files = scores.files
        entries = enumerate(scores.manifest.datasets)
        self.columns = [column for index, entry in entries if (column := _column(index, entry, scores, keys))]
        frames = [frame for column in self.columns for frames in column.scored.values() for frame in frames]
        self._lines = {frame.attrs["score"]: frame for frame in frames}

    def averages(self, metric: str) -> bool:
        """Whether the metric is the mean of its rows: it is wherever it was computed."""
        for id, frame in self._lines.items():
            if metric not in frame:
                return False
            rows, value = frame[metric].to_numpy(np.float64), self._files[id].values[metric]
            mean = np.nan if np.isnan(rows).all() else float(np.nanmean(rows))
            if not np.isclose(mean, value, rtol=0, atol=1e-9, equal_nan=True):
                return False
        return True


def gather(
    study: Study,
    *,
    intervals: bool,
    reference: Sequence[int | None] | None,
    reference_label: str = "",
    reducer: Callable[[MetricEntry], Reduce] | None = None,
) -> Evidence:
    """Intervals and tests of a whole table.

    Args:
        study: The stored rows.
        intervals: Whether to compute intervals.
        reference: Per row of the table the row it is tested against; ``None``: no tests.
        reference_label: Of the reference, for the notes.
        reducer: Returns the function that turns a metric's rows into one number; called only for metrics that are not
            the mean of their rows.
    """
    found = Evidence()
    means = [key for key in study.metrics if study.averages(key)]
    others = [key for key in study.metrics if key not in means]
    titles = listing(study.metrics[key].title or key for key in others)
    if intervals:
        reduces = {key: reducer(study.metrics[key]) for key in others} if reducer else {}
        for column in study.columns:
            found.intervals |= dict(_intervals(column, means, reduces))
        found.sentences.append(
            f"In brackets: 95 % percentile intervals of a bootstrap over videos ({statistics.DRAWS:,} resamples, the "
            "same for all rows). They cover the choice of test clips, not the randomness of training."
        )
        if others and not reducer:
            found.sentences.append(f"No intervals, since they are not means of per-source rows: {titles}.")
    if reference is not None:
        _test(found, study, means, reference, reference_label)
        if others:
            found.sentences.append(f"Not tested, since they are not means of per-source rows: {titles}.")
    for column in study.columns:
        found.sentences += [sentence for sentence in _doubts(column) if sentence not in found.sentences]
    return found


def _column(index: int, entry: DatasetEntry, scores: Scores, keys: Sequence[RowKey]) -> Column | None:
    lines = where(scores.frame, dataset=entry.name, encoder=entry.encoder, status="done")
    scored = {}
    for place, key in enumerate(keys):
        mine = key.lines(lines).drop_duplicates("score")
        frames = [_read(scores, str(line.run), str(line.score)) for line in mine.itertuples()]
        if frames and all(map(len, frames)):  # a score without sources has no value either
            scored[place] = frames
    parts = [frame["group"] for frames in scored.values() for frame in frames]
    if not parts:
        return None
    every = pd.concat(parts)
    groups = every[~every.index.duplicated()].sort_index()
    assert isinstance(groups.index, pd.MultiIndex)
    return Column(index, entry.title, data_of(entry)[1], scored, groups, groups.index)


def _read(scores: Scores, run: str, score: str) -> pd.DataFrame:
    frame = read_rows(scores.results, run, score)
    indexed = frame.set_index(SOURCE) if len(frame) else frame
    indexed.attrs["score"] = score
    return indexed


def _intervals(
    column: Column, means: Sequence[str], reduces: Mapping[str, Reduce]
) -> Iterator[tuple[Place, tuple[float, float]]]:
    codes = column.codes
    places = [(row, key) for row in column.scored for key in means]
    if places:
        values = [column.values(row, key) for row, key in places]
        draws = statistics.replicate_means(np.concatenate(values, axis=1), codes)
        ends = np.cumsum([part.shape[1] for part in values])
        for (row, key), part in zip(places, np.split(draws, ends[:-1], axis=1), strict=True):
            yield (column.index, key, row), statistics.percentile_interval(part.mean(axis=1))
    for key, reduce in reduces.items():
        for row, frames in column.scored.items():
            seeds = []
            for frame in frames:
                names = [name for name in frame.columns if name == key or name.startswith(f"{key}#")]
                own = np.asarray(pd.factorize(frame["group"], sort=True)[0], np.intp)
                seeds.append(statistics.replicate(frame[names].to_numpy(np.float64), own, reduce))
            yield (column.index, key, row), statistics.percentile_interval(np.mean(seeds, axis=0))


def _test(found: Evidence, study: Study, means: Sequence[str], reference: Sequence[int | None], label: str) -> None:
    raw: dict[Place, float] = {}
    strange = []
    for column in study.columns:
        pairs = []
        for row in column.scored:
            other = reference[row]
            if other is None or other == row or other not in column.scored:
                continue
            if column.same_sources(row, other):
                pairs.append((row, other))
            else:
                strange.append(f"row {row + 1} on {column.title}")
        places = [(row, other, key) for row, other in pairs for key in means]
        if places:
            apart = [_over_seeds(column.values(a, key)) - _over_seeds(column.values(b, key)) for a, b, key in places]
            p_values = statistics.sign_flip(np.stack(apart, axis=1), column.codes)
            raw |= {(column.index, key, row): float(p) for (row, _, key), p in zip(places, p_values, strict=True)}
    corrected = statistics.holm(np.array(list(raw.values())))
    found.p_values |= dict(zip(raw, corrected.tolist(), strict=True))
    found.sentences.append(
        f"{DIFFERS} differs from {label} (p < 0.05): two-sided paired test that flips the signs of whole videos "
        f"({statistics.FLIPS:,} patterns, or all there are) on per-source differences averaged over seeds, "
        f"Holm-corrected over the {len(raw)} tests of this table."
    )
    if strange:
        rows = named(strange, "see the counts of scored clips")
        found.sentences.append(f"Not tested, since scored on other sources than {label}: {rows}.")


def _over_seeds(values: FloatArray) -> FloatArray:
    """``(n, seeds)`` to ``(n,)``: the mean over the seeds for which a source is defined."""
    defined = ~np.isnan(values)
    counts = defined.sum(1)
    sums = np.where(defined, values, 0.0).sum(1)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), np.float64)


def _doubts(column: Column) -> Iterator[str]:
    """What makes the intervals and tests of a data set less reliable."""
    groups = column.groups.unique()
    if len(groups) < FEW:
        yield (
            f"ATTENTION, {column.data}: only {len(groups)} videos; with fewer than {FEW}, neither intervals nor tests "
            "are reliable."
        )
    shared = Counter(video for group in groups for video in str(group).split("+"))
    often = sum(count > 1 for count in shared.values())
    if often:
        yield (
            f"{column.data}: {often} of {len(shared)} videos are in more than one mixture. Mixtures are "
            "treated as independent, which makes intervals narrower and p-values smaller than they should be."
        )
