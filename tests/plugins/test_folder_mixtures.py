"""The user's own clips side by side: fixed lists, drawn banks, and errors in lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avloc import DataError
from helpers.folders import PICTURED, Row, opened, photograph, table

LABELS = {"a": "dog", "b": "cat", "c": "cow", "d": "dog"}
RIGHT = "[[0.5, 0.0, 1.0, 1.0]]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four test clips a to d, and twenty training clips t0 to t19 of five classes; the odd ones are not annotated."""
    rows = [photograph(tmp_path, name, label=label, boxes=RIGHT) for name, label in LABELS.items()]
    rows += [photograph(tmp_path, f"t{n}", label=f"kind {n % 5}", split="train", boxes="") for n in range(20)]
    table(tmp_path, rows, PICTURED)
    return tmp_path


def listed(folder: Path, *rows: tuple[str, str, str]) -> Path:
    cells: list[Row] = [{"id": id, "split": split, "members": members} for id, split, members in rows]
    return table(folder, cells, ("id", "split", "members"), "mixtures.csv")


def mixed(folder: Path, split: str = "test", **parameters: Any) -> Any:
    return opened(folder, split, mixtures="mixtures.csv", **parameters)


def test_a_mixture_is_its_clips_side_by_side(folder: Path) -> None:
    listed(folder, ("m1", "test", "a+b"), ("m2", "test", '["c", "a", "b"]'))
    data, single = mixed(folder), opened(folder)
    assert list(data.ids()) == ["m1", "m2"] and data.status().present == ("m1", "m2")
    sample, first, second = data.load("m1"), single.load("a"), single.load("b")
    assert sample.clip.id == "m1" and sample.clip.tiles == 2 and sample.clip.group == "a+b"
    assert sample.labels == ("dog", "cat")
    np.testing.assert_array_equal(sample.clip.image, np.concatenate([first.clip.image, second.clip.image], axis=1))
    np.testing.assert_allclose(sample.clip.audio, first.clip.audio + second.clip.audio)
    np.testing.assert_allclose(np.concatenate(sample.truth.boxes), [[0.25, 0, 0.5, 1], [0.75, 0, 1, 1]])
    assert data.load("m2").clip.tiles == 3


def test_the_truth_alone_equals_the_loaded_one(folder: Path) -> None:
    listed(folder, ("m1", "test", "a+b"))
    alone, loaded = mixed(folder).truth("m1"), mixed(folder).load("m1").truth
    assert alone.labels == loaded.labels
    np.testing.assert_array_equal(alone.masks, loaded.masks)
    np.testing.assert_array_equal(alone.boxes, loaded.boxes)


def test_splits_without_rows_keep_their_single_clips(folder: Path) -> None:
    listed(folder, ("m1", "test", "a+b"))
    assert len(mixed(folder, "train").ids()) == 18 and len(mixed(folder, "val").ids()) == 2


def test_a_list_of_training_mixtures_is_used_as_it_stands(folder: Path) -> None:
    rows = [(f"m{n}", "train", f"t{n}+t{(n + 1) % 20}") for n in range(20)]
    listed(folder, *rows)
    assert list(mixed(folder, "train").ids()) == [id for id, _, _ in rows]
    assert list(mixed(folder, "val").ids()) == []  # nothing is held out of it
    sample = mixed(folder, "train").load("m0")
    assert sample.truth is None and sample.labels == ("kind 0", "kind 1")
    with pytest.raises(DataError, match="'t0' has neither boxes nor a mask"):
        mixed(folder, "train").truth("m0")


def test_only_mixtures_of_as_many_sources_as_asked_for(folder: Path) -> None:
    listed(folder, ("m1", "test", "a+b"), ("m2", "test", "a+b+c"), ("m3", "test", "b+d"))
    assert list(mixed(folder, sources=2).ids()) == ["m1", "m3"]
    assert list(mixed(folder, sources=3).ids()) == ["m2"]
    with pytest.raises(DataError, match=r"mixtures\.csv: it lists no mixtures of 4 clips \(but of 2, 3\)"):
        mixed(folder, sources=4)


def test_a_bank_is_drawn_once_where_the_list_has_none(folder: Path) -> None:
    listed(folder, ("m1", "test", "a+b"))
    train, again = (mixed(folder, "train", bank=40) for _ in range(2))
    assert list(train.ids()) == list(again.ids()) and len(set(train.ids())) == 40
    val = mixed(folder, "val", bank=40)
    assert len(val.ids()) == 2  # one per held-out clip
    parts = [{part for id in data.ids() for part in id.split("+")} for data in (train, val)]
    assert len(parts[0]) == 18 and len(parts[1]) == 2 and not parts[0] & parts[1]
    for id in train.ids():
        sample = train.load(id)
        assert sample.clip.tiles == 2 and len(sample.labels) == 2
    assert {len(id.split("+")) for id in opened(folder, "train", bank=10, sources=3).ids()} == {3}
    assert list(mixed(folder, bank=40).ids()) == ["m1"]
    assert list(opened(folder, bank=40).ids()) == list(LABELS)  # tests are never drawn


def test_a_bank_of_too_few_clips_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"annotations\.csv, split train: 18 clips do not make 5000 different mixtures"):
        opened(folder, "train", bank=5000)
    with pytest.raises(DataError, match=r"split train: 18 clips have too few classes for mixtures of 6"):
        opened(folder, "train", bank=4, sources=6)


@pytest.mark.parametrize("parameters", [{"bank": -1}, {"sources": 2}, {"sources": 1, "bank": 3}])
def test_parameters_that_mean_nothing_are_refused(folder: Path, parameters: dict[str, int]) -> None:
    with pytest.raises(DataError, match="bank is 0 or more, and sources, 2 or more, goes with mixtures or bank"):
        opened(folder, **parameters)


def test_a_mixture_is_missing_where_a_clip_is(folder: Path) -> None:
    listed(folder, ("m1", "test", "a+b"), ("m2", "test", "b+c"), ("m3", "test", "c+d"))
    (folder / "a.png").unlink()
    status = mixed(folder).status()
    assert status.present == ("m2", "m3") and list(status.missing) == ["m1"]
    assert status.missing["m1"] == f"{folder / 'a.png'}: the file is missing."


def test_tables_say_what_a_list_leaves_out(folder: Path) -> None:
    listed(folder, ("m1", "test", "a+b"), ("m2", "test", "a+d"))
    assert mixed(folder).notes == (
        "1 of 4 test clips are in no mixture.", "1 of 2 test mixtures have two clips of the same class.",
    )  # fmt: skip


def test_identities_follow_the_list(folder: Path) -> None:
    seen, contents = [], []
    for members in ("a+b", "b+a", "a+c"):
        listed(folder, ("m1", "test", members))
        seen.append(mixed(folder).fingerprint())
        contents.append(mixed(folder).content("m1"))
    assert len(set(seen)) == len(set(contents)) == 3
    listed(folder, ("other", "test", "a+c"))
    assert mixed(folder).content("other") == contents[-1] and mixed(folder).fingerprint() not in seen
    (folder / "a.wav").write_bytes((folder / "b.wav").read_bytes())
    assert mixed(folder).content("other") != contents[-1]


def test_other_columns_are_ignored(folder: Path) -> None:
    (folder / "mixtures.csv").write_text('id,pool,split,k,members\nm,wild,test,2,"[""a"", ""b""]"\n')
    assert list(mixed(folder).ids()) == ["m"]


WRONG = {
    "unknown member": (("m", "test", "a+bb"), r"line 2: there is no clip 'bb'\. Did you mean 'b'"),
    "other split": (("m", "test", "a+t1"), "line 2: the member 't1' is a train clip, but the mixture is for test"),
    "one member": (("m", "test", "a"), "line 2: a mixture has two or more members, not a"),
    "no member": (("m", "test", "[]"), "line 2: a mixture has two or more members"),
    "empty": (("m", "test", ""), "line 2: members is empty"),
    "twice": (("m", "test", "a+b+a"), r"line 2: the members of a\+b\+a should all differ"),
    "itself": (("m", "test", "a+m"), "line 2: the member 'm' is itself a mixture"),
    "a clip's id": (("a", "test", "b+c"), "line 2: 'a' is also the id of a clip"),
    "no id": (("", "test", "b+c"), "line 2: id is empty"),
    "split": (("m", "tests", "b+c"), r"line 2: There is no split 'tests'\. Did you mean 'test'"),
    "no JSON": (("m", "test", '["a", '), "line 2: members should be ids joined by"),
    "numbers": (("m", "test", "[1, 2]"), "line 2: members should be ids joined by"),
}


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_row_is_named(folder: Path, line: tuple[str, str, str], message: str) -> None:
    path = listed(folder, line)
    with pytest.raises(DataError, match=message) as error:
        mixed(folder)
    assert str(error.value).startswith(str(path))


def test_an_id_used_twice_is_named(folder: Path) -> None:
    listed(folder, ("m", "test", "a+b"), ("n", "test", "b+c"), ("m", "test", "c+d"))
    with pytest.raises(DataError, match=r"mixtures\.csv, line 4: the id 'm' is already in line 2"):
        mixed(folder)


def test_a_mixture_of_mixtures_is_named(folder: Path) -> None:
    listed(folder, ("m", "test", "a+b"), ("n", "test", "m+c"))
    with pytest.raises(DataError, match=r"line 3: the member 'm' is itself a mixture"):
        mixed(folder)


def test_a_missing_or_wrong_list_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"mixtures\.csv: the annotation file is missing"):
        mixed(folder)
    (folder / "mixtures.csv").write_text("id,split\nm,test\n")
    with pytest.raises(DataError, match="the header has no column members; it has id, split"):
        mixed(folder)
