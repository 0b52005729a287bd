"""``avloc data``: prepare, inspect and check data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avloc.cli.common import Data, Plugins

if TYPE_CHECKING:
    from avloc.data.prepared import Opened, Prepared

app = typer.Typer(name="data", help="Prepare, inspect and check data sets.", no_args_is_help=True)

NAMED = 5
"""How many clips or reasons are named; the others are counted."""

Name = Annotated[str, typer.Argument(help="A data set; see avloc data list.")]
_SET = typer.Option("--set", help="parameter=value of the data set, such as csv=clips.csv; repeatable.")
Settings = Annotated[list[str] | None, _SET]


@app.command("list")
def list_data(data: Data = None, plugin: Plugins = None) -> None:
    """List the data sets: what each needs, where that is, whether it is there, and whose it is."""
    from avloc.cli.terminal import show_rows
    from avloc.data.prepared import listings
    from avloc.registry import registry

    found = listings(data)
    show_rows(["name", "needs", "where", "state"], [list(one) for one in found])
    for name in (one.name for one in found if not one.state.startswith("broken")):
        cls = registry().get("dataset", name)
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
    if not done.found and (done.seen or done.apart or not done.copied):
        raise typer.Exit(1)


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
    settings: Settings = None,
    plugin: Plugins = None,
) -> None:
    """List everything that is wrong with an annotation file of yours and the media it names."""
    from avloc.components import read_setting
    from avloc.data.prepared import check_file

    problems = check_file(file, dict(map(read_setting, settings or ())))
    typer.echo("\n".join([*problems, f"{file}: {_number(len(problems), 'problem') if problems else 'no problems'}."]))
    if problems:
        raise typer.Exit(1)


def _show_done(done: Prepared) -> None:
    """What was made and copied, and what failed."""
    if done.copied:
        typer.echo(f"Copied {', '.join(done.copied)}.")
    for shard, reason in done.damaged.items():
        typer.echo(f"{shard}: {reason}.")
    if done.doubles:
        rule = "arrays come before pictures, then the first by name"
        typer.echo(f"{_number(len(done.doubles), 'file')} had several sources of one name; {rule}:")
        _first([f"{file}: {source} was taken" for file, source in done.doubles.items()], done)
    if done.strays:
        seen = f"{_number(done.seen, 'media file')} seen, {len(done.strays):,} of no clip"
        example = f"{done.meant[0]} (did you mean {done.meant[1]}?)" if done.meant else done.strays[0]
        names = f"Files of a clip may be called {' or '.join(done.names)}, before one suffix."
        typer.echo(f"{seen}, such as {example}. {names}")
    if done.apart:
        where = "folders whose names have frames or audio in them"
        typer.echo(f"{_number(len(done.apart), 'image or sound')} outside {where} left alone, such as {done.apart[0]}.")
    failures = _number(len(done.broken) + len(done.transient), "failure")
    typer.echo(f"{_number(done.made, 'file')} made in {done.folder}, {failures}.")
    _first([f"{file}: {reason}" for file, reason in done.broken.items()], done)
    if done.transient:
        typer.echo(f"{_number(len(done.transient), 'file')} failed for a temporary reason; the next run tries again:")
        _first([f"{file}: {reason}" for file, reason in done.transient.items()], done)
    if done.kept:
        kept = _number(done.kept, "file")
        typer.echo(f"{kept} failed before and were not tried again: their sources did not change.")


def _first(lines: Sequence[str], done: Prepared) -> None:
    for line in lines[:NAMED]:
        typer.echo(f"  {line}")
    if len(lines) > NAMED:
        typer.echo(f"  and {len(lines) - NAMED:,} more, in {done.folder / 'manifest.jsonl'}")


def _show_splits(name: str, opened: Opened, *, classes: bool) -> None:
    """Every split's counts, reasons and verdict."""
    from avloc.cli.terminal import show_rows
    from avloc.data import media_of, repeated
    from avloc.data.prepared import inspect, reasons

    for split, reason in opened.failed.items():
        typer.echo(f"{name}, {split}: cannot be opened. {reason}")
    for file, place in opened.optional.items():
        typer.echo(f"Optional: {file}, which {', '.join(opened.splits)} can do without. It is published at {place}.")
    for split, dataset in opened.splits.items():
        report = inspect(split, dataset, classes=classes)
        clips = {state: getattr(report.status, state) for state in ("present", "missing", "broken")}
        typer.echo(f"{name}, {split}: {', '.join(f'{len(ids):,} {state}' for state, ids in clips.items())}")
        for state in ("missing", "broken"):
            for reason, ids in reasons(clips[state]).items():
                named = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
                typer.echo(f"  {len(ids):,} {state}: {reason.rstrip('.')} ({named})")
        if classes:
            rows = [[label, *(f"{counts[state]:,}" for state in clips)] for label, counts in report.classes.items()]
            show_rows(["class", *clips], rows)
        typer.echo("".join(f"  {remark}\n" for remark in dataset.remarks()) + report.verdict)
    for sentence in repeated(media_of(opened.splits)):
        typer.echo(sentence)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
