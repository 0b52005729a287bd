"""Worker processes: results, progress, crashes; and the bench on two data sets in parallel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avloc.progress import Event, receiving, say, track
from avloc.registry import registry
from avloc.workers import Died, each
from helpers import TESTS
from helpers.commands import run


def _square(number: int) -> int:
    say(f"squaring {number}")
    for _ in track(range(2), "loop", 2):
        pass
    return number * number


def _fatal(number: int) -> int:
    if number == 1:
        for _ in track(range(2), "cut short", 2):
            os.kill(os.getpid(), signal.SIGKILL)
    return number


def _write_for_ever(path: Path) -> None:
    for n in track(range(10**6), "for ever", 10**6):
        path.write_text(str(n))
        time.sleep(0.02)


def _own_id(number: int) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def _raise(error: BaseException) -> None:
    raise error


def _sleep(path: Path) -> None:
    path.write_text("started")
    time.sleep(5)
    path.write_text("awake")


def _unportable(item: int) -> None:
    class LocalError(Exception):
        pass

    raise LocalError("it cannot be made again")


def test_results_and_progress_come_back() -> None:
    events: list[Event] = []
    with receiving(events.append):
        found = dict(each(_square, [3, 4, 5], jobs=2))
    assert found == {0: 9, 1: 16, 2: 25}
    assert sorted(message for kind, message, *_ in events if kind == "say") == [f"squaring {n}" for n in (3, 4, 5)]
    loops = {event[1] for event in events if event[0] == "start"}
    assert len(loops) == 3  # of one description, in three processes
    for loop in loops:
        assert [event for event in events if event[1] == loop] == [
            ("start", loop, "loop", 2), ("advance", loop, 1), ("advance", loop, 2), ("stop", loop),
        ]  # fmt: skip


def test_a_killed_process_loses_only_its_item() -> None:
    events: list[Event] = []
    with receiving(events.append):
        found = dict(each(_fatal, [0, 1, 2], jobs=2))
    assert (found[0], found[2]) == (0, 2)
    assert isinstance(found[1], Died)
    assert "signal 9" in str(found[1])
    started, *_, stopped = events
    assert (started[0], started[2]) == ("start", "cut short")
    assert stopped == ("stop", started[1])


def test_a_process_may_take_many_items() -> None:
    found = [result for _, result in each(_own_id, range(6), jobs=2, reuse=True, threads=3)]
    assert len({result[0] for result in found if not isinstance(result, Died)}) <= 2
    assert {result[1] for result in found if not isinstance(result, Died)} == {"3"}
    assert len({result for _, result in each(_own_id, range(3), jobs=3)}) == 3
    assert dict(each(_fatal, [0, 1, 2, 3], jobs=1, reuse=True)) == {0: 0, 1: Died(-9), 2: 2, 3: 3}


def test_items_are_asked_for_when_a_process_is_free() -> None:
    taken: list[int] = []
    for count, _ in enumerate(each(_own_id, (taken.append(n) or n for n in range(9)), jobs=2, reuse=True), start=1):
        assert len(taken) <= count + 1


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError("no"), SystemExit(3)])
def test_what_a_function_raises_comes_back(error: BaseException) -> None:
    ((_, found),) = each(_raise, [error], jobs=1)
    assert isinstance(found, Died) and found.code == 0 and found.error is not None
    if isinstance(error, OSError):
        assert isinstance(found.error, OSError) and found.error.errno == 28
    assert str(error) in str(found)


def test_an_error_that_cannot_be_sent_is_described() -> None:
    ((_, found),) = each(_unportable, [0], jobs=1)
    assert "it cannot be made again" in str(found)


def test_what_takes_too_long_is_killed(tmp_path: Path) -> None:
    found = dict(each(_sleep, [tmp_path / "one"], jobs=1, limit=1.5))
    assert found == {0: Died(-9)}


def test_processes_that_report_nothing_end_with_a_killed_caller_too(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\nfrom test_workers import _sleep\n"
    code += "from avloc.workers import each\nlist(each(_sleep, [Path(sys.argv[2])], 1))"
    file = tmp_path / "one"
    caller = subprocess.Popen([sys.executable, "-c", code, str(TESTS), str(file)])
    while not file.exists():
        time.sleep(0.05)
        assert caller.poll() is None
    caller.kill()
    caller.wait()
    time.sleep(5.5)
    assert file.read_text() == "started"


def test_leaving_early_ends_the_processes(tmp_path: Path) -> None:
    file = tmp_path / "beat"

    def enough(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), receiving(enough):
        list(each(_write_for_ever, [file], jobs=1))
    _is_still(file)


def test_processes_end_with_a_killed_caller(tmp_path: Path) -> None:
    file = tmp_path / "beat"
    code = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from test_workers import _write_for_ever
from avloc.workers import each
if __name__ == "__main__":
    list(each(_write_for_ever, [Path({str(file)!r})], jobs=1))
"""
    script = tmp_path / "caller.py"
    script.write_text(code)
    caller = subprocess.Popen([sys.executable, script])
    while not file.exists():
        time.sleep(0.05)
        assert caller.poll() is None
    caller.kill()
    caller.wait()
    _is_still(file)


def _is_still(file: Path) -> None:
    """Wait until no process writes any more."""
    for _ in range(100):
        before = file.read_text() if file.exists() else ""
        time.sleep(0.2)
        if (file.read_text() if file.exists() else "") == before:
            return
    raise AssertionError("it goes on")


PLUGIN = f"""
import os, signal, sys
sys.path.insert(0, {str(TESTS)!r})
from helpers import world
from avloc import hookimpl

class Deadly(world.Blocks):
    def load(self, id):
        os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def avloc_datasets():
    return {{"blocks": world.Blocks, "deadly": Deadly}}

@hookimpl
def avloc_encoders():
    return {{"plain": world.Plain}}

@hookimpl
def avloc_methods():
    return {{"dot": world.Dot, "hinted": world.Oracle}}
"""


def _bench(tmp_path: Path, suite_file: Path, results: str, *more: str) -> tuple[int, dict[str, Any]]:
    plugin = tmp_path / "world_plugin.py"
    plugin.write_text(PLUGIN)
    shown = run("bench", "--suite", suite_file, "--plugin", plugin, "--results", tmp_path / results, *more)
    return shown.exit_code, json.loads((tmp_path / results / "suites" / "blocks.json").read_text())


@pytest.fixture
def own_registry() -> Iterator[None]:
    """What the test's plugin file registers is forgotten afterwards."""
    registry.cache_clear()
    yield
    registry.cache_clear()


def _values(tmp_path: Path, results: str, manifest: dict[str, Any]) -> list[dict[str, float]]:
    runs = tmp_path / results / "runs"
    return [
        json.loads((runs / row["run"] / "scores" / f"{row['score']}.json").read_text())["values"]
        for row in manifest["rows"]
        if row["status"] == "done"
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    "change",
    [
        ("[{name", "[{name: blocks, count: 9, encoder: plain}, {name"),
        ("methods: [", "methods: [{name: dot, dropout: 0.5}, {name: dot, dropout: 0.4}, {name: dot, dropout: 0.3}, "),
    ],
    ids=["two data sets", "parts of one"],
)
def test_several_processes_give_what_one_gives(suite_file: Path, tmp_path: Path, change: tuple[str, str]) -> None:
    text = suite_file.read_text()
    assert change[0] in text
    suite_file.write_text(text.replace(*change))
    code, apart = _bench(tmp_path, suite_file, "apart", "--jobs", "2")
    assert code == 0
    code, one_by_one = _bench(tmp_path, suite_file, "one", "--jobs", "1")
    assert code == 0
    for key in ("datasets", "metrics"):
        assert apart[key] == one_by_one[key]
    assert [row["score"] for row in apart["rows"]] == [row["score"] for row in one_by_one["rows"]]
    assert _values(tmp_path, "apart", apart) == _values(tmp_path, "one", one_by_one)


@pytest.mark.slow
@pytest.mark.usefixtures("own_registry")
def test_a_data_set_that_kills_its_process_leaves_the_others(suite_file: Path, tmp_path: Path) -> None:
    more = suite_file.read_text().replace("[{name", "[{name: deadly, encoder: plain}, {name")
    suite_file.write_text(more)
    code, manifest = _bench(tmp_path, suite_file, "results", "--jobs", "2")
    assert code == 1
    deadly, blocks = manifest["datasets"]
    assert "signal 9" in deadly["reason"]
    assert {row["status"] for row in manifest["rows"] if row["dataset"] == deadly["name"]} == {"failed"}
    assert {row["status"] for row in manifest["rows"] if row["dataset"] == blocks["name"]} == {"done"}
