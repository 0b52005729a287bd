"""``avloc table``: print the table of a suite that was run, or one that a paper printed."""

from __future__ import annotations

import re
from collections.abc import Callable
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
DIGITS = "Significant digits of every mean; default: one decimal for percents, two for other units."
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
    from avloc.tables import Printed, Wishes, build_table, load, render

    if label and format not in (Format.latex, Format.json):
        raise AvlocError(f"A --label is for --format latex or json; {format.value} has no place for it.")
    if published_only is not None:
        _refuse(ours, "is about a suite's numbers and not about those that a paper printed.")
        laid_out = Printed.of(published_only).table()
    else:
        if format is Format.csv:
            _refuse(ours | looks, "does not fit the CSV: it holds our own numbers only, as stored. Use sheet.")
        scores = load(results, stem(suite))
        if format is Format.csv:
            _write(render.csv(scores), output, "utf-8")
            return
        laid_out = build_table(scores, Wishes(published, intervals, reference, digits, _reducer))
    shown = _arranged(laid_out, columns, transpose, caption, label)
    if format is Format.terminal:
        _print(shown, output)
    else:
        as_sheet = format in (Format.csv, Format.sheet)
        text = render.WRITERS["sheet" if as_sheet else format.value](shown)
        # Excel takes a file for UTF-8 only if it says so.
        _write(text, output, "utf-8-sig" if as_sheet else "utf-8")


def _refuse(given: dict[str, Any], why: str) -> None:
    for option, value in given.items():
        if value:
            raise AvlocError(f"{option} {why}")


def _reducer(metric: dict[str, Any]) -> Callable[[Any], float]:
    """How a metric's rows become one number; only the metric itself knows, and it takes torch to ask it."""
    from avloc.components import Component, make_metrics

    return make_metrics([Component(name=metric["name"], params=metric["params"])])[metric["key"]].reduce


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


def _write(text: str, output: Path | None, encoding: str) -> None:
    from avloc.store import writing

    if output is None:
        typer.echo(text, nl=False)
        return
    with writing(output):
        output.write_text(text, encoding=encoding)
