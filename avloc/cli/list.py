"""``avloc list``: the names there are."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import typer

from avloc.cli.common import Plugins

Listed = Literal["methods", "encoders", "datasets", "metrics", "suites", "protocols"]


def list_names(
    what: Annotated[Listed | None, typer.Argument(help="One kind; default: all of them.")] = None,
    plugin: Plugins = None,
) -> None:
    """List the methods, encoders, data sets, metrics, suites and protocols."""
    from avloc.cli.terminal import show_rows

    for kind in [what] if what else get_args(Listed):
        show_rows(*_listing(kind), title=kind)


def _listing(kind: str) -> tuple[list[str], list[list[str]]]:
    if kind == "suites":
        from avloc.suite import load_suite, suite_names

        suites = [load_suite(name) for name in suite_names()]
        return ["name", "title", "paper"], [[suite.name, suite.title, suite.paper] for suite in suites]
    if kind == "protocols":
        from avloc.scoring import load_protocol, preset_names

        return ["name", "source"], [[name, load_protocol(name).source] for name in preset_names()]
    from avloc.registry import KINDS, registry

    entries = next(registry().entries(one) for one in KINDS if kind == f"{one}s")
    return ["name", "plugin"], [[entry.name, entry.owner] for entry in entries.values()]
