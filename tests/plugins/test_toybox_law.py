"""Toybox's objects have the boxes of VGG-SS: the controls come out as there, for any number of clips."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import avloc
from avloc import Dataset, get_component

VGGSS = {  # percent: CAP, cIoU success rate @0.3 and @0.5, mean cIoU, AUC, on 1,500 clips of VGG-SS
    "Center": (60.7, 58.3, 14.1, 32.2, 32.3),
    "Whole frame": (31.4, 43.0, 22.3, 31.4, 31.4),
    "Random": (31.8, 28.7, 2.6, 21.7, 21.7),
}
SUITE = """
title: Controls on toybox
datasets: [{{name: toybox_single, encoder: tiny, train: 0, val: 0, test: 1000}}]
protocol: {{preset: avloc, size: 112, truth: boxes_union}}
metrics: [cap, {{name: ciou_success, at: 0.3}}, {{name: ciou_success, at: 0.5}}, ciou_mean, auc]
methods: []
controls: [center, whole, random, saliency]
seeds: [0]
"""


def singles(root: Path, split: str = "test", **counts: int) -> Dataset:
    data: Dataset = get_component("dataset", "toybox_single")(root, split=split, **counts)
    data.prepare()
    return data


@pytest.mark.slow
def test_controls_come_out_as_on_vggss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "law.yaml").write_text(SUITE.format())
    numbers = avloc.bench("law.yaml").table().to_frame().droplevel("section")
    for label, expected in VGGSS.items():
        np.testing.assert_allclose(numbers.loc[label], expected, atol=3.5, err_msg=label)
    center, saliency = (list(numbers.loc[label]) for label in ("Center", "Saliency (audio-free)"))
    assert saliency[0] < center[0] + 5 and saliency[1] < center[1] + 6  # without silent objects: 20 and 26 above


def boxes(data: Dataset) -> np.ndarray:
    return np.array([data.truth(id).boxes[0][0] for id in data.ids()])


@pytest.mark.slow
def test_few_clips_have_the_law_and_not_a_draw_of_it(tmp_path: Path) -> None:
    """A hundred random draws of these areas would have a mean that is off by 0.023 and more in one of three tries."""
    for seed in (0, 1):
        x1, y1, x2, y2 = boxes(singles(tmp_path, test=108, seed=seed)).T
        areas = (x2 - x1) * (y2 - y1)
        assert areas.mean() == pytest.approx(0.311, abs=0.012)
        np.testing.assert_allclose(
            np.quantile(areas, [0.1, 0.25, 0.5, 0.75, 0.9]), [0.05, 0.12, 0.25, 0.46, 0.68], atol=0.035
        )
        assert ((x1 + x2) / 2).mean() == pytest.approx(0.5, abs=0.03) and ((y1 + y2) / 2).mean() > 0.5


def test_classes_come_in_turns(tmp_path: Path) -> None:
    data = singles(tmp_path, test=72)
    counts = Counter(data.labels(id)[0] for id in data.ids())
    assert set(counts) == set(data.classes) and set(counts.values()) == {2}
    order = [data.labels(id)[0] for id in data.ids()]
    assert order[:36] != order[36:] and order[:36] != sorted(order[:36])


def test_every_single_clip_has_silent_objects_and_some_have_sound_from_off_screen(tmp_path: Path) -> None:
    import json

    data = singles(tmp_path, test=108)
    (log,) = tmp_path.rglob("annotations.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    silent = [sum(not item["sounding"] for item in line["objects"]) for line in lines]
    assert set(silent) <= {0, 1, 2} and np.mean([n >= 1 for n in silent]) > 0.9  # one may be hidden by the source
    assert 0.1 < np.mean([bool(line["offscreen"]) for line in lines]) < 0.3
    for line in lines:
        shown = {item["label"] for item in line["objects"]}
        assert len(shown) == len(line["objects"]) and not shown & set(line["offscreen"])
    assert len(data.ids()) == 108


def test_clips_for_pretraining_show_one_object_that_sounds(tmp_path: Path) -> None:
    data = get_component("dataset", "toybox_single")(tmp_path, split="train", train=12, alone=True)
    data.prepare()
    assert all(len(data.load(id).truth.masks) == 1 for id in data.ids())
    (log,) = tmp_path.rglob("annotations.jsonl")
    assert '"sounding": false' not in log.read_text() and '"offscreen": []' in log.read_text()


@pytest.mark.slow
def test_more_sources_are_smaller_ones_of_the_same_law(tmp_path: Path) -> None:
    means = []
    for sources in (1, 2, 3, 4):
        data = get_component("dataset", "toybox_scene")(tmp_path, split="test", test=36, sources=sources)
        data.prepare()
        found = [b[0] for id in data.ids() for b in data.truth(id).boxes]
        means.append(np.mean([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in found]))
    np.testing.assert_allclose(means, [0.187, 0.18, 0.118, 0.088], atol=0.035)
