"""``avloc protocols``: list and explain protocols."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(name="protocols", help="How published evaluators turn maps into numbers, and how avloc does.")


@app.callback(invoke_without_command=True)
def show(name: Annotated[str | None, typer.Argument(help="A protocol to explain; default: list all.")] = None) -> None:
    """List the protocols by name, or explain one: its keys, its note, and what it was checked against."""
    from avloc.cli.terminal import show_rows
    from avloc.scoring import load_protocol, preset_names

    if name is None:
        presets = {preset: load_protocol(preset) for preset in preset_names()}
        rows = [[n, p.source, p.summary(), "!" if p.warning else ""] for n, p in presets.items()]
        show_rows(["protocol", "source", "what it does", ""], rows)
        typer.echo("! has a defect: avloc protocols NAME explains it, and every key.")
        return
    protocol = load_protocol(name)
    typer.echo(f"{name}: {protocol.source}\n")
    for title, text in (("Note", protocol.note), ("Warning", protocol.warning)):
        if text:
            typer.echo(f"{title}: {text}\n")
    show_rows(["key", "value", "what it is"], protocol.explain())
    typer.echo(f"Checked against: {protocol.checked or 'nothing recorded: what is known of it is its text'}.")
