"""A laid out table as Markdown or LaTeX, and its frame as CSV."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from avloc.tables import Cell, Scores, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "—": "--", "↓": r"$\downarrow$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$",
}  # fmt: skip
_MARKDOWN = {"\\": r"\\", "|": r"\|", "<": "&lt;", ">": "&gt;", "*": r"\*", "`": r"\`", "\n": " "}


def csv(scores: Scores) -> str:
    """One line per method row, dataset, metric and seed; ``value`` is a fraction."""
    return str(scores.frame.to_csv(index=False, lineterminator="\n"))


def markdown(table: Table) -> str:
    """Best bold, second underlined; one header line, as Markdown has no more."""
    heads = [f"{_md(group.title)}<br>{_md(header)}" for group in table.groups for header in group.headers]
    lines = [f"**{_md(table.title)}**", "", _md_line(["method", *heads]), _md_line([":--", *["--:"] * len(heads)])]
    several = len({row.block for row in table.rows}) > 1
    for block, rows in groupby(table.rows, key=lambda row: row.block):
        if several:
            lines.append(_md_line([f"*{_md(block)}*", *[""] * len(heads)]))
        for row in rows:
            lines.append(_md_line([_md(row.label), *(_md_cell(cell) for cells in row.cells for cell in cells)]))
    return "\n".join([*lines, "", *(f"- {_md(note)}" for note in table.notes), ""])


def _md_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md_cell(cell: Cell) -> str:
    text = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}[cell.rank].format(_md(cell.text))
    return text + (f"<sup>{cell.mark}</sup>" if cell.mark else "")


def _md(text: str) -> str:
    return "".join(_MARKDOWN.get(character, character) for character in text)


def latex(table: Table) -> str:
    """A ``table`` float for the booktabs package; best ``\\textbf``, second ``\\underline``."""
    count = sum(len(group.headers) for group in table.groups)
    titles, rules, start = [], [], 2
    for group in table.groups:
        end = start + len(group.headers) - 1
        titles.append(rf"\multicolumn{{{len(group.headers)}}}{{c}}{{{_tex(group.title)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{end}}}")
        start = end + 1
    heads = [_tex(header) for group in table.groups for header in group.headers]
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}}}", rf"\begin{{tabular}}{{l{'c' * count}}}",
        r"\toprule", _tex_line(["", *titles]), "".join(rules), _tex_line(["Method", *heads]),
    ]  # fmt: skip
    several = len({row.block for row in table.rows}) > 1
    for block, rows in groupby(table.rows, key=lambda row: row.block):
        lines.append(r"\midrule")
        if several:
            lines.append(rf"\multicolumn{{{count + 1}}}{{l}}{{\textit{{{_tex(block)}}}}} \\")
        for row in rows:
            lines.append(_tex_line([_tex(row.label), *(_tex_cell(cell) for cells in row.cells for cell in cells)]))
    lines += [r"\bottomrule", r"\end{tabular}", "", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
    return "\n".join([*lines, *(rf"{_tex(note)}\par" for note in table.notes), r"\end{minipage}", r"\end{table}", ""])


def _tex_line(cells: list[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _tex_cell(cell: Cell) -> str:
    text = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[cell.rank].format(_tex(cell.text))
    return text + (rf"\textsuperscript{{{cell.mark}}}" if cell.mark else "")


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


WRITERS: dict[str, Callable[[Scores, Table], str]] = {
    "csv": lambda scores, table: csv(scores),
    "latex": lambda scores, table: latex(table),
    "markdown": lambda scores, table: markdown(table),
}
