"""`Results`: table, rows and predictions of a bench, and `Table` as data frame and files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import avloc
from avloc import AvlocError
from avloc.results import Results, load_results
from avloc.runner import bench
from avloc.store import ArrayLog
from helpers import TESTS
from helpers.stored import Store


@pytest.fixture
def results(world: Any, suite_file: Path, tmp_path: Path) -> Results:
    """Of the small world's suite."""
    made = bench(suite_file, results=tmp_path / "r")
    assert load_results("blocks", tmp_path / "r").manifest == made.manifest
    return made


def test_the_rows_are_what_the_table_is_made_of(results: Results) -> None:
    rows, table = results.scores(), results.table()
    assert list(rows.columns)[:11] == [
        "dataset", "encoder", "method", "section", "hints", "seed", "params", "clip", "group", "source", "label"
    ]  # fmt: skip
    assert len(rows) == 3 * 12 and set(rows.seed[rows.method == "dot"]) == {0, 1}
    means = rows[rows.method == "dot"].groupby("seed").pixel_ap.mean()
    assert table.to_frame()["Blocks", "pixel AP"].iloc[0] == pytest.approx(100 * means.mean())
    assert table.to_markdown() == avloc.load_results("blocks", str(results.folder)).table().to_markdown()


def test_options_of_the_table_and_metrics_that_are_no_mean(results: Results) -> None:
    again = avloc.load_results("blocks", results.folder).table(intervals=True, reference="dot", digits=4)
    assert all(cell.interval for row in again.rows for cells in row.cells for cell in cells)
    assert again.rows[1].cells[0][0].p is not None
    with pytest.raises(AvlocError, match="Known: dot"):
        results.table(reference="dott")


def test_predictions_of_a_run(results: Results) -> None:
    found = results.predictions("dot", "blocks", seed=1)
    row = next(row for row in results.manifest.rows if (row.method, row.seed) == ("dot", 1))
    log = ArrayLog(results.folder / "runs" / row.run)
    assert list(found) == [f"test{n}" for n in range(12)]
    assert all(np.array_equal(prediction.maps, log.read(id)["maps"]) for id, prediction in found.items())
    truths = {id: avloc.get_component("dataset", "blocks")(None, split="test").truth(id) for id in found}
    again = avloc.evaluate(found, truths, {"preset": "avloc", "size": 28}, ["pixel_ap"])
    rows = results.scores()
    assert again.rows.pixel_ap.to_list() == rows.pixel_ap[(rows.method == "dot") & (rows.seed == 1)].to_list()


def test_scoring_and_printing_again_need_no_lightning(results: Results) -> None:
    code = (
        "import sys; from helpers.world import World  # whose conformance checks train\n"
        "training = ('lightning_fabric', 'avloc.training', 'avloc.runner', 'avloc.testing')\n"
        "sys.modules |= {name: None for name in [*sys.modules, *training] if name.startswith(training)}\n"
        "from avloc.registry import registry; from avloc.results import rescore\n"
        "registry().add_module('world', World())\n"
        "print(rescore('blocks', protocol='ezvsl', metrics=['auc'], results=sys.argv[1]).table().to_markdown())"
    )
    command = [sys.executable, "-c", code, str(results.folder)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert "AUC" in done.stdout and "Protocol: ezvsl: " in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"method": "dott"}, "with the method 'dott'.*Did you mean 'dot'"),
        ({"dataset": "block"}, "Did you mean 'blocks'"),
        ({"seed": 7}, "with the seed '7'"),
        ({"hint": "oracle"}, "Did you mean 'hints'"),
    ],
)
def test_a_run_that_is_not_there(results: Results, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(AvlocError, match=words):
        results.predictions(**{"method": "dot", "dataset": "blocks", **wanted})


def test_runs_that_are_several_or_have_no_predictions(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for hints in ("none", "oracle"):
        store.row("a", hints=hints, reason="too little memory")
    store.write()
    results = load_results("s", tmp_path)
    with pytest.raises(AvlocError, match="say which with hints='none' or hints='oracle'"):
        results.predictions("a", "duet")
    with pytest.raises(AvlocError, match="no predictions: too little memory"):
        results.predictions("a", "duet", hints="none")
    assert results.scores().empty
    with pytest.raises(AvlocError, match=r"no results of suite 'other'.*avloc bench --suite other"):
        load_results("other", tmp_path)


def test_a_frame_has_numbers_and_only_texts_where_there_are_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.manifest.paper, store.manifest.datasets[0].name = "T-VSL, Table 2", "vggsound_duet"
    store.row("tvsl", 0.4, dataset="vggsound_duet")
    store.row("mine", dataset="vggsound_duet", reason="no")
    frame = store.table(published=True).to_frame()
    assert all(dtype.kind == "f" for dtype in frame.dtypes)
    assert frame["Toybox duet", "CAP"].iloc[:2].to_list() == pytest.approx([40, np.nan], nan_ok=True)
    assert frame["Toybox duet (printed)", "CAP"].iloc[0] == 35.7
    printed = avloc.load_results("s", tmp_path).table(published=True)
    assert printed.to_frame().equals(frame)


def test_a_table_is_saved_in_the_format_of_its_suffix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.row("a", 0.4)
    table = store.table()
    for suffix, text in ((".md", table.to_markdown()), (".tex", table.to_latex()), (".json", table.to_json())):
        table.save(tmp_path / f"t{suffix}")
        assert (tmp_path / f"t{suffix}").read_text(encoding="utf-8") == text
    table.save(str(tmp_path / "t.CSV"))
    assert (tmp_path / "t.CSV").read_bytes() == b"\xef\xbb\xbf" + table.to_csv().encode()
    assert pd.read_csv(tmp_path / "t.CSV", header=1, nrows=1).CAP.to_list() == [40.0]
    assert json.loads(table.to_json())["title"] == "A 100% test"
    with pytest.raises(AvlocError, match=r"t\.xls: .*Known: \.csv, \.json, \.md, \.tex"):
        table.save(tmp_path / "t.xls")
    with pytest.raises(AvlocError, match="Cannot write"):
        table.save(tmp_path / "nowhere" / "t.md")
