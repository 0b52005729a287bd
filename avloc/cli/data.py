"""``avloc data``: prepare, inspect and check data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avloc.cli.common import Data, Plugins

if TYPE_CHECKING:
    from avloc.data.prepared import Opened, Prepared, Report

app = typer.Typer(help="Prepare, inspect and check data sets.", no_args_is_help=True)

NAMED = 5
"""How many clips or reasons are named; the others are counted."""

Name = Annotated[str, typer.Argument(help="A data set; see avloc data list.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="parameter=value of the data set, such as csv=clips.csv; repeatable.")
]


@app.command("list")
def list_data(data: Data = None, plugin: Plugins = None) -> None:
    """List the data sets: what each needs, where that is, whether it is there, and whose it is."""
    from avloc.cli.terminal import show_rows
    from avloc.data.prepared import listings
    from avloc.registry import registry

    found = listings(data)
    show_rows(["name", "needs", "where", "state"], [[one.name, one.needs, one.place, one.state] for one in found])
    classes = {one.name: registry().get("dataset", one.name) for one in found if not one.state.startswith("broken")}
    for name, cls in classes.items():
        about = [f"{key}: {getattr(cls, key)}" for key in ("license", "citation", "url") if getattr(cls, key, "")]
        if about:
            typer.echo(f"{name}: {'; '.join(about)}")
    typer.echo("\nPrepare what is absent with: avloc data prepare NAME --from DIR")


@app.command()
def prepare(
    name: Name,
    source: Annotated[Path, typer.Option("--from", help="The folder with the videos, however they are arranged.")],
    annotations: Annotated[Path | None, typer.Option(help="Another folder to look for annotation files in.")] = None,
    data: Data = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    settings: Settings = None,
    plugin: Plugins = None,
) -> None:
    """Extract each clip's frame and sound, once. Finished files are reused; an interrupted run resumes."""
    from avloc.data.prepared import open_splits, prepare as prepare_media

    done = prepare_media(name, source, annotations=annotations, data=data, jobs=jobs, settings=settings or ())
    _show_done(done)
    _show_splits(name, open_splits(name, data, settings or ()), classes=False)


@app.command()
def status(
    name: Name,
    data: Data = None,
    split: Annotated[str | None, typer.Option(help="One split; default: train, val and test.")] = None,
    classes: Annotated[bool, typer.Option("--classes", help="Count every class.")] = False,
    settings: Settings = None,
    plugin: Plugins = None,
) -> None:
    """Say which clips of a data set can be used, and why the others cannot."""
    from avloc.data.prepared import open_splits

    _show_splits(name, open_splits(name, data, settings or (), split), classes=classes)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="An annotation file of yours, such as clips.csv.")],
    plugin: Plugins = None,
) -> None:
    """List everything that is wrong with an annotation file of yours and the media it names."""
    from avloc.data.prepared import check_file

    problems = check_file(file)
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{file}: {_number(len(problems), 'problem')}." if problems else f"{file}: no problems.")
    if problems:
        raise typer.Exit(1)


def _show_done(done: Prepared) -> None:
    """What was made and copied, and what failed."""
    if done.copied:
        typer.echo(f"Copied {', '.join(done.copied)}.")
    for shard, reason in done.damaged.items():
        typer.echo(f"{shard}: {reason}.")
    manifest = f"in {done.folder / 'manifest.jsonl'}"
    if done.doubles:
        doubles = _number(len(done.doubles), "file")
        typer.echo(f"{doubles} had several sources of one name; arrays come before pictures, then the first by name:")
        _first([f"{file}: {source} was taken" for file, source in done.doubles.items()], manifest)
    failures = _number(len(done.broken) + len(done.transient), "failure")
    typer.echo(f"{_number(done.made, 'file')} made in {done.folder}, {failures}.")
    _first([f"{file}: {reason}" for file, reason in done.broken.items()], manifest)
    if done.transient:
        typer.echo(f"{_number(len(done.transient), 'file')} failed for a temporary reason; the next run tries again:")
        _first([f"{file}: {reason}" for file, reason in done.transient.items()], manifest)
    if done.kept:
        typer.echo(
            f"{_number(done.kept, 'file')} failed before and were not tried again: their sources did not change."
        )


def _first(lines: Sequence[str], where: str) -> None:
    for line in lines[:NAMED]:
        typer.echo(f"  {line}")
    if len(lines) > NAMED:
        typer.echo(f"  and {len(lines) - NAMED:,} more, {where}")


def _show_splits(name: str, opened: Opened, *, classes: bool) -> None:
    """Every split's counts, reasons and verdict."""
    from avloc.data.prepared import inspect

    for split, reason in opened.failed.items():
        typer.echo(f"{name}, {split}: cannot be opened. {reason}")
    for file, place in opened.optional.items():
        typer.echo(f"Optional: {file}, which {', '.join(opened.splits)} can do without. It is published at {place}.")
    for split, dataset in opened.splits.items():
        report = inspect(split, dataset, classes=classes)
        status = report.status
        counts = f"{len(status.present):,} present, {len(status.missing):,} missing, {len(status.broken):,} broken"
        typer.echo(f"{name}, {split}: {counts}")
        _reasons("missing", status.missing)
        _reasons("broken", status.broken)
        if classes:
            _classes(report)
        typer.echo(report.verdict)


def _reasons(state: str, clips: Mapping[str, str]) -> None:
    from avloc.data.prepared import reasons

    for reason in reasons(clips):
        ids = ", ".join(reason.ids[:NAMED]) + (", ..." if len(reason.ids) > NAMED else "")
        typer.echo(f"  {len(reason.ids):,} {state}: {reason.text.rstrip('.')} ({ids})")


def _classes(report: Report) -> None:
    from avloc.cli.terminal import show_rows

    states = ("present", "missing", "broken")
    rows = [[label, *(f"{counts[state]:,}" for state in states)] for label, counts in report.classes.items()]
    show_rows(["class", *states], rows)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
