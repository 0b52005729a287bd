"""A table: groups of columns, sections of rows, cells, and the notes below; as CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress, groupby
from pathlib import Path

import pandas as pd

from avloc.store import writing
from avloc.types import AvlocError, unknown

DASH = "—"
DIFFERS, BEATEN = "†", "‡"
"""Marks of cells: differs from the reference method; does not beat the best control that ignores the audio."""

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "—": "--", "↓": r"$\downarrow$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "✓": r"$\surd$", "✗": r"$\times$", "\n": " ",
})  # fmt: skip
_MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "<": "&lt;", ">": "&gt;", "*": r"\*", "`": r"\`", "\n": " "})
_LEAF = r"[^\s/\\'\"`,;:()<>|]+"
_FOLDER = rf"{_LEAF}(?: (?![-.~]){_LEAF})*"
_PATH = re.compile(
    r"(?P<quote>['\"])(?:~|\.\.?|[A-Za-z]:)?[/\\][^'\"\n]*(?P=quote)"  # may hold anything
    rf"|(?<![\w/.~\\])(?:~|\.\.?|[A-Za-z]:)?(?:[/\\]{_FOLDER}(?=[/\\]))*[/\\]{_LEAF}[/\\]?"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


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
    """A method in every column, one tuple of cells per group.

    Attributes:
        section, label: Where it stands, and its name.
        cells: Its numbers.
        mark: Letters of its own footnotes, or nothing.
    """

    section: str
    label: str
    cells: tuple[tuple[Cell, ...], ...]
    mark: str = ""

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

    def to_csv(self) -> str:
        """The table as CSV for spreadsheets: two header lines, marks behind the numbers, then the notes."""
        titles, headers = ([head[n] for head in self.heads] for n in (0, 1))
        lines: list[list[str]] = [["", "", *titles], ["", self.corner, *headers]]
        for row in self.rows:
            texts = [(row.label, row.mark), *((cell.text, cell.mark) for cell in row.flat)]
            lines.append([row.section, *(f"{text} {mark}".rstrip() for text, mark in texts)])
        lines += [[], [self.title], *([note] for note in self.notes)]
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([inert(text) for text in line] for line in lines)
        return file.getvalue()

    def to_json(self) -> str:
        """Everything the table holds as JSON, numbers unrounded."""
        columns = [
            {"dataset": group.name, "title": group.title, "metric": key, "header": header}
            for group in self.groups
            for header, key in zip(group.headers, group.keys or ("",) * len(group.headers), strict=True)
        ]
        rows = [
            {"section": row.section, "label": row.label, "mark": row.mark, "cells": list(map(asdict, row.flat))}
            for row in self.rows
        ]
        content = {"title": self.title, "label": self.label, "corner": self.corner, "columns": columns, "rows": rows}
        return json.dumps({**content, "notes": self.notes}, indent=1, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """The table as Markdown: the best bold, the second underlined, the notes as a list."""
        heads = [f"{_md(title)}<br>{_md(header)}" if title else _md(header) for title, header in self.heads]
        lines = [[_md(self.corner), *heads], [":--", *["--:"] * len(heads)]]
        for section, rows in self.sections:
            if len(self.sections) > 1:
                lines.append([f"*{_md(section)}*", *[""] * len(heads)])
            lines += [[_md(row.label) + _md_mark(row.mark), *map(_md_cell, row.flat)] for row in rows]
        grid = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([f"**{_md(self.title)}**", "", *grid, "", *(f"- {_md(note)}" for note in self.notes), ""])

    def to_latex(self) -> str:
        """The table as a LaTeX float for the booktabs package: the best bold, the second underlined."""
        titles, rules, end, count = [], [], 1, len(self.heads)
        for group in self.groups:
            start, end = end + 1, end + len(group.headers)
            titles.append(rf"\multicolumn{{{len(group.headers)}}}{{c}}{{{_tex(group.title)}}}")
            rules += [rf"\cmidrule(lr){{{start}-{end}}}"] if group.title else []
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{_tex(self.title)}}}",
            *([rf"\label{{{self.label}}}"] if self.label else []), rf"\begin{{tabular}}{{l{'c' * count}}}",
            r"\toprule", _tex_line(["", *titles]), "".join(rules),
            _tex_line([_tex(self.corner), *(_tex(header) for _, header in self.heads)]),
        ]  # fmt: skip
        for section, rows in self.sections:
            lines.append(r"\midrule")
            if len(self.sections) > 1:
                lines.append(rf"\multicolumn{{{count + 1}}}{{l}}{{\textit{{{_tex(section)}}}}} \\")
            lines += [_tex_line([_tex(row.label) + _tex_mark(row.mark), *map(_tex_cell, row.flat)]) for row in rows]
        lines += [r"\bottomrule", r"\end{tabular}", "", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        return "\n".join(
            [*lines, *(rf"{_tex(note)}\par" for note in self.notes), r"\end{minipage}", r"\end{table}", ""]
        )

    def save(self, path: Path | str) -> None:
        """Write the table to a file, in the format of its suffix: ``.csv``, ``.json``, ``.md`` or ``.tex``.

        Raises:
            AvlocError: Another suffix, or the file cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        writers = {".csv": self.to_csv, ".json": self.to_json, ".md": self.to_markdown, ".tex": self.to_latex}
        if suffix not in writers:
            raise AvlocError(f"{path}: {unknown('format of a table with the suffix', suffix, writers)}")
        encoding = "utf-8-sig" if suffix == ".csv" else "utf-8"  # Excel needs the mark to read UTF-8
        with writing(path):
            path.write_text(writers[suffix](), encoding=encoding)


def inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula; numbers do not change."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(text) else text


def portable(text: str) -> str:
    """A text with the last part of every path of this machine in place of the whole: tables are shown to others."""

    def last(match: re.Match[str]) -> str:
        quote = match["quote"] or ""
        return quote + re.split(r"[/\\]", match[0].strip(quote or None).rstrip("/\\"))[-1] + quote

    return _PATH.sub(last, text)


def _md(text: str) -> str:
    return text.translate(_MARKDOWN)


def _md_cell(cell: Cell) -> str:
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.rank].format(_md(cell.text))
    return text + _md_mark(cell.mark)


def _md_mark(mark: str) -> str:
    return f"<sup>{mark}</sup>" if mark else ""


def _tex(text: str) -> str:
    return text.translate(_LATEX)


def _tex_cell(cell: Cell) -> str:
    text = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[cell.rank].format(_tex(cell.text))
    return text + _tex_mark(cell.mark)


def _tex_mark(mark: str) -> str:
    return rf"\textsuperscript{{{_tex(mark)}}}" if mark else ""


def _tex_line(cells: Sequence[str]) -> str:
    line = rf"{' & '.join(cells)} \\"
    return "{}" + line if line.startswith(("[", "*")) else line  # the \\ above would take it for its argument


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
    groups = tuple(
        Group(section, tuple(f"{row.label} {row.mark}".rstrip() for row in rows)) for section, rows in sections
    )
    lone = all(len(group.headers) == 1 for group in table.groups)
    rows = []
    for index, group in enumerate(table.groups):
        for place, header in enumerate(group.headers):
            cells = tuple(tuple(row.cells[index][place] for row in rows) for _, rows in sections)
            rows.append(Row("", f"{group.title} {header}".strip(), cells) if lone else Row(group.title, header, cells))
    return replace(table, groups=groups, rows=tuple(rows), corner="Data" if lone else "Metric")
