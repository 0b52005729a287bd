"""``avloc bench``: options to a library call, exit statuses, the plan, and broken plugins."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from avloc import AvlocError
from avloc.cli import main
from avloc.suite import Suite
from helpers import TESTS
from helpers.commands import run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Suite, dict[str, Any]]]:
    """What `avloc.bench` was called with; it does nothing."""
    found: list[tuple[Suite, dict[str, Any]]] = []

    def fake(suite: Suite, **options: Any) -> None:
        found.append((suite, options))
        raise AvlocError("That is enough.")

    monkeypatch.setattr("avloc.runner.bench", fake)
    return found


def test_options_are_passed_on(calls: list[Any], world: Any, suite_file: Path) -> None:
    run(
        "bench", "--suite", suite_file, "--methods", "dot, hinted", "--seeds", "3,4", "--hints", "vocabulary,oracle",
        "--limit", 7, "--set", "dot.dropout=0.5", "--set", "train.epochs=2", "--results", "out", "--data", "d",
        "--device", "cpu", "--force", "--jobs", 2,
    )  # fmt: skip
    suite, options = calls[0]
    assert [entry.name for entry in suite.methods] == ["dot", "hinted"]
    assert suite.methods[0].params == {"dropout": 0.5}
    assert (suite.seeds, suite.hints, suite.limit, suite.train.epochs) == ((3, 4), ("vocabulary", "oracle"), 7, 2)
    del options["command"]
    assert options == {"results": Path("out"), "data": Path("d"), "device": "cpu", "force": True, "jobs": 2}


def test_results_and_data_come_from_the_environment_too(calls: list[Any], world: Any, suite_file: Path) -> None:
    run("bench", "--suite", suite_file, env={"AVLOC_RESULTS": "there", "AVLOC_DATA": "here"})
    assert (calls[0][1]["results"], calls[0][1]["data"]) == (Path("there"), Path("here"))


def test_the_command_is_what_the_user_typed(
    calls: list[Any], world: Any, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["bench", "--suite", str(suite_file), "--results", "my results"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py", *typed])
    with pytest.raises(SystemExit):
        main()
    assert calls[0][1]["command"] == f"avloc bench --suite {suite_file} --results 'my results'"


def test_a_dry_run_prints_the_plan_and_makes_nothing(world: Any, suite_file: Path) -> None:
    results = suite_file.parent / "out"
    shown = run("bench", "--suite", suite_file, "--results", results, "--hints", "none,oracle", "--dry-run")
    assert shown.exit_code == 0
    assert "0, 1" in shown.stdout
    assert "needs the hints oracle" in shown.stdout
    assert "6 runs: 5 todo, 1 skipped" in shown.stdout
    assert not results.exists()


def test_a_bench_shows_progress_and_its_table(world: Any, suite_file: Path) -> None:
    place = ["--suite", suite_file, "--results", suite_file.parent / "out"]
    benched = run("bench", *place, "--seeds", "0")
    assert benched.exit_code == 0, benched.output
    assert "fit dot on blocks, seed 0: " in benched.stderr
    for words in ("Blocks", "Dot", "12 clips listed, 12 scored", "0 broken"):
        assert words in benched.stdout
    assert run("table", *place).stdout == benched.stdout


FAILING = """
from avloc import hookimpl
from helpers.world import Dot

class Exploding(Dot):
    def loss(self, features, batch, context):
        raise ValueError("boom")

@hookimpl
def avloc_methods():
    return {"exploding": Exploding}
"""


def test_a_failed_row_is_in_the_table_and_in_the_exit_status(world: Any, suite_file: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "exploding_plugin.py"
    plugin.write_text(FAILING)
    options = ["--methods", "exploding", "--seeds", "0", "--plugin", plugin, "--results", tmp_path / "out"]
    shown = run("bench", "--suite", suite_file, *options)
    assert shown.exit_code == 1
    assert "boom" in shown.stdout


def test_a_plugin_file_that_does_not_import_is_named(tmp_path: Path) -> None:
    plugin = tmp_path / "avloc_torn.py"
    plugin.write_text("import no_such_package_anywhere\n")
    shown = run("bench", "--suite", "smoke", "--plugin", plugin)
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
