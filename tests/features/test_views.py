"""Optional inputs of methods: views of a clip, canvases of several clips, passes over the data set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from avloc import AvlocError, Batch, Context, Features, Needs, Sample
from avloc.features import Altered, canvases
from avloc.features.views import altered
from avloc.interfaces import Phase
from avloc.runner import Options, Task, run_suite as bench
from avloc.suite import Train, load_suite
from avloc.training import Fit, load_weights
from helpers import TESTS
from helpers.tasks import task_of
from helpers.world import Blocks, Dot, Plain

SEEN: list[tuple[Features, Batch]] = []


class Greedy(Dot):
    """Requires every view, and records where its clips come from."""

    needs = Needs(views=("augmented", "shifted_audio", "other_video", "neighbor"))
    known: Tensor

    def __init__(self, encoder: Any, classes: Sequence[str], *, dropout: float = 0.0) -> None:
        super().__init__(encoder, classes, dropout=dropout)
        self.register_buffer("known", torch.empty(0, Plain.info.dim))

    def phases(self) -> list[Phase]:
        return [Phase("look"), Phase("learn")]

    def before_phase(self, phase: str, dataset_pass: Callable[[], Iterator[tuple[Features, Batch]]]) -> None:
        parts = list(dataset_pass())
        self.order = [id for _, batch in parts for id in batch.ids]
        self.known = torch.cat([features.audio for features, _ in parts]) * (2 if phase == "learn" else 1)

    def neighbors(self, ids: Sequence[str], context: Context) -> tuple[list[str], list[str]]:
        return ["train0"] * len(ids), ["train1"] * len(ids)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        SEEN.append((features, batch))
        own = super().loss(features, batch, context)["match"]
        return {"match": own, "views": sum(view.audio.mean() for view in features.views.values()) * self.weight.sum()}


class Canvases(Dot):
    """Trains on canvases of two tiles."""

    needs = Needs(tiles=2, views=("shifted_audio",))

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        assert batch.tiles.tolist() == [2] * len(batch)
        assert features.image_map.shape[3] == 2 * features.image_map.shape[2]
        assert features.views["shifted_audio"].image_map.shape == features.image_map.shape
        return super().loss(features, batch, context)


def _task(count: int = 8) -> Task:
    return task_of({split: Blocks(None, split=split, count=count) for split in ("train", "val", "test")}, Plain())


def _fit(folder: Path, kind: type[Dot] = Greedy, count: int = 8, **changes: Any) -> Fit:
    torch.manual_seed(0)
    train = Train(**{"epochs": 4, "batch_size": 4, "lr": 0.05, **changes})
    data = _task(count).training_data(kind.needs, train)
    fabric = Fabric(accelerator="cpu", devices=1)
    method = kind(Plain().info, Blocks.classes)
    return Fit(method, data, train, seed=0, folder=folder, fabric=fabric, save_every=0)


def test_every_view_is_what_it_is_called(tmp_path: Path) -> None:
    SEEN.clear()
    _fit(tmp_path).run()
    features, batch = SEEN[0]
    assert set(features.views) == set(batch.views) == set(Greedy.needs.views)
    for view in features.views.values():
        assert view.image_map.shape == features.image_map.shape
    others = batch.views["other_video"]
    assert all(one != other for one, other in zip(batch.groups, others.groups, strict=True))
    assert set(others.ids) <= {f"train{n}" for n in range(8)}
    assert [id.partition("~")[0] for id in batch.views["shifted_audio"].ids] == list(batch.ids)
    assert torch.equal(features.views["shifted_audio"].image, features.image)
    assert not torch.equal(features.views["augmented"].image, features.image)
    assert set(batch.views["neighbor"].ids) == {"train0"}
    assert torch.equal(features.views["neighbor"].audio[0], features.views["neighbor"].audio[1])
    held_out = next(batch for _, batch in SEEN if batch.ids[0].startswith("val"))
    assert held_out.views["neighbor"].ids == held_out.ids
    assert all(id.startswith("val") for view in held_out.views.values() for id in view.ids)


def test_views_are_drawn_anew_in_every_step_and_alike_in_every_run(tmp_path: Path) -> None:
    drawn = []
    for name in "ab":
        SEEN.clear()
        _fit(tmp_path / name).run()
        drawn.append([batch.views["other_video"].ids for _, batch in SEEN])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 4


def test_buffers_set_in_a_pass_are_in_the_checkpoint(tmp_path: Path) -> None:
    fit = _fit(tmp_path)
    known = load_weights(fit.run())["known"]
    assert known.shape == (8, Plain.info.dim)
    assert fit.method.order == [f"train{n}" for n in range(8)]  # type: ignore[union-attr]
    fresh = _fit(tmp_path / "other")
    fresh.trained.put(load_weights(tmp_path / "checkpoint.safetensors"))
    assert torch.equal(fresh.method.known, known)  # type: ignore[arg-type]


KILLED = """
    import sys, os, signal, pathlib
    sys.path.insert(0, {tests!r})
    sys.path.insert(0, {tests!r} + '/features')
    import test_views
    from avloc.training import Fit
    from helpers.forks import forked
    left, original = 0, Fit._step
    def counted(*args):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)
    Fit._step = counted
    for steps in (2, 5, 7):
        folder = pathlib.Path(sys.argv[1]) / str(steps)
        folder.mkdir()
        for left in (steps, 1000):
            print(forked(lambda: test_views._fit(folder).run()), flush=True)
"""


@pytest.mark.slow
def test_killed_in_any_phase_it_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = load_weights(_fit(tmp_path / "whole").run())
    code = textwrap.dedent(KILLED).format(tests=str(TESTS))
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == [str(int(-signal.SIGKILL)), "0"] * 3
    for steps in (2, 5, 7):
        again = load_weights(tmp_path / str(steps) / "checkpoint.safetensors")
        assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_clips_of_one_tile_become_canvases(tmp_path: Path) -> None:
    _fit(tmp_path, Canvases).run()


@pytest.mark.usefixtures("world")
def test_features_computed_in_every_step_have_the_same_views(tmp_path: Path) -> None:
    found = []
    for cache in (True, False):
        data = _task().training_data(Greedy.needs, Train(cache=cache))
        torch.manual_seed(3)
        method = Greedy(Plain().info, Blocks.classes)
        found.append(data.features(data.draw(method, data.train, ["train2", "train3"], Context())).views)
    for name, features in found[0].items():
        assert torch.allclose(features.audio, found[1][name].audio, rtol=0, atol=1e-2), name
        assert torch.allclose(features.image_map, found[1][name].image_map, rtol=0, atol=1e-2), name


class Wide(Blocks):
    """Clips of three tiles."""

    def load(self, id: str) -> Sample:
        sample = super().load(id)
        image = np.tile(sample.clip.image, (1, 3, 1))
        return Sample(replace(sample.clip, image=image, tiles=3), None, sample.labels)


def test_canvases_of_canvases_are_refused() -> None:
    splits = {split: Wide(None, split=split, count=4) for split in ("train", "val", "test")}
    task = task_of(splits, Plain(), "wide")
    with pytest.raises(AvlocError, match=r"canvases of 2 clips, but those of wide have \[3\]"):
        task.training_data(Canvases.needs, Train())
    assert task.training_data(Needs(tiles=3), Train()).train.ids == ("train0", "train1", "train2", "train3")


def test_an_augmented_copy_is_reproducible_and_differs_from_its_clip() -> None:
    data = Blocks(None, split="train", count=2)
    copies = Altered(data, data.ids(), 2, pixels=True)
    assert copies.ids() == ("train0~0", "train0~1", "train1~0", "train1~1")
    one, again, other = (copies.load(id).clip for id in ("train0~0", "train0~0", "train0~1"))
    assert np.array_equal(one.image, again.image) and np.array_equal(one.audio, again.audio)
    assert not np.array_equal(one.image, other.image)
    original = data.load("train0")
    assert one.image.shape == original.clip.image.shape
    assert np.array_equal(np.sort(one.audio), np.sort(original.clip.audio))
    assert copies.load("train0~0").labels == original.labels
    assert copies.load("train0~0").truth is None
    assert len({copies.content(id) for id in copies.ids()}) == 4


def test_tiles_come_from_different_videos() -> None:
    data = Blocks(None, split="train", count=4)
    groups = {"train0": "a", "train1": "a", "train2": "b", "train3": "b"}
    tiled = canvases(data, groups, 2)
    assert len(tiled.ids()) == 4
    for id in tiled.ids():
        one, two = id.split("+")
        assert groups[one] != groups[two]
        assert tiled.load(id).clip.tiles == 2
    with pytest.raises(AvlocError, match="too few"):
        canvases(data, dict.fromkeys(data.ids(), "one video"), 2)


def test_augmented_pixels_stay_in_range() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 31, 3), dtype=np.uint8)
    for seed in range(12):
        changed = altered(image, np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
        assert not np.array_equal(changed, image)


@pytest.mark.usefixtures("world")
def test_other_video_views_need_two_videos() -> None:
    class Alone(Blocks):
        def load(self, id: str) -> Sample:
            sample = super().load(id)
            return replace(sample, clip=replace(sample.clip, group="one"))

    splits = {split: Alone(None, split=split, count=4) for split in ("train", "val", "test")}
    data = task_of(splits, Plain(), "alone").training_data(Greedy.needs, Train())
    method = Greedy(Plain().info, Blocks.classes)
    with pytest.raises(AvlocError, match="at least two videos"):
        data.draw(method, data.train, ["train0"], Context())


@pytest.mark.usefixtures("world")
def test_a_bench_with_a_limit_makes_views_of_those_clips_only(suite_file: Path, tmp_path: Path) -> None:
    from avloc.registry import registry

    class Plugin:
        pass

    plugin = Plugin()
    from avloc import hookimpl

    plugin.avloc_methods = hookimpl(lambda: {"canvases": Canvases})  # type: ignore[attr-defined]
    registry().add_module("canvases", plugin)
    suite = load_suite(str(suite_file)).override(methods=["canvases"], seeds=[0], limit=6)
    manifest = bench(suite, Options(tmp_path))
    assert next(row.status for row in manifest.rows if row.method == "canvases") == "done"
    logs = list(Path(os.environ["AVLOC_CACHE"]).glob("features/*/*-2tiles-shifted_audio/samples.jsonl"))
    assert sum(len(log.read_text().splitlines()) for log in logs) <= 2 * 2 * 6


def test_a_single_held_out_video_uses_training_clips_as_other_videos() -> None:
    splits = {split: Blocks(None, split=split, count=1 if split == "val" else 4) for split in ("train", "val", "test")}
    data = task_of(splits, Plain()).training_data(Greedy.needs, Train())
    drawn = data.draw(Greedy(Plain().info, Blocks.classes), data.val, ["val0"], Context())["other_video"]
    assert drawn[0] is data.train and drawn[1][0].startswith("train")
