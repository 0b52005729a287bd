"""What a user does: the command line over real mp4 files, the shipped encoder, and the built-in methods."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import Result

from avloc.store import ArrayLog, Manifest
from helpers import SHARED
from helpers.commands import run
from helpers.films import film, put
from helpers.folders import row, table

pytestmark = pytest.mark.slow

SUITE = """
title: Small
datasets: [{name: toybox_duet, encoder: tiny, train: 24, val: 8, test: 6, bank: 30}]
protocol: avloc
hints: [oracle, vocabulary]
metrics: [cap, {name: ciou_success, at: 0.3}, side_accuracy, detection_f1]
methods: [ezvsl, {name: avgn, dim: 32, depth: 1}, tvsl, {name: tvsl, length: false}]
controls: [center, random, saliency, text_only, untrained, {name: shuffled_audio, of: [ezvsl]}]
train: {epochs: 2, batch_size: 16, lr: 1.0e-3}
seeds: [0]
"""


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media and features that the tests of this file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


def _avloc(cache: Path, *arguments: str | Path, check: bool = True) -> Result:
    done = run(*arguments, env={"AVLOC_CACHE": str(cache)})
    assert not check or done.exit_code == 0, done.output
    return done


def test_bench_prints_a_table_and_the_second_call_reuses_the_store(
    suite: Path, tmp_path: Path, shared_cache: Path
) -> None:
    first = _avloc(shared_cache, "bench", "--suite", suite, "--results", tmp_path / "r")
    for word in (
        "T-VSL",
        "AVGN",
        "EZ-VSL",
        "Center",
        "Text only",
        "hints: vocabulary",
        "6 scored",
        "cIoU success rate @0.3",
    ):
        assert word in first.stdout
    assert "fit tvsl" in first.stderr
    second = _avloc(shared_cache, "bench", "--suite", suite, "--results", tmp_path / "r")
    assert "fit" not in second.stderr
    assert "predict" not in second.stderr
    assert _body(second.stdout) == _body(first.stdout)
    csv = _avloc(shared_cache, "table", "--suite", suite, "--results", tmp_path / "r", "--format", "csv").stdout
    assert len(csv.splitlines()) > 20
    latex = _avloc(shared_cache, "table", "--suite", suite, "--results", tmp_path / "r", "--format", "latex").stdout
    assert r"\toprule" in latex


def _body(table: str) -> str:
    return table.split("Made by")[0]


def test_methods_detect_if_given_only_the_vocabulary(suite: Path, tmp_path: Path, shared_cache: Path) -> None:
    _avloc(shared_cache, "bench", "--suite", suite, "--results", tmp_path / "r")
    manifest = Manifest.of(tmp_path / "r", "small")
    by = {(row.method, row.hints, row.section): row for row in manifest.rows}
    assert by["text_only", "vocabulary", "controls"].status == "skipped"
    hints, detected = by["tvsl", "oracle", "methods"], by["tvsl", "vocabulary", "methods"]
    assert hints.fit == detected.fit != ""
    assert hints.run != detected.run
    records = [
        [json.loads(line) for line in (tmp_path / "r" / "runs" / row.run / "samples.jsonl").read_text().splitlines()]
        for row in (hints, detected)
    ]
    assert all(len(record["labels"]) == 2 for record in records[0])
    assert any(a["labels"] != b["labels"] for a, b in zip(*records, strict=True))


def _damage(videos: list[Path]) -> dict[str, str]:
    """Spoil the first four in four ways; returns what the reasons must say."""
    import av

    from avloc.data import read_frame

    cut, empty, silent, gone = videos[:4]
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 3])
    empty.write_bytes(b"")
    frame = read_frame(silent)
    with av.open(str(silent), "w") as container:  # video without sound
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width = frame.shape[:2]
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    gone.unlink()
    words = ("truncated", "is empty", "no audio stream", "file is missing")
    return {path.stem: word for path, word in zip((cut, empty, silent, gone), words, strict=True)}


DAMAGED = """
title: Damaged
datasets: [{name: folder, encoder: tiny, csv: CSV}]
protocol: avloc
metrics: [pixel_ap]
methods: [center]
"""


@pytest.mark.parametrize("spoilt", [False, True])
def test_damaged_videos_are_counted_and_the_bench_continues(tmp_path: Path, shared_cache: Path, spoilt: bool) -> None:
    videos = [put(tmp_path / f"v{n}.mp4", film(n)) for n in range(6)]
    csv = table(tmp_path, [row(path.stem, media=path.name) for path in videos])
    expected = _damage(videos) if spoilt else {}
    suite = tmp_path / "damaged.yaml"
    suite.write_text(DAMAGED.replace("CSV", str(csv)))
    shown = _avloc(shared_cache, "bench", "--suite", suite, "--results", tmp_path / "r").stdout
    (score,) = (tmp_path / "r" / "runs").glob("*/scores/*.json")
    counts = json.loads(score.read_text())["counts"]
    assert (counts["listed"], counts["scored"]) == (6, 6 - len(expected))
    reasons = {**counts["missing"], **counts["broken"]}
    assert reasons.keys() == expected.keys() and list(counts["missing"]) == ["v3"] * spoilt
    assert all(word in reasons[id] for id, word in expected.items()), reasons
    if spoilt:
        assert re.search(r"6 clips listed, 2 scored .* 1 missing.* 3 broken", shown)


def test_real_folder_of_videos(tmp_path: Path, shared_cache: Path) -> None:
    videos = SHARED / "realmini"
    if not videos.is_dir():
        pytest.skip("shared/realmini is absent")
    rows = pd.read_csv(videos / "annotations.csv", keep_default_na=False)
    rows = rows[rows["pool"] == "vggss"]
    data = pd.DataFrame(
        {"id": rows["id"], "media": rows["video"], "label": rows.label, "boxes": rows["boxes"], "split": "test"}
    )
    folder = tmp_path / "data"
    shutil.copytree(videos / "media" / "video", folder / "media" / "video")
    data.to_csv(folder / "clips.csv", index=False)
    suite = tmp_path / "real.yaml"
    suite.write_text(
        f"title: Real\ndatasets: [{{name: folder, encoder: tiny, csv: {folder / 'clips.csv'}}}]\nprotocol: avloc\n"
        "metrics: [pixel_ap, {name: ciou_success, at: 0.3}]\nmethods: [audioclip, {name: tvsl, train: {epochs: 0}}]\n"
        "controls: [center, whole, random, saliency, text_only]\n"
    )
    done = _avloc(shared_cache, "bench", "--suite", suite, "--results", tmp_path / "r", check=False)
    assert "10 clips listed, 10 scored" in done.stdout, done.output
    values = _avloc(shared_cache, "table", "--suite", suite, "--results", tmp_path / "r", "--format", "csv").stdout
    assert "center" in values


def test_an_interrupt_stops_cleanly_and_says_how_to_resume(suite: Path, tmp_path: Path, shared_cache: Path) -> None:
    suite.write_text(SUITE.replace("epochs: 2", "epochs: 5000"))
    command = [sys.executable, "-m", "avloc", "bench", "--suite", str(suite), "--results", str(tmp_path / "r")]
    environment = {**os.environ, "AVLOC_CACHE": str(shared_cache), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "r" / "runs").glob("*/train.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Resume with: avloc bench" in errors
    assert "Traceback" not in errors


ZERO_SHOT = """
title: Zero-shot
datasets: [{name: toybox_single, encoder: tiny, train: 48, val: 8, test: 12, unseen: true}]
protocol: avloc
metrics: [pixel_ap]
methods: [avgn, {name: tvsl, train: {epochs: 1}}]
controls: [text_only]
"""


def test_zero_shot_trains_on_other_names_than_it_tests(shared_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "zero.yaml").write_text(ZERO_SHOT, encoding="utf-8")
    _avloc(shared_cache, "bench", "--suite", tmp_path / "zero.yaml", "--results", tmp_path)
    manifest = Manifest.of(tmp_path, "zero")
    rows = {row.method: row for row in manifest.rows}
    assert rows["avgn"].status == "skipped"
    assert "12 of the test's are new" in rows["avgn"].reason
    assert rows["tvsl"].status == rows["text_only"].status == "done"
    trained = json.loads((tmp_path / "runs" / rows["tvsl"].fit / "run.json").read_text())["identity"]["classes"]
    log = ArrayLog(tmp_path / "runs" / rows["tvsl"].run)
    tested = {label for record in log.records.values() for label in record["labels"]}
    assert tested and not tested & set(trained)
