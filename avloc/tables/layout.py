"""The long frame of scores arranged as a table: methods by data sets, with everything a reader must know below."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from avloc.store import DatasetEntry, MetricEntry
from avloc.tables.notes import listing, sentences, spell
from avloc.tables.published import Line, Printed, printed_cell
from avloc.tables.scores import SECTIONS, RowKey, Scores, where
from avloc.tables.significance import Place, Reduce, gather
from avloc.tables.statistics import mean_and_deviation
from avloc.tables.table import BEATEN, DIFFERS, Cell, Group, Row, Table, portable
from avloc.types import AvlocError, unknown

DECIMALS = 1
"""Of a percentage, unless significant digits are asked for."""
COMPARED = ("methods", "controls")
"""Sections whose rows can be the reference, the first that has it."""


def build_table(
    scores: Scores,
    *,
    published: bool = False,
    intervals: bool = False,
    reference: str | None = None,
    digits: int | None = None,
    reducer: Callable[[MetricEntry], Reduce] | None = None,
) -> Table:
    """Arrange scores as a table, in the manifest's order; values are percentages.

    Args:
        scores: From `load_scores`.
        published, intervals, reference, digits: As in `avloc.results.Results.table`.
        reducer: Returns the function that turns a metric's rows into one number. Without it, metrics that are not the
            mean of their rows get no interval.

    Raises:
        AvlocError: avloc has no printed numbers of the suite's paper; the reference is no row of the table; the
            per-source rows are gone.

    Example:
        >>> build_table(load_scores(manifest, Path("results")), intervals=True).save("table.tex")
    """
    manifest, keys = scores.manifest, scores.row_keys()
    labels = _labels(keys)
    making = _Making(scores, keys, digits)
    name = manifest.reference if reference is None else reference
    if intervals or name:
        against = _references(name, keys, labels) if name else None
        titles = [keys[index].label for index in against or () if index is not None]
        found = gather(scores, keys, intervals, against, titles[0] if titles else name, reducer)
        making.intervals, making.p_values, making.methods = found
    printed = Printed.of(manifest.paper) if published else None
    missing: list[Line] = []
    if printed:
        missing = printed.missing([name for entry in manifest.datasets if (name := _printed_name(entry))], keys)
    groups: list[Group] = []
    columns: list[list[tuple[Cell, ...]]] = []  # per group and row
    for index, entry in enumerate(manifest.datasets):
        if entry.status != "absent":  # the notes say what is
            group, cells = making.group(index, entry)
            groups.append(group)
            columns.append(cells + [(Cell(),) * len(group.headers)] * len(missing))
        headers, texts = printed.beside(_printed_name(entry), [*keys, *missing]) if printed else ((), [])
        if headers:
            groups.append(Group(f"{entry.title} (printed)", headers, entry.name, headers))
            columns.append([tuple(map(printed_cell, line)) for line in texts])
    sections = [SECTIONS[key.section] for key in keys] + ["Printed only"] * len(missing)
    labels += [line["label"].replace(";", ", ") for line in missing]
    marks = [*map(making.row_mark, keys), *[""] * len(missing)]
    cells_of = zip(*columns, strict=True) if columns else [()] * len(labels)
    rows = [Row(*row) for row in zip(sections, labels, cells_of, marks, strict=True)]
    below = making.sentences() + sentences(scores)
    if printed is not None and any("(printed)" in group.title for group in groups):
        below.append(printed.note)
    paper = f" (after {manifest.paper})" if manifest.paper else ""
    return Table(manifest.title + paper, tuple(groups), tuple(rows), tuple(map(portable, below)))


def _printed_name(entry: DatasetEntry) -> str:
    """A data set as the files of printed numbers call it; empty where these stand beside another column."""
    return "" if entry.printed is None else entry.printed or entry.name


def _labels(rows: Sequence[RowKey]) -> list[str]:
    """Names of the rows; what tells two rows of one method apart is in parentheses."""
    hints = {row.hints for row in rows}
    labels = []
    for row in rows:
        twins = [json.loads(twin.params).items() for twin in rows if twin[:2] == row[:2]]
        own = {key: value for key, value in json.loads(row.params).items() if any((key, value) not in t for t in twins)}
        parts = [spell(json.dumps(own))] if own else []
        parts += [f"hints: {row.hints}"] if len(hints) > 1 else []
        labels.append(row.label + (f" ({', '.join(parts)})" if parts else ""))
    return labels


def _references(name: str, keys: Sequence[RowKey], labels: Sequence[str]) -> list[int | None]:
    """Per row the reference row with the same hints; ``None`` where there is none."""
    exact = [index for index in range(len(keys)) if name == labels[index]]
    named = exact or [index for index, key in enumerate(keys) if name in (key.method, key.label)]
    by_section = [[index for index in named if keys[index].section == section] for section in COMPARED]
    found = next(filter(None, by_section), [])
    if not found:
        known = [key.method for key in keys if key.section in COMPARED]
        raise AvlocError(unknown("reference, a method of this table named", name, known))
    by_hints = {keys[index].hints: index for index in found}
    if len(by_hints) < len(found):
        these = ", ".join(repr(labels[index]) for index in found)
        raise AvlocError(f"The reference {name!r} stands in several rows of this table; choose one of {these}.")
    return [by_hints.get(key.hints) for key in keys]


@dataclass(slots=True)
class _Making:
    """A table in the making: what `gather` finds, if it is asked, and the letters of notes about rows and cells."""

    scores: Scores
    keys: Sequence[RowKey]
    digits: int | None
    intervals: dict[Place, tuple[float, float]] = field(default_factory=dict)
    p_values: dict[Place, float] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)
    letters: dict[str, str] = field(default_factory=dict)
    beaten: bool = False

    def group(self, index: int, entry: DatasetEntry) -> tuple[Group, list[tuple[Cell, ...]]]:
        """The columns of a data set."""
        metrics = self.scores.manifest.metrics
        here = where(self.scores.frame, dataset=entry.name, encoder=entry.encoder)
        by_metric = [self._column(where(here, metric=metric.key), metric, index) for metric in metrics]
        headers = tuple((metric.title or metric.key) + " ↓" * (not metric.higher_is_better) for metric in metrics)
        group = Group(portable(entry.title), headers, entry.name, tuple(metric.key for metric in metrics))
        return group, list(zip(*by_metric, strict=True))

    def row_mark(self, key: RowKey) -> str:
        """The letters of what must be known about a row, each with the data sets and seeds that it is about."""
        titles = {(entry.name, entry.encoder): entry.title for entry in self.scores.manifest.datasets}
        lines = key.lines(self.scores.frame).drop_duplicates(["dataset", "encoder", "seed"])
        marks = []
        for remark, group in lines[lines.remarks != ""].groupby("remarks", sort=False):
            on = listing(titles[place] for place in zip(group.dataset, group.encoder, strict=True))
            of = f", seed {listing(group.seed)}" if lines.seed.nunique() > group.seed.nunique() else ""
            marks.append(self._letter(f"{on}{of}: {remark}"))
        return ",".join(marks)

    def _letter(self, reason: str) -> str:
        """The letter of a note; equal ones share it."""
        turn, letter = divmod(len(self.letters), 26)
        return self.letters.setdefault(reason, chr(ord("a") + letter) * (turn + 1))

    def sentences(self) -> list[str]:
        """The notes about rows and cells, and about marks."""
        mark = f"{BEATEN} does not beat the best control in its column that ignores the audio."
        reasons = [f"{letter}: {reason}" for reason, letter in self.letters.items()]
        return [*reasons, *[mark] * self.beaten, *self.methods]

    def _column(self, lines: pd.DataFrame, metric: MetricEntry, index: int) -> list[Cell]:
        """One metric on one data set: mean and deviation over seeds, and who is best."""
        cells = [self._cell(key.lines(lines), (index, metric.key, row)) for row, key in enumerate(self.keys)]
        higher = metric.higher_is_better
        # Numbers that print alike share a place.
        means = [None if cell.value is None else float(self._written(cell.value, cell.value)) for cell in cells]
        beaten = _beaten(self.keys, means, higher)
        self.beaten |= any(beaten)
        ranked = zip(cells, _ranks(means, higher), beaten, strict=True)
        return [replace(cell, rank=rank, mark=cell.mark + BEATEN * lost) for cell, rank, lost in ranked]

    def _cell(self, lines: pd.DataFrame, place: Place) -> Cell:
        """Mean and deviation over seeds, their interval, and the marks behind them."""
        mean, deviation = mean_and_deviation(100 * lines.value.dropna().to_numpy(float))
        cell = Cell(p=self.p_values.get(place))
        if not math.isnan(mean):
            spread = f" ± {self._written(deviation, mean)}" if deviation is not None else ""
            cell = replace(cell, text=self._written(mean, mean) + spread, value=mean, deviation=deviation)
            if place in self.intervals:
                low, high = (100 * end for end in self.intervals[place])
                ends = f"[{self._written(low, mean)}, {self._written(high, mean)}]"
                cell = replace(cell, text=f"{cell.text} {ends}", interval=(low, high))
        reason = _reason(lines)
        mark = self._letter(reason) if reason else ""
        return replace(cell, mark=mark + DIFFERS * (cell.p is not None and cell.p < 0.05))

    def _written(self, number: float, mean: float) -> str:
        """A number with the decimals that give its mean the wanted digits."""
        decimals = DECIMALS
        if self.digits is not None and math.isfinite(mean):
            # Rounding decides the power of ten: two digits of 9.96 are 10, and not 10.0.
            decimals = self.digits - 1 - int(f"{mean:.{self.digits - 1}e}".partition("e")[2])
        return f"{round(number, decimals):.{max(0, decimals)}f}"


def _ranks(means: Sequence[float | None], higher: bool) -> list[int]:
    places = sorted({mean for mean in means if mean is not None}, reverse=higher)
    contested = sum(mean is not None for mean in means) > 1
    return [places.index(mean) + 1 if contested and mean in places[:2] else 0 for mean in means]


def _beaten(keys: Sequence[RowKey], means: Sequence[float | None], higher: bool) -> list[bool]:
    """Which methods do not beat the best row that ignores the audio, among those with the same hints."""
    better = max if higher else min
    best: dict[str, float] = {}
    for key, mean in zip(keys, means, strict=True):
        if not key.uses_audio and mean is not None:
            best[key.hints] = better(best.get(key.hints, mean), mean)
    return [
        key.section == "methods" and key.uses_audio and mean is not None and key.hints in best
        and better(mean, best[key.hints]) == best[key.hints]
        for key, mean in zip(keys, means, strict=True)
    ]  # fmt: skip


def _reason(lines: pd.DataFrame) -> str:
    """Why seeds of one row have no number here; empty when all have one."""
    parts = []
    for (status, reason), group in lines[lines.value.isna()].groupby(["status", "reason"], sort=False):
        seeds = "" if len(group) == len(lines) else f"seed {listing(group.seed)} "
        if status == "failed":
            runs = [run for run in dict.fromkeys(group.run) if run]
            log = f" (see runs/{runs[0]}/error.txt)" if runs else ""
            parts.append(f"{seeds}failed: {reason}{log}")
        elif status == "done":
            parts.append(f"{seeds}{reason}")
        else:
            parts.append(f"{seeds}{status}: {reason}")
    return "; ".join(parts)
