"""Scores on disk -> one long pandas frame -> one wide table. Needs neither torch nor plugins.

`load` reads a suite's manifest and the score files it names; `layout` arranges the frame as rows (methods) by
column groups (datasets), with all that a reader must know in the notes below (`avloc.notes`). `avloc.render` writes
the laid out table as Markdown or LaTeX, `avloc.terminal` prints it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from avloc.disk import read_json
from avloc.notes import Footnotes, Json, listing, sentences, spell, where
from avloc.published import Printed
from avloc.types import AvlocError

BLOCKS = {
    "methods": "Methods",
    "controls": "Controls",
    "untrained": "Untrained",
    "shuffled": "Shuffled audio",
}
COLUMNS = (
    "suite", "block", "method", "label", "params", "dataset", "encoder", "weights", "told", "metric", "seed",
    "train", "limit", "value", "sources", "listed", "scored", "missing", "broken", "dropped", "run", "score",
    "protocol", "status", "reason",
)  # fmt: skip
MANIFEST = ("suite", "title", "paper", "command", "protocol_text", "train_text", "metrics", "datasets", "rows")
PARTS = {
    "metrics": ("key", "title", "unit", "higher_is_better"),
    "datasets": ("name", "title", "encoder", "status", "reason", "command", "notes"),
    "rows": ("method", "label", "block", "params", "dataset", "told", "encoder", "weights", "seed", "status", "reason",
             "run", "score"),
}  # fmt: skip
ROW = ["block", "method", "params", "told"]
"""What makes a row of the table; seeds are averaged."""
DASH = "—"


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """A suite's results.

    Attributes:
        manifest: What the last bench of the suite did.
        frame: One line per method row, dataset, metric and seed, with `COLUMNS`. ``value`` is a fraction, NaN
            where the run was skipped or failed; ``params`` is JSON.
        files: Score id -> the score file, with the reasons why clips are missing or broken.
    """

    manifest: Json
    frame: pd.DataFrame
    files: Mapping[str, Json]


def load(results: Path, suite: str) -> Scores:
    """Read a suite's manifest and scores.

    Args:
        results: The store.
        suite: The manifest's name, ``<suite>`` or, after ``avloc score``, ``<suite>.<protocol>``.

    Raises:
        AvlocError: The suite was never run here, or a file is not what it should be; names the file.
    """
    path = results / "suites" / f"{suite}.json"
    if not path.is_file():
        raise AvlocError(f"There are no results for suite {suite!r} under {results}. Run: avloc bench --suite {suite}")
    manifest = _manifest(path)
    keys = [metric["key"] for metric in manifest["metrics"]]
    done = [row for row in manifest["rows"] if row["status"] == "done"]
    scored = {row["score"]: results / "runs" / row["run"] / "scores" / f"{row['score']}.json" for row in done}
    found = {score: _score_file(path, keys) for score, path in scored.items()}
    lines = [line for row in manifest["rows"] for line in _lines(row, manifest, found)]
    return Scores(manifest, pd.DataFrame(lines, columns=list(COLUMNS)), found)


def _manifest(path: Path) -> Json:
    content = read_json(path)
    try:
        lacking = [key for key in MANIFEST if key not in content]
        for part, keys in PARTS.items():
            lacking += [f"{part}.{key}" for item in content[part] for key in keys if key not in item]
    except (KeyError, TypeError) as error:
        lacking = [str(error)]
    if lacking:
        raise AvlocError(f"{path} is not the manifest of a suite ({lacking[0]}). Run the same avloc bench again.")
    return content


def _score_file(path: Path, metrics: Sequence[str]) -> Json:
    content = read_json(path)
    try:
        counts = content["counts"]
        numbers = [content["sources"], counts["listed"], counts["scored"], *(content["values"][key] for key in metrics)]
        sound = all(isinstance(number, int | float) for number in numbers)
        sound &= all(isinstance(part, dict) for part in (content["dropped"], counts["missing"], counts["broken"]))
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise AvlocError(f"{path} is not a score file. Delete it and run the same avloc bench again.")
    return content


def _lines(row: Json, manifest: Json, found: Mapping[str, Json]) -> Iterator[Json]:
    file = found[row["score"]] if row["status"] == "done" else None
    counts = file["counts"] if file else {}
    shared = {name: row[name] for name in COLUMNS if name in row}
    shared |= {"suite": manifest["suite"], "protocol": manifest["protocol_text"]}
    shared |= {"params": json.dumps(row["params"], sort_keys=True, ensure_ascii=False)}
    shared |= {"listed": counts.get("listed", 0), "scored": counts.get("scored", 0)}
    shared |= {name: len(counts.get(name, ())) for name in ("missing", "broken")}
    shared |= {"train": json.dumps(row.get("train", {}), sort_keys=True), "limit": row.get("limit")}
    if row["status"] == "":  # the bench was stopped before it came to this row
        shared |= {"status": "stopped", "reason": f"not run yet; go on with: {manifest['command']}"}
    for metric in manifest["metrics"]:
        key = metric["key"]
        yield {
            **shared, "metric": key, "value": float(file["values"][key]) if file else math.nan,
            "sources": file["sources"] if file else 0, "dropped": file["dropped"].get(key, 0) if file else 0,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """One number.

    Attributes:
        text: ``41.2 ± 0.8``, in percent where the metric is a fraction, or a dash.
        rank: 1 for the best of its column, 2 for the second best, 0 for all others.
        mark: The letter of its footnote, or nothing.
    """

    text: str = DASH
    rank: int = 0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The columns of one dataset."""

    title: str
    headers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A method in every column, one tuple of cells per group."""

    block: str
    label: str
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it will be read, whatever the format."""

    title: str
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def layout(scores: Scores, *, published: bool = False) -> Table:
    """Arrange the scores: methods by datasets, in the manifest's order.

    Args:
        scores: What `load` read.
        published: Put the numbers that the suite's paper printed beside ours, in columns of their own.

    Raises:
        AvlocError: `published`, and no printed numbers of the suite's paper ship with avloc.
    """
    manifest, keys, footnotes = scores.manifest, _row_keys(scores.frame), Footnotes()
    printed = Printed.of(manifest["paper"]) if published else None
    groups: list[Group] = []
    columns: list[list[tuple[Cell, ...]]] = []  # per group and row
    for dataset in manifest["datasets"]:
        group, cells = _group(scores, dataset, keys, footnotes)
        groups.append(group)
        columns.append(cells)
        beside = printed.beside(dataset["name"], keys) if printed else None
        if beside is not None:
            groups.append(Group(f"{dataset['title']} (printed)", beside.headers))
            columns.append([tuple(Cell(text or DASH) for text in texts) for texts in beside.rows])
    names = [BLOCKS[key["block"]] for key in keys]
    rows = [Row(*row) for row in zip(names, _labels(keys), zip(*columns, strict=True), strict=True)]
    below = footnotes.sentences() + sentences(manifest, scores.frame, scores.files)
    if printed is not None and any("(printed)" in group.title for group in groups):
        below.append(printed.note())
    paper = f" (after {manifest['paper']})" if manifest["paper"] else ""
    return Table(manifest["title"] + paper, tuple(groups), tuple(rows), tuple(below))


def _row_keys(frame: pd.DataFrame) -> list[Json]:
    rows: list[Json] = frame.drop_duplicates(ROW)[[*ROW, "label"]].to_dict("records")  # type: ignore[assignment]
    return sorted(rows, key=lambda row: list(BLOCKS).index(row["block"]))


def _labels(rows: Sequence[Json]) -> list[str]:
    """Names of the rows; what tells two rows of one method apart is in parentheses."""
    told = {row["told"] for row in rows}
    labels = []
    for row in rows:
        twins = {twin["params"] for twin in rows if (twin["block"], twin["method"]) == (row["block"], row["method"])}
        parts = [spell(row["params"]) or "defaults"] if len(twins) > 1 else []
        parts += [f"told: {row['told']}"] if len(told) > 1 else []
        labels.append(row["label"] + (f" ({', '.join(parts)})" if parts else ""))
    return labels


def _group(
    scores: Scores, dataset: Json, keys: Sequence[Json], footnotes: Footnotes
) -> tuple[Group, list[tuple[Cell, ...]]]:
    """One dataset's columns; a dataset that is absent is one column of dashes."""
    if dataset["status"] == "absent":
        return Group(dataset["title"], ("absent",)), [(Cell(),)] * len(keys)
    metrics = scores.manifest["metrics"]
    here = where(scores.frame, dataset=dataset["name"], encoder=dataset["encoder"])
    by_metric = [_column(here[here.metric == metric["key"]], metric, keys, footnotes) for metric in metrics]
    headers = tuple(_header(metric) for metric in metrics)
    return Group(dataset["title"], headers), list(zip(*by_metric, strict=True))


def _header(metric: Json) -> str:
    unit = "" if metric["unit"] == "%" else f" [{metric['unit']}]"
    return f"{metric['title'] or metric['key']}{unit}" + ("" if metric["higher_is_better"] else " ↓")


def _column(lines: pd.DataFrame, metric: Json, keys: Sequence[Json], footnotes: Footnotes) -> list[Cell]:
    """One metric on one dataset: mean and deviation over seeds, and who is best."""
    scale, digits = (100, 1) if metric["unit"] == "%" else (1, 2)
    texts, means, marks = [], [], []
    for key in keys:
        mine = where(lines, **{name: key[name] for name in ROW})
        values = mine.value.dropna() * scale
        means.append(round(float(values.mean()), digits) if len(values) else None)
        spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
        texts.append(f"{values.mean():.{digits}f}{spread}" if len(values) else DASH)
        reason = _reason(mine)
        marks.append(footnotes.mark(reason) if reason else "")
    # Numbers that print alike share a place.
    places = sorted({mean for mean in means if mean is not None}, reverse=metric["higher_is_better"])
    contested = sum(mean is not None for mean in means) > 1
    ranks = [places.index(mean) + 1 if contested and mean in places[:2] else 0 for mean in means]
    return [Cell(*cell) for cell in zip(texts, ranks, marks, strict=True)]


def _reason(lines: pd.DataFrame) -> str:
    """Why seeds of one row have no number here; empty when all have."""
    parts = []
    for (status, reason), group in lines[lines.value.isna()].groupby(["status", "reason"], sort=False):
        seeds = "" if len(group) == len(lines) else f"seed {listing(group.seed)} "
        if status == "failed":
            runs = [run for run in dict.fromkeys(group.run) if run]
            log = f" (see runs/{runs[0]}/error.txt)" if runs else ""
            parts.append(f"{seeds}failed: {reason}{log}")
        elif status == "done":
            parts.append(f"{seeds}has no value: not one source could be scored")
        else:
            parts.append(f"{seeds}{status}: {reason}")
    return "; ".join(parts)
