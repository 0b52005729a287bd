"""The pages' example of a method is complete and works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from avloc import cli

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md"]


@pytest.fixture(params=PAGES)
def example(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts the page's `mine.py` into an empty folder; returns the arguments of the command below it."""
    page = (ROOT / request.param).read_text(encoding="utf-8")
    code, command = re.findall(r"```python\n(# mine\.py\n.*?)```\n+```\navloc (.*?)\n```", page, re.DOTALL)[0]
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return shlex.split(command)


def test_the_example_runs_on_a_small_world(example: list[str], world: Any, suite_file: Path) -> None:
    shown = CliRunner().invoke(cli.app, [*example, "--suite", str(suite_file), "--seeds", "0"])
    assert shown.exit_code == 0, shown.output
    assert "Mine" in shown.stdout


@pytest.mark.slow
def test_the_command_runs_as_printed(example: list[str], world: Any) -> None:
    shown = CliRunner().invoke(cli.app, example)
    assert shown.exit_code == 0, shown.output
    assert "Mine" in shown.stdout


def test_every_file_that_the_pages_link_to_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{page} links to {target}"
