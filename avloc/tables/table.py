"""A table, whatever the format: groups of columns, sections of rows, cells, and the notes below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress, groupby
from pathlib import Path

import pandas as pd

from avloc.store import writing
from avloc.tables import render
from avloc.types import AvlocError, unknown

DASH = "—"
DIFFERS, BEATEN = "†", "‡"
"""Marks of cells: differs from the reference method; does not beat the best control that ignores the audio."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number.

    Attributes:
        text: ``41.2 ± 0.8 [39.9, 42.6]``, in percent, or a dash.
        rank: 1 for the best of its column, 2 for the second best, 0 for all others.
        mark: The letter of its footnote, `DIFFERS`, `BEATEN`, several of them, or nothing.
        value: The mean over seeds, unrounded, in percent.
        deviation: Over seeds; ``None`` for one seed.
        interval: 95 %, in percent, where it was asked for.
        p: Holm-corrected, against the reference method, where there is one.
    """

    text: str = DASH
    rank: int = 0
    mark: str = ""
    value: float | None = None
    deviation: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The columns of one dataset.

    Attributes:
        title: Over the columns; empty for columns that stand alone.
        headers: One per column.
        name: The dataset's name, by which columns are chosen.
        keys: Per column the metric's key, by which columns are chosen.
    """

    title: str
    headers: tuple[str, ...]
    name: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A method in every column, one tuple of cells per group."""

    section: str
    label: str
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def flat(self) -> list[Cell]:
        """The cells of all groups."""
        return [cell for cells in self.cells for cell in cells]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that can be written in several formats.

    Attributes:
        title: The caption.
        groups: Columns.
        rows: Rows of one section follow each other.
        notes: What must be known to read it.
        corner: What the first column holds.
        label: By which LaTeX refers to it.

    Example:
        >>> table = avloc.load_results("multi_source").table()
        >>> print(table.to_markdown())
    """

    title: str
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    corner: str = "Method"
    label: str = ""

    @property
    def sections(self) -> list[tuple[str, list[Row]]]:
        """The rows by section, in order."""
        return [(section, list(rows)) for section, rows in groupby(self.rows, key=lambda row: row.section)]

    @property
    def heads(self) -> list[tuple[str, str]]:
        """Title of the group and header of every column."""
        return [(group.title, header) for group in self.groups for header in group.headers]

    def to_frame(self) -> pd.DataFrame:
        """The numbers as a pandas frame, unrounded, in percent; texts where a column has no numbers.

        Returns:
            Rows by (section, label), columns by (group, header); NaN where there is no number.
        """
        cells = [
            [(None if cell.text == DASH else cell.text) if cell.value is None else cell.value for cell in row.flat]
            for row in self.rows
        ]
        rows = pd.MultiIndex.from_tuples([(row.section, row.label) for row in self.rows], names=["section", "label"])
        columns = pd.MultiIndex.from_tuples(self.heads, names=["group", "column"])
        return pd.DataFrame(cells, rows, columns).infer_objects()

    to_csv, to_latex, to_markdown, to_json = render.to_csv, render.to_latex, render.to_markdown, render.to_json

    def save(self, path: Path | str) -> None:
        """Write the table to a file, in the format of its suffix: ``.csv``, ``.json``, ``.md`` or ``.tex``.

        Raises:
            AvlocError: Another suffix, or the file cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in render.WRITERS:
            raise AvlocError(f"{path}: {unknown('format of a table with the suffix', suffix, render.WRITERS)}")
        encoding = "utf-8-sig" if suffix == ".csv" else "utf-8"  # Excel needs the mark to read UTF-8
        with writing(path):
            path.write_text(render.WRITERS[suffix](self), encoding=encoding)


def select(table: Table, wanted: Sequence[str]) -> Table:
    """The table with only some of its columns, in the same order: `wanted` names what `column_names` lists.

    Raises:
        AvlocError: A name that no column has ("did you mean").
    """
    known = column_names(table)
    for name in wanted:
        if name not in known:
            raise AvlocError(unknown("column", name, known))
    chosen = [[bool(set(names) & set(wanted)) for names in _names(group)] for group in table.groups]
    groups = [
        replace(group, headers=tuple(compress(group.headers, kept)), keys=tuple(compress(group.keys, kept)))
        for group, kept in zip(table.groups, chosen, strict=True)
        if any(kept)
    ]
    rows = [
        replace(
            row, cells=tuple(tuple(compress(*both)) for both in zip(row.cells, chosen, strict=True) if any(both[1]))
        )
        for row in table.rows
    ]
    return replace(table, groups=tuple(groups), rows=tuple(rows))


def column_names(table: Table) -> list[str]:
    """What `select` knows columns by: data sets, metrics and ``dataset/metric``, each by name and as printed."""
    return list(dict.fromkeys(name for group in table.groups for names in _names(group) for name in names))


def _names(group: Group) -> list[list[str]]:
    """Per column, everything it can be called."""
    above = [name for name in (group.name, group.title) if name]
    found = []
    for header, key in zip(group.headers, group.keys or ("",) * len(group.headers), strict=True):
        below = [name for name in (key, header) if name]
        found.append([*above, *below, *(f"{dataset}/{metric}" for dataset in above for metric in below)])
    return found


def transposed(table: Table) -> Table:
    """Methods side by side, datasets and metrics below each other."""
    sections = table.sections
    groups = tuple(Group(section, tuple(row.label for row in rows)) for section, rows in sections)
    lone = all(len(group.headers) == 1 for group in table.groups)
    rows = []
    for index, group in enumerate(table.groups):
        for place, header in enumerate(group.headers):
            cells = tuple(tuple(row.cells[index][place] for row in rows) for _, rows in sections)
            rows.append(Row("", f"{group.title} {header}".strip(), cells) if lone else Row(group.title, header, cells))
    return replace(table, groups=groups, rows=tuple(rows), corner="Data" if lone else "Metric")
