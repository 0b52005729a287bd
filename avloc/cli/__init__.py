"""The command line: parse, one library call, print tables to stdout and progress to stderr.

In come arguments, out comes an exit status; every command has a file. Torch is imported inside the commands that
compute, so that help, lists and tables answer at once.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from avloc.cli import authoring, benching, cache, data, protocols, weights

__all__ = ["app", "main"]

app = typer.Typer(
    name="avloc",
    help="Benchmarks for audio-visual sound source localization.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(benching.app)
app.add_typer(authoring.app)
app.add_typer(protocols.app, name="protocols")
app.add_typer(cache.app, name="cache")
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"avloc {version('avloc')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def _root(version: Version = False) -> None:
    pass


def main() -> None:
    """The console script ``avloc``."""
    app(prog_name="avloc")
