"""A fit that learned nothing marks its row, and one that learned does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avloc import AvlocError, Batch, Context, Features, hookimpl
from avloc.registry import registry
from avloc.runner import bench
from avloc.suite import Train, load_suite
from avloc.training import learned_nothing
from helpers.world import Dot

BEFORE, AFTER = {"w": torch.zeros(3)}, {"w": torch.ones(3)}


def said(
    folder: Path, losses: list[Any], held_out: list[Any], before: Any = BEFORE, phases: str = "", **train: Any
) -> str:
    """What is said of a log with these losses; an epoch is kept if its held-out loss is the lowest of its phase."""
    lines, best = [], (None, float("inf"))
    for n, loss in enumerate(losses):
        phase = phases[n : n + 1]
        terms = loss if isinstance(loss, dict) else {"match": loss}
        validation = {"match": held_out[n]} if held_out else {}
        score = held_out[n] if held_out else 0
        kept = train.get("select") == "last" or not held_out or best[0] != phase or score < best[1]
        best = (phase, score) if kept else best
        lines.append(json.dumps({"phase": phase, "loss": terms, "validation": validation, "kept": kept}) + "\n")
    (folder / "train.jsonl").write_text("".join(lines))
    return learned_nothing(folder / "train.jsonl", Train(**train), before, AFTER)


@pytest.mark.parametrize(
    ("losses", "held_out", "train", "words"),
    [
        ([0.0, 0.0], [0.0, 0.0], {"batch_size": 1}, "match was 0 .* in batches of one clip there is nothing"),
        ([{"match": 0.0, "area": 0.3}, {"match": 0.0, "area": 0.2}], [2, 1],
         {"batch_size": 4, "accumulate": 4}, "one clip"),
        ([0.0], [], {}, "loss match was 0 from the first step"),
        ([1.4, 1.4, 1.4], [], {}, "the loss was 1.4 from the first epoch to the last"),
        ([1.5, 1.3863, 1.3863], [1.3863, 1.3863, 1.3863], {}, "held-out clips was 1.386 in every epoch"),
        ([2.0, 1.4, 1.5], [1.3, 1.4, 1.5], {}, "the loss never fell after the first epoch, which was kept"),
        ([2.0, 2.1], [1.3, 1.4], {}, "the loss never fell below its first value"),
        ([2.0, 2.1], [], {}, "the loss never fell"),
        ([2.0, 2.1], [2.0, 1.9], {"select": "last"}, "the loss never fell"),
    ],
)  # fmt: skip
def test_a_loss_that_never_fell(tmp_path: Path, losses: Any, held_out: Any, train: Any, words: str) -> None:
    found = said(tmp_path, losses, held_out, **train)
    assert re.search(words, found) and found.endswith(": this row is an untrained head"), found


@pytest.mark.parametrize(
    ("losses", "held_out", "train"),
    [
        ([2.0, 1.9, 1.8], [2.0, 1.9, 2.1], {}),
        ([2.0, 1.9, 1.8], [2.0, 2.1, 2.2], {}),  # overfits from the second epoch on
        ([2.0], [2.0], {}),
        ([2.0, 1.9], [], {}),
        ([-1.0, -1.1], [], {}),
        ([{"match": 2.0, "area": 0.0}, {"match": 1.0, "area": 0.0}], [], {}),
        ([2.0, 1.0], [], {"batch_size": 1}),
    ],
)
def test_a_loss_that_fell(tmp_path: Path, losses: Any, held_out: Any, train: Any) -> None:
    assert said(tmp_path, losses, held_out, **train) == ""


def test_phases_are_judged_by_themselves(tmp_path: Path) -> None:
    assert said(tmp_path, [2.0, 2.0, 5.0, 4.0], [], phases="aabb") == ""
    assert said(tmp_path, [2.0, 2.0, 5.0, 5.0], [], phases="aabb") != ""


def test_weights_that_did_not_move(tmp_path: Path) -> None:
    assert said(tmp_path, [2.0, 1.9], [], before=AFTER).startswith("no weight was moved by its training: this row is")
    assert said(tmp_path, [2.0, 1.9], [], before={**AFTER, "v": torch.zeros(1)} | BEFORE) == ""


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{")
    with pytest.raises(AvlocError, match=r"train\.jsonl is gone or damaged.*avloc bench --force"):
        learned_nothing(tmp_path / "train.jsonl", Train(), BEFORE, AFTER)


class Stuck(Dot):
    """Its gradient is zero."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"match": super().loss(features, batch, context)["match"].detach() + 0 * self.weight.sum()}


class Plugin:
    @hookimpl
    def avloc_methods(self) -> dict[str, Any]:
        return {"stuck": Stuck}


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("dot", [], ""),
        ("dot", ["train.batch_size=1"], "was 0 from the first step on, since in batches of one clip"),
        ("dot", ["train.lr=1.0e-30"], "no weight was moved|in every epoch"),
        ("stuck", [], "no weight was moved|in every epoch"),
        ("hinted", [], ""),
    ],
)
def test_the_row_is_marked(
    world: Any, suite_file: Path, tmp_path: Path, method: str, settings: list[str], words: str
) -> None:
    registry().add_module("stuck", Plugin())
    suite = load_suite(str(suite_file))
    for _ in range(2):  # made, and found
        results = bench(suite, methods=[method], seeds=[0], settings=settings, results=tmp_path)
        (row,) = results.manifest.rows
        assert row.status == "done" and bool(row.remark) == bool(words) and re.search(words, row.remark), row.remark
        table = results.table()
        assert bool(table.rows[0].mark) == bool(words)
        assert any("this row is an untrained head" in note for note in table.notes) == bool(words)
