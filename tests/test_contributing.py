"""What the pages say of writing a method works as it stands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from avloc import cli
from helpers import ROOT

PAGES = ["README.md", "CONTRIBUTING.md"]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def run(args: list[str]) -> Result:
    shown = CliRunner().invoke(cli.app, args)
    assert shown.exit_code == 0, shown.output
    return shown


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: Any) -> Path:
    """An empty working directory; plugins loaded there are forgotten afterwards."""
    for module in ("mine", "avloc_mine"):
        monkeypatch.setitem(sys.modules, module, sys)
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def example(folder: Path) -> list[str]:
    """Puts the README's `mine.py` into the folder; returns the arguments of the command below it."""
    pattern = r"```python\n(# mine\.py\n.*?)```\n+```\navloc (.*?)\n```"
    code, command = re.findall(pattern, page("README.md"), re.DOTALL)[0]
    (folder / "mine.py").write_text(code)
    return shlex.split(command)


@pytest.fixture
def steps() -> list[list[str]]:
    """The arguments of CONTRIBUTING's commands, in order: new, check, bench."""
    first, _, _ = page("CONTRIBUTING.md").partition("## Work on avloc")
    return [shlex.split(line) for line in re.findall(r"```\navloc (.*?)\n```", first)]


def test_the_example_runs_on_a_small_world(example: list[str], suite_file: Path) -> None:
    assert "Mine" in run([*example, "--suite", str(suite_file), "--seeds", "0"]).stdout


def test_the_example_passes_the_checks(example: list[str]) -> None:
    run(["check", "mine", "--plugin", "mine.py"])


def test_new_fill_in_check_bench(steps: list[list[str]], folder: Path, suite_file: Path) -> None:
    assert [step[0] for step in steps] == ["new", "check", "bench"]
    new, check, bench = steps
    run(new)
    assert "FILL IN" in (folder / "mine" / "avloc_mine.py").read_text()
    assert "mine passes." in run(check).stdout
    assert "Mine" in run([*bench, "--suite", str(suite_file), "--seeds", "0"]).stdout


def test_the_first_screen_says_it_all() -> None:
    screen = "\n".join(page("CONTRIBUTING.md").splitlines()[:40])
    places = [screen.index(word) for word in ("avloc new method", "**Fill in**", "avloc check", "avloc bench")]
    assert places == sorted(places)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_commands_run_as_printed(name: str, request: Any, folder: Path) -> None:
    if name == "README.md":
        assert "Mine" in run(request.getfixturevalue("example")).stdout
        return
    *_, last = [run(step) for step in request.getfixturevalue("steps")]
    assert "Mine" in last.stdout


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_the_pages_link_to_exists(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", page(name)):
        assert (ROOT / target).exists(), f"{name} links to {target}"
