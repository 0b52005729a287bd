"""The documentation works as printed: tutorials, commands, examples, links, and the names in the tour."""

from __future__ import annotations

import pkgutil
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import avloc
from avloc import cli
from avloc.data import write_video
from helpers import ROOT

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/python.md",
    "docs/why-numbers-disagree.md",
    "docs/conse.md",
    "results/README.md",
]
NEW = {"method": "mine", "dataset": "lamps", "encoder": "patches", "metric": "pointing"}
TITLES = {"dataset": "Add a data set", "encoder": "Add an encoder", "metric": "Add a metric"}


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    """The text under a second-level heading."""
    return page(name).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """The arguments of the avloc commands that are alone in a code block."""
    return [shlex.split(line) for line in re.findall(r"```\navloc (.*?)\n```", text)]


def python(text: str) -> str:
    """All Python blocks of a text, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def run(args: list[str]) -> Result:
    shown = CliRunner().invoke(cli.app, args)
    assert shown.exit_code == 0, shown.output
    return shown


def shipped(folder: Path) -> list[str]:
    """Write README's method to the folder; returns the arguments of the command below it."""
    pattern = r"```python\n(# mine\.py\n.*?)```\n+```\navloc (.*?)\n```"
    ((code, command),) = re.findall(pattern, page("README.md"), re.DOTALL)
    (folder / "mine.py").write_text(code)
    return shlex.split(command)


def steps(kind: str) -> list[list[str]]:
    """The commands for a new plugin, in order: new, check, and one that uses it."""
    text = page("CONTRIBUTING.md").partition("## The architecture")[0]
    found = commands(text if kind == "method" else section("CONTRIBUTING.md", TITLES[kind]))
    assert [step[0] for step in found] == ["new", "check", "score" if kind == "metric" else "bench"]
    return found


def small(command: list[str], suite_file: Path) -> list[str]:
    """The command on the small world's suite."""
    return [str(suite_file) if word == "smoke" else word for word in command]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: Any) -> Path:
    """An empty working directory; plugins loaded there are forgotten afterwards."""
    for module in ("mine", *(f"avloc_{name}" for name in NEW.values())):
        monkeypatch.setitem(sys.modules, module, sys)
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_method_runs_on_a_small_world(folder: Path, suite_file: Path) -> None:
    assert "Mine" in run([*shipped(folder), "--suite", str(suite_file), "--seeds", "0"]).stdout


def test_the_method_passes_the_checks(folder: Path) -> None:
    shipped(folder)
    run(["check", "mine", "--plugin", "mine.py"])


@pytest.mark.parametrize("kind", ["method", "encoder"])
def test_new_fill_in_check_bench(kind: str, folder: Path, suite_file: Path) -> None:
    new, check, bench = steps(kind)
    run(new)
    name = NEW[kind]
    assert "FILL IN" in (folder / name / f"avloc_{name}.py").read_text()
    assert f"{kind} {name} passes." in run(check).stdout
    shown = run([*small(bench, suite_file), "--seeds", "0"]).stdout
    assert ("Mine" if kind == "method" else "encoder patches, weights random, seed 0") in shown


def test_new_fill_in_check_score(folder: Path, suite_file: Path) -> None:
    run(["bench", "--suite", str(suite_file), "--methods", "dot", "--seeds", "0"])
    new, check, score = steps("metric")
    run(new)
    assert "metric pointing passes." in run(check).stdout
    shown = run([suite_file.stem if word == "smoke" else word for word in score]).stdout
    assert "Pointing @0.5" in shown


@pytest.mark.slow
def test_a_new_data_set_and_its_pairs_are_benched(folder: Path) -> None:
    new, check, bench = steps("dataset")
    run(new)
    plugin = folder / "lamps" / "avloc_lamps.py"
    text = section("CONTRIBUTING.md", TITLES["dataset"])
    pairs = textwrap.dedent(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    code = plugin.read_text().replace("import cache_folder", "import Mixtures, cache_folder")
    code = code.replace("@hookimpl", f"{pairs}\n\n@hookimpl").replace(": Lamps}", ': Lamps, "lamp_pairs": LampPairs}')
    plugin.write_text(code)
    for name in ("lamps", "lamp_pairs"):
        assert f"dataset {name} passes." in run([name if word == "lamps" else word for word in check]).stdout
    shown = run([*("lamps,lamp_pairs" if word == "lamps" else word for word in bench), "--jobs", "1"]).stdout
    assert "Lamps: 12 clips listed, 12 scored (12 sources)" in shown
    assert "Lamp pairs: 6 clips listed, 6 scored (12 sources)" in shown


def test_the_first_screen_has_every_step() -> None:
    screen = "\n".join(page("CONTRIBUTING.md").splitlines()[:40])
    places = [screen.index(word) for word in ("avloc new method", "**Fill in**", "avloc check", "avloc bench")]
    assert places == sorted(places)


def test_the_tour_names_every_package_and_only_functions_that_exist() -> None:
    tour = section("CONTRIBUTING.md", "The architecture")
    packages = {path.stem for path in (ROOT / "avloc").iterdir() if path.stem[0] not in "_."}
    assert packages - {"__pycache__"} <= set(re.findall(r"\[`(\w+)`\]", tour))
    names = re.findall(r"`(avloc\.[\w.]+)`", tour)
    assert len(names) > 15
    for name in names:
        pkgutil.resolve_name(name)


@pytest.fixture
def examples(folder: Path, suite_file: Path) -> dict[str, str]:
    """Names in the pages' examples -> their replacements in a small world."""
    frames = np.full((10, 64, 64, 3), 90, np.uint8)
    write_video(folder / "dog.mp4", frames, 10, np.sin(np.arange(16_000, dtype=np.float32)), 16_000)
    suite, blocks = repr(str(suite_file)), 'load_results("blocks")'
    return {'"smoke"': suite, 'load_results("smoke")': blocks, "toybox_single": "blocks"}


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_examples_run_on_a_small_world(name: str, examples: dict[str, str]) -> None:
    code = python(section(name, "From Python") if name == "README.md" else page(name))
    assert all(f"{function}(" in code for function in ("bench", "load_results", "evaluate", "load"))
    for printed, small in sorted(examples.items(), key=lambda pair: -len(pair[0])):
        code = code.replace(printed, small)
    exec(compile(code, name, "exec"), {})


def test_the_python_page_has_every_public_name() -> None:
    text = page("docs/python.md")
    assert [name for name in avloc.__all__ if f"`{name}`" not in text and f"`avloc.{name}`" not in text] == []


@pytest.mark.slow
def test_the_command_runs_as_printed(folder: Path) -> None:
    assert "Smoke test" in run(shipped(folder)).stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["method", "encoder"])
def test_the_steps_run_as_printed(kind: str, folder: Path) -> None:
    *_, last = [run(step) for step in steps(kind)]
    assert "Smoke test" in last.stdout


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_the_pages_link_to_exists(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", page(name)):
        assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"
