"""The plan of a bench: its runs, their labels in the table, and the notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avloc import AvlocError, hookimpl
from avloc.registry import registry
from avloc.runner import Options, bench
from avloc.runner.plan import make_plan, torch_device
from avloc.suite import Suite, load_suite
from helpers.world import Plain


@pytest.fixture
def suite(world: Any, suite_file: Path) -> Suite:
    return load_suite(suite_file)


def changed(suite: Suite, **changes: Any) -> Suite:
    return Suite.model_validate({**suite.model_dump(), **changes})


def test_runs_that_would_repeat_others_are_left_out(suite: Suite, tmp_path: Path) -> None:
    controls = ["untrained", "shuffled_audio", "center", "whole"]
    plan = make_plan(changed(suite, controls=controls, hints=["none", "oracle"]), Options(tmp_path))
    expected = []
    for section, method, seeds in [
        ("methods", "dot", (0, 1)), ("methods", "hinted", (0,)), ("untrained", "dot", (0, 1)),
        ("shuffled_audio", "dot", (0, 1)), ("shuffled_audio", "hinted", (0,)), ("controls", "center", (0,)),
        ("controls", "whole", (0,)),
    ]:  # fmt: skip
        expected += [(section, method, hints, seed) for hints in ("none", "oracle") for seed in seeds]
    assert [(row.section, row.method, row.hints, row.seed) for row in plan.manifest.rows] == expected
    assert [(run.section, run.method.name, run.hints, run.seed) for run in plan.runs] == expected
    assert {row.status for row in plan.manifest.rows} == {""} and not plan.path.exists()


def test_a_row_says_what_the_suite_sets(suite: Suite, tmp_path: Path) -> None:
    methods = [{"name": "dot", "dropout": 0.5, "train": {"epochs": 7}}, "hinted"]
    plan = make_plan(
        changed(suite, methods=methods, seeds=[4], limit=3, reference="dot"), Options(tmp_path, command="it")
    )
    dot, hinted = plan.manifest.rows
    assert (dot.params, hinted.params) == ({"dropout": 0.5, "train": {"epochs": 7}}, {})
    assert (dot.train["epochs"], hinted.train["epochs"]) == (7, 3)
    assert (dot.label, dot.seed, dot.limit, dot.uses_audio) == ("Dot", 4, 3, True)
    manifest = plan.manifest
    assert (manifest.command, manifest.limit, manifest.reference) == ("it", 3, "dot")
    assert manifest.train_text.startswith("epochs 3, batch_size 5, lr 0.01,")
    assert manifest.train_text.endswith("; dot: epochs 7")
    assert [(metric.key, metric.name, metric.params) for metric in manifest.metrics] == [
        ("pixel_ap", "pixel_ap", {}), ("ciou_success@0.3", "ciou_success", {"at": 0.3}),
    ]  # fmt: skip
    assert manifest.protocol["size"] == 28 and "28" in manifest.protocol_text


def test_a_reference_that_is_not_run_is_left_out(suite: Suite, tmp_path: Path) -> None:
    plan = make_plan(changed(suite, reference="dot").override(methods=["hinted"]), Options(tmp_path))
    assert plan.manifest.reference == ""


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        (["blocks"], ["blocks"]),
        ([{"count": 8}, {}], ["blocks (count 8)", "blocks (defaults)"]),
        ([{"count": 8, "bad": ["a"]}, {"count": 9, "bad": ["a"]}], ["blocks (count 8)", "blocks (count 9)"]),
        (
            [{"encoder": {"name": "plain", "scale": 2.0}}, {"encoder": {"name": "plain", "scale": 3.0}}],
            ["blocks (encoder scale 2.0)", "blocks (encoder scale 3.0)"],
        ),
        ([{}, {"encoder": "tiny"}], ["blocks (encoder plain)", "blocks (encoder tiny)"]),
        ([{"count": 8}, {"count": 9, "encoder": "tiny"}], ["blocks (encoder plain)", "blocks (encoder tiny)"]),
        (
            [{"count": 8}, {"count": 9}, {"count": 8, "encoder": "tiny"}, {"count": 9, "encoder": "tiny"}],
            [f"blocks (count {count}, encoder {name})" for name in ("plain", "tiny") for count in (8, 9)],
        ),
    ],
)
def test_a_data_set_twice_is_told_apart(suite: Suite, tmp_path: Path, entries: list[Any], names: list[str]) -> None:
    base = {"name": "blocks", "encoder": "plain"}
    data = [{**base, **(entry if isinstance(entry, dict) else {})} for entry in entries]
    manifest = make_plan(changed(suite, datasets=data, methods=["hinted"]), Options(tmp_path)).manifest
    assert [entry.name for entry in manifest.datasets] == [row.dataset for row in manifest.rows] == names


@pytest.mark.parametrize("title", ["", "Both"])
def test_the_columns_of_one_data_set_under_two_encoders_have_two_names(
    suite: Suite, tmp_path: Path, title: str
) -> None:
    class Plugin:
        @hookimpl
        def avloc_encoders(self) -> dict[str, Any]:
            return {"other": type("Other", (Plain,), {})}

    registry().add_module("other", Plugin())
    data = [{"name": "blocks", "encoder": name, "title": title} for name in ("plain", "other")]
    results = bench(changed(suite, datasets=data, methods=["hinted"], seeds=[0]), results=tmp_path)
    groups, shown = results.table().groups, title or "Blocks"
    assert [group.title for group in groups] == [f"{shown} (encoder {name})" for name in ("plain", "other")]
    assert [entry.printed for entry in results.manifest.datasets] == ["blocks", "blocks"]
    for group in groups:
        assert len(results.predictions("hinted", group.name)) == 12


def test_the_rows_of_a_data_set_and_what_is_done_again(suite: Suite, tmp_path: Path) -> None:
    twins = [{"name": "blocks", "encoder": "plain", "count": count} for count in (8, 9)]
    plan = make_plan(changed(suite, datasets=twins), Options(tmp_path, force=True))
    for index, name in enumerate(("blocks (count 8)", "blocks (count 9)")):
        pairs = plan.of(index)
        assert {row.dataset for _, row in pairs} == {name} and len(pairs) == 3
        assert {run.dataset.params["count"] for run, _ in pairs} == {8 + index}
    assert [plan.again("x"), plan.again("x"), plan.again("y")] == [True, False, True]
    assert not make_plan(suite, Options(tmp_path)).again("x")
    assert plan.path == tmp_path / "suites" / "blocks.json"


def test_a_refined_protocol_brings_its_control_once(suite: Suite, tmp_path: Path) -> None:
    refined = {**suite.protocol, "refine": {"alpha": 0.4, "control": "center"}}
    for controls in ([], ["center"]):
        plan = make_plan(changed(suite, protocol=refined, controls=controls, seeds=[0]), Options(tmp_path))
        assert [row.method for row in plan.manifest.rows] == ["dot", "hinted", "center"]


@pytest.mark.parametrize("jobs", [0, -1])
def test_jobs_are_at_least_one(suite: Suite, tmp_path: Path, jobs: int) -> None:
    with pytest.raises(AvlocError, match=f"jobs should be at least 1, but is {jobs}"):
        make_plan(suite, Options(tmp_path, jobs=jobs))


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (0, 2):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: count > 0)
        assert torch_device("auto") == ("cuda" if count else "cpu")
        assert torch_device("cpu") == "cpu"
        for device in ("cuda", "cuda:1", "cuda:2"):
            index = int(device.partition(":")[2] or 0)
            if index < count:
                assert torch_device(device) == device
            else:
                with pytest.raises(AvlocError, match=f"There is no device '{device}': torch sees {count} GPUs"):
                    torch_device(device)
    for device in ("gpu", "cuda:", "cuda:x", "CPU", ""):
        with pytest.raises(AvlocError, match="is not auto, cpu, cuda or cuda:NUMBER"):
            torch_device(device)
    assert Options(Path(), jobs=None, device="cuda").processes == 1
    assert Options(Path(), jobs=None, device="cpu").processes >= 1 and Options(Path(), jobs=3).processes == 3


def test_parts_hold_every_run_once_and_never_divide_a_training(suite: Suite, tmp_path: Path) -> None:
    methods = [{"name": "dot", "dropout": rate} for rate in (0.1, 0.2, 0.3)]
    plan = make_plan(
        changed(suite, methods=methods, seeds=[0, 1, 2], controls=["untrained", "shuffled_audio"]), Options(tmp_path)
    )
    pairs = plan.of(0)
    parts = plan.parts(0, 2)
    assert len(parts) == 2 and sorted(place for part in parts for place in part) == list(range(len(pairs)))
    trained = [
        {
            (str(run.method.params), run.seed)
            for run in (pairs[place][0] for place in part)
            if run.section != "untrained"
        }
        for part in parts
    ]
    assert not trained[0] & trained[1] and len(trained[0] | trained[1]) == 9
    assert plan.parts(0, 1) == [list(range(len(pairs)))]
    assert len(plan.parts(0, 50)) == 4  # nine trainings and as many untrained ones: four or more for a process
