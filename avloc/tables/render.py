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

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "—": "--", "↓": r"$\downarrow$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "✓": r"$\surd$", "✗": r"$\times$", "\n": " ",
}  # fmt: skip
_MARKDOWN = {"\\": r"\\", "|": r"\|", "<": "&lt;", ">": "&gt;", "*": r"\*", "`": r"\`", "\n": " "}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def to_csv(table: Table) -> str:
    """Two header lines, marks behind the numbers, notes after an empty line."""
    titles = [group.title for group in table.groups for _ in group.headers]
    headers = [header for group in table.groups for header in group.headers]
    lines: list[list[str]] = [["", "", *titles], ["", table.corner, *headers]]
    for row in table.rows:
        cells = (cell for cells in row.cells for cell in cells)
        lines.append([row.section, row.label, *(f"{cell.text} {cell.mark}".rstrip() for cell in cells)])
    lines += [[], [table.title], *([note] for note in table.notes)]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([inert(text) for text in line] for line in lines)
    return file.getvalue()


def inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula; numbers do not change."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(text) else text


def to_json(table: Table) -> str:
    """Everything the table holds, numbers unrounded."""
    columns = [
        {"dataset": group.name, "title": group.title, "metric": key, "header": header}
        for group in table.groups
        for header, key in zip(group.headers, group.keys or ("",) * len(group.headers), strict=True)
    ]
    rows = [
        {"section": row.section, "label": row.label, "cells": [asdict(cell) for cells in row.cells for cell in cells]}
        for row in table.rows
    ]
    content = {"title": table.title, "label": table.label, "corner": table.corner, "columns": columns, "rows": rows}
    return json.dumps({**content, "notes": table.notes}, indent=1, ensure_ascii=False) + "\n"


def to_markdown(table: Table) -> str:
    """Best bold, second underlined; one header line, as Markdown has no more."""
    heads = [
        f"{_md(group.title)}<br>{_md(header)}" if group.title else _md(header)
        for group in table.groups
        for header in group.headers
    ]
    lines = [
        f"**{_md(table.title)}**",
        "",
        _md_line([_md(table.corner), *heads]),
        _md_line([":--", *["--:"] * len(heads)]),
    ]
    several = len(table.sections) > 1
    for section, rows in table.sections:
        if several:
            lines.append(_md_line([f"*{_md(section)}*", *[""] * len(heads)]))
        for row in rows:
            lines.append(_md_line([_md(row.label), *(_md_cell(cell) for cells in row.cells for cell in cells)]))
    return "\n".join([*lines, "", *(f"- {_md(note)}" for note in table.notes), ""])


def _md_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md_cell(cell: Cell) -> str:
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.rank].format(_md(cell.text))
    return text + (f"<sup>{cell.mark}</sup>" if cell.mark else "")


def _md(text: str) -> str:
    return "".join(_MARKDOWN.get(character, character) for character in text)


def to_latex(table: Table) -> str:
    """A ``table`` float for the booktabs package; best ``\\textbf``, second ``\\underline``."""
    count = sum(len(group.headers) for group in table.groups)
    titles, rules, start = [], [], 2
    for group in table.groups:
        end = start + len(group.headers) - 1
        titles.append(rf"\multicolumn{{{len(group.headers)}}}{{c}}{{{_tex(group.title)}}}")
        rules += [rf"\cmidrule(lr){{{start}-{end}}}"] if group.title else []
        start = end + 1
    heads = [_tex(header) for group in table.groups for header in group.headers]
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}}}",
        *([rf"\label{{{table.label}}}"] if table.label else []), rf"\begin{{tabular}}{{l{'c' * count}}}",
        r"\toprule", _tex_line(["", *titles]), "".join(rules), _tex_line([_tex(table.corner), *heads]),
    ]  # fmt: skip
    several = len(table.sections) > 1
    for section, rows in table.sections:
        lines.append(r"\midrule")
        if several:
            lines.append(rf"\multicolumn{{{count + 1}}}{{l}}{{\textit{{{_tex(section)}}}}} \\")
        for row in rows:
            lines.append(_tex_line([_tex(row.label), *(_tex_cell(cell) for cells in row.cells for cell in cells)]))
    lines += [r"\bottomrule", r"\end{tabular}", "", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
    return "\n".join([*lines, *(rf"{_tex(note)}\par" for note in table.notes), r"\end{minipage}", r"\end{table}", ""])


def _tex_line(cells: Sequence[str]) -> str:
    line = rf"{' & '.join(cells)} \\"
    return "{}" + line if line.startswith(("[", "*")) else line  # the \\ above would take it for its argument


def _tex_cell(cell: Cell) -> str:
    text = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[cell.rank].format(_tex(cell.text))
    return text + (rf"\textsuperscript{{{_tex(cell.mark)}}}" if cell.mark else "")


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


WRITERS: dict[str, Callable[[Table], str]] = {
    ".csv": to_csv, ".json": to_json, ".md": to_markdown, ".tex": to_latex,
}  # fmt: skip
"""Suffix of a file -> what writes a table into it."""
