"""The bench end to end on the small world: steps, store, failures, resuming, hints, shuffled audio."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import avloc
from avloc import AvlocError, DataError, EncoderInfo, Features, Needs, Prediction, hookimpl
from avloc.registry import registry
from avloc.results import rescore
from avloc.runner import Options, plan_suite as plan, run_suite as bench
from avloc.scoring import Protocol
from avloc.store import ArrayLog, Manifest, RunFolder, Score, file_digest, score_path
from avloc.suite import Suite, load_suite
from avloc.training import Fit, load_weights
from helpers import TESTS
from helpers.world import Blocks, Dot, Oracle


@pytest.fixture
def suite(world: Any, suite_file: Path) -> Suite:
    return load_suite(str(suite_file))


def _values(results: Path, manifest: dict[str, Any]) -> dict[tuple[str, str, int], dict[str, float]]:
    return {
        (row.section, row.method, row.seed): json.loads(
            (results / "runs" / row.run / "scores" / f"{row.score}.json").read_text()
        )["values"]
        for row in manifest.rows
        if row.status == "done"
    }


def _contents(results: Path) -> dict[str, Any]:
    """Everything that must not depend on interruptions: maps, logs, weights, scores; not times."""
    found: dict[str, Any] = {}
    for path in sorted((results / "runs").rglob("*")):
        key = str(path.relative_to(results))
        if path.suffix in (".bin", ".safetensors") or path.name == "samples.jsonl":
            found[key] = path.read_bytes()
        elif path.name == "train.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[key] = [{**line, "seconds": 0} for line in lines]
        elif path.suffix == ".parquet":
            found[key] = pd.read_parquet(path).sort_values(["clip", "source"]).to_dict("list")
    return found


def test_a_suite_runs_and_is_reused_from_the_store(suite: Suite, tmp_path: Path) -> None:
    manifest = bench(suite, Options(tmp_path))
    assert [row.status for row in manifest.rows] == ["done"] * 3  # nothing to train: one seed
    values = _values(tmp_path, manifest)
    assert values["methods", "hinted", 0]["pixel_ap"] > 0.8
    assert 0 < values["methods", "dot", 0]["pixel_ap"] <= 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.*")}
    assert _values(tmp_path, bench(suite, Options(tmp_path))) == values
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.*")} == before


def _counted(monkeypatch: pytest.MonkeyPatch, *methods: tuple[type, str]) -> list[str]:
    """The names of these methods, once for every call from now on."""
    calls: list[str] = []

    def counting(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def count(*args: Any, **kwargs: Any) -> Any:
            calls.append(f"{owner.__name__}.{name}")
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, count)

    for owner, name in methods:
        counting(owner, name)
    return calls


def test_force_runs_everything_again_with_the_same_results(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = ((Fit, "_step"), (Dot, "localize"), (Oracle, "localize"), (Protocol, "apply"))
    calls = _counted(monkeypatch, *work)
    bench(suite, Options(tmp_path))
    first, done = _contents(tmp_path), Counter(calls)
    assert done == {"Fit._step": 18, "Dot.localize": 24, "Oracle.localize": 12, "Protocol.apply": 36}
    calls.clear()
    bench(suite, Options(tmp_path, force=True))
    assert Counter(calls) == done
    assert _contents(tmp_path) == first
    calls.clear()
    bench(suite, Options(tmp_path))
    assert not calls


@pytest.mark.parametrize(("precision", "kind"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_methods_train_in_the_precision_of_the_suite(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, kind: torch.dtype
) -> None:
    seen, original = set(), Dot.loss

    def loss(self: Dot, *args: Any) -> dict[str, torch.Tensor]:
        seen.add((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return original(self, *args)

    monkeypatch.setattr(Dot, "loss", loss)
    narrow = suite.override(methods=["dot"], seeds=[0], settings=[f"train.precision={precision}"])
    (row,) = bench(narrow, Options(tmp_path)).rows
    assert (row.status, row.reason) == ("done", "") and seen == {kind}
    weights = load_weights(tmp_path / "runs" / row.fit / "checkpoint.safetensors")
    assert weights["weight"].dtype == torch.float32


def test_missing_and_broken_clips_are_counted_and_named(suite: Suite, tmp_path: Path) -> None:
    entry = {"name": "blocks", "encoder": "plain", "bad": ["test3", "train2"], "gone": ["test5"]}
    data = {**suite.model_dump(), "datasets": [entry], "seeds": [0]}
    manifest = bench(Suite.model_validate(data), Options(tmp_path))
    for row in manifest.rows:
        assert row.status == "done"
        scores = json.loads((tmp_path / "runs" / row.run / "scores" / f"{row.score}.json").read_text())
        assert scores["counts"]["listed"] == 12
        assert scores["counts"]["scored"] == 10
        assert scores["counts"]["missing"] == {"test5": "no file"}
        assert scores["counts"]["broken"] == {"test3": "test3.mp4 is truncated"}


@pytest.mark.parametrize("where", ["loss", "map"])
def test_a_failing_method_does_not_stop_the_others(suite: Suite, tmp_path: Path, where: str) -> None:
    data = {**suite.model_dump(), "methods": [{"name": "failing", "where": where}, "absent", "dot"], "seeds": [0]}
    manifest = bench(Suite.model_validate(data), Options(tmp_path))
    failed, absent, fine = manifest.rows
    assert failed.status == "failed"
    assert f"the {where} failed" in failed.reason
    assert f"the {where} failed" in (tmp_path / "runs" / failed.run / "error.txt").read_text()
    assert absent.status == "failed"
    assert "no_such_module" in absent.reason
    assert fine.status == "done"


def test_a_method_that_needs_more_hints_is_skipped(suite: Suite, tmp_path: Path) -> None:
    manifest = bench(suite.override(hints=["none", "oracle"], seeds=[0]), Options(tmp_path))
    skipped = [(row.method, row.hints) for row in manifest.rows if row.status == "skipped"]
    assert skipped == [("hinted", "none")]
    assert "hints oracle" in next(row.reason for row in manifest.rows if row.status == "skipped")


def test_untrained_and_shuffled_rows(suite: Suite, tmp_path: Path) -> None:
    data = {**suite.model_dump(), "controls": ["untrained", "shuffled_audio"], "methods": ["dot"], "seeds": [0]}
    manifest = bench(Suite.model_validate(data), Options(tmp_path))
    rows = {row.section: row for row in manifest.rows}
    assert rows["untrained"].fit == ""
    assert rows["shuffled_audio"].fit == rows["methods"].fit
    assert len({row.run for row in rows.values()}) == 3
    values = _values(tmp_path, manifest)
    assert values["methods", "dot", 0]["pixel_ap"] > values["shuffled_audio", "dot", 0]["pixel_ap"]


def test_misspelled_names_are_rejected_before_anything_runs(suite: Suite, tmp_path: Path) -> None:
    for bad, words in [
        ({"methods": ["dott"]}, "Did you mean 'dot'"),
        ({"methods": [{"name": "dot", "dropot": 0.1}]}, "Did you mean 'dropout'"),
        ({"metrics": ["pixel_app"]}, "Did you mean 'pixel_ap'"),
        ({"metrics": [{"name": "ciou_success", "att": 0.1}]}, "Did you mean 'at'"),
        ({"protocol": {"preset": "avlok"}}, "Did you mean 'avloc'"),
        ({"datasets": [{"name": "block", "encoder": "plain"}]}, "Did you mean 'blocks'"),
        ({"datasets": [{"name": "blocks", "encoder": "plane"}]}, "Did you mean 'plain'"),
    ]:
        with pytest.raises(AvlocError, match=words):
            bench(Suite.model_validate({**suite.model_dump(), **bad}), Options(tmp_path))
    assert not list(tmp_path.glob("runs"))


def test_a_dataset_the_user_must_bring_may_be_absent(suite: Suite, tmp_path: Path) -> None:
    far = {"name": "vggsound_trio", "encoder": "plain", "obtain": "avloc data prepare vggsound_trio --from DIR"}
    data = {**suite.model_dump(), "datasets": [far, {"name": "blocks", "encoder": "plain"}], "seeds": [0]}
    manifest = bench(Suite.model_validate(data), Options(tmp_path))
    column = manifest.datasets[0]
    assert column.status == "absent"
    assert column.command.startswith("avloc data prepare")
    assert {row.status for row in manifest.rows if row.dataset == "vggsound_trio"} == {"skipped"}
    assert {row.status for row in manifest.rows if row.dataset == "blocks"} == {"done"}


def test_one_dataset_twice_gives_two_groups_of_columns(suite: Suite, tmp_path: Path) -> None:
    twins = [{"name": "blocks", "encoder": "plain", "count": count} for count in (8, 12)]
    data = {**suite.model_dump(), "datasets": twins, "methods": ["dot"], "seeds": [0]}
    manifest = bench(Suite.model_validate(data), Options(tmp_path))
    assert [row.dataset for row in manifest.rows] == ["blocks (count 8)", "blocks (count 12)"]
    assert [column.title for column in manifest.datasets] == ["Blocks (count 8)", "Blocks (count 12)"]


def test_a_plan_creates_nothing(suite: Suite, tmp_path: Path) -> None:
    rows = plan(suite, Options(tmp_path))
    assert {row.status for row in rows} == {"todo"}
    assert not list(tmp_path.glob("runs"))


def test_rescoring_runs_no_method(suite: Suite, tmp_path: Path) -> None:
    first = bench(suite.override(seeds=[0]), Options(tmp_path))
    runs = {row.run for row in first.rows}
    again = rescore(
        "blocks", protocol="as_written", metrics=["ciou_mean", "ciou_success@0.5"], results=tmp_path
    ).manifest
    assert {row.run for row in again.rows} == runs
    assert [metric.key for metric in again.metrics] == ["ciou_mean", "ciou_success@0.5"]
    assert set(_values(tmp_path, again)["methods", "dot", 0]) == {"ciou_mean", "ciou_success@0.5"}
    with pytest.raises(AvlocError, match="no results of suite 'nothing'"):
        rescore("nothing", results=tmp_path)


def test_limit_is_part_of_the_id(suite: Suite, tmp_path: Path) -> None:
    whole = bench(suite.override(seeds=[0]), Options(tmp_path))
    part = bench(suite.override(seeds=[0], limit=4), Options(tmp_path))
    assert not {row.run for row in whole.rows} & {row.run for row in part.rows}


def test_plugins_are_notified_of_runs(suite: Suite, world: Any, tmp_path: Path) -> None:
    bench(suite.override(methods=["dot"], seeds=[0]), Options(tmp_path))
    assert world.events == [("dot", e) for e in ("started", "epoch", "epoch", "epoch", "scored")]


class Tracker:
    """Remembers the numbers of events."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any, Path | None]] = []

    @hookimpl
    def avloc_run_event(self, event: str, values: Any, folder: Path | None) -> None:
        self.seen.append((event, dict(values), folder))


def test_trackers_get_the_numbers(suite: Suite, world: Any, tmp_path: Path) -> None:
    tracker = Tracker()
    registry().add_module("tracker", tracker)
    row = bench(suite.override(methods=["dot"], seeds=[0]), Options(tmp_path)).rows[0]
    runs, (started, *epochs, scored) = tmp_path / "runs", tracker.seen
    assert started == ("started", {}, None)
    lines = (runs / row.fit / "train.jsonl").read_text().splitlines()
    assert epochs == [("epoch", json.loads(line), runs / row.fit) for line in lines]
    assert scored == ("scored", Score.load(score_path(tmp_path, row.run, row.score)).values, runs / row.run)


def test_several_phases_train_in_turn(suite: Suite, tmp_path: Path) -> None:
    manifest = bench(suite.override(methods=["dot"], seeds=[0], settings=["dot.stages=3"]), Options(tmp_path))
    lines = (tmp_path / "runs" / manifest.rows[0].fit / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["phase"] for line in lines] == ["part0", "part1", "part2"]


KILLED = """
    import os, signal, sys, pathlib
    sys.path.insert(0, {tests!r})
    from helpers import world
    from helpers.forks import forked
    import avloc, avloc.training.fit, avloc.store.arrays
    from avloc.runner import Options, run_suite as bench
    from avloc.suite import load_suite
    avloc.registry.registry().add_module("world", world.World())
    avloc.training.fit.SAVE_EVERY_SECONDS, avloc.training.fit.SAVE_SHARE = 0.0, 1e9
    left = 0
    def pull(module, name):
        original = getattr(module, name)
        def counted(*args, **kwargs):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)
        setattr(module, name, counted)
    pull(avloc.training.fit.Fit, "_step")
    pull(avloc.training.fit.Fit, "_save_weights")
    pull(avloc.store.arrays.os, "fsync")
    suite, folder = load_suite(sys.argv[1]), pathlib.Path(sys.argv[2])
    for name, *kills in (("whole", 0), ("killed", 2, 5, 6, 7, 8, 9, 11, 13, 17, 23, 0)):
        os.environ["AVLOC_CACHE"] = str(folder / name / "cache")
        for left in kills:
            print(name, forked(lambda: bench(suite, Options(folder / name))), flush=True)
"""


@pytest.mark.slow
def test_killed_anywhere_it_resumes_to_the_same_records(suite_file: Path, tmp_path: Path) -> None:
    code = textwrap.dedent(KILLED).format(tests=str(TESTS))
    # More clips than are encoded, or localized, between two writes to the disk.
    suite_file.write_text(suite_file.read_text().replace("name: blocks", "name: blocks, count: 70"))
    command = [sys.executable, "-c", code, str(suite_file), str(tmp_path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    (whole, status), *killed = [line.split() for line in done.stdout.splitlines()]
    assert (whole, status) == ("whole", "0")
    expected = _contents(tmp_path / "whole")
    assert any(key.endswith("checkpoint.safetensors") for key in expected)
    codes = [int(code) for _, code in killed]
    assert set(codes) <= {-signal.SIGKILL, 0} and codes.count(-signal.SIGKILL) >= 4 and codes[-1] == 0
    assert _contents(tmp_path / "killed") == expected


COUNTED = """
    import os, sys, time, pathlib
    sys.path.insert(0, {tests!r})
    from helpers import world
    import avloc
    from avloc.runner import run_suite as bench
    from avloc.training import Fit
    from avloc.runner import Options
    from avloc.suite import load_suite
    avloc.registry.registry().add_module("world", world.World())
    suite, folder, count = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    def note(owner, name):
        original = getattr(owner, name)
        def noted(*args, **kwargs):
            with (folder / "calls").open("a") as file:
                file.write(name + "\\n")
            time.sleep(0.02)
            return original(*args, **kwargs)
        setattr(owner, name, noted)
    for owner, name in ((Fit, "_step"), (world.Plain, "encode_image"), (world.Dot, "localize")):
        note(owner, name)
    (folder / f"{{os.getpid()}}.ready").touch()
    while len(list(folder.glob("*.ready"))) < count:
        time.sleep(0.01)
    bench(load_suite(suite), Options(folder / "results"))
"""


def _work_of(suite_file: Path, folder: Path, count: int) -> Counter[str]:
    """The calls of `count` processes that start the suite at the same time and share one cache and one store."""
    folder.mkdir()
    code = textwrap.dedent(COUNTED).format(tests=str(TESTS))
    command = [sys.executable, "-c", code, str(suite_file), str(folder), str(count)]
    environment = {**os.environ, "AVLOC_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, env=environment) for _ in range(count)]
    assert [process.wait(timeout=120) for process in processes] == [0] * count
    return Counter((folder / "calls").read_text().split())


@pytest.mark.slow
def test_two_processes_on_one_suite_do_each_thing_once(suite_file: Path, tmp_path: Path) -> None:
    alone = _work_of(suite_file, tmp_path / "one", 1)
    assert alone == {"encode_image": 36, "_step": 18, "localize": 24}
    assert _work_of(suite_file, tmp_path / "two", 2) == alone
    assert _contents(tmp_path / "two" / "results") == _contents(tmp_path / "one" / "results")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"methods": [{"name": "dot", "dropout": "much"}]}, "dropout should be of type float, but is 'much'"),
        ({"metrics": [{"name": "ciou_success", "at": "high"}]}, "at should be of type float, but is 'high'"),
        ({"datasets": [{"name": "blocks", "encoder": "plain", "count": "many"}]}, "count should be of type int"),
        (
            {"datasets": [{"name": "blocks", "encoder": {"name": "plain", "scale": True}}]},
            "scale should be of type float",
        ),
        ({"methods": [{"name": "tvsl", "variant": "printed", "gate": "clam"}]}, "gate must be signed or clamp"),
    ],
)
def test_values_of_the_wrong_type_are_rejected(suite: Suite, tmp_path: Path, bad: dict[str, Any], words: str) -> None:
    wrong = Suite.model_validate({**suite.model_dump(), **bad})
    for work in (plan, bench):
        with pytest.raises(AvlocError, match=words):
            work(wrong, Options(tmp_path))
    assert not list(tmp_path.glob("runs"))


def test_results_that_are_a_file_are_refused_at_once(suite: Suite, suite_file: Path) -> None:
    with pytest.raises(AvlocError, match="is a file; results need a folder"):
        bench(suite, Options(suite_file))


def test_a_limit_is_noted(suite: Suite, tmp_path: Path) -> None:
    manifest = bench(suite.override(seeds=[0], limit=4), Options(tmp_path))
    row = manifest.rows[0]
    scores = json.loads((tmp_path / "runs" / row.run / "scores" / f"{row.score}.json").read_text())
    assert (scores["counts"]["listed"], scores["counts"]["scored"], scores["counts"]["unread"]) == (12, 4, 8)
    assert manifest.limit == 4


def test_a_finished_run_that_lost_predictions_is_completed(suite: Suite, tmp_path: Path) -> None:
    first = bench(suite.override(methods=["dot"], seeds=[0]), Options(tmp_path))
    log = tmp_path / "runs" / first.rows[0].run / "samples.jsonl"
    whole = log.read_bytes()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))
    with pytest.raises(AvlocError, match="has lost predictions"):
        rescore("blocks", metrics=["auc"], results=tmp_path)
    bench(suite.override(methods=["dot"], seeds=[0]), Options(tmp_path))
    assert log.read_bytes() == whole


def test_data_that_changed_is_not_scored_again(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench(suite.override(methods=["dot"], seeds=[0]), Options(tmp_path))
    monkeypatch.setattr(Blocks, "fingerprint", lambda self: "other truth")
    with pytest.raises(AvlocError, match="test data of blocks changed"):
        rescore("blocks", metrics=["auc"], results=tmp_path)


def test_a_dataset_that_crashes_leaves_the_others(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Blocks.load

    def load(self: Blocks, id: str) -> Any:
        if self.count == 8:
            raise RuntimeError("the reader failed")
        return original(self, id)

    monkeypatch.setattr(Blocks, "load", load)
    twins = [{"name": "blocks", "encoder": "plain", "count": count} for count in (8, 12)]
    data = {**suite.model_dump(), "datasets": twins, "methods": ["dot"], "seeds": [0]}
    manifest = bench(Suite.model_validate(data), Options(tmp_path))
    assert [row.status for row in manifest.rows] == ["skipped", "done"]
    assert "the reader failed" in manifest.rows[0].reason


def test_controls_name_listed_methods(suite_file: Path) -> None:
    text = suite_file.read_text()
    for control, words in [
        ("{name: shuffled_audio, only: [dot]}", "'only'"),
        ("{name: untrained, of: [dott]}", "mean 'dot'"),
    ]:
        suite_file.write_text(text + f"controls: [{control}]\n")
        with pytest.raises(AvlocError, match=words):
            load_suite(str(suite_file))


@pytest.mark.usefixtures("world")
def test_a_refined_table_shows_the_prior_alone(suite_file: Path, tmp_path: Path) -> None:
    suite = load_suite(str(suite_file))
    refined = suite.model_copy(update={"protocol": {**suite.protocol, "refine": {"alpha": 0.4, "control": "saliency"}}})
    rows = plan(refined, Options(tmp_path))
    assert "saliency" in {row.method for row in rows}
    assert "saliency" not in {row.method for row in plan(suite, Options(tmp_path))}


@pytest.mark.usefixtures("world")
def test_without_a_training_list_untrained_methods_still_run(suite_file: Path, tmp_path: Path) -> None:
    text = suite_file.read_text().replace("name: blocks", "name: listless, obtain: avloc data prepare listless")
    suite_file.write_text(text)
    registry().add_module("listless", Listless())
    suite = load_suite(str(suite_file)).override(methods=["dot", "fragile", "hinted"], seeds=[0])
    manifest = bench(suite, Options(tmp_path))
    rows = {(row.method, row.section): row for row in manifest.rows}
    assert (rows["fragile", "methods"].status, rows["fragile", "methods"].reason) == ("failed", "RuntimeError: boom")
    assert rows["dot", "methods"].status == "skipped"
    assert "learns, but train.csv is not here" in rows["dot", "methods"].reason
    assert rows["hinted", "methods"].status == "done"


@pytest.mark.usefixtures("world")
def test_a_plan_lists_absent_data_and_creates_nothing(suite_file: Path, tmp_path: Path) -> None:
    gone = [f"test{n}" for n in range(12)]
    suite_file.write_text(suite_file.read_text().replace("name: blocks", f"name: blocks, gone: {gone}, obtain: look"))
    rows = plan(load_suite(str(suite_file)), Options(tmp_path / "results"))
    assert {(row.status, row.reason) for row in rows} == {("skipped", "none of its test clips is on this machine")}
    assert not (tmp_path / "results").exists()


def test_one_video_has_no_other_audio(suite: Suite, tmp_path: Path) -> None:
    data = {**suite.model_dump(), "controls": ["shuffled_audio"], "methods": ["dot"], "seeds": [0], "limit": 1}
    rows = {row.section: row for row in bench(Suite.model_validate(data), Options(tmp_path)).rows}
    assert rows["shuffled_audio"].status == "skipped"
    assert "at least two videos" in rows["shuffled_audio"].reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_gives_the_same_scores(suite: Suite, tmp_path: Path) -> None:
    suite = suite.override(methods=["hinted"], seeds=[0])
    found = []
    for device in ("cpu", "cuda"):
        (values,) = _values(tmp_path / device, bench(suite, Options(tmp_path / device, device=device))).values()
        found.append(values)
    assert found[1] == pytest.approx(found[0], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("needs", None, "needs should be made by avloc.Needs"),
        ("needs", Needs(hints="oracel"), "Did you mean 'oracle'"),  # type: ignore[arg-type]
        ("needs", Needs(views=("mirrored",)), "There is no view 'mirrored'"),  # type: ignore[arg-type]
        ("needs", Needs(labels="strong"), "needs.labels"),  # type: ignore[arg-type]
        ("title", 3, "title should be of type str"),
        ("map_parameters", ("dropuot",), "Did you mean 'dropout'"),
        ("revision", "two", "revision should be of type int"),
        ("loss", lambda self, *_: self.weight.sum(), "should return a dict of named terms, but returned Tensor"),
        ("loss", lambda self, *_: {"a": self.weight}, "the term 'a' should be a scalar tensor, but is of shape"),
        ("loss", lambda self, *_: {"a": self.weight.sum().detach()}, "depends on none of its weights"),
        ("loss", lambda self, *_: sys.exit(3), "SystemExit: 3"),
        ("localize", lambda self, *_: sys.exit(3), "SystemExit: 3"),
        ("localize", lambda self, *_: _raise("boom\nsecond line"), "RuntimeError: boom"),
        ("localize", lambda self, *_: Prediction("a", self.weight[None]), "maps must be a NumPy array"),
    ],
)
def test_a_broken_method_fails_its_row_only(suite: Suite, tmp_path: Path, name: str, value: Any, words: str) -> None:
    class Wrong:
        @hookimpl
        def avloc_methods(self) -> dict[str, type]:
            return {"wrong": type("Wrong", (Dot,), {name: value})}

    registry().add_module("wrong", Wrong())
    rows = bench(suite.override(methods=["wrong", "hinted"], seeds=[0]), Options(tmp_path)).rows
    assert [row.status for row in rows] == ["failed", "done"]
    assert words in rows[0].reason and "\n" not in rows[0].reason


def _raise(text: str) -> None:
    raise RuntimeError(text)


class Untaught(Blocks):
    """Blocks without its training list."""

    def __init__(self, root: Path | None, *, split: str, count: int = 12) -> None:
        if split != "test":
            raise DataError("train.csv is not here")
        super().__init__(root, split=split, count=count)


class Listless:
    """A plugin."""

    @hookimpl
    def avloc_datasets(self) -> dict[str, type]:
        return {"listless": Untaught}

    @hookimpl
    def avloc_methods(self) -> dict[str, type]:
        return {"fragile": type("Fragile", (Dot,), {"__init__": lambda *_, **__: _raise("boom")})}


@pytest.mark.usefixtures("world")
def test_predictions_of_a_training_that_was_done_again_are_made_again(suite: Suite, tmp_path: Path) -> None:
    narrow = suite.override(methods=["dot"], seeds=[0])
    row = bench(narrow, Options(tmp_path)).rows[0]
    before = _values(tmp_path, Manifest.of(tmp_path, "blocks"))
    folder = RunFolder(tmp_path, row.fit)
    checkpoint = folder.path / "checkpoint.safetensors"
    weights, known = load_weights(checkpoint), folder.identity()

    def train_again(sign: int) -> None:
        save_file({name: sign * tensor for name, tensor in weights.items()}, checkpoint)
        digest = file_digest(checkpoint)[:12]
        folder.finish(known["identity"], {**known["provenance"], "checkpoint": digest})

    train_again(-1)
    assert _values(tmp_path, bench(narrow, Options(tmp_path))) != before
    train_again(1)
    assert _values(tmp_path, bench(narrow, Options(tmp_path))) == before


@pytest.mark.usefixtures("world")
def test_finished_runs_need_their_checkpoint_no_more(suite: Suite, tmp_path: Path) -> None:
    narrow = suite.override(methods=["dot"], seeds=[0])
    (row,) = bench(narrow, Options(tmp_path)).rows
    (tmp_path / "runs" / row.fit / "checkpoint.safetensors").unlink()
    (again,) = bench(narrow, Options(tmp_path)).rows
    assert (again.status, again.run, again.score) == ("done", row.run, row.score), again.reason


class Signed(Dot):
    """Its map may be turned over; its loss does not know."""

    map_parameters = ("sign",)

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, sign: float = 1.0) -> None:
        super().__init__(encoder, classes)
        self.sign = sign

    def maps(self, features: Features) -> Tensor:
        return self.sign * super().maps(features)


class Turned:
    @hookimpl
    def avloc_methods(self) -> dict[str, type]:
        return {"signed": Signed}


@pytest.mark.usefixtures("world")
def test_methods_that_differ_in_their_map_alone_share_a_training(suite: Suite, tmp_path: Path) -> None:
    registry().add_module("turned", Turned())
    methods = ["signed", {"name": "signed", "sign": -1.0}]
    narrow = Suite.model_validate({**suite.model_dump(), "methods": methods, "seeds": [0]})
    up, down = bench(narrow, Options(tmp_path)).rows
    assert up.fit == down.fit and up.run != down.run
    one, two = (ArrayLog(tmp_path / "runs" / row.run).read("test0")["maps"] for row in (up, down))
    assert np.array_equal(one, -two)
    loaded = [avloc.load(id, results=tmp_path).method for id in (up.fit, up.run, down.run)]
    assert [getattr(method, "sign", None) for method in loaded] == [1, 1, -1]
    assert all(torch.equal(method.weight, loaded[0].weight) for method in loaded)
