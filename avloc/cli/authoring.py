"""Start a plugin, and check one."""

from __future__ import annotations

import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avloc.cli.answers import Plugins, answers, load_plugins
from avloc.types import AvlocError

app = typer.Typer()


class Made(StrEnum):
    """What `avloc new` can start."""

    method = "method"


@app.command()
def new(
    what: Annotated[Made, typer.Argument(help="What to start.")],
    name: Annotated[str, typer.Argument(help="Its name in suites and tables, such as my_method.")],
    to: Annotated[Path, typer.Option(help="Where its folder is made.")] = Path(),
) -> None:
    """Write a working package of one's own: a plugin that trains, its test, and how it is installed."""
    with answers():
        from avloc.cli.package import new_method

        plugin, *others = new_method(name, to)
        typer.echo(f"Wrote {plugin}, and beside it {', '.join(file.name for file in others)}. Next:")
        typer.echo(f"  avloc check {name} --plugin {plugin}")
        typer.echo(f"  avloc bench --plugin {plugin} --methods {name} --suite smoke")
        typer.echo(f"  pip install -e {plugin.parent}   # from then on without --plugin")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A method; see avloc list methods.")],
    plugin: Plugins = None,
) -> None:
    """Try a method on a small made-up world: does it do all that a table relies on?"""
    failed = 0
    with answers():
        load_plugins(plugin)
        from avloc.testing import conformance_checks

        for title, run in conformance_checks(name):
            try:
                run()
            except Exception as error:  # a method may raise anything; that is a finding
                failed += 1
                typer.echo(f"FAIL  {title}\n      {_reason(error)}")
            else:
                typer.echo(f"pass  {title}")
    typer.echo(f"{name}: {failed} checks failed." if failed else f"{name} passes.")
    if failed:
        raise typer.Exit(1)


def _reason(error: Exception) -> str:
    """The sentence of a finding; of anything else what it is and where it comes from."""
    if isinstance(error, AvlocError | AssertionError) and str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    return f"It raised {type(error).__name__}: {error} ({own[-1].filename}, line {own[-1].lineno})"
