"""The shipped suites: every name in them exists, and they reproduce the setups of the papers' tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from avloc.components import check_parameters
from avloc.registry import registry
from avloc.runner import Options, plan_suite as plan, run_suite as bench
from avloc.suite import Suite, SuiteDataset, SuiteMethod, load_suite, suite_names
from avloc.tables import Printed
from avloc.tables.scores import RowKey

NEW = ("ablation", "controls", "negatives", "prompt_length", "source_count", "hints", "zero_shot")
TABLES = {
    "single_source": 1, "multi_source": 2, "ablation": 3, "zero_shot": 4, "source_count": 5, "prompt_length": 6,
}  # fmt: skip
TINY = {"train": 32, "val": 12, "test": 8}


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media and features that the runs of this file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", suite_names())
def test_a_shipped_suite_plans_and_names_what_exists(name: str, tmp_path: Path) -> None:
    suite = load_suite(name)
    rows = plan(suite, Options(tmp_path))
    assert {row.status for row in rows} <= {"todo", "skipped"} and any(row.status == "todo" for row in rows)
    obtained = {entry.name for entry in suite.datasets if entry.obtain}
    for row in rows:  # only hints or absent data may prevent a run
        absent = row.dataset.split(" (")[0] in obtained
        assert row.status == "todo" or "needs the hints" in row.reason or absent
    for entry in suite.datasets:  # bench itself does not check those that may be absent
        check_parameters("dataset", entry, registry().get("dataset", entry.name))
        check_parameters("encoder", entry.encoder, registry().get("encoder", entry.encoder.name))
        wrapped = entry.params.get("of", entry.name)
        if entry.obtain:
            assert entry.obtain == f"avloc data prepare {wrapped} --from DIR"
            assert registry().get("dataset", str(wrapped))
    assert any(not entry.obtain for entry in suite.datasets)  # something runs out of the box
    columns = Counter((row.dataset, row.encoder) for row in rows)
    assert len(columns) == len(suite.datasets)


@pytest.mark.parametrize("name", TABLES)
def test_a_suite_of_the_paper_stands_beside_all_its_printed_numbers(name: str) -> None:
    suite = load_suite(name)
    assert suite.paper == f"T-VSL, Table {TABLES[name]}"
    printed = Printed.of(suite.paper)
    assert {line["dataset"] for line in printed.lines} <= {entry.printed or entry.name for entry in suite.datasets}
    rows = [RowKey("methods", entry.name, _json(entry.params), "oracle", entry.name, True) for entry in suite.methods]
    for dataset in {line["dataset"] for line in printed.lines}:
        headers, columns = printed.beside(dataset, rows)
        assert headers
        shown = [text for texts in columns for text in texts if text]
        if name not in ("single_source", "multi_source"):  # the paper's other methods are rows of their own there
            assert len(shown) == sum(line["dataset"] == dataset for line in printed.lines)


def _json(params: dict[str, Any]) -> str:
    import json

    return json.dumps(params)


def test_the_ablation_is_the_papers_five_rows() -> None:
    switches = ("audio_conditioning", "image_conditioning", "correspondence")
    found: dict[str, list[tuple[bool, ...]]] = {}
    for entry in load_suite("ablation").methods:
        found.setdefault(entry.name, []).append(tuple(entry.params[name] for name in switches))
    assert [len(set(rows)) for rows in found.values()] == [5]


def test_the_suites_hints_and_controls_are_complete() -> None:
    assert load_suite("hints").hints == ("none", "vocabulary", "count", "oracle")
    hooks = registry().entries("method").values()
    controls = {entry.name for entry in hooks if str(entry.target).partition(":")[0].endswith(".controls")}
    assert {entry.name for entry in load_suite("controls").controls} == controls | {"untrained", "shuffled_audio"}


def small(name: str, methods: list[str] | None = None) -> Suite:
    """A suite on few toybox clips, each method trained for one epoch."""

    def shrunk(entry: SuiteDataset) -> SuiteDataset:
        of = entry.params.get("of")
        if isinstance(of, dict):
            return entry.model_copy(update={"params": {**entry.params, "of": {**of, **TINY}}})
        bank = {"bank": 40} if "bank" in entry.params else {}
        return entry.model_copy(update={"params": {**entry.params, **TINY, **bank}})

    def short(entry: SuiteMethod) -> SuiteMethod:
        return entry.model_copy(update={"train": {**entry.train, "epochs": 1}})

    suite = load_suite(name)
    return suite.model_copy(
        update={
            "datasets": tuple(shrunk(entry) for entry in suite.datasets if not entry.obtain),
            "methods": tuple(short(entry) for entry in suite.methods if methods is None or entry.name in methods),
            "train": suite.train.model_copy(update={"epochs": 1, "batch_size": 8, "copies": 1}),
            "seeds": (0,),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NEW)
def test_a_new_suite_runs_to_its_end(
    name: str, tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVLOC_CACHE", str(shared_cache))
    manifest = bench(small(name), Options(tmp_path))
    for row in manifest.rows:
        assert row.status == "done" or row.reason.startswith(("needs the hints", "maps only classes")), row
    assert all(column.status == "ran" for column in manifest.datasets)
    fits = {(row.method, row.section, str(row.params), row.fit) for row in manifest.rows if row.fit}
    rows = {row[:3] for row in fits}
    if name in ("source_count", "negatives"):  # data sets that differ only in their tests share one training
        assert len(fits) == len(rows) and len(manifest.datasets) > 1
    if name == "zero_shot":
        skipped = {row.method: row.reason for row in manifest.rows if row.status == "skipped"}
        assert set(skipped) == {"avgn"} and "12 of the test's are new" in skipped["avgn"]


@pytest.mark.slow
def test_zero_shot_shows_no_method_a_held_out_name_in_training(
    tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVLOC_CACHE", str(shared_cache))
    from avloc import get_component

    method: Any = get_component("method", "fnac")
    shown: dict[str, set[str]] = {"train": set(), "test": set()}
    clips: dict[str, set[str]] = {"train": set(), "test": set()}
    texts: dict[str, list[Any]] = {"train": [], "test": []}
    learn, find = method.loss, method.localize

    def loss(self: Any, features: Any, batch: Any, context: Any) -> Any:
        shown["train"] |= set(batch.classes)
        clips["train"] |= {part for id in batch.ids for part in id.split("+")}
        texts["train"].append(features.text)
        return learn(self, features, batch, context)

    def localize(self: Any, features: Any, batch: Any) -> Any:
        shown["test"] |= set(batch.classes)
        clips["test"] |= {part for id in batch.ids for part in id.split("+")}
        texts["test"].append(features.text)
        return find(self, features, batch)

    monkeypatch.setattr(method, "loss", loss)
    monkeypatch.setattr(method, "localize", localize)
    bench(small("zero_shot", ["fnac"]), Options(tmp_path))
    assert (len(shown["train"]), len(shown["test"])) == (36, 12) and not shown["train"] & shown["test"]
    assert clips["train"] and clips["test"] and not clips["train"] & clips["test"]
    assert {len(text) for text in texts["train"]} == {36} and {len(text) for text in texts["test"]} == {12}
