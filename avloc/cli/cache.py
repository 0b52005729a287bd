"""Show and clear what avloc can make again."""

from __future__ import annotations

from typing import Annotated

import typer

from avloc.cli.answers import answers

app = typer.Typer(help="Show what the cache holds, and clear it. Everything in it can be made again.")


@app.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """List the cache's folders with their sizes."""
    if context.invoked_subcommand:
        return
    with answers():
        from avloc.cli.terminal import console, show_rows
        from avloc.store import cache_folder, entries

        found = entries()
        rows = [
            [e.name, e.what, f"{e.clips:,}" if e.clips else "", _megabytes(e.size), f"{e.written:%Y-%m-%d %H:%M}"]
            for e in found
        ]
        show_rows(["name", "what", "records", "size", "written (UTC)"], rows, console(), title=str(cache_folder()))
        typer.echo(f"{_megabytes(sum(e.size for e in found))} in all.")


@app.command()
def clear(
    names: Annotated[list[str] | None, typer.Argument(help="Names that avloc cache lists, or how they begin.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
) -> None:
    """Delete folders of the cache; what is needed is made again. Data sets and weights you brought are not touched."""
    with answers():
        from avloc.store import clear as delete

        if bool(names) == everything:
            raise typer.BadParameter("say which folders (avloc cache lists them), or --all.")
        typer.echo(f"{_megabytes(delete(names or []))} freed.")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
