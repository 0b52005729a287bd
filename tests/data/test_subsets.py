"""A part of a test list, by a file of ids, on any data set."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from avloc import AvlocError, DataError, Dataset, get_component
from avloc.cli import app
from avloc.components import Component, component_id
from avloc.data import open_dataset
from avloc.data.prepared import open_splits
from helpers.folders import PICTURED, photograph, table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [photograph(tmp_path, name) for name in "abcd"] + [photograph(tmp_path, "e", split="train", boxes="")]
    table(tmp_path, rows, PICTURED)
    return tmp_path


def listed(folder: Path, text: str, name: str = "heard.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return name


def opened(folder: Path, only: str, split: str = "test") -> Dataset:
    return open_dataset(Component(name="folder", params={"only": only}), split, folder)


def test_the_test_list_is_the_part_that_a_file_lists(folder: Path) -> None:
    data = opened(folder, listed(folder, "\ufeffc\r\n\r\na\r\n"))
    assert list(data.ids()) == list(data.status().present) == ["a", "c"]  # in the order of the data set
    assert data.load("c").labels == ("dog",) and len(data.truth("c").masks) == 1
    assert [note for note in data.notes if "hash" not in note] == []
    assert data.notes[0].startswith("Only the clips listed in heard.csv (hash ") and data.notes[0].endswith(": 2 of 4.")
    whole = get_component("dataset", "folder")
    assert list(opened(folder, "heard.csv", "train").ids()) == ["e"]
    assert isinstance(data, whole)
    entry = Component(name="folder")
    assert component_id(entry, type(data)) == component_id(entry, whole)


def test_the_ids_are_part_of_the_fingerprint_and_their_order_is_not(folder: Path) -> None:
    prints = [opened(folder, listed(folder, text)).fingerprint() for text in ("a\nc\n", "c\na", "a\nb\n")]
    whole = open_dataset(Component(name="folder"), "test", folder).fingerprint()
    assert prints[0] == prints[1] and len({*prints, whole}) == 3


def test_missing_clips_are_those_of_the_part(folder: Path) -> None:
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    status = opened(folder, listed(folder, "a\nc\n")).status()
    assert status.present == ("c",) and list(status.missing) == ["a"]


def test_ids_that_the_data_set_does_not_have_are_counted(folder: Path) -> None:
    data = opened(folder, listed(folder, "a\nx\ny\n"))
    assert list(data.ids()) == ["a"]
    assert data.notes[1] == "ATTENTION: 2 of 3 ids in heard.csv are not in the test list, the first: x."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("video,audio,label\na,b,c\n", "has none, only 'video,audio,label'"),
        ("x\ny\n", "has none, only 'x'"),
        ("\n", "has none, only empty lines"),
    ],
)
def test_a_list_without_any_clip_is_refused(folder: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        opened(folder, listed(folder, text)).ids()


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=rf"only: there is no file gone\.csv nor {folder}/gone\.csv"):
        opened(folder, "gone.csv")
    assert "no file" in open_splits("folder", folder, ["only=gone.csv"]).failed["test"]


def test_data_status_and_derived_data_sets_take_it_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(folder, "a\nc\n")
    monkeypatch.chdir(folder)
    command = ["data", "status", "folder", "--data", str(folder), "--split", "test", "--set", "only=heard.csv"]
    found = CliRunner().invoke(app, command)
    assert "folder, test: 2 present, 0 missing, 0 broken" in found.stdout, found.output
    of = {"name": "folder", "only": "heard.csv"}
    derived = open_dataset(Component(name="negatives", params={"of": of}), "test", folder)
    assert list(derived.ids()) == ["a", "a~silence", "c", "c~silence"]
    typo = {"name": "folder", "onyl": "heard.csv"}
    with pytest.raises(AvlocError, match="Did you mean 'only'"):
        open_dataset(Component(name="negatives", params={"of": typo}), "test", folder)
    assert "Did you mean 'only'" in CliRunner().invoke(app, [*command[:-1], "onyl=heard.csv"]).output
