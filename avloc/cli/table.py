"""``avloc table``: print the table of a suite that was run, or one that a paper printed."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from avloc.cli.common import Plugins, Results, SuiteName, names, stem
from avloc.types import AvlocError

if TYPE_CHECKING:
    from avloc.tables import Table

Format = Literal["terminal", "csv", "sheet", "latex", "markdown", "json"]
FORMATS = "csv: one line per number and seed, as stored. sheet: the table itself, as CSV for spreadsheets."
PUBLISHED_ONLY = "A paper's own table instead of a suite's, such as 'T-VSL, Table 1'."
DIGITS = "Significant digits of every mean; default: one decimal."
COLUMNS = "Only these: datasets, metrics or dataset/metric, with commas between; repeatable."


def _label(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[\w:./+-]+", value):
        raise typer.BadParameter(f"{value!r} should be letters, digits and : . / + - _ only, such as tab:duets.")
    return value


def table(
    suite: SuiteName = "multi_source",
    format: Annotated[Format, typer.Option(help=FORMATS)] = "terminal",
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
    ours = {"--published": published, "--intervals": intervals, "--reference": reference, "--digits": digits}
    looks = {"--columns": columns, "--transpose": transpose, "--caption": caption, "--label": label}
    from avloc.results import load_results
    from avloc.tables import Printed, load_scores

    if label and format not in ("latex", "json"):
        raise AvlocError(f"A --label is for --format latex or json; {format} has no place for it.")
    if published_only is not None:
        _refuse(ours, "is about a suite's numbers and not about those that a paper printed.")
        laid_out = Printed.of(published_only).table()
    elif format == "csv":
        _refuse(ours | looks, "does not fit the CSV: it holds our own numbers only, as stored. Use sheet.")
        found = load_results(stem(suite), results)
        _write(load_scores(found.manifest, found.folder).to_csv(), "utf-8", output)
        return
    else:
        options: dict[str, Any] = {key.removeprefix("--"): value for key, value in ours.items()}
        laid_out = load_results(stem(suite), results).table(**options)
    shown = _arranged(laid_out, columns, transpose, caption, label)
    if format == "terminal":
        from avloc.cli.terminal import console, show_table

        file = None if output is None else StringIO()
        show_table(shown, console(file))
        if file is not None:
            _write(file.getvalue(), "utf-8", output)
        return
    write = {"latex": shown.to_latex, "markdown": shown.to_markdown, "json": shown.to_json}.get(format, shown.to_csv)
    _write(write(), "utf-8-sig" if format in ("csv", "sheet") else "utf-8", output)  # Excel needs the mark


def _refuse(given: dict[str, Any], why: str) -> None:
    for option, value in given.items():
        if value:
            raise AvlocError(f"{option} {why}")


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


def _write(text: str, encoding: str, output: Path | None) -> None:
    from avloc.store import writing

    if output is None:
        typer.echo(text, nl=False)
        return
    with writing(output):
        output.write_text(text, encoding=encoding)
