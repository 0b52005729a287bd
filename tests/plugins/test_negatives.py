"""Negatives: their sounds, what they keep from their clips, and their scores in a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avloc import AvlocError, Dataset, get_component
from avloc.runner import Options, run_suite as bench
from avloc.suite import load_suite

SUITE = """
title: Negatives
datasets:
  - {name: negatives, of: blocks, kind: silence, encoder: plain, title: In silence}
  - {name: negatives, of: blocks, kind: offscreen, encoder: plain}
protocol: {preset: avloc, size: 28}
hints: oracle
metrics: [pia, f_loc, {name: extended_ap, at: 0.3}, {name: extended_f1, at: 0.3}]
methods: [dot, hinted]
train: {epochs: 1, batch_size: 5}
seeds: [0]
"""


def opened(split: str = "test", of: Any = "blocks", **parameters: Any) -> Dataset:
    dataset: Dataset = get_component("dataset", "negatives")(None, split=split, of=of, **parameters)
    dataset.prepare()
    return dataset


def level(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(wave.astype(np.float64) ** 2)))


def pairs(data: Dataset) -> list[tuple[Any, Any]]:
    """Every clip's sample and that of its negative."""
    ids = list(data.ids())
    return [(data.load(own), data.load(negative)) for own, negative in zip(ids[::2], ids[1::2], strict=True)]


@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        ("silence", "silence"),
        ("noise", "white noise"),
        ("offscreen", "the sound of a clip that has none"),
    ],
)
def test_a_negative_has_another_sound_and_an_empty_truth(world: Any, kind: str, heard: str) -> None:
    data, whole = opened(kind=kind), get_component("dataset", "blocks")(None, split="test")
    assert data.ids()[:2] == ["test0", f"test0~{kind}"] and len(data.ids()) == 2 * len(whole.ids())
    assert data.classes == whole.classes and f"as a negative, with {heard} " in data.notes[0]
    for own, negative in pairs(data):
        original = whole.load(own.clip.id)
        assert np.array_equal(own.clip.audio, original.clip.audio) and own.truth.masks.any()
        assert np.array_equal(negative.clip.image, own.clip.image)
        assert not np.allclose(negative.clip.audio, own.clip.audio, atol=0.1)
        assert negative.labels == own.labels == data.labels(negative.clip.id)
        assert negative.clip.group == own.clip.group
        assert len(negative.clip.audio) == len(own.clip.audio)
        truth = data.truth(negative.clip.id)
        assert truth.labels == own.truth.labels and truth.masks.shape == own.truth.masks.shape
        assert not truth.masks.any() and not negative.truth.masks.any() and not truth.boxes
        expected = 0 if kind == "silence" else pytest.approx(level(own.clip.audio), rel=1e-4)
        assert level(negative.clip.audio) == expected


def test_off_screen_sounds_are_from_clips_of_other_classes(world: Any) -> None:
    data = opened(kind="offscreen", of={"name": "blocks", "count": 30})
    whole = get_component("dataset", "blocks")(None, split="test", count=30)
    known = [whole.load(id) for id in whole.ids()]
    waves = np.stack([sample.clip.audio / level(sample.clip.audio) for sample in known])
    heard = set()
    for own, negative in pairs(data):
        found = negative.clip.audio / level(negative.clip.audio)  # it has the level of the clip's own sound
        (place,) = np.flatnonzero(np.isclose(waves, found, rtol=0, atol=1e-3).all(1))
        labels = known[place].labels
        assert not set(labels) & set(own.labels)
        heard.add(labels)
    assert len(heard) > 1


def test_noise_depends_on_the_clip_alone(world: Any) -> None:
    few, many = opened(kind="noise"), opened(kind="noise", of={"name": "blocks", "count": 20})
    first = few.load("test3~noise").clip.audio
    assert np.array_equal(first, many.load("test3~noise").clip.audio)
    assert not np.array_equal(first, few.load("test4~noise").clip.audio)
    assert few.content("test3~noise") == many.content("test3~noise")
    assert few.fingerprint() != many.fingerprint()


@pytest.mark.parametrize("snr", [20, 0, -20.0])
def test_with_a_ratio_the_sound_is_mixed_into_positives_too(world: Any, snr: float) -> None:
    data, clean = opened(kind="noise", snr=snr), opened(kind="noise")
    for id in data.ids()[:6:2]:
        own, mixed = clean.load(id).clip.audio, data.load(id).clip.audio.astype(np.float64)
        noise = data.load(f"{id}~noise").clip.audio
        assert level(mixed) == pytest.approx(level(own), rel=1e-3)
        shares = np.linalg.lstsq(np.stack([own, noise], 1), mixed, rcond=None)[0]
        assert 20 * np.log10(shares[0] / shares[1]) == pytest.approx(snr, abs=0.5)
        assert data.truth(id).masks.any()
        assert data.content(id) != clean.content(id)


def test_contents_of_kinds_differ_and_positives_are_the_data_sets(world: Any) -> None:
    whole = get_component("dataset", "blocks")(None, split="test")
    found = [opened(kind="silence"), opened(kind="noise"), opened(kind="offscreen"), opened(kind="noise", snr=0)]
    contents = [data.content(data.ids()[1]) for data in found]
    assert len({*contents, whole.content("test0")}) == 5
    assert [data.content("test0") == whole.content("test0") for data in found] == [True, True, True, False]
    assert len({data.fingerprint() for data in found}) == 4


def test_training_clips_are_the_data_sets(world: Any) -> None:
    data, whole = opened("train", kind="noise", snr=0), get_component("dataset", "blocks")(None, split="train")
    assert list(data.ids()) == whole.ids() and data.notes == ()
    assert all(data.content(id) == whole.content(id) for id in data.ids())


def test_a_missing_clip_makes_clips_with_its_sound_missing(world: Any) -> None:
    whole = opened(kind="offscreen")
    heard = {id: whole._heard(id)[1] for id in whole.ids()[1::2]}  # type: ignore[attr-defined]
    gone = next(iter(heard.values()))
    data = opened(kind="offscreen", of={"name": "blocks", "gone": [gone]})
    lost = {gone, f"{gone}~offscreen", *(id for id, other in heard.items() if other == gone)}
    assert set(data.status().missing) == lost and set(data.status().present) == set(data.ids()) - lost


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"kind": "noisy"}, "Did you mean 'noise'"),
        ({"snr": 0}, "silence has none"),
        ({"kind": "noise", "snr": 100}, "between -60 and 60"),
        ({"kind": "noise", "snr": "loud"}, "'loud'"),
        ({"of": "blocs"}, "Did you mean 'blocks'"),
        ({"of": {"name": "blocks", "cuont": 3}}, "Did you mean 'count'"),
        ({"of": {"count": 3}}, "'of' should be name"),
        ({"of": ["blocks"]}, "'of' should be name"),
    ],
)
def test_invalid_parameters_are_reported(world: Any, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(AvlocError, match=words):
        opened(**parameters)


def test_off_screen_needs_two_classes(world: Any) -> None:
    data = opened(kind="offscreen", of={"name": "blocks", "count": 1})
    with pytest.raises(AvlocError, match="none can sound from off-screen"):
        data.load("test0~offscreen")


def test_over_duets_and_real_files(tmp_path: Path) -> None:
    small = {"name": "toybox_duet", "train": 4, "val": 4, "test": 6, "bank": 10}
    data, whole = opened(of=small, kind="offscreen"), opened(of=small)
    for own, negative in pairs(data)[:3]:
        assert len(own.labels) == 2 and negative.clip.tiles == 2
        assert data.truth(negative.clip.id).masks.shape == own.truth.masks.shape
        other = whole.load(data._heard(negative.clip.id)[1])  # type: ignore[attr-defined]
        assert not set(other.labels) & set(own.labels)
        assert np.corrcoef(negative.clip.audio, other.clip.audio)[0, 1] > 0.999
        assert np.corrcoef(negative.clip.audio, own.clip.audio)[0, 1] < 0.5


@pytest.mark.slow
def test_a_table_of_negatives(world: Any, tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(SUITE)
    manifest = bench(load_suite(str(tmp_path / "n.yaml")), Options(tmp_path / "r"))
    assert [row.status for row in manifest.rows] == ["done"] * 4, manifest.rows
    assert [column.title for column in manifest.datasets] == ["In silence", "Negatives (kind offscreen)"]
    fits = {row.fit for row in manifest.rows if row.method == "dot"}
    assert len(fits) == 1  # the columns differ in their tests only
    for row in manifest.rows:
        score = json.loads((tmp_path / "r" / "runs" / row.run / "scores" / f"{row.score}.json").read_text())
        assert score["sources"] == 24 and all(0 <= value <= 1 for value in score["values"].values())
