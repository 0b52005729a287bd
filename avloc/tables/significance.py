"""Intervals and tests for the cells of a table, from the stored per-source rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from avloc.store import DatasetEntry, MetricEntry, Score
from avloc.tables import statistics
from avloc.tables.notes import listing, named
from avloc.tables.scores import RowKey, Scores, data_of, read_rows, where
from avloc.tables.statistics import FEW, FloatArray, Indices
from avloc.tables.table import DIFFERS

Place = tuple[int, str, int]
"""Index of the dataset, the metric's key, index of the table's row."""
Reduce = Callable[[FloatArray], float]


@dataclass(slots=True)
class Column:
    """One dataset's stored rows, aligned.

    Attributes:
        index, entry: Which dataset.
        scored: Index of the table's row -> per seed the stored rows, by clip and source.
        groups: ``(n,)`` the video of every source that any of them has, by clip and source.
    """

    index: int
    entry: DatasetEntry
    scored: dict[int, list[pd.DataFrame]]
    groups: pd.Series[str]

    @property
    def codes(self) -> Indices:
        """``(n,)`` videos as numbers; sorted, so that the order of clips decides nothing."""
        return np.asarray(pd.factorize(self.groups, sort=True)[0], np.intp)

    def values(self, row: int, metric: str) -> FloatArray:
        """``(n, seeds)`` of a metric with one value per source; NaN where a row has no such source."""
        lines = [frame[metric].reindex(self.groups.index).to_numpy(np.float64) for frame in self.scored[row]]
        return np.stack(lines, axis=1)

    def same_sources(self, row: int, other: int) -> bool:
        """Whether two rows were scored on the same sources, all seeds of both."""
        return len({frozenset(frame.index) for frame in (*self.scored[row], *self.scored[other])}) == 1


def gather(
    scores: Scores,
    keys: Sequence[RowKey],
    intervals: bool,
    reference: Sequence[int | None] | None,
    label: str,
    reducer: Callable[[MetricEntry], Reduce] | None,
) -> tuple[dict[Place, tuple[float, float]], dict[Place, float], list[str]]:
    """95 % intervals and tests of a whole table.

    Args:
        scores, keys: All scores, and the rows of the table.
        intervals: Whether to compute intervals.
        reference: Per row of the table the row it is tested against; ``None``: no tests.
        label: Of the reference, for the notes.
        reducer: Returns the function that turns rows into one number, for a metric that is not the mean of its rows.

    Returns:
        Intervals, as fractions; p-values, corrected over the whole table; how both were computed, and what they do not
        cover.
    """
    entries = enumerate(scores.manifest.datasets)
    columns = [column for index, entry in entries if (column := _column(index, entry, scores, keys))]
    metrics = {metric.key: metric for metric in scores.manifest.metrics}
    means = [key for key in metrics if _is_mean(key, columns, scores.files)]
    others = [key for key in metrics if key not in means]
    titles = listing(metrics[key].title or key for key in others)
    ends: dict[Place, tuple[float, float]] = {}
    p_values: dict[Place, float] = {}
    sentences = []
    if intervals:
        reduces = {key: reducer(metrics[key]) for key in others} if reducer else {}
        broken: dict[str, str] = {}
        ends = {place: found for column in columns for place, found in _intervals(column, means, reduces, broken)}
        sentences.append(
            f"In brackets: 95 % percentile intervals of a bootstrap over videos ({statistics.DRAWS:,} resamples, the "
            "same for all rows). They cover the choice of test clips, not the randomness of training."
        )
        sentences += [f"No intervals of {metrics[key].title or key}: {why}" for key, why in broken.items()]
        if others and not reducer:
            sentences.append(f"No intervals, since they are not means of per-source rows: {titles}.")
    if reference is not None:
        p_values, strange = _tests(columns, means, reference)
        sentences.append(
            f"{DIFFERS} differs from {label} (p < 0.05): two-sided paired test that flips the signs of whole videos "
            f"({statistics.FLIPS:,} patterns, or all there are) on per-source differences averaged over seeds, "
            f"Holm-corrected over the {len(p_values)} tests of this table."
        )
        if strange:
            rows = named(strange, "see the counts of scored clips")
            sentences.append(f"Not tested, since scored on other sources than {label}: {rows}.")
        if others:
            sentences.append(f"Not tested, since they are not means of per-source rows: {titles}.")
    sentences += dict.fromkeys(sentence for column in columns for sentence in _doubts(column))
    return ends, p_values, sentences


def _column(index: int, entry: DatasetEntry, scores: Scores, keys: Sequence[RowKey]) -> Column | None:
    lines = where(scores.frame, dataset=entry.name, encoder=entry.encoder, status="done")
    scored = {}
    for place, key in enumerate(keys):
        frames = []
        for line in key.lines(lines).drop_duplicates("score").itertuples():
            rows = read_rows(scores.results, str(line.run), str(line.score))
            frames.append(rows.set_index(["clip", "source"]) if len(rows) else rows)
            frames[-1].attrs["score"] = line.score
        if frames and all(map(len, frames)):  # a score without sources has no value either
            scored[place] = frames
    if not scored:
        return None
    every = pd.concat([frame["group"] for frames in scored.values() for frame in frames])
    return Column(index, entry, scored, every[~every.index.duplicated()].sort_index())


def _is_mean(metric: str, columns: Sequence[Column], files: Mapping[str, Score]) -> bool:
    """Whether the metric is the mean of its rows: it is wherever it was computed."""
    return all(
        metric in frame
        and np.isclose(frame[metric].mean(), files[frame.attrs["score"]].values[metric], 0, 1e-9, equal_nan=True)
        for column in columns
        for frames in column.scored.values()
        for frame in frames
    )


def _intervals(
    column: Column, means: Sequence[str], reduces: Mapping[str, Reduce], broken: dict[str, str]
) -> Iterator[tuple[Place, tuple[float, float]]]:
    places = [(row, key) for row in column.scored for key in means]
    if places:
        values = [column.values(row, key) for row, key in places]
        draws = statistics.replicate_means(np.concatenate(values, axis=1), column.codes)
        ends = np.cumsum([part.shape[1] for part in values])
        for (row, key), part in zip(places, np.split(draws, ends[:-1], axis=1), strict=True):
            yield (column.index, key, row), statistics.percentile_interval(part.mean(axis=1))
    for key, reduce in reduces.items():
        for row, frames in column.scored.items():
            seeds = []
            for frame in frames:
                names = [name for name in frame.columns if name == key or name.startswith(f"{key}#")]
                own = np.asarray(pd.factorize(frame["group"], sort=True)[0], np.intp)
                try:  # a plugin's metric may raise anything, on rows that it has not seen in this choice
                    if names:  # it may also have failed when it was scored
                        seeds.append(statistics.replicate(frame[names].to_numpy(np.float64), own, reduce))
                except Exception as error:
                    broken[key] = f"it fails on resampled rows ({type(error).__name__}: {error})."
            if len(seeds) < len(frames):
                continue
            yield (column.index, key, row), statistics.percentile_interval(np.mean(seeds, axis=0))


def _tests(
    columns: Sequence[Column], means: Sequence[str], reference: Sequence[int | None]
) -> tuple[dict[Place, float], list[str]]:
    """Corrected p-values, and the rows that were scored on other sources than the reference."""
    raw: dict[Place, float] = {}
    strange = []
    for column in columns:
        places: list[Place] = []
        apart = []
        for row in column.scored:
            other = reference[row]
            if other is None or other == row or other not in column.scored:
                continue
            if not column.same_sources(row, other):
                strange.append(f"row {row + 1} on {column.entry.title}")
                continue
            places += [(column.index, key, row) for key in means]
            apart += [_over_seeds(column.values(row, key)) - _over_seeds(column.values(other, key)) for key in means]
        if places:
            raw |= zip(places, statistics.sign_flip(np.stack(apart, axis=1), column.codes).tolist(), strict=True)
    return dict(zip(raw, statistics.holm(np.array(list(raw.values()))).tolist(), strict=True)), strange


def _over_seeds(values: FloatArray) -> FloatArray:
    """``(n, seeds)`` to ``(n,)``: the mean over the seeds for which a source is defined."""
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, for none
        return np.asarray(np.nansum(values, axis=1) / (~np.isnan(values)).sum(1))


def _doubts(column: Column) -> Iterator[str]:
    """What makes the intervals and tests of a data set less reliable."""
    groups, data = column.groups.unique(), data_of(column.entry)[1]
    if len(groups) < FEW:
        yield (
            f"ATTENTION, {data}: only {len(groups)} videos; with fewer than {FEW}, neither intervals nor tests are "
            "reliable."
        )
    shared = Counter(video for group in groups for video in str(group).split("+"))
    often = sum(count > 1 for count in shared.values())
    if often:
        yield (
            f"{data}: {often} of {len(shared)} videos are in more than one mixture. Mixtures are treated as "
            "independent, which makes intervals narrower and p-values smaller than they should be."
        )
