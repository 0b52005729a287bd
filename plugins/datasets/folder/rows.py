"""Rows of a CSV, with every problem noted by file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from avloc import DataError

SPLITS = ("train", "val", "test")


def read_rows(path: Path, required: Sequence[str], wrong: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The line number and the stripped cells of each row; absent cells are empty.

    Args:
        path: The CSV, in UTF-8.
        required: Columns it must have; ``a|b`` stands for at least one of the two.
        wrong: Sentences are added to it; a row that cannot be told apart into cells is not yielded.
    """
    if not path.is_file():
        wrong.append(f"{path}: the annotation file is missing.")
        return
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            absent = [name for name in required if not set(name.split("|")) & set(columns)]
            if absent or len(set(columns)) < len(columns):
                wrong.append(f"{path}: {_header(columns, absent)}")
                return
            for row in reader:
                if None in row:
                    advice = "put cells that hold commas in quotes"
                    wrong.append(f"{path}, line {reader.line_num}: the row has more cells than the header; {advice}.")
                    continue
                yield reader.line_num, {name: (cell or "").strip() for name, cell in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        wrong.append(f"{path}: not a CSV in UTF-8 ({error}).")


def _header(columns: Sequence[str], absent: Sequence[str]) -> str:
    """What is wrong with it."""
    if absent:
        needed = [name.replace("|", " (or ") + ")" * ("|" in name) for name in absent]
        return f"the header has no column {', '.join(needed)}; it has {', '.join(columns) or 'none'}."
    return f"the header has a column twice; it has {', '.join(columns)}."


def require_right(path: Path, wrong: Sequence[str]) -> None:
    """Nothing, or the first sentence and how to see the others.

    Raises:
        DataError: Something is wrong.
    """
    if wrong:
        others = f" {len(wrong) - 1} more problems: avloc data check {path}" if len(wrong) > 1 else ""
        raise DataError(wrong[0] + others)
