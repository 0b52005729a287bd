"""External predictions: every file format, their scores, and every error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from avloc import AvlocError
from avloc.cli import app
from avloc.results import rescore, score_external
from avloc.runner import bench
from avloc.store import ArrayLog, Counts, Manifest, Row, Score, score_path
from avloc.suite import load_suite
from helpers.folders import PICTURED, photograph, table
from helpers.world import Blocks

METRICS = ["pixel_ap", "ciou_success@0.3", "ciou_mean"]


@pytest.fixture
def folder(world: Any, tmp_path: Path) -> Path:
    """An empty folder for predictions."""
    path = tmp_path / "mine"
    path.mkdir()
    return path


def clips() -> list[tuple[str, np.ndarray, str]]:
    """Id, mask and class of every test clip."""
    data = Blocks(None, split="test")
    truths = [(id, data.truth(id)) for id in data.ids()]
    return [(id, truth.masks[0], truth.labels[0]) for id, truth in truths]


def box_of(mask: np.ndarray) -> list[float]:
    y, x = (np.flatnonzero(mask.any(axis)) / 28 for axis in (1, 0))
    return [x[0], y[0], x[-1] + 1 / 28, y[-1] + 1 / 28]


def scored(folder: Path, dataset: str = "blocks", **wanted: Any) -> tuple[Manifest, Score]:
    """The manifest, and the score of its last row."""
    wanted = wanted if "suite" in wanted else {"metrics": METRICS, **wanted}
    found = score_external(folder, dataset, results=folder.parent / "r", **wanted)
    return found.manifest, score_of(found.folder, found.manifest.rows[-1])


def score_of(results: Path, row: Row) -> Score:
    return Score.load(score_path(results, row.run, row.score))


def as_arrays(folder: Path) -> None:
    for id, mask, label in clips():
        np.savez(folder / f"{id}.npz", maps=mask[None], labels=[label], scores=[0.5])


def as_plain_arrays(folder: Path) -> None:
    for id, mask, _ in clips():
        np.save(folder / f"{id}.npy", mask)


def as_named_images(folder: Path) -> None:
    for id, mask, label in clips():
        for name in Blocks.classes:
            cv2.imwrite(str(folder / f"{id}__{name}.png"), (255 * mask * (name == label)).astype(np.uint8))


def as_one_image(folder: Path) -> None:
    for id, mask, _ in clips():
        cv2.imwrite(str(folder / f"{id}.png"), (65535 * mask).astype(np.uint16))


def as_boxes(folder: Path) -> None:
    sources = {id: [{"label": label, "box": box_of(mask), "score": 1}] for id, mask, label in clips()}
    (folder / "boxes.json").write_text(json.dumps(sources))


def as_masks(folder: Path) -> None:
    """Half of them as rows of numbers, half as images in a folder of their own."""
    (folder / "masks").mkdir()
    sources: dict[str, Any] = {}
    for number, (id, mask, _) in enumerate(clips()):
        if number % 2:
            sources[id] = [{"mask": mask.tolist()}]
        else:
            cv2.imwrite(str(folder / "masks" / f"{number}.png"), (255 * mask).astype(np.uint8))
            sources[id] = [{"mask": f"masks/{number}.png"}]
    (folder / "masks.json").write_text(json.dumps(sources))


@pytest.mark.parametrize("write", [as_arrays, as_plain_arrays, as_named_images, as_one_image, as_boxes, as_masks])
def test_the_truth_itself_is_perfect(folder: Path, write: Callable[[Path], None]) -> None:
    write(folder)
    # At the truth's own resolution nothing is lost between the two.
    protocol = "ezvsl" if write is as_boxes else "avloc"
    manifest, score = scored(folder, protocol=protocol)
    assert score.values["pixel_ap"] == pytest.approx(1, abs=0.02)
    assert score.counts == Counts(listed=12, scored=12)
    (row,) = manifest.rows
    assert row.label == "mine (external)" and row.status == "done" and manifest.suite == "external.mine"


def test_an_empty_list_says_that_nothing_was_found(folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps({id: [] for id, _, _ in clips()}))
    _, score = scored(folder)
    assert score.values == {"pixel_ap": 0, "ciou_success@0.3": 0, "ciou_mean": 0}


def test_what_avloc_made_scores_the_same_from_outside(world: Any, folder: Path, suite_file: Path) -> None:
    results = folder.parent / "r"
    manifest = bench(suite_file, seeds=[0], results=results).manifest
    log = ArrayLog(results / "runs" / manifest.rows[0].run)
    for id in log.records:
        np.savez(folder / f"{id}.npz", maps=log.read(id)["maps"])
    joined, score = scored(folder, suite="blocks", name="Dot again")
    assert [row.method for row in joined.rows] == ["dot", "hinted", "Dot again (external)"]
    mine = joined.rows[0]
    assert score.values == score_of(results, mine).values
    paths = [score_path(results, row.run, row.score).with_suffix(".parquet") for row in (mine, joined.rows[-1])]
    pd.testing.assert_frame_equal(*map(pd.read_parquet, paths))
    again, _ = scored(folder, suite="blocks", name="Dot again")
    assert len(again.rows) == 3
    other = rescore("blocks", results=results, metrics=["ciou_mean"]).manifest
    assert [row.status for row in other.rows] == ["done"] * 3
    table = CliRunner().invoke(app, ["table", "--suite", "blocks", "--results", str(results)])
    assert "Dot again (external)" in table.stdout, table.output


def test_clips_without_prediction_media_or_sense_are_counted(folder: Path) -> None:
    as_arrays(folder)
    (folder / "test1.npz").unlink()
    _, score = scored(folder, "{name: blocks, gone: [test2], bad: [test3]}")
    assert score.counts.missing == {"test1": "it has no prediction", "test2": "no file"}
    assert score.counts.broken == {"test3": "test3.mp4 is truncated"}
    assert score.counts.scored == score.sources == 9


def test_files_that_are_the_same_are_read_once_and_others_make_another_run(folder: Path) -> None:
    as_arrays(folder)
    first, second = (scored(folder)[0].rows[0] for _ in range(2))
    assert first == second
    np.savez(folder / "test0.npz", maps=np.zeros((1, 7, 7)))
    assert scored(folder)[0].rows[0].run != first.run


def spoil(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)


MASK = np.zeros((1, 4, 4))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("test0.txt", "x", ["test0.txt", ".npz, .npy, .png or .json"]),
        ("tset0.npz", {"maps": MASK}, ["no clip 'tset0'", "Did you mean 'test0'"]),
        ("test0.npz", "not a zip", ["test0.npz", "plain arrays"]),
        ("test0.npz", {"maps": np.array([None])}, ["plain arrays"]),
        ("test0.npz", {"map": MASK}, ["no array 'map'", "Did you mean 'maps'"]),
        ("test0.npz", {"scores": [1.0]}, ["'maps'", "missing"]),
        ("test0.npz", {"maps": np.zeros(4)}, ["(n, h, w)", "(4,)"]),
        ("test0.npz", {"maps": np.zeros((1, 0, 4))}, ["(n, h, w)", "(1, 0, 4)"]),
        ("test0.npz", {"maps": np.full((1, 4, 4), np.nan)}, ["test0.npz", "not finite"]),
        ("test0.npz", {"maps": MASK, "labels": ["bell", "cat"]}, ["1 maps but 2 labels"]),
        ("test0.npz", {"maps": MASK, "labels": ["bel"]}, ["no class 'bel'", "Did you mean 'bell'"]),
        ("test0.npz", {"maps": MASK, "labels": [3]}, ["labels must be class names"]),
        ("test0.npz", {"maps": MASK, "scores": [np.inf]}, ["scores", "not finite"]),
        ("test0.npz", {"maps": MASK, "scores": [[1.0]]}, ["scores must be numbers (Q,)"]),
        ("test0.npy", "no array", ["test0.npy", "plain array"]),
        ("test0__bell.npy", "x", ["no clip 'test0__bell'"]),
        ("test0.png", "not an image", ["test0.png", "cannot be read"]),
        ("test0.png", np.zeros((4, 4, 3), np.uint8), ["gray"]),
        ("test0__bel.png", np.zeros((4, 4), np.uint8), ["no class 'bel'"]),
        ("a.json", "{", ["a.json", "not JSON"]),
        ("a.json", "[]", ["{clip: [sources]}"]),
        ("a.json", '{"test0": {}}', ["'test0'", "list of objects"]),
        ("a.json", '{"test0": [{"bx": [0, 0, 1, 1]}]}', ["'bx'", "Did you mean 'box'"]),
        ("a.json", '{"test0": [{"label": "bell"}]}', ["one of box, boxes and mask"]),
        ("a.json", '{"test0": [{"box": [0, 0, 1, 2]}]}', ["in [0, 1]"]),
        ("a.json", '{"test0": [{"box": [0, 0, 1]}]}', ["four numbers"]),
        ("a.json", '{"test0": [{"box": [0,0,1,1], "label": "bell"}, {"box": [0,0,1,1]}]}', ["all sources", "label"]),
        ("a.json", '{"test0": [{"box": [0,0,1,1], "score": "high"}]}', ["score should be a number"]),
        ("a.json", '{"test0": [{"mask": "gone.png"}]}', ["gone.png", "missing"]),
        ("a.json", '{"test0": [{"mask": [[1], [1, 2]]}]}', ["rows of numbers"]),
        ("a.json", '{"test0": [{"mask": [[1]]}, {"mask": [[1, 2]]}]}', ["one size", "(1, 2)"]),
    ],
)
def test_a_wrong_file_is_named(folder: Path, name: str, content: Any, words: list[str]) -> None:
    if isinstance(content, dict):
        np.savez(folder / name, **content)
    elif isinstance(content, np.ndarray):
        cv2.imwrite(str(folder / name), content)
    else:
        spoil(folder, name, content)
    with pytest.raises(AvlocError) as caught:
        scored(folder)
    for word in words:
        assert word in str(caught.value)
    assert not (folder.parent / "r" / "suites").exists()


def test_one_clip_in_two_files_is_an_error(folder: Path) -> None:
    as_arrays(folder)
    spoil(folder, "a.json", '{"test0": []}')
    with pytest.raises(AvlocError, match=r"'test0' has predictions in .* and in"):
        scored(folder)


def test_images_of_one_clip_have_one_size(folder: Path) -> None:
    for label, size in (("bell", 4), ("cat", 5)):
        cv2.imwrite(str(folder / f"test0__{label}.png"), np.zeros((size, size), np.uint8))
    with pytest.raises(AvlocError, match="one size"):
        scored(folder)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"dataset": "blocs"}, "Did you mean 'blocks'"),
        ({"dataset": "{name: blocks, cuont: 3}"}, "Did you mean 'count'"),
        ({"dataset": "[1"}, "not YAML"),
        ({"dataset": "[1]"}, "cannot be read"),
        ({"hints": "all"}, "no level of hints"),
        ({"name": "!"}, "no letters or digits"),
        ({"suite": "blocks"}, "no results of suite"),
        ({"suite": "blocks", "protocol": "avloc"}, "one protocol"),
        ({"metrics": ["pixel"]}, "Did you mean 'pixel_ap'"),
    ],
)
def test_unknown_names_are_reported(folder: Path, wanted: dict[str, Any], words: str) -> None:
    as_arrays(folder)
    with pytest.raises(AvlocError, match=words):
        score_external(folder, **{"dataset": "blocks", "results": folder.parent / "r", **wanted})


@pytest.mark.parametrize(("made", "words"), [(True, "holds no predictions"), (False, "is not a folder")])
def test_no_predictions(folder: Path, made: bool, words: str) -> None:
    with pytest.raises(AvlocError, match=words):
        scored(folder if made else folder / "none")


def test_the_command(folder: Path) -> None:
    as_arrays(folder)
    run = CliRunner().invoke
    common = ["score", "--results", str(folder.parent / "r"), "--predictions", str(folder)]
    done = run(app, [*common, "--dataset", "blocks", "--name", "Mine", "--metrics", "cap"])
    assert done.exit_code == 0 and "Mine (external)" in done.stdout and "12 scored" in done.stdout
    assert "no training here" in done.stdout
    lacking = run(app, common)
    assert lacking.exit_code == 2 and "--dataset" in lacking.stderr
    alone = run(app, ["score", "--dataset", "blocks"])
    assert alone.exit_code == 2 and "--predictions" in alone.stderr


def test_a_bench_that_runs_again_keeps_the_rows_from_outside(world: Any, folder: Path, suite_file: Path) -> None:
    suite, results = load_suite(str(suite_file)).override(seeds=[0]), folder.parent / "r"
    bench(suite, results=results)
    as_arrays(folder)
    manifest, _ = scored(folder, suite="blocks")
    assert bench(suite, results=results).manifest.rows[-1] == manifest.rows[-1]
    assert len(bench(suite, methods=["hinted"], results=results).manifest.rows) == 2
    refined = suite.model_copy(update={"protocol": {**suite.protocol, "size": 14}})
    assert all("external" not in row.label for row in bench(refined, results=results).manifest.rows)


def test_predictions_of_clips_that_are_others_once_more_are_noted(tmp_path: Path) -> None:
    rows = [photograph(tmp_path, "a"), photograph(tmp_path, "b", split="train"), photograph(tmp_path, "c")]
    for suffix in ("png", "wav"):
        (tmp_path / f"c.{suffix}").write_bytes((tmp_path / f"b.{suffix}").read_bytes())
    path = table(tmp_path, rows, PICTURED)
    (tmp_path / "mine").mkdir()
    for id in ("a", "c"):
        np.savez(tmp_path / "mine" / f"{id}.npz", maps=np.eye(4)[None])
    (entry,) = scored(tmp_path / "mine", f"{{name: folder, csv: {path}}}")[0].datasets
    assert any("1 of 2 test clips have the image and sound of a clip that is trained" in note for note in entry.notes)


def test_two_maps_of_one_class_need_scores(folder: Path) -> None:
    id, mask, label = clips()[0]
    np.savez(folder / f"{id}.npz", maps=np.stack([mask, 1 - mask]), labels=[label, label])
    with pytest.raises(AvlocError, match=f"2 maps, of which several are of '{label}'; give each class one map, or"):
        scored(folder)
    np.savez(folder / f"{id}.npz", maps=np.stack([mask, 1 - mask]), labels=[label, label], scores=[0.9, 0.1])
    assert scored(folder)[1].values["ciou_mean"] > 0.99
