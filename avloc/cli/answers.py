"""What the commands share: their options, and how errors become answers."""

from __future__ import annotations

import errno
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avloc.types import AvlocError

if TYPE_CHECKING:
    from avloc.runner import Options

BAD_USAGE, STOPPED = 2, 130


def device_name(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise typer.BadParameter(f"{value!r} is not auto, cpu, cuda or cuda:NUMBER.")
    return value


def names(value: str | None) -> list[str] | None:
    """``a,b`` as a list."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def numbers(value: str | None) -> list[int] | None:
    try:
        return None if value is None else [int(name) for name in names(value) or []]
    except ValueError as error:
        raise typer.BadParameter(f"{value!r} should be whole numbers with commas between, such as 0,1,2.") from error


SuiteName = Annotated[str, typer.Option("--suite", help="A suite's name (see avloc list suites) or YAML file.")]
Results = Annotated[Path, typer.Option(envvar="AVLOC_RESULTS", help="Where results are kept.")]
Data = Annotated[Path | None, typer.Option(envvar="AVLOC_DATA", help="Where your own datasets are.")]
Device = Annotated[str, typer.Option(callback=device_name, help="auto, cpu, cuda or cuda:1.")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A Python file with hook implementations; repeatable.")
]
Commas = Annotated[str | None, typer.Option(help="Names with commas between.")]


def command() -> str:
    """What the user typed, fit to be typed again."""
    return shlex.join(["avloc", *sys.argv[1:]])


@contextmanager
def answers() -> Iterator[None]:
    """Turn what the user can solve into one sentence on stderr and an exit status; bugs keep their traceback."""
    try:
        yield
    except AvlocError as error:
        typer.echo(f"avloc: {error}", err=True)
        raise typer.Exit(BAD_USAGE) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        where = f" {error.filename}" if error.filename else ""
        hint = "Free space, or choose a folder that can be written; then run the same command again."
        typer.echo(f"avloc: Cannot write{where}: {error.strerror}. {hint}", err=True)
        raise typer.Exit(BAD_USAGE) from error
    except KeyboardInterrupt as error:
        typer.echo(f"Stopped. Go on with: {command()}", err=True)
        raise typer.Exit(STOPPED) from error


def load_plugins(files: Sequence[Path] | None) -> None:
    from avloc.registry import registry

    for file in files or ():
        registry().add_file(file)


def require_encoder(name: str | None) -> None:
    """A suite's encoder may be absent with its plugin; one that the user typed may not."""
    from avloc.registry import registry
    from avloc.types import unknown

    if name is not None and name not in registry().entries("encoder"):
        raise AvlocError(unknown("encoder", name, registry().entries("encoder")))


def options(**options: Any) -> Options:
    from avloc.runner import Options

    return Options(**options, command=command())
