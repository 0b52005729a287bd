"""``avloc check``: try a method."""

from __future__ import annotations

import traceback
from typing import Annotated

import typer

from avloc.cli.common import Plugins
from avloc.types import AvlocError


def check(
    name: Annotated[str, typer.Argument(help="A method; see avloc list methods.")], plugin: Plugins = None
) -> None:
    """Try a method on a small synthetic world: does it do all that a table relies on?"""
    from avloc.testing import conformance_checks

    failed = 0
    for title, run in conformance_checks(name):
        try:
            run()
        except Exception as error:  # a method may raise anything, and that is a finding
            failed += 1
            typer.echo(f"FAIL  {title}\n      {_reason(error)}")
        else:
            typer.echo(f"pass  {title}")
    typer.echo(f"{name}: {failed} checks failed." if failed else f"{name} passes.")
    if failed:
        raise typer.Exit(1)


def _reason(error: Exception) -> str:
    """The sentence of a finding; of any other exception what it is and where it was raised."""
    if isinstance(error, AvlocError | AssertionError) and str(error):
        return str(error)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"It raised {type(error).__name__}: {error} ({own[-1].filename}, line {own[-1].lineno})"
