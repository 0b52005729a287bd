"""Bytes that change on the disk: every kind of stored file is damaged in every way, and no table changes in silence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avloc import AvlocError
from avloc.progress import Event, receiving
from avloc.results import load_results
from avloc.runner import Options, run_suite as bench
from avloc.suite import Suite, load_suite


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


def zero(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(16) + content[middle + 16 :]


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def grow(content: bytes) -> bytes:
    return content + b"x"


def drop(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines[:1] + lines[2:])


def double(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines[:2] + lines[1:])


WAYS = (flip, zero, cut, grow, drop, double)
FILES = {
    "maps": "results/runs/{run}/arrays.bin",
    "log": "results/runs/{run}/samples.jsonl",
    "identity": "results/runs/{run}/run.json",
    "scores": "results/runs/{run}/scores/{score}.json",
    "rows": "results/runs/{run}/scores/{score}.parquet",
    "weights": "results/runs/{fit}/checkpoint.safetensors",
    "training": "results/runs/{fit}/run.json",
    "table": "results/suites/blocks.json",
    "features": "cache/features/*/blocks/arrays.bin",
    "features' log": "cache/features/*/blocks/samples.jsonl",
    "class names": "cache/features/*/text/arrays.bin",
    "class names' log": "cache/features/*/text/samples.jsonl",
}


@pytest.fixture
def suite(world: Any, suite_file: Path) -> Suite:
    return load_suite(str(suite_file)).override(methods=["dot"], seeds=[0], settings=["train.epochs=1"])


def _benched(suite: Suite, results: Path) -> tuple[Any, list[str], str]:
    """The row, what was said, and the scores per source as text."""
    said: list[str] = []

    def hear(event: Event) -> None:
        if event[0] == "say":
            said.append(event[1])

    with receiving(hear):
        (row,) = bench(suite, Options(results)).rows
    assert row.status == "done", row.reason
    return row, said, load_results("blocks", results).scores().to_csv()


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_damaged_is_made_again_and_the_scores_are_the_same(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, way: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv("AVLOC_CACHE", str(tmp_path / "cache"))
    row, _, before = _benched(suite, tmp_path / "results")
    (file,) = tmp_path.glob(FILES[kind].format(run=row.run, fit=row.fit, score=row.score))
    content = file.read_bytes()
    changed = way(content)
    if changed == content:
        pytest.skip("the file has one line")
    os.utime(file)
    file.write_bytes(changed)
    if kind in ("scores", "rows", "table") and (kind, way) != ("table", double):
        with pytest.raises(AvlocError):
            load_results("blocks", tmp_path / "results").scores()
    _, said, again = _benched(suite, tmp_path / "results")
    assert again == before
    # Bytes after the last record are the rest of an interruption, and so is a last line without its end.
    harmless = {("maps", grow), ("features", grow), ("class names", grow), ("log", grow), ("features' log", grow)}
    # A line of JSON that stands there twice changes nothing.
    harmless |= {("identity", double), ("training", double), ("table", double)}
    harmless |= {("class names' log", grow), ("log", cut), ("features' log", cut), ("class names' log", cut)}
    assert bool(said) or (kind, way) in harmless, "nothing was said"
    _, said, again = _benched(suite, tmp_path / "results")
    assert again == before and not said
