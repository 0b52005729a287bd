"""The scores of a suite as one long pandas frame. Needs neither torch nor plugins."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from avloc.store import Counts, DatasetEntry, Manifest, Row, Score, score_path
from avloc.tables.table import inert, portable
from avloc.types import AvlocError

COLUMNS = (
    "suite", "section", "method", "label", "uses_audio", "params", "dataset", "encoder", "weights", "hints", "metric",
    "seed", "train", "limit", "value", "sources", "listed", "scored", "missing", "broken", "dropped", "run", "score",
    "protocol", "status", "reason", "remarks",
)  # fmt: skip
SECTIONS = {"methods": "Methods", "controls": "Controls", "untrained": "Untrained", "shuffled_audio": "Shuffled audio"}
"""Sections of a table and their titles, in order."""


class RowKey(NamedTuple):
    """What makes a row of a table, over all data sets and seeds, and how the table prints it."""

    section: str
    method: str
    params: str
    hints: str
    label: str
    uses_audio: bool

    def lines(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The lines of a frame that belong to this row."""
        return where(frame, section=self.section, method=self.method, params=self.params, hints=self.hints)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """A suite's results.

    Attributes:
        manifest: What was run.
        frame: One line per row, data set, metric and seed, with `COLUMNS`. ``value`` is a fraction, NaN where the run
            was skipped or failed, or the metric is undefined or failed; ``params`` and ``train`` are JSON.
        files: Score id -> the score, with the reasons why clips are missing or broken.
        results: The folder with the runs.
    """

    manifest: Manifest
    frame: pd.DataFrame
    files: Mapping[str, Score]
    results: Path

    def row_keys(self) -> list[RowKey]:
        """The rows of the table, in order."""
        found = self.frame.drop_duplicates(list(RowKey._fields[:4]))[list(RowKey._fields)].itertuples(index=False)
        return sorted((RowKey(*row) for row in found), key=lambda row: list(SECTIONS).index(row.section))

    def to_csv(self) -> str:
        """The frame as CSV: one line per row, data set, metric and seed; values are fractions."""
        frame = self.frame.copy()
        texts = frame.select_dtypes(include=["object", "string"]).columns
        frame[texts] = frame[texts].map(lambda value: inert(portable(value)) if isinstance(value, str) else value)
        return str(frame.to_csv(index=False, lineterminator="\n"))


def load_scores(manifest: Manifest, results: Path) -> Scores:
    """Read the scores that a manifest names from the folder with the results.

    Raises:
        AvlocError: A score cannot be read, or lacks a metric of the manifest; names the file.
    """
    files = {}
    for row in manifest.rows:
        if row.status == "done":
            path = score_path(results, row.run, row.score)
            files[row.score] = Score.load(path)
            lacking = [metric.key for metric in manifest.metrics if metric.key not in files[row.score].values]
            if lacking:
                raise AvlocError(f"{path} has no value of {lacking[0]}. Delete it and run the same command again.")
    texts = {entry.name: protocol_text(manifest, entry) for entry in manifest.datasets}
    lines = [line for row in manifest.rows for line in _lines(row, manifest, files.get(row.score), texts[row.dataset])]
    return Scores(manifest, pd.DataFrame(lines, columns=list(COLUMNS)), files, results)


def _lines(row: Row, manifest: Manifest, score: Score | None, protocol: str) -> Iterator[dict[str, Any]]:
    """A line per metric."""
    counts = score.counts if score else Counts(listed=0)
    shared = {
        **row.model_dump(), "suite": manifest.suite, "protocol": protocol,
        "params": json.dumps(row.params, sort_keys=True, ensure_ascii=False),
        "train": json.dumps(row.train, sort_keys=True), "sources": score.sources if score else 0,
        "listed": counts.listed, "scored": counts.scored, "missing": len(counts.missing), "broken": len(counts.broken),
        "remarks": "; ".join([*filter(None, [row.remark]), *(score.remarks if score else [])]),
    }  # fmt: skip
    if not row.status:  # the bench was interrupted before it came to this row
        shared |= {"status": "not run", "reason": f"resume with: {manifest.command}"}
    for metric in manifest.metrics:
        if score is None:
            yield {**shared, "metric": metric.key, "value": math.nan, "dropped": 0}
            continue
        value, dropped = score.values[metric.key], score.dropped.get(metric.key, 0)
        if math.isnan(value):
            failure = score.failed.get(metric.key)
            shared["reason"] = f"the metric failed: {failure}" if failure else f"has no value: {metric.undefined}"
        yield {**shared, "metric": metric.key, "value": value, "dropped": dropped}
        shared["reason"] = row.reason


def read_rows(results: Path, run: str, score: str) -> pd.DataFrame:
    """The stored rows of a score, one per true source: clip, group, source, label and the columns of every metric.

    Raises:
        AvlocError: They are gone or damaged; names the file.
    """
    path = score_path(results, run, score)
    Score.load(path).require_rows(path.with_suffix(".parquet"))
    return pd.read_parquet(path.with_suffix(".parquet"))


def protocol_text(manifest: Manifest, entry: DatasetEntry) -> str:
    """What a data set's columns were scored under: their own protocol, or that of the table."""
    return entry.protocol or manifest.protocol_text


def data_of(entry: DatasetEntry) -> tuple[str, str]:
    """Name and title of the data, which columns under several protocols share."""
    return entry.data or (entry.name, entry.title)


def where(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The lines whose columns have these values."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame
