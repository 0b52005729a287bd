"""Run suites, score again, list what there is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from avloc.cli import tabling
from avloc.cli.answers import (
    Commas,
    Data,
    Device,
    Plugins,
    Results,
    SuiteName,
    answers,
    command,
    load_plugins,
    names,
    numbers,
    options,
    require_encoder,
)
from avloc.types import AvlocError

JOBS = "How many datasets at a time, each in a process of its own; default: one per core, one on a GPU."
PROTOCOL = "A protocol's name, see avloc protocols; several with commas between stand side by side."
PREDICTED = "Whose test clips the predictions are about: name, or '{name: ..., parameter: ...}'; a column with --suite."

app = typer.Typer()
app.add_typer(tabling.app)


class Listed(StrEnum):
    """What `avloc list` can show."""

    methods = "methods"
    encoders = "encoders"
    datasets = "datasets"
    metrics = "metrics"
    suites = "suites"
    protocols = "protocols"


def _show(results: Path, suite: str) -> None:
    from avloc.cli.terminal import console, show_table
    from avloc.results import load_results

    show_table(load_results(suite, results).table(), console())


@app.command()
def bench(
    suite: SuiteName = "multi_source",
    methods: Commas = None,
    datasets: Commas = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2.")] = None,
    hints: Annotated[str | None, typer.Option(help="What methods are hints: none, vocabulary, count, oracle.")] = None,
    encoder: Annotated[str | None, typer.Option(help="One encoder for all datasets.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="method.parameter=value or train.epochs=5; repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first clips of every split.")] = None,
    device: Device = "auto",
    results: Results = Path("results"),
    data: Data = None,
    plugin: Plugins = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do again what is done already.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help=JOBS)] = None,
) -> None:
    """Run a suite and print its table. What is done is not done again; a stopped bench goes on."""
    chosen_seeds = numbers(seeds)
    with answers():
        from avloc.suite import load_suite

        load_plugins(plugin)
        require_encoder(encoder)
        chosen = load_suite(suite).override(
            methods=names(methods), datasets=names(datasets), seeds=chosen_seeds, encoder=encoder,
            hints=names(hints), limit=limit, settings=settings or (),
        )  # fmt: skip
        from avloc.cli.terminal import console, progress, show_plan
        from avloc.runner import plan_suite, run_suite

        chosen_options = options(results=results, data=data, device=device, force=force, jobs=jobs)
        if dry_run:
            show_plan([row.model_dump() for row in plan_suite(chosen, chosen_options)], console())
            return
        with progress():
            manifest = run_suite(chosen, chosen_options)
        _show(results, manifest.suite)
    if any(row.status == "failed" for row in manifest.rows):
        raise typer.Exit(1)


@app.command()
def score(
    suite: Annotated[str | None, typer.Option(help="A suite that was run here; default multi_source.")] = None,
    protocol: Annotated[str | None, typer.Option(help=PROTOCOL)] = None,
    metrics: Annotated[str | None, typer.Option(help="Names with commas between; name@value sets a threshold.")] = None,
    datasets: Annotated[str | None, typer.Option(help="Only these columns; names with commas between.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="A folder of predictions made elsewhere.")] = None,
    dataset: Annotated[str | None, typer.Option(help=PREDICTED)] = None,
    name: Annotated[str | None, typer.Option(help="Of the predictions' row; default the folder's.")] = None,
    hints: Annotated[
        str | None, typer.Option(help="What they were made with; default what the protocol tells.")
    ] = None,
    results: Results = Path("results"),
    data: Data = None,
    plugin: Plugins = None,
) -> None:
    """Score stored predictions under other protocols or with other metrics; runs no method.

    Several protocols make a table of the same predictions with a group of columns for each.

    With --predictions: score maps, masks or boxes that were made outside avloc, in a folder with a file for every test
    clip ID: ID.npz (array maps (Q, h, w), optionally labels and scores (Q,)), ID.png or ID__LABEL.png (gray), or any
    JSON file {ID: [{label, box | boxes | mask}]}. With --suite they become one more row of that suite's table.
    """
    with answers():
        from avloc.cli.terminal import progress

        load_plugins(plugin)
        chosen = None if suite is None else tabling.stem(suite)
        if predictions is not None and datasets:
            raise AvlocError("--datasets chooses columns of a suite; --predictions are about one --dataset.")
        _require_together(predictions, {"--dataset": dataset, "--name": name, "--hints": hints})
        with progress():
            if predictions is not None:
                from avloc.results import score_external

                found = score_external(
                    predictions, dataset or "", name=name or "", suite=chosen, protocol=protocol,
                    metrics=names(metrics), hints=hints, results=results, data=data, command=command(),
                )  # fmt: skip
            else:
                from avloc.results import rescore

                found = rescore(
                    chosen or "multi_source", protocol=",".join(names(protocol) or ()) or None, metrics=names(metrics),
                    datasets=names(datasets), results=results, data=data, command=command(),
                )  # fmt: skip
        _show(results, found.manifest.suite)


def _require_together(predictions: Path | None, others: dict[str, str | None]) -> None:
    """Predictions made elsewhere need a dataset, and only they can be told about."""
    for option, value in others.items():
        if predictions is None and value is not None:
            raise AvlocError(f"{option} is about predictions made elsewhere; say where they are with --predictions.")
    if predictions is not None and not others["--dataset"]:
        raise AvlocError("--predictions needs --dataset: whose test clips are they about?")


@app.command("list")
def list_names(
    what: Annotated[Listed | None, typer.Argument(help="One kind; all of them if left out.")] = None,
    plugin: Plugins = None,
) -> None:
    """List the methods, encoders, datasets, metrics, suites and protocols there are."""
    with answers():
        from avloc.cli.terminal import console, show_rows

        load_plugins(plugin)
        for kind in [what] if what else list(Listed):
            headers, rows = _listing(kind)
            show_rows(headers, rows, console(), title=kind.value)


def _listing(kind: Listed) -> tuple[list[str], list[list[str]]]:
    from avloc.registry import KINDS, registry
    from avloc.scoring import load_protocol, preset_names
    from avloc.suite import load_suite, suite_names

    if kind is Listed.suites:
        suites = [load_suite(name) for name in suite_names()]
        return ["name", "title", "paper"], [[suite.name, suite.title, suite.paper] for suite in suites]
    if kind is Listed.protocols:
        return ["name", "source"], [[name, load_protocol(name).source] for name in preset_names()]
    entries = next(registry().entries(one) for one in KINDS if kind.value == f"{one}s")
    return ["name", "plugin"], [[entry.name, entry.owner] for entry in entries.values()]


@app.command()
def pretrain(
    name: Annotated[str, typer.Argument(help="An encoder that has a recipe; see avloc list encoders.")],
    output: Annotated[Path | None, typer.Option(help="Where the weights go; default NAME.safetensors.")] = None,
    seed: Annotated[int, typer.Option(help="Of initialization and order.")] = 0,
    device: Device = "auto",
    plugin: Plugins = None,
) -> None:
    """Train an encoder's weights from scratch by its own recipe."""
    with answers():
        from avloc.cli.terminal import progress
        from avloc.registry import registry

        load_plugins(plugin)
        encoder: Any = registry().get("encoder", name)
        chosen_options = options(results=Path(), device=device)
        with progress():
            weights = encoder.pretrain(
                output or Path(f"{name}.safetensors"), seed=seed, device=chosen_options.torch_device
            )
        typer.echo(f"Wrote {weights}")
