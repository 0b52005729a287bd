"""The store: committed data survive any interruption, and uncommitted data never count."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from avloc import AvlocError
from avloc.progress import receiving
from avloc.store import ArrayLog, RunFolder, exclusive, read_json, write_json


def _fill(folder: Path, names: list[str]) -> ArrayLog:
    log = ArrayLog(folder)
    for name in names:
        log.append(
            name, {"maps": np.full((1, 2, 3), float(len(name))), "scores": np.array([0.5])}, half=True, labels=[name]
        )
    log.commit()
    return log


def test_arrays_come_back_with_eleven_bits(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 7, 14)) * 1e-9
    log = ArrayLog(tmp_path)
    log.append("a", {"maps": maps, "large": np.array([3e30, -1.0])}, half=True, labels=["x", "y"])
    log.commit()
    again = ArrayLog(tmp_path)
    assert again.records["a"]["labels"] == ["x", "y"]
    np.testing.assert_allclose(again.read("a")["maps"], maps, atol=np.abs(maps).max() * 2**-11)
    assert again.read("a")["large"][0] == pytest.approx(3e30, rel=1e-3)


def test_single_precision_holds_maps_whose_masked_cells_are_far_away(tmp_path: Path) -> None:
    maps = np.float32([[[-1e9, 0.1, 0.2, 0.3]]])
    log = ArrayLog(tmp_path)
    log.append("a", {"maps": maps}, half=False)
    log.append("b", {"maps": np.array([1e-30, 1.0])}, half=True)
    log.commit()
    again = ArrayLog(tmp_path)
    assert np.array_equal(again.read("a")["maps"], maps)
    assert again.read("b")["maps"].tolist() == [0, 1]


def test_bytes_that_change_are_named_and_the_log_ends_before_them(tmp_path: Path) -> None:
    _fill(tmp_path, ["a", "bb", "ccc"])
    with (tmp_path / "arrays.bin").open("r+b") as file:
        file.seek(ArrayLog(tmp_path).records["a"]["end"])
        file.write(b"?")
    log, said = ArrayLog(tmp_path), []
    assert log.read("ccc")["maps"][0, 0, 0] == 3
    with pytest.raises(AvlocError, match=r"The arrays of 'bb' in .* are damaged"):
        log.read("bb")
    with receiving(said.append):
        log.verify()
    assert list(log.records) == ["a"] and "damaged from the arrays of 'bb' on" in said[0][1]
    _fill(tmp_path / "whole", ["a", "bb"])
    log.append("bb", {"maps": np.full((1, 2, 3), 2.0), "scores": np.array([0.5])}, half=True, labels=["bb"])
    log.commit()
    for name in ("samples.jsonl", "arrays.bin"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_uncommitted_records_do_not_count(tmp_path: Path) -> None:
    log = _fill(tmp_path, ["a"])
    log.append("b", {"maps": np.ones((1, 1, 1))}, half=True)
    assert list(ArrayLog(tmp_path).records) == ["a"]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_an_incomplete_log_line_is_ignored_and_written_again(tmp_path: Path, cut: int) -> None:
    _fill(tmp_path / "whole", ["a", "bb", "ccc"])
    _fill(tmp_path / "torn", ["a", "bb", "ccc"])
    log = tmp_path / "torn" / "samples.jsonl"
    os.truncate(log, log.stat().st_size - cut)
    torn = ArrayLog(tmp_path / "torn")
    assert list(torn.records) == ["a", "bb"]
    _fill(tmp_path / "torn", ["ccc"])
    for name in ("samples.jsonl", "arrays.bin"):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_lines_without_their_bytes_do_not_count(tmp_path: Path) -> None:
    _fill(tmp_path, ["a", "bb"])
    blob = tmp_path / "arrays.bin"
    os.truncate(blob, blob.stat().st_size - 2)
    assert list(ArrayLog(tmp_path).records) == ["a"]


def test_bytes_without_their_line_are_overwritten(tmp_path: Path) -> None:
    _fill(tmp_path, ["a"])
    with (tmp_path / "arrays.bin").open("ab") as file:
        file.write(b"half a clip")
    log = _fill(tmp_path, ["bb"])
    assert log.read("bb")["maps"].tolist() == np.full((1, 2, 3), 2.0).tolist()


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AvlocError, match=r"'a'.*'maps'.*not finite"):
        ArrayLog(tmp_path).append("a", {"maps": np.array([np.nan])}, half=True)


def test_json_is_replaced_whole_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    path.write_text('{"a": ')
    with pytest.raises(AvlocError, match=r"x\.json is damaged"):
        read_json(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_an_unwritable_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(AvlocError, match="Cannot write to"):
        write_json(tmp_path / "results" / "x.json", {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_leaves_nothing_that_counts(tmp_path: Path) -> None:
    _fill(tmp_path, ["a"])
    log = ArrayLog(tmp_path)
    log._blob = Path("/dev/full")
    log.append("b", {"maps": np.ones((1, 64, 64))}, half=True)
    with pytest.raises(AvlocError, match="Cannot write to"):
        log.commit()
    assert list(ArrayLog(tmp_path).records) == ["a"]


def test_run_is_complete_only_with_its_last_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "abc")
    assert not folder.complete
    assert "boom" in folder.fail(ValueError("boom"))
    assert "boom" in (folder.path / "error.txt").read_text()
    folder.finish({"stage": "fit"}, {"seconds": 1})
    assert folder.complete
    assert folder.identity()["identity"] == {"stage": "fit"}
    assert not (folder.path / "error.txt").exists()
    folder.clear()
    assert not folder.complete


def test_a_second_process_waits_and_a_killed_one_frees_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from avloc.store.disk import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1]), 'x'): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waiter = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    time.sleep(1.0)
    assert waiter.poll() is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "held\n"
    waiter.kill()
    waiter.wait()
    holder.stdout.close()
    waiter.stdout.close()
    with exclusive(tmp_path, "x"):
        pass


def test_log_lines_are_json_a_human_can_read(tmp_path: Path) -> None:
    _fill(tmp_path, ["a"])
    line = json.loads((tmp_path / "samples.jsonl").read_text())
    assert line["id"] == "a"
    assert line["arrays"][0]["shape"] == [1, 2, 3]
