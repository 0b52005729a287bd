"""Manifests and scores: saved and loaded unchanged; invalid files are reported in a sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from avloc import AvlocError
from avloc.store import Counts, DatasetEntry, Manifest, Row, Score, score_path, write_json
from helpers.stored import small_manifest


def manifest() -> Manifest:
    return small_manifest(
        datasets=[
            DatasetEntry(name="duet", title="Duet", encoder="small", notes=["A note."], data=("duet", "Duet")),
            DatasetEntry(name="far", title="Far", encoder="small", status="absent", reason="not here", printed=None),
        ],
        rows=[
            Row(
                method="a",
                label="A",
                dataset="duet",
                encoder="small",
                hints="oracle",
                status="done",
                run="r",
                score="s",
            ),
            Row(method="b", label="B", dataset="far", encoder="small", hints="none", params={"x": [1, 2.5, None, "é"]}),
        ],
    )


def score() -> Score:
    counts = Counts(listed=3, scored=1, unread=1, missing={"a": "no file"})
    return Score(
        score="s",
        run="r",
        rows="",
        protocol={"size": 28},
        values={"cap": 1 / 3, "auc": math.nan},
        sources=2,
        counts=counts,
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    path = Manifest.path(tmp_path, "s")
    manifest().save(path)
    assert path == tmp_path / "suites" / "s.json"
    assert Manifest.load(path) == Manifest.of(tmp_path, "s") == manifest()
    path = score_path(tmp_path, "r", "s")
    score().save(path)
    found = Score.load(path)
    assert path == tmp_path / "runs" / "r" / "scores" / "s.json"
    assert math.isnan(found.values["auc"]) and found.values["cap"] == 1 / 3
    assert found.counts == score().counts and found.model_dump(exclude={"values"}) == score().model_dump(
        exclude={"values"}
    )


def test_a_changed_manifest_is_another_one_written_now() -> None:
    before = manifest()
    after = before.changed(suite="t", rows=before.rows[:1])
    assert (after.suite, len(after.rows), after.title) == ("t", 1, before.title)
    assert (before.suite, len(before.rows), before.written) == ("s", 2, "now") and after.written != "now"
    with pytest.raises(ValidationError):
        before.changed(suit="t")


def test_a_row_takes_only_what_a_row_has() -> None:
    row = manifest().rows[0]
    with pytest.raises(ValidationError):
        row.status = "ready"  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        row.colour = "red"  # type: ignore[attr-defined]


def _with(*place: Any, value: Any) -> str:
    """The manifest as JSON with another value somewhere; ``...`` removes the key."""
    content: Any = json.loads(manifest().model_dump_json())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "s.json"),
        ("{", "s.json"),
        (_with("suite", value="s")[:-40], "s.json"),
        ("[1]", "it is no JSON object"),
        ("3", "it is no JSON object"),
        ("{}", r"is not the manifest of a bench \(suite: field required\)"),
        (_with("title", value=...), r"\(title: field required\)"),
        (_with("title", value=3), r"\(title: input should be a valid string\)"),
        (_with("colour", value="red"), r"\(colour: extra inputs are not permitted\)"),
        (_with("rows", value=None), r"\(rows: input should be a valid list\)"),
        (_with("rows", 1, "seed", value="x"), r"\(rows.1.seed: input should be a valid integer"),
        (_with("rows", 0, "status", value="ready"), r"\(rows.0.status: input should be ''"),
        (_with("rows", 0, "told", value="oracle"), r"\(rows.0.told: extra inputs"),
        (_with("datasets", 0, "data", value=["one"]), r"\(datasets.0.data.1: field required\)"),
        (_with("metrics", 0, "key", value=...), r"\(metrics.0.key: field required\)"),
    ],
)
def test_a_malformed_file_is_named_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    path = Manifest.path(tmp_path, "s")
    path.parent.mkdir()
    try:
        write_json(path, dict(json.loads(text)))
    except (ValueError, TypeError):
        path.write_text(text)
    with pytest.raises(AvlocError, match=words) as caught:
        Manifest.of(tmp_path, "s")
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_or_no_file_is_named(tmp_path: Path) -> None:
    path = Manifest.path(tmp_path, "s")
    with pytest.raises(AvlocError, match=r"no results of suite 's' in .*Run: avloc bench --suite s"):
        Manifest.of(tmp_path, "s")
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AvlocError, match=r"s\.json"):
        Manifest.of(tmp_path, "s")
    with pytest.raises(AvlocError, match=r"gone\.json"):
        Score.load(tmp_path / "gone.json")
    score().save(tmp_path / "score.json")
    with pytest.raises(AvlocError, match="is not the manifest of a bench"):
        Manifest.load(tmp_path / "score.json")
