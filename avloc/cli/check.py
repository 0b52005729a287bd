"""``avloc check``: try a plugin."""

from __future__ import annotations

import traceback
from typing import Annotated, Any

import typer

from avloc.cli.common import Data, Plugins
from avloc.registry import Kind
from avloc.types import AvlocError

_SET = typer.Option("--set", help="parameter=value of the plugin, such as csv=clips.csv; repeatable.")


def check(
    name: Annotated[str, typer.Argument(help="A method, encoder, data set or metric; see avloc list.")],
    kind: Annotated[Kind | None, typer.Option(help="Which, where several have this name.")] = None,
    data: Data = None,
    settings: Annotated[list[str] | None, _SET] = None,
    plugin: Plugins = None,
) -> None:
    """Try a plugin in a small synthetic world, or a data set on its clips: does it do all that a table relies on?"""
    from avloc.components import Component, check_parameters, read_setting
    from avloc.registry import get_component
    from avloc.testing import conformance_checks, kinds_of

    parameters: dict[str, Any] = dict(map(read_setting, settings or ()))
    failed = 0
    for one in [kind] if kind else kinds_of(name):
        cls = get_component(one, name)
        check_parameters(one, Component(name=name, params=parameters), cls)
        root = {"root": data} if one == "dataset" else {}
        failed += _try(f"{one} {name}", conformance_checks(cls, one, **parameters, **root))
    if failed:
        raise typer.Exit(1)


def _try(what: str, checks: list[Any]) -> int:
    """Run checks and print what each found; returns how many failed."""
    failed, last = 0, ""
    for title, run in checks:
        try:
            run()
        except Exception as error:  # a plugin may raise anything, and that is a finding
            failed += 1
            reason = _reason(error)
            typer.echo(f"FAIL  {title}" + (" (the same)" if reason == last else f"\n      {reason}"))
            last = reason
        else:
            typer.echo(f"pass  {title}")
    typer.echo(f"{what}: {failed} of {len(checks)} checks failed." if failed else f"{what} passes.")
    return failed


def _reason(error: Exception) -> str:
    """The sentence of a finding; of any other exception what it is and where it was raised."""
    if isinstance(error, AvlocError | AssertionError) and str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"It raised {type(error).__name__}: {error} ({own[-1].filename}, line {own[-1].lineno})"
