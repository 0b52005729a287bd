"""Fetch, add and list checkpoints of encoders."""

from __future__ import annotations

import typer

app = typer.Typer(help="Fetch, add and list checkpoints of encoders.", no_args_is_help=True)


@app.callback()
def _weights() -> None:
    pass
