"""``avloc score``: what it passes on, and options that do not fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.commands import run


def test_new_scores_are_a_table_of_their_own(world: Any, suite_file: Path) -> None:
    results = suite_file.parent / "out"
    place = ["--suite", suite_file, "--results", results]
    assert run("bench", *place, "--seeds", "0", "--methods", "hinted").exit_code == 0
    scored = run("score", *place, "--protocol", "as_written", "--metrics", "ciou_mean")
    assert scored.exit_code == 0, scored.output
    assert "as_written" in scored.stdout
    assert run("table", "--suite", "blocks.as_written", "--results", results).stdout == scored.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--predictions", "x"], "--predictions needs --dataset"),
        (["--predictions", "x", "--dataset", "d", "--datasets", "d"], "--predictions are about one --dataset"),
        (["--dataset", "d"], "--dataset is about predictions made elsewhere"),
        (["--name", "n"], "--name is about predictions made elsewhere"),
        (["--hints", "none"], "--hints is about predictions made elsewhere"),
    ],
)
def test_options_that_do_not_fit_together(options: list[str], words: str) -> None:
    shown = run("score", *options)
    assert shown.exit_code == 2
    assert words in shown.stderr
