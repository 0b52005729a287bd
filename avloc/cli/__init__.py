"""The command line: parse, one library call, print tables to stdout and progress to stderr.

Takes arguments and returns an exit status; every command has a file of its own. Torch is imported inside the commands
that compute, so that help, lists and tables answer at once.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from avloc.cli import bench, cache, check, data, list, new, protocols, score, table, weights
from avloc.cli.common import Group

__all__ = ["app", "main"]

app = typer.Typer(
    name="avloc", help="Benchmarks for audio-visual sound source localization.", cls=Group, no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
for command in (bench.bench, score.score, table.table, list.list_names, new.new, check.check):
    app.command(command.__name__.removesuffix("_names"))(command)
for group in (data, weights, cache, protocols):
    app.add_typer(group.app)


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
