"""A table as Markdown, LaTeX, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avloc.tables.table import Cell, Table

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "—": "--", "↓": r"$\downarrow$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "✓": r"$\surd$", "✗": r"$\times$", "\n": " ",
})  # fmt: skip
_MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "<": "&lt;", ">": "&gt;", "*": r"\*", "`": r"\`", "\n": " "})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def to_csv(table: Table) -> str:
    """The table as CSV for spreadsheets: two header lines, marks behind the numbers, then the notes."""
    titles, headers = ([head[n] for head in table.heads] for n in (0, 1))
    lines: list[list[str]] = [["", "", *titles], ["", table.corner, *headers]]
    for row in table.rows:
        lines.append([row.section, row.label, *(f"{cell.text} {cell.mark}".rstrip() for cell in row.flat)])
    lines += [[], [table.title], *([note] for note in table.notes)]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([inert(text) for text in line] for line in lines)
    return file.getvalue()


def inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula; numbers do not change."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(text) else text


def to_json(table: Table) -> str:
    """Everything the table holds as JSON, numbers unrounded."""
    columns = [
        {"dataset": group.name, "title": group.title, "metric": key, "header": header}
        for group in table.groups
        for header, key in zip(group.headers, group.keys or ("",) * len(group.headers), strict=True)
    ]
    rows = [{"section": row.section, "label": row.label, "cells": list(map(asdict, row.flat))} for row in table.rows]
    content = {"title": table.title, "label": table.label, "corner": table.corner, "columns": columns, "rows": rows}
    return json.dumps({**content, "notes": table.notes}, indent=1, ensure_ascii=False) + "\n"


def to_markdown(table: Table) -> str:
    """The table as Markdown: the best bold, the second underlined, the notes as a list."""
    heads = [f"{_md(title)}<br>{_md(header)}" if title else _md(header) for title, header in table.heads]
    lines = [[_md(table.corner), *heads], [":--", *["--:"] * len(heads)]]
    for section, rows in table.sections:
        if len(table.sections) > 1:
            lines.append([f"*{_md(section)}*", *[""] * len(heads)])
        lines += [[_md(row.label), *map(_md_cell, row.flat)] for row in rows]
    grid = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"**{_md(table.title)}**", "", *grid, "", *(f"- {_md(note)}" for note in table.notes), ""])


def _md_cell(cell: Cell) -> str:
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.rank].format(_md(cell.text))
    return text + (f"<sup>{cell.mark}</sup>" if cell.mark else "")


def _md(text: str) -> str:
    return text.translate(_MARKDOWN)


def to_latex(table: Table) -> str:
    """The table as a LaTeX float for the booktabs package: the best bold, the second underlined."""
    titles, rules, end, count = [], [], 1, len(table.heads)
    for group in table.groups:
        start, end = end + 1, end + len(group.headers)
        titles.append(rf"\multicolumn{{{len(group.headers)}}}{{c}}{{{_tex(group.title)}}}")
        rules += [rf"\cmidrule(lr){{{start}-{end}}}"] if group.title else []
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}}}",
        *([rf"\label{{{table.label}}}"] if table.label else []), rf"\begin{{tabular}}{{l{'c' * count}}}",
        r"\toprule", _tex_line(["", *titles]), "".join(rules),
        _tex_line([_tex(table.corner), *(_tex(header) for _, header in table.heads)]),
    ]  # fmt: skip
    for section, rows in table.sections:
        lines.append(r"\midrule")
        if len(table.sections) > 1:
            lines.append(rf"\multicolumn{{{count + 1}}}{{l}}{{\textit{{{_tex(section)}}}}} \\")
        lines += [_tex_line([_tex(row.label), *map(_tex_cell, row.flat)]) for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}", "", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
    return "\n".join([*lines, *(rf"{_tex(note)}\par" for note in table.notes), r"\end{minipage}", r"\end{table}", ""])


def _tex_line(cells: Sequence[str]) -> str:
    line = rf"{' & '.join(cells)} \\"
    return "{}" + line if line.startswith(("[", "*")) else line  # the \\ above would take it for its argument


def _tex_cell(cell: Cell) -> str:
    text = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[cell.rank].format(_tex(cell.text))
    return text + (rf"\textsuperscript{{{_tex(cell.mark)}}}" if cell.mark else "")


def _tex(text: str) -> str:
    return text.translate(_LATEX)


WRITERS: dict[str, Callable[[Table], str]] = {
    ".csv": to_csv, ".json": to_json, ".md": to_markdown, ".tex": to_latex,
}  # fmt: skip
"""Suffix of a file -> what writes a table into it."""
