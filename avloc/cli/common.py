"""What the commands share: their options, and how errors become sentences with an exit status."""

from __future__ import annotations

import errno
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from avloc.progress import shown
from avloc.types import AvlocError

BAD_USAGE, INTERRUPTED = 2, 130


def _load_plugins(files: list[Path] | None) -> list[Path] | None:
    from avloc.registry import registry

    for file in files or ():
        registry().add_file(file)
    return files


SuiteName = Annotated[str, typer.Option("--suite", help="A suite's name (see avloc list suites) or YAML file.")]
Results = Annotated[Path, typer.Option(envvar="AVLOC_RESULTS", help="The folder of results.")]
Data = Annotated[Path | None, typer.Option(envvar="AVLOC_DATA", help="The folder of your own data sets.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
_FILE = typer.Option("--plugin", callback=_load_plugins, help="A Python file with hook implementations; repeatable.")
Plugins = Annotated[list[Path] | None, _FILE]
Commas = Annotated[str | None, typer.Option(help="Names with commas between.")]


def names(value: str | None) -> list[str] | None:
    """``a,b`` as a list."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def numbers(value: str | None) -> list[int] | None:
    """``0,1`` as a list."""
    try:
        return None if value is None else [int(name) for name in names(value) or ()]
    except ValueError as error:
        raise typer.BadParameter(f"{value!r} should be whole numbers with commas between, such as 0,1,2.") from error


def floats(value: str | None) -> list[float]:
    """``0.5,2`` as a list."""
    try:
        return [float(name) for name in names(value) or ()]
    except ValueError as error:
        raise typer.BadParameter(f"{value!r} should be numbers with commas between, such as 0.25,1,2.") from error


def stem(suite: str) -> str:
    """The name under which a suite's results are stored."""
    from avloc.suite import load_suite

    return load_suite(suite).name if suite.endswith((".yaml", ".yml")) else suite


def typed() -> str:
    """The command as the user can type it again."""
    return shlex.join(["avloc", *sys.argv[1:]])


class Group(TyperGroup):
    """Every command shows its progress; what the user can solve ends it with a sentence and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with shown():
                return super().invoke(ctx)
        except AvlocError as error:
            _stop(f"avloc: {error}", BAD_USAGE)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
                raise
            where = f" {error.filename}" if error.filename else ""
            hint = "Free some space or choose a folder that you can write to, then run the same command again."
            _stop(f"avloc: Cannot write{where}: {error.strerror}. {hint}", BAD_USAGE)
        except KeyboardInterrupt:
            _stop(f"Interrupted. Resume with: {typed()}", INTERRUPTED)


def _stop(sentence: str, status: int) -> None:
    typer.echo(sentence, err=True)
    raise typer.Exit(status)
