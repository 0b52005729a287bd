"""`avloc new` and `avloc check`, and that other people's broken methods stop nobody else."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from avloc import AvlocError, Batch, Context, Features, Prediction, cli, hookimpl
from avloc.cli import authoring
from avloc.cli.package import new_method
from avloc.registry import registry
from avloc.runner import Options, run_suite as bench
from avloc.suite import load_suite
from helpers import TESTS
from helpers.world import Dot


def run(*args: str | Path, app: Any = authoring.app) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], prog_name="avloc")


@pytest.fixture
def package(tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new package; its module is forgotten afterwards."""
    monkeypatch.setitem(sys.modules, "avloc_my_idea", sys)
    monkeypatch.delitem(sys.modules, "avloc_my_idea")
    shown = run("new", "method", "my_idea", "--to", tmp_path)
    assert shown.exit_code == 0, shown.output
    return tmp_path / "my_idea"


def test_the_commands_are_there() -> None:
    shown = run("--help", app=cli.app).output
    assert " new " in shown
    assert " check " in shown


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
    shown = run(*args, "--results", tmp_path / "r", app=cli.app)
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
        ("MyIdea", "cannot name a method"),
        ("my-idea", "cannot name a method"),
        ("2nd", "cannot name a method"),
        ("idée", "cannot name a method"),
        ("lambda", "cannot name a method"),
        ("true", "cannot name a method"),
        ("none", "cannot name a method"),
        ("../away", "cannot name a method"),
        ("dot", "a method 'dot' already, of the plugin 'world'"),
        ("shuffled_audio", "means something else"),
        ("tensor", "means something else"),
        ("plugins", "a module avloc_plugins already"),
    ],
)
def test_names_that_cannot_be(name: str, words: str, tmp_path: Path, world: Any) -> None:
    with pytest.raises(AvlocError, match=words):
        new_method(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(package: Path) -> None:
    (package / "avloc_my_idea.py").write_text("mine")
    shown = run("new", "method", "my_idea", "--to", package.parent)
    assert shown.exit_code == 2
    assert "exists already" in shown.output
    assert (package / "avloc_my_idea.py").read_text() == "mine"


def test_check_names_what_fails_and_goes_on(package: Path) -> None:
    plugin = package / "avloc_my_idea.py"
    text = plugin.read_text().replace("cosine_map(image_map, audio[:, None])", "-cosine_map(image_map, audio[:, None])")
    plugin.write_text(text.replace('title = "My idea"', 'title = ""'))
    shown = run("check", "my_idea", "--plugin", plugin)
    assert shown.exit_code == 1
    assert "FAIL  title, paper and docstring are there\n      The class attribute 'title' is empty" in shown.output
    assert "FAIL  a planted source lights up" in shown.output
    assert "my_idea: 2 checks failed." in shown.output


def test_check_says_where_a_method_crashed(package: Path) -> None:
    plugin = package / "avloc_my_idea.py"
    plugin.write_text(plugin.read_text().replace("super().__init__()\n", "super().__init__()\n        1 / 0\n"))
    shown = run("check", "my_idea", "--plugin", plugin)
    assert shown.exit_code == 1
    assert "It raised ZeroDivisionError: division by zero (" in shown.output
    line = plugin.read_text().splitlines().index("        1 / 0") + 1
    assert f"avloc_my_idea.py, line {line})" in shown.output


def test_a_file_that_is_installed_as_well_or_given_twice_counts_once(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package)
    registry().add_module("my_idea", importlib.import_module("avloc_my_idea"))  # as its entry point does
    for _ in range(2):
        shown = run("check", "my_idea", "--plugin", package / "avloc_my_idea.py")
        assert shown.exit_code == 0, shown.output


def test_check_of_an_unknown_name(world: Any) -> None:
    shown = run("check", "dott")
    assert shown.exit_code == 2
    assert "Did you mean 'dot'?" in shown.output


def test_check_of_what_is_no_method(package: Path) -> None:
    plugin = package / "avloc_my_idea.py"
    plugin.write_text(plugin.read_text().replace("(Method):", ":"))
    shown = run("check", "my_idea", "--plugin", plugin)
    assert shown.exit_code == 2
    assert "derive the class from avloc.Method" in shown.output


class Few(Dot):
    """Forgets a clip."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return super().localize(features, batch)[1:]


class Flat(Dot):
    """Maps of the wrong rank."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return [Prediction(found.clip, found.maps[0]) for found in super().localize(features, batch)]


class Tensors(Dot):
    """No predictions at all."""

    def localize(self, features: Features, batch: Batch) -> Any:
        return self.maps(features)


class Chatty(Dot):
    """Names what it was not told of."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return [Prediction(found.clip, found.maps, ("violet",)) for found in super().localize(features, batch)]


class Exploding(Dot):
    """A loss that is not finite."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"match": self.weight.sum() / 0}


class Matrix(Dot):
    """A loss term that is no scalar."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"match": self.weight * torch.ones(2, 1)}


class Unbuildable(Dot):
    """Crashes when it is built."""

    def __init__(self, encoder: Any, classes: Any) -> None:
        raise KeyError("oops")


class Strange(Dot):
    """A parameter that no run's id can hold."""

    def __init__(self, encoder: Any, classes: Any, *, act: Any = torch.relu) -> None:
        super().__init__(encoder, classes)


class NoMethod:
    """Not a method."""


BROKEN = {kind.__name__.lower(): kind for kind in
          (Few, Flat, Tensors, Chatty, Exploding, Matrix, Unbuildable, Strange, NoMethod)}  # fmt: skip


class BrokenPlugin:
    """A stranger's plugin."""

    @hookimpl
    def avloc_methods(self) -> dict[str, type]:
        return dict(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_a_suite_with_a_broken_method_ends_with_the_others_results(
    name: str, world: Any, suite_file: Path, tmp_path: Path
) -> None:
    registry().add_module("stranger", BrokenPlugin())
    text = suite_file.read_text().replace("[dot, hinted]", f"[{name}, dot, hinted]")
    suite_file.write_text(text.replace("seeds: [0, 1]", "seeds: [0]"))
    manifest = bench(load_suite(str(suite_file)), Options(tmp_path / "r"))
    rows = {row.method: row for row in manifest.rows}
    assert rows[name].status == "failed"
    assert rows[name].reason
    assert rows["dot"].status == rows["hinted"].status == "done"


def test_a_plugin_file_that_does_not_import_is_named(world: Any, suite_file: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "avloc_torn.py"
    plugin.write_text("import no_such_package_anywhere\n")
    for command in (["check", "torn"], ["bench", "--suite", str(suite_file)]):
        shown = run(*command, "--plugin", plugin, app=authoring.app if command[0] == "check" else cli.app)
        assert shown.exit_code == 2
        assert "avloc_torn.py does not import: ModuleNotFoundError" in shown.output


@pytest.mark.slow
@pytest.mark.parametrize(("methods", "status"), [("dot", 0), ("torn,dot", 1)])
def test_an_installed_plugin_that_does_not_import_leaves_the_rest(
    tmp_path: Path, suite_file: Path, methods: str, status: int
) -> None:
    """As an entry point, in another process: a warning, a failed row if it was asked for, and the others' results."""
    info = tmp_path / "site" / "avloc_torn-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: avloc-torn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[avloc]\ntorn = avloc_torn\n")
    (tmp_path / "site" / "avloc_torn.py").write_text("raise RuntimeError('torn to pieces')\n")
    code = textwrap.dedent("""
        import sys, avloc.registry, avloc.cli
        from helpers import world
        avloc.registry.registry().add_module("world", world.World())
        suite, results, methods = sys.argv[1:]
        avloc.cli.app(["bench", "--suite", suite, "--methods", methods, "--seeds", "0", "--results", results])
    """)
    paths = os.pathsep.join([str(tmp_path / "site"), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(suite_file), str(tmp_path / "r"), methods],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "torn to pieces" in done.stderr
    assert "Dot" in done.stdout
    if status:
        assert "There is no method 'torn'" in done.stdout
