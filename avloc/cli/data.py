"""Prepare, inspect and check data sets."""

from __future__ import annotations

import typer

app = typer.Typer(help="Prepare, inspect and check data sets.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    pass
