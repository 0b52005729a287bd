"""``avloc cache``: show and clear what avloc can make again."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(name="cache", help="Show what the cache holds, and clear it. Everything in it can be made again.")


@app.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """List the cache's folders with their sizes."""
    if context.invoked_subcommand:
        return
    from avloc.cli.terminal import show_rows
    from avloc.store import cache_folder, entries

    found = entries()
    rows = [[e.name, e.what, f"{e.clips:,}" if e.clips else "", _megabytes(e.size), f"{e.written:%Y-%m-%d %H:%M}"]
            for e in found]  # fmt: skip
    show_rows(["name", "what", "records", "size", "written (UTC)"], rows, title=str(cache_folder()))
    typer.echo(f"{_megabytes(sum(e.size for e in found))} in all.")


@app.command()
def clear(
    names: Annotated[list[str] | None, typer.Argument(help="Names or beginnings of names; see avloc cache.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
) -> None:
    """Delete folders of the cache; they are made again when needed. Your own data sets and weights are not in it."""
    from avloc.store import clear as delete

    if bool(names) == everything:
        raise typer.BadParameter("say which folders (avloc cache lists them), or --all.")
    typer.echo(f"{_megabytes(delete(names or []))} freed.")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
