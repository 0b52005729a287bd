"""Real photographs, sounds and videos through the whole program; skipped where they are absent.

The expected numbers of the controls are computed here from the CSV alone, pixel by pixel, with numpy.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import soundfile

from avloc import Dataset, get_component
from avloc.features import encoder_audio, encoder_image
from helpers import SHARED
from helpers.folders import PICTURED, Row, opened, row, table

REALMINI = Path(os.environ.get("AVLOC_REALMINI") or SHARED / "realmini")
pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(not REALMINI.is_dir(), reason=f"{REALMINI} is absent"),
]  # fmt: skip

LIMIT = 12
GRID, SIDE = 7, 224
SUITE = """
title: Real
datasets:
- {{name: folder, encoder: {{name: audioclip, weights: random}}, csv: clips.csv, mixtures: mixtures.csv, sources: 2}}
protocol: avloc
hints: oracle
metrics: [ciou_mean, {{name: ciou_success, at: 0.3}}, {{name: ciou_success, at: 0.5}}]
methods: [tvsl]
controls: [center, whole, random]
train: {{epochs: 1, batch_size: 8, lr: 1.0e-4}}
seeds: [0]
limit: {limit}
"""

Wild = dict[str, dict[str, str]]


def real(pool: str) -> list[dict[str, str]]:
    with (REALMINI / "annotations.csv").open(newline="", encoding="utf-8") as file:
        return [line for line in csv.DictReader(file) if line["pool"] == pool]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs as a user would have them: ``clips.csv`` with our column names, and the list as it came."""
    path = tmp_path_factory.mktemp("realmini")
    (path / "media").symlink_to(REALMINI / "media")
    (path / "mixtures.csv").symlink_to(REALMINI / "mixtures.csv")
    rows = [
        row(r["id"], media=r["image"], audio=r["audio"], label=r["label"], boxes=r["boxes"], split=r["split"],
            group=r["image_group"])
        for r in real("wild")
    ]  # fmt: skip
    table(path, rows, PICTURED, "clips.csv")
    return path


@pytest.fixture(scope="module")
def wild() -> Wild:
    return {line["id"]: line for line in real("wild")}


def clips(folder: Path, split: str, **parameters: Any) -> Dataset:
    return opened(folder, split, csv="clips.csv", **parameters)


def test_every_photograph_and_its_sound(folder: Path, wild: Wild) -> None:
    splits = {split: clips(folder, split) for split in ("train", "val", "test")}
    assert [len(data.ids()) for data in splits.values()] == [144, 16, 133]
    for split, data in splits.items():
        assert len(data.classes) == 7 and data.status().present == tuple(data.ids())
        for id in data.ids():
            sample = data.load(id)
            assert sample.labels == (wild[id]["label"],) and sample.clip.group == wild[id]["image_group"]
            assert sample.clip.rate == 16000 and len(sample.clip.audio) == 80000
            assert min(sample.clip.image.shape[:2]) <= 256
            assert (sample.truth is not None) == (wild[id]["boxes"] != "[]")
            assert sample.truth is not None or split != "test"


def test_half_the_frame_in_the_center_is_a_strong_guess(folder: Path) -> None:
    """The set's README reports 44 %, which requires that boxes are read correctly."""
    data, side = clips(folder, "test"), np.sqrt(0.5)
    overlaps = []
    for id in data.ids():
        mask = data.truth(id).masks[0]
        height, width = mask.shape
        y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        guess = (abs(y - 0.5) < side / 2)[:, None] & (abs(x - 0.5) < side / 2)
        overlaps.append((guess * mask).sum() / np.maximum(guess, mask).sum())
    assert round(100 * np.mean(np.array(overlaps) >= 0.5)) == 44


def test_the_fixed_mixtures(folder: Path) -> None:
    with (REALMINI / "mixtures.csv").open(newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    for split, sources, count in (("train", 2, 160), ("test", 2, 133), ("test", 3, 133), ("test", 4, 133)):
        data = clips(folder, split, mixtures="mixtures.csv", sources=sources)
        lines = [line for line in listed if (line["split"], line["k"]) == (split, str(sources))]
        assert list(data.ids()) == [line["id"] for line in lines] and len(lines) == count
        for line in lines[::40]:
            sample = data.load(line["id"])
            assert sample.clip.tiles == sources and list(sample.labels) == json.loads(line["labels"])
            assert split == "train" or (sample.truth is not None and len(sample.truth.masks) == sources)


def test_nothing_serious_is_wrong_with_the_photographs(folder: Path) -> None:
    sentences = get_component("dataset", "folder").check(folder / "clips.csv", {})  # type: ignore[attr-defined]
    assert all("looks like" not in sentence and "missing" not in sentence for sentence in sentences), sentences
    sentences = get_component("dataset", "folder").check(folder / "mixtures.csv", {})  # type: ignore[attr-defined]
    assert all(sentence.endswith("It is not read.") for sentence in sentences), sentences  # columns of its own


def test_real_videos(tmp_path: Path) -> None:
    (tmp_path / "media").symlink_to(REALMINI / "media")  # a link may point out of the folder
    lines = real("vggss")
    table(tmp_path, [row(r["id"], media=r["video"], label=r["label"], boxes=r["boxes"]) for r in lines])
    data = opened(tmp_path)
    assert len(data.ids()) == len(data.status().present) == 10 and "donkey, ass braying" in data.classes
    for line in lines:
        sample = data.load(line["id"])
        assert sample.truth is not None and sample.truth.masks.shape[1:] == sample.clip.image.shape[:2]
        assert len(sample.truth.boxes[0]) == len(json.loads(line["boxes"]))
        assert 0.01 < sample.truth.masks.mean() < 1 and sample.clip.audio.std() > 1e-3
        assert 9 < len(sample.clip.audio) / sample.clip.rate < 11
        still = np.asarray(PIL.Image.open(REALMINI / line["image"]).convert("RGB").resize((64, 64)), float)
        frame = np.asarray(PIL.Image.fromarray(sample.clip.image).resize((64, 64)), float)
        assert np.abs(still - frame).mean() < 6  # the set's own middle frame


def odd_sounds(folder: Path, wave: np.ndarray, rate: int) -> Iterator[tuple[str, int, int]]:
    """A real sound made stereo, 8 kHz, short and silent; its name, and the rate and samples that must come out."""
    eighth = np.asarray(soundfile.read(REALMINI / "media/audio/dog_test_000.flac")[0][::2])
    waves = {
        "stereo": (np.stack([wave, 0.5 * wave], axis=1), rate), "telephone": (eighth, rate // 2),
        "short": (wave[:1000], rate), "silent": (0 * wave, rate),
    }  # fmt: skip
    for name, (samples, hertz) in waves.items():
        soundfile.write(folder / f"{name}.wav", samples, hertz)
        yield name, hertz, len(samples)


def test_odd_files_reach_the_encoder(folder: Path, tmp_path: Path, wild: Wild) -> None:
    """Grayscale, portrait and very wide photographs of the set; stereo, 8 kHz, short and silent sounds."""
    photographs = {
        "gray": "wild_bird_test_004", "portrait": "wild_person_test_019", "wide": "wild_bird_test_015",
    }  # fmt: skip
    (tmp_path / "media").symlink_to(REALMINI / "media")
    wave, rate = soundfile.read(REALMINI / wild["wild_dog_test_000"]["audio"])
    PIL.Image.open(REALMINI / wild[photographs["gray"]]["image"]).convert("L").save(tmp_path / "gray.jpg")
    sounds = list(odd_sounds(tmp_path, wave, rate))
    rows: list[Row] = [
        row(f"{look}, {name}", media="gray.jpg" if look == "gray" else wild[id]["image"], audio=f"{name}.wav", group="")
        for look, id in photographs.items()
        for name, _, _ in sounds
    ]
    table(tmp_path, rows, PICTURED)
    data, info = opened(tmp_path), get_component("encoder", "tiny")(weights="random").info
    for look in photographs:
        for name, hertz, length in sounds:
            clip = data.load(f"{look}, {name}").clip
            height, width = clip.image.shape[:2]
            assert clip.rate == hertz and len(clip.audio) == length
            assert (np.ptp(clip.image, axis=2).max() == 0) == (look == "gray")
            assert {"portrait": height > width, "wide": width > 2.5 * height}.get(look, True)
            assert encoder_image(clip, info).shape == (3, info.image_size, info.image_size)
            heard = encoder_audio(clip, info)
            assert len(heard) == info.audio_rate * info.audio_seconds and bool(heard.any()) == (name != "silent")


def upsample(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centers halfway between edges, as a plain weighted sum."""
    weights = []
    for old, new in zip(cells.shape, size, strict=True):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        weights.append(np.maximum(0, 1 - abs(at[:, None] - np.arange(old))))
    return weights[0] @ cells @ weights[1].T


def guess(control: str, id: str) -> np.ndarray:
    """What a control claims on a canvas of two tiles."""
    if control == "whole":
        return np.ones((SIDE, 2 * SIDE), bool)
    cells = np.random.default_rng(list(hashlib.sha256(f"0 {id}".encode()).digest())).random((GRID, 2 * GRID))
    if control == "center":
        line = np.exp(-((np.arange(GRID) - 3) ** 2) / (2 * (GRID / 4) ** 2))
        cells = np.tile(np.outer(line, line), 2)
    scores = upsample(cells, (SIDE, 2 * SIDE))
    return scores >= (scores.min() + scores.max()) / 2


def truth_pixels(members: Sequence[str], wild: Wild) -> Iterator[np.ndarray]:
    """For each clip on a canvas of two tiles, the pixels of its boxes; tiles have the size of the first photograph."""
    sizes = [PIL.Image.open(REALMINI / wild[id]["image"]).size for id in members]
    for position, (id, (own_width, own_height)) in enumerate(zip(members, sizes, strict=True)):
        width, height = sizes[0]
        row_ = ((((np.arange(SIDE) + 0.5) * height / SIDE).astype(int) + 0.5) * own_height / height).astype(int)
        column = ((np.arange(2 * SIDE) + 0.5) * 2 * width / (2 * SIDE)).astype(int)
        here, column = column // width == position, ((column % width + 0.5) * own_width / width).astype(int)
        inside = np.zeros((SIDE, 2 * SIDE), bool)
        for x1, y1, x2, y2 in json.loads(wild[id]["boxes"]):
            rows = (row_ >= np.floor(y1 * own_height)) & (row_ < np.ceil(y2 * own_height))
            inside |= rows[:, None] & here & (column >= np.floor(x1 * own_width)) & (column < np.ceil(x2 * own_width))
        yield inside


def test_the_bench_over_real_mixtures(folder: Path, tmp_path: Path, wild: Wild) -> None:
    """T-VSL on AudioCLIP with random weights, without expected numbers, and controls, with expected numbers."""
    (tmp_path / "real.yaml").write_text(SUITE.format(limit=LIMIT))
    arguments = ["bench", "--suite", tmp_path / "real.yaml", "--data", folder, "--results", tmp_path / "r"]
    command = [sys.executable, "-m", "avloc", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "T-VSL" in done.stdout and f"{LIMIT} scored" in done.stdout
    manifest = json.loads((tmp_path / "r" / "suites" / "real.json").read_text())
    with (REALMINI / "mixtures.csv").open(newline="", encoding="utf-8") as file:
        listed = [line for line in csv.DictReader(file) if (line["split"], line["k"]) == ("test", "2")]
    tested = {line["id"]: json.loads(line["members"]) for line in listed[:LIMIT]}
    for line in manifest["rows"]:
        assert line["status"] == "done", line["reason"]
        scores = tmp_path / "r" / "runs" / line["run"] / "scores" / line["score"]
        values = json.loads(scores.with_suffix(".json").read_text())["values"]
        frame = pd.read_parquet(scores.with_suffix(".parquet")).set_index(["clip", "source"])["ciou_mean"]
        assert len(frame) == 2 * LIMIT and 0 <= values["ciou_mean"] <= 1
        if line["method"] == "tvsl":
            continue
        expected = {
            (id, source): (guess(line["method"], id) & pixels).sum() / (guess(line["method"], id) | pixels).sum()
            for id, parts in tested.items()
            for source, pixels in enumerate(truth_pixels(parts, wild))
        }
        cious = np.array(list(expected.values()))
        np.testing.assert_allclose(frame.loc[list(expected)], cious, atol=2e-3)  # maps are kept in half precision
        np.testing.assert_allclose(values["ciou_mean"], cious.mean(), atol=5e-4)
        for at in (0.3, 0.5):
            assert np.mean(cious >= at + 2e-3) <= values[f"ciou_success@{at}"] <= np.mean(cious >= at - 2e-3)
