"""`avloc.bench` as a call in Python: how it is written down, and scripts without a guard that use processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import avloc
from avloc import AvlocError
from avloc.store import Manifest
from avloc.suite import Suite, load_suite


@pytest.mark.usefixtures("world")
def test_the_manifest_has_the_call_that_makes_the_table_again(suite_file: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    given: dict[str, Any] = {"methods": ("hinted",), "hints": ["oracle"], "limit": 2, "results": results, "jobs": 2}
    found = avloc.bench(suite_file, **given)
    command = found.manifest.command
    assert command == (
        f"avloc.bench({str(suite_file)!r}, methods=['hinted'], hints=['oracle'], limit=2, results={str(results)!r}, "
        "jobs=2)"
    )
    shared = found.table().to_markdown()  # with others, who have no such folders
    assert (
        "avloc.bench('blocks.yaml', methods=['hinted'], hints=['oracle'], limit=2, results='results', jobs=2)" in shared
    )
    again: avloc.results.Results = eval(command)  # type: ignore[name-defined]
    assert again.manifest.model_dump(exclude={"written"}) == found.manifest.model_dump(exclude={"written"})
    suite = load_suite(suite_file).override(methods=["hinted"])
    assert avloc.bench(suite, results=tmp_path / "b").manifest.command == (
        f"avloc.bench(<suite 'blocks'>, results={str(tmp_path / 'b')!r})"
    )
    assert avloc.bench(suite, results=tmp_path / "b", command="make table").manifest.command == "make table"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:99"])
def test_an_unknown_device_is_rejected_before_anything_runs(suite_file: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(AvlocError, match=f"device '{device}'"):
        avloc.bench(suite_file, results=tmp_path / "r", device=device)
    assert not (tmp_path / "r").exists()


SCRIPT = """
    import avloc, pathlib, sys
    with pathlib.Path("ran").open("a") as file:
        file.write("once ")
    found = avloc.bench("two.yaml", jobs=2)
    print([row.status for row in found.manifest.rows])
"""
SUITE = """
title: Two
datasets:
  - {name: toybox_single, encoder: tiny, train: 2, val: 1, test: 2}
  - {name: toybox_single, encoder: tiny, train: 2, val: 1, test: 3}
protocol: avloc
metrics: [pixel_ap]
methods: []
controls: [center]
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file", "stdin", "option"])
def test_a_script_without_a_guard_runs_once_however_many_processes(tmp_path: Path, how: str) -> None:
    script = textwrap.dedent(SCRIPT)
    (tmp_path / "two.yaml").write_text(SUITE)
    (tmp_path / "script.py").write_text(script)
    arguments = {"file": ["script.py"], "stdin": ["-"], "option": ["-c", script]}[how]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, input=script if how == "stdin" else "", text=True,
        capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['done', 'done']" and (tmp_path / "ran").read_text() == "once "
    assert Manifest.of(tmp_path / "results", "two").command == "avloc.bench('two.yaml', jobs=2)"


def test_a_suite_is_a_name_a_path_or_an_object() -> None:
    assert isinstance(load_suite(Path("smoke")), Suite) and load_suite("smoke") == load_suite(Path("smoke"))
