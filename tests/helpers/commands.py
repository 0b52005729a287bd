"""The command line, called in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from avloc.cli import app


def run(*arguments: str | int | Path, **options: Any) -> Result:
    """The result of ``avloc ARGUMENTS``."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="avloc", **options)
