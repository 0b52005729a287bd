"""``avloc list``: the names there are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from avloc.cli.common import Plugins

app = typer.Typer()


class Listed(StrEnum):
    """What `avloc list` can show."""

    methods = "methods"
    encoders = "encoders"
    datasets = "datasets"
    metrics = "metrics"
    suites = "suites"
    protocols = "protocols"


@app.command("list")
def list_names(
    what: Annotated[Listed | None, typer.Argument(help="One kind; default: all of them.")] = None,
    plugin: Plugins = None,
) -> None:
    """List the methods, encoders, data sets, metrics, suites and protocols."""
    from avloc.cli.terminal import show_rows

    for kind in [what] if what else list(Listed):
        headers, rows = _listing(kind)
        show_rows(headers, rows, title=kind.value)


def _listing(kind: Listed) -> tuple[list[str], list[list[str]]]:
    if kind is Listed.suites:
        from avloc.suite import load_suite, suite_names

        suites = [load_suite(name) for name in suite_names()]
        return ["name", "title", "paper"], [[suite.name, suite.title, suite.paper] for suite in suites]
    if kind is Listed.protocols:
        from avloc.scoring import load_protocol, preset_names

        return ["name", "source"], [[name, load_protocol(name).source] for name in preset_names()]
    from avloc.registry import KINDS, registry

    entries = next(registry().entries(one) for one in KINDS if kind.value == f"{one}s")
    return ["name", "plugin"], [[entry.name, entry.owner] for entry in entries.values()]
