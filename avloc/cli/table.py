"""``avloc table``: print the table of a suite that was run, or one that a paper printed."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avloc.cli.common import Plugins, Results, SuiteName, names, stem
from avloc.types import AvlocError

if TYPE_CHECKING:
    from avloc.tables import Table

app = typer.Typer()


class Format(StrEnum):
    """What `avloc table` can print."""

    terminal = "terminal"
    csv = "csv"
    sheet = "sheet"
    latex = "latex"
    markdown = "markdown"
    json = "json"


FORMATS = "csv: one line per number and seed, as stored. sheet: the table itself, as CSV for spreadsheets."
PUBLISHED_ONLY = "A paper's own table instead of a suite's, such as 'T-VSL, Table 1'."
DIGITS = "Significant digits of every mean; default: one decimal."
COLUMNS = "Only these: datasets, metrics or dataset/metric, with commas between; repeatable."


def _label(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[\w:./+-]+", value):
        raise typer.BadParameter(f"{value!r} should be letters, digits and : . / + - _ only, such as tab:duets.")
    return value


@app.command()
def table(
    suite: SuiteName = "multi_source",
    format: Annotated[Format, typer.Option(help=FORMATS)] = Format.terminal,
    published: Annotated[bool, typer.Option("--published", help="Add the paper's printed numbers, marked.")] = False,
    published_only: Annotated[str | None, typer.Option(help=PUBLISHED_ONLY)] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="Add 95 % intervals, by video.")] = False,
    reference: Annotated[str | None, typer.Option(help="Test all others against this method; '' for none.")] = None,
    columns: Annotated[list[str] | None, typer.Option(help=COLUMNS)] = None,
    transpose: Annotated[bool, typer.Option("--transpose", help="Methods side by side.")] = False,
    digits: Annotated[int | None, typer.Option(min=1, max=9, help=DIGITS)] = None,
    caption: Annotated[str | None, typer.Option(help="Instead of the suite's title.")] = None,
    label: Annotated[str | None, typer.Option(callback=_label, help="For LaTeX's \\ref, such as tab:duets.")] = None,
    output: Annotated[Path | None, typer.Option(help="A file to write instead of printing.")] = None,
    results: Results = Path("results"),
    plugin: Plugins = None,
) -> None:
    """Print the table of a suite that was run, or one that a paper printed."""
    ours: dict[str, Any] = {"--published": published, "--intervals": intervals, "--reference": reference}
    ours["--digits"] = digits is not None
    looks = {"--columns": columns, "--transpose": transpose, "--caption": caption, "--label": label}
    from avloc.results import load_results
    from avloc.tables import Printed, load_scores

    if label and format not in (Format.latex, Format.json):
        raise AvlocError(f"A --label is for --format latex or json; {format.value} has no place for it.")
    if published_only is not None:
        _refuse(ours, "is about a suite's numbers and not about those that a paper printed.")
        laid_out = Printed.of(published_only).table()
    else:
        if format is Format.csv:
            _refuse(ours | looks, "does not fit the CSV: it holds our own numbers only, as stored. Use sheet.")
        if format is Format.csv:
            _write(load_scores(results, stem(suite)).to_csv(), "utf-8", output)
            return
        laid_out = load_results(stem(suite), results).table(
            published=published, intervals=intervals, reference=reference, digits=digits
        )
    shown = _arranged(laid_out, columns, transpose, caption, label)
    if format is Format.terminal:
        _print(shown, output)
    else:
        _write(*_text(shown, format), output)


def _refuse(given: dict[str, Any], why: str) -> None:
    for option, value in given.items():
        if value:
            raise AvlocError(f"{option} {why}")


def _text(table: Table, format: Format) -> tuple[str, str]:
    """A table as text, and its encoding: Excel takes a file for UTF-8 only if it says so."""
    match format:
        case Format.latex:
            return table.to_latex(), "utf-8"
        case Format.markdown:
            return table.to_markdown(), "utf-8"
        case Format.json:
            return table.to_json(), "utf-8"
        case _:
            return table.to_csv(), "utf-8-sig"


def _arranged(
    table: Table, columns: list[str] | None, transpose: bool, caption: str | None, label: str | None
) -> Table:
    from avloc.tables import column_names, select, transposed

    if columns:
        known = column_names(table)
        whole = [[value] if value in known else names(value) or [] for value in columns]
        table = select(table, [name for part in whole for name in part])
    if transpose:
        table = transposed(table)
    return replace(table, title=table.title if caption is None else caption, label=label or "")


def _print(table: Table, output: Path | None) -> None:
    from avloc.cli.terminal import console, show_table
    from avloc.store import writing

    with writing(output or Path()), output.open("w", encoding="utf-8") if output else nullcontext() as file:
        show_table(table, console(file))


def _write(text: str, encoding: str, output: Path | None) -> None:
    from avloc.store import writing

    if output is None:
        typer.echo(text, nl=False)
        return
    with writing(output):
        output.write_text(text, encoding=encoding)
