"""What the command line prints on stdout: tables, lists and plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

if TYPE_CHECKING:
    from avloc.store import Row
    from avloc.tables import Cell, Row as TableRow, Table

WIDTH_OF_FILES = 180
GAP = 2
_STYLE = {0: "", 1: "bold", 2: "underline"}


def console(file: TextIO | None = None) -> Console:
    """Highlights nothing; files and pipes are wider than the narrowest terminal."""
    made = Console(file=file, highlight=False, markup=False)
    if not made.is_terminal:
        made.width = WIDTH_OF_FILES
    return made


def show_table(table: Table, out: Console | None = None) -> None:
    """Print a table, in parts that fit the width of the terminal, and its notes."""
    out = out or console()
    out.print(Text(table.title, "bold"))
    for part in _parts(table, out.width):
        out.print(_grid(table, part), "")
    for note in table.notes:
        out.print(Text(note, "bold red" if note.startswith("ATTENTION") else ""), soft_wrap=not out.is_terminal)


def _parts(table: Table, width: int) -> list[list[int]]:
    """Indices of the groups that fit beside each other."""
    label = max((len(text) for row in table.rows for text in (_label(row).plain, row.section)), default=0)
    parts: list[list[int]] = []
    room = 0
    for index in range(len(table.groups)):
        need = sum(GAP + max(map(len, column)) for column in _columns(table, index))
        if not parts or need > room:
            parts.append([])
            room = width - label
        parts[-1].append(index)
        room -= need
    return parts


def _columns(table: Table, index: int) -> Iterator[list[str]]:
    """Every text of every column of a group."""
    group = table.groups[index]
    for place, header in enumerate(group.headers):
        cells = [_text(row.cells[index][place]).plain for row in table.rows]
        yield ["" if place else group.title, header, *cells]


def _label(row: TableRow) -> Text:
    return Text(row.label).append(f" ({row.mark})" if row.mark else "", "dim")


def _text(cell: Cell) -> Text:
    return Text().append(cell.text, _STYLE[cell.rank]).append(f" ({cell.mark})" if cell.mark else "", "dim")


def _grid(table: Table, part: Sequence[int]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column(f"\n{table.corner}")
    for index in part:
        for title, header, *_ in _columns(table, index):
            grid.add_column(Text(f"{title}\n{header}"))
    several = len({row.section for row in table.rows}) > 1
    for section, rows in groupby(table.rows, key=lambda row: row.section):
        if several:
            grid.add_section()
            grid.add_row(Text(section, "italic"))
        for row in rows:
            grid.add_row(_label(row), *(_text(cell) for index in part for cell in row.cells[index]))
    return grid


def show_rows(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print plain columns."""
    grid = Grid(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold")
    grid.show_edge = grid.pad_edge = False
    for header in headers:
        grid.add_column(header, overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console().print(grid, "")


def show_plan(rows: Sequence[Row]) -> None:
    """Print what a bench would run: the seeds of a row together, and a data set in one line where its rows agree."""
    keys = ("dataset", "section", "label", "hints", "encoder", "status", "reason")
    together: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        together.setdefault(tuple(str(getattr(row, key)) for key in keys), []).append(str(row.seed))
    lines = [[*key[:5], ", ".join(seeds), *key[5:]] for key, seeds in together.items()]
    for column in dict.fromkeys((line[0], line[4]) for line in lines):
        mine = [line for line in lines if (line[0], line[4]) == column]
        if mine[0][7] and all(line[6:] == mine[0][6:] for line in mine):
            lines[lines.index(mine[0])] = [column[0], "all", "", "", column[1], "", *mine[0][6:]]
            lines = [line for line in lines if line not in mine[1:]]
    show_rows(["dataset", "section", "method", "hints", "encoder", "seeds", "status", "reason"], lines)
    counts = Counter(str(row.status) for row in rows)
    console().print(f"{len(rows)} runs: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
