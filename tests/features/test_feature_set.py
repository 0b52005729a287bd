"""Features of encoders: cached once per clip and shared, or computed in every step, with the same numbers."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from typer.testing import CliRunner

from avloc import AvlocError, Clip, Sample, cli, get_component, hookimpl
from avloc.components import Component
from avloc.features import (
    Altered,
    FeatureSet,
    cached_features,
    canvases,
    computed_features,
    encode_text,
    encoder_audio,
    encoder_image,
)
from avloc.registry import registry
from avloc.runner import Options, make_task, run_suite as bench
from avloc.runner.task import task_notes
from avloc.store import ArrayLog, clear, entries, exclusive
from avloc.suite import SuiteDataset, Train, load_suite
from avloc.training import ENCODER, Fit, Trained, TrainingData, load_weights
from helpers import TESTS
from helpers.world import Blocks, Dot, Plain


def _cache() -> Path:
    return Path(os.environ["AVLOC_CACHE"])


class Counting(Plain):
    """Counts the clips it encodes."""

    seen = 0

    def encode_image(self, images: torch.Tensor) -> Any:
        type(self).seen += len(images)
        return super().encode_image(images)


class Edited(Blocks):
    """Blocks of which one clip's sound was changed."""

    def load(self, id: str) -> Sample:
        sample = super().load(id)
        return replace(sample, clip=replace(sample.clip, audio=sample.clip.audio / 2)) if id == "train1" else sample


@pytest.fixture
def counting() -> Counting:
    Counting.seen = 0
    return Counting()


def _encode(dataset: Blocks, encoder: Plain, limit: int | None = None) -> FeatureSet:
    return cached_features(dataset, encoder, "blocks", limit=limit, device="cpu")


def test_a_clip_is_encoded_once_and_shared_by_what_comes_later(counting: Counting) -> None:
    _encode(Blocks(None, split="train", count=5), counting)
    _encode(Blocks(None, split="train", count=5), counting)
    assert counting.seen == 5
    _encode(Blocks(None, split="train", count=8), counting)
    assert counting.seen == 8
    _encode(Blocks(None, split="train", count=8), counting, limit=3)
    assert counting.seen == 8


def test_a_changed_clip_is_encoded_again_and_no_other(counting: Counting) -> None:
    before = _encode(Blocks(None, split="train", count=5), counting)
    after = _encode(Edited(None, split="train", count=5), counting)
    assert counting.seen == 6
    one, two = before.features(["train1"]), after.features(["train1"])
    assert torch.equal(one.image, two.image)
    assert not torch.equal(one.audio, two.audio)


def test_other_weights_have_their_own_features(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    _encode(Blocks(None, split="train", count=2), counting)
    monkeypatch.setattr(Counting, "fingerprint", lambda self: "other")
    _encode(Blocks(None, split="train", count=2), counting)
    assert counting.seen == 4


def test_other_parameters_have_their_own_features_whatever_the_fingerprint_says(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plain, "fingerprint", lambda self: "always the same")
    found = []
    for scale in (1.0, 2.0):
        component = Component(name="plain", params={"scale": scale})
        task = make_task(
            SuiteDataset(name="blocks", encoder=component), {"test": Blocks(None, split="test")}, Plain(scale=scale)
        )
        found.append(task.features("test", computed=False).features(["test0"]).image)
    assert torch.allclose(found[1], 2 * found[0])


class Companions(Plain):
    """An encoder whose embedding of a name depends on the names beside it."""

    def encode_text(self, prompts: Any) -> torch.Tensor:
        return super().encode_text(prompts) + len(prompts)


def test_a_class_name_is_embedded_alone() -> None:
    encoder = Companions()
    both = encode_text(encoder, ("bell", "dog"), {"encoder": "both"})
    one = encode_text(encoder, ("dog",), {"encoder": "one"})
    assert both is not None and one is not None and torch.equal(both[1], one[0])


def test_cached_and_computed_features_agree_to_half_precision() -> None:
    data, encoder = Blocks(None, split="train", count=6), Plain()
    cached, computed = _encode(data, encoder), computed_features(data, encoder, "blocks", limit=None)
    assert cached.ids == computed.ids == tuple(data.ids())
    order = ["train3", "train0", "train5"]
    with torch.no_grad():
        here, there = cached.features(order), computed.features(order)
        swapped = computed.features(order, audio_of=order[::-1])
    for name in ("image_map", "image", "audio_map", "audio"):
        a, b = getattr(here, name), getattr(there, name)
        assert torch.allclose(a, b, rtol=0, atol=2e-3 * float(b.abs().max())), name
    assert torch.allclose(swapped.audio, there.audio.flip(0))
    for id in order:
        assert (cached.labels(id), cached.group(id), cached.tiles(id)) == (computed.labels(id), computed.group(id), 1)


def test_features_that_are_kept_in_memory_cannot_be_changed_from_outside() -> None:
    clips = _encode(Blocks(None, split="train", count=3), Plain())
    first = clips.features(["train1", "train0"]).image_map
    kept = first.clone()
    first.zero_()
    assert torch.equal(clips.features(["train1", "train0"]).image_map, kept)
    assert torch.equal(_encode(Blocks(None, split="train", count=3), Plain()).features(["train1"]).image_map, kept[:1])


def test_what_cannot_be_used_is_named_either_way() -> None:
    data = Blocks(None, split="train", count=5, bad=["train1"], gone=["train2"])
    for seen in (_encode(data, Plain()), computed_features(data, Plain(), "blocks", limit=None)):
        assert seen.ids == ("train0", "train3", "train4")
        assert seen.missing == {"train2": "no file"}
        assert seen.broken == {"train1": "train1.mp4 is truncated"}


class Twins(Blocks):
    """Several ids with the same content."""

    def load(self, id: str) -> Sample:
        sample = super().load("train0")
        return replace(sample, clip=replace(sample.clip, id=id, group="one video"))


class Unnamed(Blocks):
    """Blocks of which one clip cannot say what it is."""

    def content(self, id: str) -> str:
        return {}["nothing"] if id == "train1" else super().content(id)


def test_a_clip_whose_content_fails_costs_that_clip_alone(counting: Counting) -> None:
    found = _encode(Unnamed(None, split="train", count=3), counting)
    assert found.ids == ("train0", "train2")
    assert found.broken == {"train1": "The data set Unnamed failed on clip 'train1': KeyError: 'nothing'"}


def test_the_same_content_under_two_ids_is_encoded_once(counting: Counting) -> None:
    seen = _encode(Twins(None, split="train", count=3), counting)
    assert counting.seen == 1
    assert [seen.group(id) for id in seen.ids] == ["one video"] * 3


def test_features_that_are_not_finite_break_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Plain, "encode_audio", lambda self, waves: (torch.full((1, 64, 4, 2), np.nan), torch.zeros(1, 64))
    )
    assert set(_encode(Blocks(None, split="train", count=2), Plain()).broken) == {"train0", "train1"}


def test_text_is_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = Plain.encode_text

    def watched(self: Plain, prompts: Any) -> torch.Tensor:
        asked.extend(prompts)
        return original(self, prompts)

    monkeypatch.setattr(Plain, "encode_text", watched)
    encoder = Plain()
    first = encode_text(encoder, ("rain", "bell"), {"encoder": "plain"})
    again = encode_text(encoder, ("bell", "dog", "rain"), {"encoder": "plain"})
    assert asked == ["rain", "bell", "dog"]
    assert first is not None and again is not None and torch.equal(first[0], again[2])


def test_short_sounds_are_tiled_and_long_ones_cut_in_the_middle() -> None:
    info = replace(Plain().info, audio_rate=8, audio_seconds=1.0)
    image = np.zeros((4, 4, 3), np.uint8)
    short = encoder_audio(Clip("a", image, np.float32([0.1, 0.2, 0.3]), 8), info)
    assert short.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.2])
    long = encoder_audio(Clip("a", image, np.linspace(0, 1, 12, dtype=np.float32), 8), info)
    assert np.allclose(long, np.linspace(0, 1, 12)[2:10])


class Ears(Plain):
    """An encoder that asks for both channels, and tells where the sound is louder."""

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(self.info, stereo=True)

    def encode_audio(self, waves: torch.Tensor) -> Any:
        left, right = waves.square().mean(-1).T
        return super().encode_audio(waves.mean(1))[0], (left - right)[:, None].expand(-1, self.info.dim)


class Panned(Blocks):
    """Blocks that sound on the left alone."""

    def load(self, id: str) -> Sample:
        sample = super().load(id)
        audio = np.stack([sample.clip.audio, np.zeros_like(sample.clip.audio)])
        return replace(sample, clip=replace(sample.clip, audio=audio))


def test_an_encoder_gets_both_channels_if_it_asks_for_them() -> None:
    left, plain = _encode(Panned(None, split="train", count=2), Ears()), _encode(Blocks(None, split="train"), Ears())
    assert left.features(["train0"]).audio.min() > 0 and left.stereo("train0")
    assert plain.features(["train0"]).audio.abs().max() == 0 and not plain.stereo("train0")


def test_an_encoder_that_does_not_ask_hears_the_mean_which_is_noted(world: Any) -> None:
    both = _encode(Panned(None, split="train", count=2), Plain())
    halved = _encode(Edited(None, split="train", count=2), Plain())  # its "train1" is half as loud
    assert torch.equal(both.features(["train1"]).audio, halved.features(["train1"]).audio)
    for encoder, count in ((Plain(), 1), (Ears(), 0)):
        task = make_task(
            SuiteDataset(name="blocks", encoder=Component(name="plain")), {"test": Panned(None, split="test")}, encoder
        )
        said = [
            note for note in task_notes(task, [False]) if "test clips are stereo; the encoder hears the mean" in note
        ]
        assert len(said) == count


def test_canvases_and_shifted_copies_keep_both_channels() -> None:
    data = Panned(None, split="train", count=2)
    one = data.load("train0").clip
    shifted = Altered(data, ["train0"], 1, pixels=False).load("train0~0").clip
    assert not shifted.channels[1].any() and sorted(shifted.channels[0]) == sorted(one.channels[0])
    canvas = canvases(data, {"train0": "a", "train1": "b"}, 2)
    mixed = canvas.load(canvas.ids()[0]).clip
    assert not mixed.channels[1].any() and np.array_equal(mixed.audio, mixed.channels[0] / 2)


def test_a_canvas_keeps_its_tiles() -> None:
    clip = Clip("a", np.zeros((10, 40, 3), np.uint8), np.zeros(8, np.float32), 8, tiles=2)
    size = Plain().info.image_size
    assert encoder_image(clip, Plain().info).shape == (3, size, 2 * size)


WRITER = """
    import sys
    sys.path.insert(0, {tests!r})
    from avloc.features import cached_features
    from helpers.world import Blocks, Plain
    found = cached_features(Blocks(None, split="train", count=100), Plain(), "blocks", limit=None, device="cpu")
    print(len(found.ids), float(found.features(list(found.ids)).image.sum()))
"""


def test_processes_that_encode_the_same_clips_share_the_work() -> None:
    code = textwrap.dedent(WRITER).format(tests=str(TESTS))
    environment = {**os.environ, "AVLOC_CACHE": str(_cache()), "OMP_NUM_THREADS": "1"}
    writers = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) for _ in range(2)
    ]
    one, two = (writer.communicate()[0] for writer in writers)
    assert one == two and one.startswith(b"100 ")
    (log,) = _cache().glob("features/*/blocks/samples.jsonl")
    assert len(log.read_text().splitlines()) == 100


def test_the_data_set_is_never_in_memory_as_a_whole() -> None:
    seen = _encode(Blocks(None, split="train", count=30), Plain())
    (blob,) = _cache().glob("features/*/blocks/arrays.bin")
    assert isinstance(seen.log.read(next(iter(seen.keys.values()))), dict)
    assert isinstance(seen.log._memory, mmap.mmap)
    assert len(seen.log._memory) == blob.stat().st_size


class Learner(Dot):
    """Dot, which also can have its encoder trained."""


def _live_fit(folder: Path, encoder: Plain, **changes: Any) -> Fit:
    parts = {
        s: computed_features(Blocks(None, split=s, count=12), encoder, "blocks", limit=None) for s in ("train", "val")
    }
    training = TrainingData(parts["train"], parts["val"], Blocks.classes, encoder.encode_text(Blocks.classes).detach())
    torch.manual_seed(0)
    train = Train(epochs=2, batch_size=6, lr=0.05, train_encoder=True, **changes)
    method = Learner(encoder.info, Blocks.classes, dropout=0.0)
    return Fit(
        method, training, train, seed=0, folder=folder, fabric=Fabric(accelerator="cpu", devices=1), save_every=0
    )


class Soft(Plain):
    """Plain with a weight to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def encode_image(self, images: torch.Tensor) -> Any:
        maps, pooled, backbone = super().encode_image(images)
        return maps * self.gain, pooled * self.gain, backbone


class SoftPlugin:
    """A plugin."""

    @hookimpl
    def avloc_encoders(self) -> dict[str, type]:
        return {"soft": Soft}


def test_an_encoder_is_trained_with_its_method_and_the_shared_one_is_unchanged(tmp_path: Path) -> None:
    encoder = Soft()
    tensors = load_weights(_live_fit(tmp_path, encoder).run())
    assert encoder.gain.item() == 1
    assert float(tensors[f"{ENCODER}gain"]) != 1
    assert "weight" in tensors


def test_training_an_encoder_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_weights(_live_fit(tmp_path / "whole", Soft()).run())
    (tmp_path / "stopped").mkdir()
    stopped = _live_fit(tmp_path / "stopped", Soft())
    steps = stopped._train({})
    for _ in range(3):
        next(steps)
    again = load_weights(_live_fit(tmp_path / "stopped", Soft()).run())
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def _maps(manifest: dict[str, Any], results: Path, method: str) -> dict[str, np.ndarray]:
    (run,) = {row.run for row in manifest.rows if row.method == method and row.section == "methods"}
    log = ArrayLog(results / "runs" / run)
    return {id: log.read(id)["maps"] for id in log.records}


@pytest.mark.usefixtures("world")
def test_a_bench_without_the_cache_gives_the_same_numbers(suite_file: Path, tmp_path: Path) -> None:
    suite = load_suite(str(suite_file)).override(methods=["dot"], seeds=[0], settings=["train.lr=0.001"])
    cached = _maps(bench(suite, Options(tmp_path)), tmp_path, "dot")
    live = _maps(bench(suite.override(settings=["train.cache=false"]), Options(tmp_path)), tmp_path, "dot")
    assert cached.keys() == live.keys()
    for id, maps in cached.items():
        assert np.allclose(maps, live[id], rtol=0, atol=5e-3 * np.abs(live[id]).max())
    assert any(not np.array_equal(maps, live[id]) for id, maps in cached.items())


@pytest.mark.usefixtures("world")
def test_a_bench_trains_encoders_where_a_method_asks_for_it(suite_file: Path, tmp_path: Path) -> None:
    registry().add_module("soft", SoftPlugin())
    suite = load_suite(str(suite_file)).override(
        methods=["dot"], seeds=[0], encoder="soft", settings=["dot.train.train_encoder=true"]
    )
    manifest = bench(suite, Options(tmp_path))
    (row,) = manifest.rows
    tensors = load_weights(tmp_path / "runs" / row.fit / "checkpoint.safetensors")
    encoder = Soft()
    method = Dot(encoder.info, Blocks.classes)
    Trained(method.eval(), encoder).put(tensors)
    assert encoder.gain.item() != 1
    clips = computed_features(Blocks(None, split="test"), encoder, "blocks", limit=None)
    for id, maps in _maps(manifest, tmp_path, "dot").items():  # of the trained encoder
        expected = method.maps(clips.features([id])).detach().numpy()
        np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_the_cache_is_shown_and_cleared() -> None:
    _encode(Blocks(None, split="train", count=3), Plain())
    brought = _cache() / "weights" / "some.safetensors"
    brought.parent.mkdir()
    brought.write_bytes(b"mine")
    (made,) = entries()
    assert made.clips == 3
    assert made.size > 0
    assert "blocks by Plain" in made.what
    shown = CliRunner().invoke(cli.app, ["cache"])
    assert shown.exit_code == 0 and "blocks by Plain" in shown.output
    assert CliRunner().invoke(cli.app, ["cache", "clear"]).exit_code == 2
    assert "freed" in CliRunner().invoke(cli.app, ["cache", "clear", "features"]).output
    assert entries() == []
    assert brought.is_file()


def test_clearing_an_unknown_entry_is_an_error() -> None:
    _encode(Blocks(None, split="train", count=1), Plain())
    with pytest.raises(AvlocError, match="no entry 'feature'"):
        clear(["feature"])
    assert clear([]) > 0


def test_another_revision_or_preprocessing_has_its_own_features(counting: Counting) -> None:
    data = Blocks(None, split="train", count=2)
    _encode(data, counting)
    counting.info = replace(counting.info, audio_seconds=2.0)
    _encode(data, counting)
    assert counting.seen == 4
    type(counting).revision = 2
    try:
        _encode(data, counting)
    finally:
        type(counting).revision = 1
    assert counting.seen == 6


def test_clearing_beside_a_reader_changes_nothing_for_it() -> None:
    data = Blocks(None, split="train", count=4)
    reader = _encode(data, Plain())
    again = _encode(data, Plain())
    clear([])
    _encode(Blocks(None, split="val", count=6), Plain())  # other clips now stand where the old ones were
    fresh = _encode(data, Plain())
    for id in data.ids():
        for seen in (reader, again):
            assert torch.equal(seen.features([id]).image, fresh.features([id]).image)


WAITER = """
    import sys, pathlib
    from avloc.store import exclusive
    with exclusive(pathlib.Path(sys.argv[1]), "it"):
        print("mine")
"""


def test_a_process_that_waits_for_a_cleared_folder_gets_it() -> None:
    _encode(Blocks(None, split="train", count=1), Plain())
    (log,) = _cache().glob("features/*/blocks/samples.jsonl")
    command = [sys.executable, "-c", textwrap.dedent(WAITER), str(log.parent)]
    with exclusive(log.parent, "it"):
        waiter = subprocess.Popen(command, stdout=subprocess.PIPE)
        time.sleep(1)
    clear([])
    assert waiter.communicate()[0] == b"mine\n"
    assert waiter.returncode == 0


def test_the_users_own_files_in_the_cache_folder_are_kept() -> None:
    mine = _cache() / "checkpoints" / "mine.pt"
    mine.parent.mkdir()
    mine.write_bytes(b"weights")
    get_component("dataset", "toybox_single")(None, split="test", test=1).prepare()
    assert [entry.name for entry in entries()] == ["toybox"]
    assert clear([]) > 0
    assert mine.is_file()
    assert entries() == []
    assert not list(_cache().rglob("*.mp4"))


def test_a_limit_counts_the_clips_that_are_here() -> None:
    data = Blocks(None, split="train", count=6, gone=["train0", "train2"])
    found = cached_features(data, Plain(), "blocks", limit=2, device="cpu")
    assert found.ids == ("train1", "train3")
    assert set(found.missing) == {"train0", "train2"}
    assert len(cached_features(data, Plain(), "blocks", limit=9, device="cpu").ids) == 4


def test_names_that_another_process_embeds_meanwhile_are_not_embedded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, embedded = Plain(), []
    original, hold = encoder.encode_text, exclusive

    def embed(names: list[str]) -> torch.Tensor:
        embedded.append(list(names))
        return original(names)

    @contextmanager
    def late(folder: Path, what: str) -> Iterator[None]:
        monkeypatch.setattr("avloc.features.feature_set.exclusive", hold)
        encode_text(encoder, Blocks.classes, {"encoder": "one"})  # the other process was first
        with hold(folder, what):
            yield

    monkeypatch.setattr(encoder, "encode_text", embed)
    monkeypatch.setattr("avloc.features.feature_set.exclusive", late)
    found = encode_text(encoder, Blocks.classes, {"encoder": "one"})
    assert embedded == [[name] for name in Blocks.classes]
    assert found is not None and torch.equal(found, original(Blocks.classes).half().float())
