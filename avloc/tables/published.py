"""Numbers that papers printed, from ``benchmarks/published/``. Shown alone or beside ours, in columns of their own.

A suite's ``paper: T-VSL, Table 2`` finds the YAML file with ``paper: T-VSL``, which names data sets and captions, and
in the CSV file beside it the lines of that table.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from avloc.tables.scores import RowKey
from avloc.tables.table import DASH, Cell, Group, Row, Table, transposed
from avloc.types import AvlocError, unknown

Line = dict[str, str]
METHODS = "methods"
YES, NO = "✓", "✗"


@dataclass(frozen=True, slots=True)
class Printed:
    """One table of one paper.

    Attributes:
        paper: As the suite names it.
        file: Where the numbers are.
        lines: The CSV's lines of this table.
        titles: Dataset names -> as the paper prints them.
        caption: What the table shows.
        transposed: Whether the paper has methods side by side.
    """

    paper: str
    file: str
    lines: tuple[Line, ...]
    titles: Mapping[str, str]
    caption: str
    transposed: bool

    @property
    def note(self) -> str:
        """What the reader must know about the columns marked as printed."""
        return (
            f"Columns marked (printed): the numbers of {self.paper}, from {self.file}, with the metric names, data, "
            "training and evaluation of that paper; they do not compare line by line with ours."
        )

    @classmethod
    def of(cls, paper: str) -> Printed:
        """The printed numbers of a suite's paper.

        Raises:
            AvlocError: avloc has no such numbers ("did you mean").
        """
        known = printed_tables()
        if paper in known:
            return known[paper]
        if not paper:
            raise AvlocError("No printed numbers ship with avloc for a suite that names no paper.")
        raise AvlocError(f"No printed numbers ship with avloc for {paper!r}: {unknown('printed table', paper, known)}")

    def beside(self, dataset: str, rows: Sequence[RowKey | Line]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The printed numbers on a data set, as the CSV names it, for rows of our table and lines of `missing`.

        Returns:
            The metrics, as the paper calls them, none where it has no numbers; and per row one text per metric, as
            printed, empty where the paper has no number.
        """
        left = [line for line in self.lines if line["dataset"] == dataset]
        headers = tuple(dict.fromkeys(line["metric"] for line in left))
        texts = []
        for row in rows:
            mine = {line["metric"]: line["percent"] for line in left if _same(line, row)}
            left = [line for line in left if not _same(line, row)]  # a number stands in one row only
            texts.append(tuple(mine.get(header, "") for header in headers))
        return headers, texts

    def missing(self, datasets: Sequence[str], rows: Sequence[RowKey]) -> list[Line]:
        """The rows that the paper has on these datasets and our table has not: one line of each."""
        first: dict[tuple[str, ...], Line] = {}
        for line in self.lines:
            if line["dataset"] in datasets and not any(_same(line, row) for row in rows):
                first.setdefault(_row_of(line), line)
        return list(first.values())

    def table(self) -> Table:
        """The printed numbers alone, as the paper lays them out."""
        places = list(dict.fromkeys((line["dataset"], line["metric"]) for line in self.lines))
        metrics = {name: tuple(metric for dataset, metric in places if dataset == name) for name, _ in places}
        groups = [Group(self.titles[name], found, name, found) for name, found in metrics.items()]
        (corner, *others), heads = self._heads()
        numbers = {(_row_of(line), line["dataset"], line["metric"]): line["percent"] for line in self.lines}
        rows = []
        for row, (label, *texts) in heads.items():
            cells = [
                tuple(printed_cell(numbers.get((row, name, metric), "")) for metric in found)
                for name, found in metrics.items()
            ]
            rows.append(Row(row[0], label, (*([tuple(map(Cell, texts))] if others else []), *map(tuple, cells))))
        lead = [Group("", tuple(others))] if others else []
        note = f"Printed in {self.paper}; transcribed in {self.file}. A dash is a number that the paper does not have."
        table = Table(f"{self.caption} ({self.paper})", (*lead, *groups), tuple(rows), (note,), corner)
        return transposed(table) if self.transposed else table

    def _heads(self) -> tuple[list[str], dict[tuple[str, ...], list[str]]]:
        """The columns before the numbers, method and venue or an ablation's switches, and each row's texts in them."""
        lines = {_row_of(line): line for line in self.lines}
        switches = {row: _switches(line) for row, line in lines.items()}
        names = list(next(iter(switches.values())))
        if names:
            boolean = {name: {found[name] for found in switches.values()} <= {"0", "1"} for name in names}
            spelt = {
                row: [{"0": NO, "1": YES}[found[name]] if boolean[name] else found[name] for name in names]
                for row, found in switches.items()
            }
            return [name.replace("_", " ").capitalize() for name in names], spelt
        if len({line["venue"] for line in self.lines}) > 1:
            return ["Method", "Venue"], {row: [line["label"], line["venue"]] for row, line in lines.items()}
        return ["Method"], {row: [line["label"]] for row, line in lines.items()}


@cache
def printed_tables() -> dict[str, Printed]:
    """Every table that ships with avloc, by what a suite's ``paper`` calls it."""
    found = {}
    folder = files("avloc_benchmarks") / "published"
    for entry in sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda e: e.name):
        about = yaml.safe_load(entry.read_text(encoding="utf-8"))
        name = entry.name.removesuffix(".yaml") + ".csv"
        lines = list(csv.DictReader((folder / name).read_text(encoding="utf-8").splitlines()))
        for number, layout in about["tables"].items():
            paper = f"{about['paper']}, Table {number}"
            mine = tuple(line for line in lines if line["table"] == str(number))
            found[paper] = Printed(
                paper, f"benchmarks/published/{name}", mine, about["datasets"], layout["caption"],
                layout.get("transposed", False),
            )  # fmt: skip
    return found


def _row_of(line: Line) -> tuple[str, ...]:
    """What makes a row of the printed table."""
    return line["group"], line["method"], line["label"]


def _switches(line: Line) -> dict[str, str]:
    """What an ablation's row switches: its label is ``name=value;...``."""
    return dict(pair.split("=") for pair in line["label"].split(";") if "=" in pair)


def printed_cell(text: str) -> Cell:
    """A printed number; a dash where there is none."""
    return Cell(text, value=float(text)) if text else Cell(DASH)


def _same(line: Line, row: RowKey | Line) -> bool:
    """Whether a printed line is about a row: the same method, and the same switches where the paper varies them."""
    if isinstance(row, dict):  # a line of `missing`
        return _row_of(row) == _row_of(line)
    if row.section != METHODS or row.method != line["method"]:
        return False
    params = json.loads(row.params)
    return all(key in params and float(params[key]) == float(value) for key, value in _switches(line).items())
