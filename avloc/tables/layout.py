"""Scores on disk -> one long pandas frame -> one wide table. Needs neither torch nor plugins.

`load` reads a suite's manifest and the score files it names; `layout` arranges the frame as rows (methods) by
column groups (datasets), with all that a reader must know in the notes below. `avloc.tables.render`
writes the table, the command line prints it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from avloc.store import read_json
from avloc.tables.notes import Footnotes, Json, listing, protocol_text, sentences, spell, where
from avloc.tables.published import Printed
from avloc.tables.significance import Evidence, Reduce, Study, gather
from avloc.tables.statistics import FloatArray, mean_and_deviation
from avloc.tables.table import BEATEN, DASH, DIFFERS, Cell, Group, Row, Table
from avloc.types import AvlocError, unknown

SECTIONS = {
    "methods": "Methods",
    "controls": "Controls",
    "untrained": "Untrained",
    "shuffled_audio": "Shuffled audio",
}
COLUMNS = (
    "suite", "section", "method", "label", "uses_audio", "params", "dataset", "encoder", "weights", "hints", "metric",
    "seed", "train", "limit", "value", "sources", "listed", "scored", "missing", "broken", "dropped", "run", "score",
    "protocol", "status", "reason",
)  # fmt: skip
MANIFEST = ("suite", "title", "paper", "command", "protocol_text", "train_text", "metrics", "datasets", "rows")
PARTS = {
    "metrics": ("key", "title", "unit", "higher_is_better"),
    "datasets": ("name", "title", "encoder", "status", "reason", "command", "notes"),
    "rows": ("method", "label", "section", "params", "dataset", "hints", "encoder", "weights", "seed", "status",
             "reason", "run", "score"),
}  # fmt: skip
ROW = ["section", "method", "params", "hints"]
"""What makes a row of the table; seeds are averaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """A suite's results.

    Attributes:
        manifest: What the last bench of the suite did.
        frame: One line per method row, dataset, metric and seed, with `COLUMNS`. ``value`` is a fraction, NaN
            where the run was skipped or failed; ``params`` is JSON.
        files: Score id -> the score file, with the reasons why clips are missing or broken.
        results: The store, where the per-source rows are.
    """

    manifest: Json
    frame: pd.DataFrame
    files: Mapping[str, Json]
    results: Path


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
    texts = {column["name"]: protocol_text(manifest, column) for column in manifest["datasets"]}
    lines = [line for row in manifest["rows"] for line in _lines(row, manifest, found, texts)]
    return Scores(manifest, pd.DataFrame(lines, columns=list(COLUMNS)), found, results)


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


def _lines(row: Json, manifest: Json, found: Mapping[str, Json], protocols: Mapping[str, str]) -> Iterator[Json]:
    file = found[row["score"]] if row["status"] == "done" else None
    counts = file["counts"] if file else {}
    shared = {name: row[name] for name in COLUMNS if name in row}
    shared |= {"suite": manifest["suite"], "protocol": protocols.get(row["dataset"], manifest["protocol_text"])}
    uses_audio = row.get("uses_audio")
    shared["uses_audio"] = (
        row["section"] != "controls" if uses_audio is None else uses_audio
    )  # older manifests do not say
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
class Wishes:
    """What a table should show beyond our numbers.

    Attributes:
        published: The numbers that the suite's paper printed, beside ours, in columns of their own.
        intervals: 95 % intervals behind every number.
        reference: The method (its name or its label) that all others are tested against; ``None``: the suite's own
            ``reference``, ``""``: no tests.
        digits: Significant ones of every mean, at least 1; what stands behind a mean has as many decimals as it.
            ``None``: one decimal for percents, two for other units.
        reducer: A metric of the manifest -> how its rows become one number. Needed for the intervals of metrics that
            are no mean of their rows.
    """

    published: bool = False
    intervals: bool = False
    reference: str | None = None
    digits: int | None = None
    reducer: Callable[[Json], Reduce] | None = None


def build_table(scores: Scores, wishes: Wishes = Wishes()) -> Table:
    """Arrange the scores: methods by datasets, in the manifest's order.

    Raises:
        AvlocError: Printed numbers are wished for and none of the suite's paper ship with avloc; the reference is no
            row of the table; per-source rows are not there.
    """
    manifest, keys = scores.manifest, _row_keys(scores.frame)
    labels = _labels(keys)
    evidence = _evidence(scores, wishes, keys, labels)
    making = _Making(manifest, scores.frame, keys, Footnotes(), evidence, wishes.digits)
    printed = Printed.of(manifest["paper"]) if wishes.published else None
    names = [_printed_name(dataset) for dataset in manifest["datasets"]]
    missing = printed.missing(names, keys) if printed else []
    groups: list[Group] = []
    columns: list[list[tuple[Cell, ...]]] = []  # per group and row
    for index, dataset in enumerate(manifest["datasets"]):
        group, cells = making.group(index, dataset)
        groups.append(group)
        columns.append(cells + [(Cell(),) * len(group.headers)] * len(missing))
        beside = printed.beside(_printed_name(dataset), [*keys, *missing]) if printed else None
        if beside is not None:
            groups.append(Group(f"{dataset['title']} (printed)", beside.headers, dataset["name"], beside.headers))
            columns.append([tuple(Cell(text or DASH) for text in texts) for texts in beside.rows])
    sections = [SECTIONS[key["section"]] for key in keys] + ["Printed only"] * len(missing)
    labels += [line["label"].replace(";", ", ") for line in missing]
    rows = [Row(*row) for row in zip(sections, labels, zip(*columns, strict=True), strict=True)]
    below = making.sentences() + sentences(manifest, scores.frame, scores.files)
    if printed is not None and any("(printed)" in group.title for group in groups):
        below.append(printed.note())
    paper = f" (after {manifest['paper']})" if manifest["paper"] else ""
    return Table(manifest["title"] + paper, tuple(groups), tuple(rows), tuple(below))


def _printed_name(dataset: Json) -> str:
    """A dataset as the files of printed numbers call it."""
    return str(dataset.get("printed") or dataset["name"])


def _row_keys(frame: pd.DataFrame) -> list[Json]:
    rows: list[Json] = frame.drop_duplicates(ROW)[[*ROW, "label", "uses_audio"]].to_dict("records")  # type: ignore[assignment]
    return sorted(rows, key=lambda row: list(SECTIONS).index(row["section"]))


def _labels(rows: Sequence[Json]) -> list[str]:
    """Names of the rows; what tells two rows of one method apart is in parentheses."""
    hints = {row["hints"] for row in rows}
    labels = []
    for row in rows:
        twins = {
            twin["params"] for twin in rows if (twin["section"], twin["method"]) == (row["section"], row["method"])
        }
        parts = [spell(row["params"]) or "defaults"] if len(twins) > 1 else []
        parts += [f"hints: {row['hints']}"] if len(hints) > 1 else []
        labels.append(row["label"] + (f" ({', '.join(parts)})" if parts else ""))
    return labels


def _evidence(scores: Scores, wishes: Wishes, keys: Sequence[Json], labels: Sequence[str]) -> Evidence:
    name = scores.manifest.get("reference", "") if wishes.reference is None else wishes.reference
    if not (wishes.intervals or name):
        return Evidence()
    rows = [{column: key[column] for column in ROW} for key in keys]
    study = Study(scores.results, scores.manifest, scores.frame, scores.files, rows)
    against = _references(name, keys, labels) if name else None
    titles = [keys[index]["label"] for index in against or () if index is not None]
    label = titles[0] if titles else name
    return gather(study, intervals=wishes.intervals, reference=against, reference_label=label, reducer=wishes.reducer)


def _references(name: str, keys: Sequence[Json], labels: Sequence[str]) -> list[int | None]:
    """Per row the reference row that was told as much; ``None`` where there is none."""
    names = [(key["method"], key["label"], label) for key, label in zip(keys, labels, strict=True)]
    sections = [key["section"] for key in keys]
    found = [index for index, (mine, section) in enumerate(zip(names, sections, strict=True)) if name in mine]
    found = [index for index in found if sections[index] == "methods"] or [
        i for i in found if sections[i] == "controls"
    ]
    if not found:
        known = [key["method"] for key in keys if key["section"] in ("methods", "controls")]
        raise AvlocError(unknown("reference, a method of this table named", name, known))
    by_told = {keys[index]["hints"]: index for index in found}
    if len(by_told) < len(found):
        these = ", ".join(repr(labels[index]) for index in found)
        raise AvlocError(f"The reference {name!r} stands in several rows of this table; choose one of {these}.")
    return [by_told.get(key["hints"]) for key in keys]


@dataclass(slots=True)
class _Making:
    """A table in the making.

    Attributes:
        keys: What selects the lines of each row.
        footnotes: Reasons for empty cells, so far.
        beaten: Whether a method was found that does not beat the controls.
    """

    manifest: Json
    frame: pd.DataFrame
    keys: Sequence[Json]
    footnotes: Footnotes
    evidence: Evidence
    digits: int | None
    beaten: bool = False

    def group(self, index: int, dataset: Json) -> tuple[Group, list[tuple[Cell, ...]]]:
        """One dataset's columns; a dataset that is absent is one column of dashes."""
        if dataset["status"] == "absent":
            return Group(dataset["title"], ("absent",), dataset["name"]), [(Cell(),)] * len(self.keys)
        metrics = self.manifest["metrics"]
        here = where(self.frame, dataset=dataset["name"], encoder=dataset["encoder"])
        by_metric = [self._column(here[here.metric == metric["key"]], metric, index) for metric in metrics]
        headers = tuple(_header(metric) for metric in metrics)
        group = Group(dataset["title"], headers, dataset["name"], tuple(metric["key"] for metric in metrics))
        return group, list(zip(*by_metric, strict=True))

    def sentences(self) -> list[str]:
        """The notes about single cells, and about marks."""
        marks = [f"{BEATEN} does not beat the best control of its column that hears nothing."] if self.beaten else []
        return [*self.footnotes.sentences(), *marks, *self.evidence.sentences]

    def _column(self, lines: pd.DataFrame, metric: Json, index: int) -> list[Cell]:
        """One metric on one dataset: mean and deviation over seeds, and who is best."""
        percent = metric["unit"] == "%"
        scale = 100 if percent else 1
        written = _Decimals(1 if percent else 2, self.digits)
        cells = []
        for row, key in enumerate(self.keys):
            mine = where(lines, **{name: key[name] for name in ROW})
            cell = _number(mine.value.dropna().to_numpy(float) * scale, written)
            place = (index, metric["key"], row)
            if place in self.evidence.intervals and cell.value is not None:
                low, high = (end * scale for end in self.evidence.intervals[place])
                ends = ", ".join(written(end, cell.value) for end in (low, high))
                cell = replace(cell, text=f"{cell.text} [{ends}]", interval=(low, high))
            reason, p = _reason(mine), self.evidence.p_values.get(place)
            mark = (self.footnotes.mark(reason) if reason else "") + (DIFFERS if p is not None and p < 0.05 else "")
            cells.append(replace(cell, mark=mark, p=p))
        higher = metric["higher_is_better"]
        # Numbers that print alike share a place.
        means = [None if cell.value is None else float(written(cell.value, cell.value)) for cell in cells]
        beaten = _beaten(self.keys, means, higher)
        self.beaten |= any(beaten)
        ranked = zip(cells, _ranks(means, higher), beaten, strict=True)
        return [replace(cell, rank=rank, mark=cell.mark + BEATEN * lost) for cell, rank, lost in ranked]


def _header(metric: Json) -> str:
    unit = "" if metric["unit"] == "%" else f" [{metric['unit']}]"
    return f"{metric['title'] or metric['key']}{unit}" + ("" if metric["higher_is_better"] else " ↓")


@dataclass(frozen=True, slots=True)
class _Decimals:
    """Writes numbers: with fixed decimals, or with as many as give their mean its significant digits."""

    fixed: int
    significant: int | None

    def __call__(self, number: float, mean: float) -> str:
        decimals = self.fixed
        if self.significant is not None and math.isfinite(mean):
            # Rounding decides the power of ten: two digits of 9.96 are 10, and not 10.0.
            power = int(f"{mean:.{self.significant - 1}e}".partition("e")[2])
            decimals = self.significant - 1 - power
        return f"{round(number, decimals):.{max(0, decimals)}f}"


def _number(values: FloatArray, written: _Decimals) -> Cell:
    """Mean and deviation over seeds."""
    mean, deviation = mean_and_deviation(values)
    if math.isnan(mean):
        return Cell()
    spread = f" ± {written(deviation, mean)}" if deviation is not None else ""
    return Cell(written(mean, mean) + spread, value=mean, deviation=deviation)


def _ranks(means: Sequence[float | None], higher: bool) -> list[int]:
    places = sorted({mean for mean in means if mean is not None}, reverse=higher)
    contested = sum(mean is not None for mean in means) > 1
    return [places.index(mean) + 1 if contested and mean in places[:2] else 0 for mean in means]


def _beaten(keys: Sequence[Json], means: Sequence[float | None], higher: bool) -> list[bool]:
    """Which methods do not beat the best row that hears nothing, among those that were told as much."""
    better = max if higher else min
    best: dict[str, float] = {}
    for key, mean in zip(keys, means, strict=True):
        if not key["uses_audio"] and mean is not None:
            best[key["hints"]] = better(best.get(key["hints"], mean), mean)
    return [
        key["section"] == "methods" and key["uses_audio"] and mean is not None and key["hints"] in best
        and better(mean, best[key["hints"]]) == best[key["hints"]]
        for key, mean in zip(keys, means, strict=True)
    ]  # fmt: skip


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
