"""``avloc check``: what it finds; and broken third-party methods fail only their own rows."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avloc import Batch, Context, Features, Prediction, hookimpl
from avloc.registry import registry
from avloc.runner import Options, run_suite as bench
from avloc.suite import load_suite
from helpers.commands import run
from helpers.world import Dot


def test_check_names_what_fails_and_goes_on(package: Path) -> None:
    plugin = package / "avloc_my_idea.py"
    text = plugin.read_text().replace("cosine_map(image_map, audio[:, None])", "-cosine_map(image_map, audio[:, None])")
    plugin.write_text(text.replace('title = "My idea"', 'title = ""'))
    shown = run("check", "my_idea", "--plugin", plugin)
    assert shown.exit_code == 1
    assert "FAIL  title, paper and docstring are there\n      The class attribute 'title' is empty" in shown.output
    assert "FAIL  a planted source lights up" in shown.output
    assert "method my_idea: 2 of 14 checks failed." in shown.output


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
    """Maps a class that was not disclosed."""

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
    """A third-party plugin."""

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


def test_a_data_set_is_checked_with_its_parameters_and_folder(world: Any, tmp_path: Path) -> None:
    shown = run("check", "blocks", "--set", "count=4", "--data", tmp_path)
    assert (
        "FAIL  fingerprints are stable, one per split\n      The splits train and val list other clips" in shown.output
    )
    assert shown.exit_code == 1 and "dataset blocks: 1 of 12 checks failed." in shown.output
    assert "Did you mean 'count'?" in run("check", "blocks", "--set", "counts=4").output
    shown = run("check", "blocks", "--set", "count=2", "--set", "bad=[test0, test1]")
    assert "No clip of the test split can be used. The first: test0.mp4 is truncated" in shown.output


def test_the_same_finding_is_printed_once(world: Any) -> None:
    shown = run("check", "folder", "--set", "csv=no/such.csv")
    assert shown.exit_code == 1 and shown.output.count("no/such.csv") == 1
    assert shown.output.count("(the same)") == 9 and "dataset folder: 10 of 12 checks failed." in shown.output


def test_of_two_kinds_with_one_name_both_are_checked_or_one(world: Any) -> None:
    cap = registry().get("metric", "cap")

    class Both:
        @hookimpl
        def avloc_metrics(self) -> dict[str, str | type]:
            return {"plain": cap}

    registry().add_module("both", Both())
    shown = run("check", "plain")
    assert "metric plain passes." in shown.output and "encoder plain: 1 of 11 checks failed." in shown.output
    shown = run("check", "plain", "--kind", "metric")
    assert shown.exit_code == 0 and "encoder" not in shown.output
