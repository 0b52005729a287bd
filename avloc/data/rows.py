"""Rows of a CSV: one reader for the lists of papers and for those of users."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        where: File and line, for errors.
        line: Its last line in the file, from 1.
        cells: By column, stripped.
    """

    where: str
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """A cell, empty where the file has no such column."""
        return self.cells.get(column, "")


def read_csv(path: Path, columns: Sequence[str], wrong: list[str], *, header: bool = True) -> Iterator[Row]:
    """The rows of a CSV in UTF-8.

    Args:
        path: The file.
        columns: With a header, those that it must have; ``a|b`` stands for at least one of the two. Without one, all
            columns, each of which must be filled.
        wrong: Sentences are added to it that name file, line and column; a row that is wrong is not yielded.
        header: Whether the first row names the columns.
    """
    if not path.is_file():
        wrong.append(f"{path}: the annotation file is missing.")
        return
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = next(reader, []) if header else columns
            if header and (problem := _header(names, columns)):
                wrong.append(f"{path}: {problem}")
                return
            for cells in filter(None, reader):
                row = Row(
                    f"{path}, line {reader.line_num}",
                    reader.line_num,
                    dict(zip(names, [cell.strip() for cell in cells], strict=False)),
                )
                problem = _row(cells, row, names, filled=not header)
                if problem:
                    wrong.append(f"{row.where}: {problem}")
                else:
                    yield row
    except (UnicodeDecodeError, csv.Error) as error:
        wrong.append(f"{path}: not a CSV in UTF-8 ({error}).")


def _header(names: Sequence[str], columns: Sequence[str]) -> str:
    """What is wrong with the first row; empty when nothing is."""
    absent = [name for name in columns if not set(name.split("|")) & set(names)]
    if absent:
        needed = [name.replace("|", " (or ") + ")" * ("|" in name) for name in absent]
        return f"the header has no column {', '.join(needed)}; it has {', '.join(names) or 'none'}."
    return f"the header has a column twice; it has {', '.join(names)}." if len(set(names)) < len(names) else ""


def _row(cells: Sequence[str], row: Row, names: Sequence[str], *, filled: bool) -> str:
    """What is wrong with a row; empty when nothing is."""
    if filled and len(cells) != len(names):
        return f"there should be {len(names)} cells ({', '.join(names)}), not {len(cells)}: {','.join(cells)!r}."
    if len(cells) > len(names):
        return "the row has more cells than the header; put cells that hold commas in quotes."
    empty = [name for name in names if filled and not row[name]]
    return f"{' and '.join(empty)} should not be empty." if empty else ""


def read_header(path: Path) -> list[str]:
    """The columns that a CSV names; none where it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
