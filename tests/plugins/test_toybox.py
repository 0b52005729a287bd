"""The built-in data: exact, reproducible, generated once, and with errors for damaged files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from avloc import AvlocError, DataError, Dataset, get_component
from avloc.components import parameters

NAMES = ("toybox_single", "toybox_duet", "toybox_scene")


def opened(name: str, root: Path | None, split: str = "test", *, make: bool = True, **counts: Any) -> Dataset:
    dataset: Dataset = get_component("dataset", f"toybox_{name}")(root, split=split, **counts)
    if make:
        dataset.prepare()
    return dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that keeps its clips for the whole file; tests that spoil clips copy it."""
    return tmp_path_factory.mktemp("toybox")


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A root with six single test clips and nothing else, to be spoiled."""
    opened("single", made, test=6)
    folder = next(path for path in made.rglob("test") if path.parent.name == "single-0")
    for path in folder.iterdir():
        if path.stem in {f"{n:05d}" for n in range(6)} or path.name == "annotations.jsonl":
            target = tmp_path / "own" / path.relative_to(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    return tmp_path / "own"


def videos(root: Path) -> list[Path]:
    return sorted(root.rglob("*.mp4"))


# What the clips are.


def test_classes_are_adjective_noun_pairs_of_which_some_are_kept_for_zero_shot(tmp_path: Path) -> None:
    seen = opened("single", tmp_path, make=False).classes
    unseen = opened("single", tmp_path, make=False, unseen=True).classes
    assert (len(seen), len(unseen)) == (36, 12) and not set(seen) & set(unseen)
    assert list(seen) == sorted(seen)
    pairs = [name.split() for name in seen]
    neighbors = Counter(word for pair in pairs for word in pair)
    assert len(neighbors) == 6 + 8 and min(neighbors.values()) >= 3
    assert {word for name in unseen for word in name.split()} <= set(neighbors)


def test_a_single_clip(made: Path) -> None:
    data = opened("single", made, test=6)
    for id in data.ids():
        sample = data.load(id)
        assert sample.clip.image.shape == (112, 112, 3) and sample.clip.rate == 16000
        assert 48000 <= len(sample.clip.audio) < 50000
        assert 0.1 < np.abs(sample.clip.audio).max() < 1 and sample.clip.audio.std() > 0.03
        assert sample.clip.group == id == sample.clip.id
        assert sample.truth is not None and sample.labels == sample.truth.labels
        assert len(sample.labels) == 1 and sample.labels[0] in data.classes


def test_masks_are_exact_and_boxes_enclose_them(made: Path) -> None:
    """The picture has its edges where the mask has them, and not a few pixels beside."""
    data, contrast = opened("single", made, test=6), []
    for id in data.ids():
        sample = data.load(id)
        assert sample.truth is not None
        mask = sample.truth.masks[0]
        rows, columns = np.nonzero(mask)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 112
        np.testing.assert_allclose(sample.truth.boxes[0][0], box)
        assert mask.mean() >= 0.004 and set(np.unique(mask)) == {0, 1}
        image = cv2.GaussianBlur(sample.clip.image, (3, 3), 0).astype(np.float32)
        steps = [np.abs(np.diff(image, axis=axis)).sum(axis=2)[:111, :111] for axis in (0, 1)]
        border = [np.abs(np.diff(mask, axis=axis))[:111, :111] > 0 for axis in (0, 1)]
        at = [np.mean([steps[n][np.roll(border[n], shift, 1 - n)].mean() for n in (0, 1)]) for shift in (0, 9, -9)]
        contrast.append(at[0] / max(at[1:]))
    assert np.median(contrast) > 1.5


def test_every_clip_has_randomness_of_its_own(made: Path, tmp_path: Path) -> None:
    """More clips, another place, another day: the same clips."""
    few, more = opened("single", tmp_path, test=3), opened("single", made, test=6)
    assert list(few.ids()) == list(more.ids())[:3]
    for id in few.ids():
        one, two = few.load(id), more.load(id)
        np.testing.assert_array_equal(one.clip.image, two.clip.image)
        np.testing.assert_array_equal(one.clip.audio, two.clip.audio)
        assert one.truth is not None and two.truth is not None
        np.testing.assert_array_equal(one.truth.masks, two.truth.masks)
    assert len({few.load(id).clip.image.tobytes() for id in few.ids()}) == 3


def test_seeds_splits_and_presentations_differ(made: Path) -> None:
    first = [
        opened("single", made, test=6),
        opened("single", made, test=2, seed=1),
        opened("single", made, test=2, unseen=True),
        opened("single", made, "train", train=2),
        opened("single", made, "val", val=2),
        opened("scene", made, test=4),
        opened("scene", made, "train", train=6),
        opened("scene", made, "val", val=2),
    ]
    ids = [data.ids()[0] for data in first]
    assert len(set(ids)) == len(first)
    assert len({data.load(id).clip.image.tobytes() for data, id in zip(first, ids, strict=True)}) == len(first)


def test_zero_shot_tests_on_combinations_that_training_never_shows(made: Path) -> None:
    test = opened("single", made, test=2, unseen=True)
    train = opened("single", made, "train", train=2, unseen=True)
    assert {test.load(id).labels[0] for id in test.ids()} <= set(test.classes)
    assert not {train.load(id).labels[0] for id in train.ids()} & set(test.classes)
    assert list(train.ids()) == list(opened("single", made, "train", train=2).ids())


def test_scenes_have_one_or_two_sources_in_training_and_as_many_as_asked_in_test(made: Path) -> None:
    train = opened("scene", made, "train", train=6)
    assert [len(train.load(id).labels) for id in train.ids()] == [1, 2, 1, 2, 1, 2]
    for sources in (1, 2, 4):
        data = opened("scene", made, test=4, sources=sources)
        for id in data.ids():
            truth = data.load(id).truth
            assert truth is not None and len(set(truth.labels)) == len(truth.masks) == sources
            assert truth.masks.mean(axis=(1, 2)).min() >= 0.004
            assert truth.masks.sum(axis=0).max() == 1  # after occlusion a pixel belongs to one object


def test_the_truth_alone_equals_the_loaded_one(made: Path) -> None:
    for name in ("single", "scene"):
        data = opened(name, made, test=4)
        id = data.ids()[0]
        loaded, alone = data.load(id).truth, data.truth(id)
        assert loaded is not None and loaded.labels == alone.labels
        np.testing.assert_array_equal(loaded.masks, alone.masks)


# Duets.


@pytest.mark.parametrize("sources", [2, 3])
def test_duets_are_single_clips_side_by_side_with_their_sounds_summed(made: Path, sources: int) -> None:
    singles = opened("single", made, test=6)
    data = opened("duet", made, test=6, sources=sources)
    assert len(set(data.ids())) == 6
    sample = data.load(data.ids()[0])
    parts = [singles.load(id) for id in sample.clip.id.split("+")]
    assert len(parts) == sample.clip.tiles == sources
    np.testing.assert_array_equal(sample.clip.image, np.concatenate([part.clip.image for part in parts], axis=1))
    np.testing.assert_allclose(sample.clip.audio, np.sum([part.clip.audio for part in parts], axis=0), atol=1e-6)
    assert sample.truth is not None and sample.truth.masks.shape == (sources, 112, 112 * sources)
    assert sample.labels == sample.truth.labels == tuple(part.labels[0] for part in parts)
    for n, mask in enumerate(sample.truth.masks):
        assert mask[:, 112 * n : 112 * (n + 1)].sum() == mask.sum() > 0


def test_duets_have_different_classes_and_every_test_clip_is_first_once(made: Path) -> None:
    singles, data = opened("single", made, test=6), opened("duet", made, test=6)
    label = {id: singles.load(id).labels[0] for id in singles.ids()}
    pairs = [id.split("+") for id in data.ids()]
    assert all(label[one] != label[two] for one, two in pairs)
    assert sorted(one for one, _ in pairs) == sorted(singles.ids())
    assert list(opened("duet", made, test=6).ids()) == list(data.ids())


def test_duet_training_draws_from_a_finite_bank(made: Path) -> None:
    train = opened("duet", made, "train", train=10, bank=30)
    val = opened("duet", made, "val", val=6, bank=30)
    assert len(set(train.ids())) == 30 and len(set(val.ids())) == 3
    assert all("train" in id for id in train.ids()) and all("val" in id for id in val.ids())


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("single", {"split": "dev"}, "no split 'dev'"),
        ("duet", {"sources": 5}, "2 to 4"),
        ("duet", {"sources": 1}, "2 to 4"),
        ("scene", {"sources": 0}, "1 to 4"),
    ],
)
def test_impossible_parameters_are_refused(tmp_path: Path, name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(AvlocError, match=message):
        opened(name, tmp_path, **values)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_defaults(name: str) -> None:
    found = parameters(get_component("dataset", name))
    assert found["seed"] == 0 and all(isinstance(value, int) for value in found.values())


# Files: made once, on request, and checked.


def test_nothing_is_made_before_it_is_asked_for(tmp_path: Path) -> None:
    data = opened("single", tmp_path, make=False, test=3)
    assert len(data.ids()) == 3 and not list(tmp_path.iterdir())
    status = data.status()
    assert status.present == () and set(status.missing) == set(data.ids())
    assert all("has not been made yet" in reason for reason in status.missing.values())
    with pytest.raises(DataError, match="has not been made yet"):
        data.load(data.ids()[0])
    assert not list(tmp_path.iterdir())


def test_only_the_split_that_is_needed_is_made(tmp_path: Path) -> None:
    data = opened("duet", tmp_path, test=3)
    assert len(data.status().present) == 3 and len(videos(tmp_path)) == 3


def test_the_cache_folder_is_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVLOC_CACHE", str(tmp_path / "cache"))
    assert len(opened("single", None, test=1).status().present) == 1
    assert len(videos(tmp_path / "cache" / "toybox")) == 1


def test_existing_clips_are_not_made_again(own: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in videos(own)}
    data = opened("single", own, test=8)
    assert len(data.status().present) == 8
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def test_interrupted_generation_resumes(own: Path) -> None:
    data = opened("single", own, make=False, test=6)
    (log,) = own.rglob("annotations.jsonl")
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]) + lines[3][: len(lines[3]) // 2])  # killed while it wrote the fourth line
    finished = {path: path.stat().st_mtime_ns for path in sorted(log.parent.glob("*.mp4"))[:3]}
    assert len(data.status().present) == 3
    data.prepare()
    assert log.read_bytes() == whole and len(data.status().present) == 6
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    assert not list(own.rglob("*.tmp"))


def test_damaged_and_deleted_files_are_reported_and_never_made_again(own: Path) -> None:
    ids = opened("single", own, test=6).ids()
    files = videos(own)
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[: len(whole) // 2])
    files[1].unlink()
    files[2].with_suffix(".png").unlink()
    flipped = bytearray(files[3].read_bytes())
    flipped[len(flipped) // 2] ^= 255
    files[3].write_bytes(flipped)
    data = opened("single", own, test=6)
    status = data.status()
    assert set(status.broken) == {ids[0]} and set(status.missing) == {ids[1], ids[2]}
    assert str(files[0]) in status.broken[ids[0]] and str(files[1]) in status.missing[ids[1]]
    for number, message in ((0, "changed or damaged"), (1, "is gone"), (2, "is gone"), (3, "changed or damaged")):
        with pytest.raises(DataError, match=message):
            data.load(ids[number])
    assert data.load(ids[4]).clip.id == ids[4]
    assert not files[1].exists() and files[0].stat().st_size == len(whole) // 2


def test_a_duet_is_present_if_both_clips_are(own: Path) -> None:
    data = opened("duet", own, test=6)
    whole = data.fingerprint()
    videos(own)[0].unlink()
    videos(own)[0].write_bytes(b"damaged")  # the second clip's, now that the first is gone
    status = data.status()
    gone = {id for id in data.ids() if "-00000" in id}
    bad = {id for id in data.ids() if "-00001" in id} - gone
    assert set(status.missing) == gone and set(status.broken) == bad and gone and bad
    assert set(status.present) == set(data.ids()) - gone - bad
    assert data.fingerprint() != whole


def test_a_damaged_annotation_file_is_reported(own: Path) -> None:
    (log,) = own.rglob("annotations.jsonl")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    with pytest.raises(AvlocError, match=r"annotations\.jsonl is damaged"):
        opened("single", own, test=6).status()


def test_the_fingerprint_follows_the_clips_that_are_present(own: Path, made: Path) -> None:
    data, elsewhere = opened("single", own, test=6), opened("single", made, test=6)
    assert data.fingerprint() == elsewhere.fingerprint()
    assert data.fingerprint() != opened("single", own, test=5).fingerprint()
    videos(own)[0].unlink()
    assert data.fingerprint() != elsewhere.fingerprint()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(AvlocError, match=r"Cannot write to .*taken.*Choose a folder"):
        opened("single", tmp_path / "taken", test=1)


SCRIPT = """
from avloc import get_component
from pathlib import Path
if __name__ == "__main__":
    get_component("dataset", "toybox_single")(Path({root!r}), split="train", train=40).prepare()
"""


@pytest.mark.slow
def test_two_processes_at_once_of_which_one_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(SCRIPT.format(root=str(tmp_path / "data")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen([sys.executable, script], env=environment, start_new_session=True) for _ in range(2)]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.rglob("*.jsonl")):
        time.sleep(0.02)
    os.killpg(both[0].pid, signal.SIGKILL)
    assert both[0].wait() == -signal.SIGKILL and both[1].wait(timeout=60) == 0
    data = opened("single", tmp_path / "data", "train", train=40)
    assert len(data.status().present) == 40
    for id in data.ids():
        assert data.load(id).clip.id == id


def test_a_bank_larger_than_its_clips_allow_is_refused(tmp_path: Path) -> None:
    data = opened("duet", tmp_path, "train", train=4, bank=1600)
    with pytest.raises(AvlocError, match="4 single clips do not make 1600 different mixtures; lower bank"):
        data.ids()


@pytest.mark.parametrize("stdin", [True, False], ids=["from standard input", "without a guard"])
def test_any_script_may_make_clips(tmp_path: Path, stdin: bool) -> None:
    text = SCRIPT.format(root=str(tmp_path / "data")).replace('if __name__ == "__main__":', "if True:")
    (tmp_path / "make.py").write_text(text)
    arguments = [] if stdin else [tmp_path / "make.py"]
    done = subprocess.run(
        [sys.executable, *arguments], input=text if stdin else "", text=True, timeout=100, check=False
    )
    assert done.returncode == 0
    assert len(opened("single", tmp_path / "data", "train", train=40).status().present) == 40


def test_making_clips_needs_no_torch() -> None:
    code = "import sys, avloc_plugins.datasets.toybox.making; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_duets_are_scored_without_decoding(made: Path) -> None:
    data = opened("duet", made, test=6)
    id = data.ids()[0]
    loaded, alone = data.load(id).truth, data.truth(id)
    assert loaded is not None and loaded.labels == alone.labels
    np.testing.assert_array_equal(loaded.masks, alone.masks)
    np.testing.assert_array_equal(loaded.boxes, alone.boxes)
