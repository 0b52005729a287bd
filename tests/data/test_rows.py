"""The readers of CSVs and boxes: what they read, and their errors for malformed cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avloc import DataError
from avloc.data import read_boxes, read_csv, read_header


def read(path: Path, text: str | bytes, *columns: str, header: bool = True) -> tuple[list[dict[str, str]], list[str]]:
    """The rows, and what is wrong without the file's name."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    wrong: list[str] = []
    rows = [dict(row.cells) for row in read_csv(path, columns, wrong, header=header)]
    assert all(sentence.startswith(str(path)) for sentence in wrong)
    return rows, [sentence.removeprefix(str(path)).lstrip(":, ") for sentence in wrong]


def test_rows_with_and_without_a_header(tmp_path: Path) -> None:
    text = '\ufeffid,label\n\na, "dog, barking" \nb,cat\n'.replace(', "', ',"').replace('" \n', '"\n')
    assert read(tmp_path / "a.csv", text, "id", "label") == (
        [{"id": "a", "label": "dog, barking"}, {"id": "b", "label": "cat"}], [],
    )  # fmt: skip
    assert read_header(tmp_path / "a.csv") == ["id", "label"] and read_header(tmp_path / "gone.csv") == []
    assert read(tmp_path / "b.csv", "a, 1\r\nb,2", "id", "count", header=False) == (
        [{"id": "a", "count": "1"}, {"id": "b", "count": "2"}], [],
    )  # fmt: skip


def test_wrong_rows_are_left_out_and_the_others_kept(tmp_path: Path) -> None:
    rows, wrong = read(tmp_path / "a.csv", "a,1\nb\nc,\n,4\nd,4,5\ne,5", "id", "count", header=False)
    assert [row["id"] for row in rows] == ["a", "e"]
    assert wrong == [
        "line 2: there should be 2 cells (id, count), not 1: 'b'.",
        "line 3: count should not be empty.",
        "line 4: id should not be empty.",
        "line 5: there should be 2 cells (id, count), not 3: 'd,4,5'.",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,name\n", "the header has no column boxes (or mask); it has id, name."),
        ("", "the header has no column id, boxes (or mask); it has none."),
        ("id,mask,id\n", "the header has a column twice; it has id, mask, id."),
        ("id,mask\na,b,c\n", "line 2: the row has more cells than the header; put cells that hold commas in quotes."),
        ('id,mask\na,"b\n', "not a CSV in UTF-8 (unexpected end of data)."),
        (b"id,mask\n\xff\xfe", "not a CSV in UTF-8 ("),
    ],
)
def test_malformed_files(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    (found,) = read(tmp_path / "a.csv", text, "id", "boxes|mask")[1]
    assert found.startswith(sentence)


def test_boxes_as_text_or_lists() -> None:
    for boxes in ([[0, 0.5, 1, 1]], "[[0, 0.5, 1, 1]]"):
        np.testing.assert_array_equal(read_boxes("f", boxes, corners=True), [[0, 0.5, 1, 1]])
    assert read_boxes("f", [[10, 20, -3, 4]]).shape == (1, 4)  # not corners


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ("0.1 0.2", "a JSON list of"), ("[0.1, 0.2, 0.3, 0.4]", "a JSON list of"), ("[[1, 2, 3]]", "a JSON list of"),
        ("[[1, 2, 3, NaN]]", "a JSON list of"), ('[["a", 2, 3, 4]]', "a JSON list of"), ("[]", "a JSON list of"),
        ("[[0, 0, 2, 1]]", "shares of width and height"), ("[[-0.1, 0, 1, 1]]", "shares of width and height"),
        ("[[0.5, 0, 0.4, 1]]", "x1 < x2 and y1 < y2"), ("[[0, 0.5, 1, 0.5]]", "x1 < x2 and y1 < y2"),
        ("[" * 100_000, "a JSON list of"),
    ],
)  # fmt: skip
def test_malformed_boxes(boxes: str, words: str) -> None:
    with pytest.raises(DataError, match=rf"clips\.csv, line 3: boxes should be .*{words}"):
        read_boxes("clips.csv, line 3", boxes, corners=True)
