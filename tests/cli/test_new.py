"""``avloc new``: the package that it writes is sound, formatted, tested and in a table at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avloc import AvlocError
from avloc.cli.new import write_package
from helpers.commands import run


def test_new_says_what_to_do_next(tmp_path: Path) -> None:
    shown = run("new", "method", "my_idea", "--to", tmp_path).output
    plugin = tmp_path / "my_idea" / "avloc_my_idea.py"
    assert f"avloc check my_idea --plugin {plugin}" in shown
    assert f"avloc bench --plugin {plugin} --methods my_idea --suite smoke" in shown
    assert sorted(path.name for path in plugin.parent.iterdir()) == [
        "README.md", "avloc_my_idea.py", "pyproject.toml", "test_my_idea.py",
    ]  # fmt: skip
    assert not any("$" in path.read_text() for path in plugin.parent.iterdir())
    assert len((plugin.parent / "README.md").read_text().splitlines()) <= 12


def test_the_new_method_is_sound(package: Path) -> None:
    shown = run("check", "my_idea", "--plugin", package / "avloc_my_idea.py")
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("pass  ") > 10
    assert "FAIL" not in shown.output


def test_the_new_method_is_in_a_table_at_once(package: Path, suite_file: Path, tmp_path: Path) -> None:
    plugin = package / "avloc_my_idea.py"
    args = ["bench", "--plugin", plugin, "--methods", "my_idea", "--suite", suite_file, "--seeds", "0"]
    shown = run(*args, "--results", tmp_path / "r")
    assert shown.exit_code == 0, shown.output
    assert "My idea" in shown.stdout


@pytest.mark.slow
def test_the_new_package_passes_its_own_test(package: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "15 passed" in done.stdout


def test_the_new_package_is_formatted(package: Path) -> None:
    for action in (["check", "--select", "E,F,W,I,UP,B,RUF"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *action, "--isolated", "--line-length", "120", "."]
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MyIdea", "cannot name a plugin"),
        ("my-idea", "cannot name a plugin"),
        ("2nd", "cannot name a plugin"),
        ("idée", "cannot name a plugin"),
        ("lambda", "cannot name a plugin"),
        ("true", "cannot name a plugin"),
        ("none", "cannot name a plugin"),
        ("../away", "cannot name a plugin"),
        ("dot", "a method 'dot' already, of the plugin 'world'"),
        ("shuffled_audio", "has another meaning"),
        ("tensor", "has another meaning"),
        ("plugins", "a module avloc_plugins already"),
    ],
)
def test_names_that_cannot_be(name: str, words: str, tmp_path: Path, world: Any) -> None:
    with pytest.raises(AvlocError, match=words):
        write_package("method", name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(package: Path) -> None:
    (package / "avloc_my_idea.py").write_text("mine")
    shown = run("new", "method", "my_idea", "--to", package.parent)
    assert shown.exit_code == 2
    assert "exists, and nothing is overwritten" in shown.output
    assert (package / "avloc_my_idea.py").read_text() == "mine"
