"""``avloc bench``: run a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avloc.cli.common import Commas, Data, Device, Plugins, Results, SuiteName, names, numbers, typed

JOBS = "How many processes share the runs; default: one per core, or one on a GPU."
HINTS = "What is disclosed to methods: none, vocabulary, count or oracle; several with commas between."
SET = "method.parameter=value or train.epochs=5; repeatable."


def bench(
    suite: SuiteName = "multi_source",
    methods: Commas = None,
    datasets: Commas = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2.")] = None,
    hints: Annotated[str | None, typer.Option(help=HINTS)] = None,
    encoder: Annotated[str | None, typer.Option(help="One encoder for all data sets.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help=SET)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first clips of every split.")] = None,
    device: Device = "auto",
    results: Results = Path("results"),
    data: Data = None,
    plugin: Plugins = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run again what is finished.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help=JOBS)] = None,
) -> None:
    """Run a suite and print its table. Finished runs are reused; an interrupted bench resumes."""
    chosen_seeds = numbers(seeds)
    from avloc.registry import get_component
    from avloc.suite import load_suite

    if encoder is not None:
        get_component("encoder", encoder)  # a suite's encoder may be absent with its plugin; this one may not
    chosen = load_suite(suite).override(
        methods=names(methods), datasets=names(datasets), seeds=chosen_seeds, encoder=encoder, hints=names(hints),
        limit=limit, settings=settings or (),
    )  # fmt: skip
    from avloc.cli.terminal import show_plan, show_table
    from avloc.runner import Options, bench as run, plan_suite

    if dry_run:
        show_plan(plan_suite(chosen, Options(results, data, device)))
        return
    found = run(chosen, results=results, data=data, device=device, force=force, jobs=jobs, command=typed())
    show_table(found.table())
    if any(row.status == "failed" for row in found.manifest.rows):
        raise typer.Exit(1)
