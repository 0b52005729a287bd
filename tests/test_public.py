"""The public API, using only its names: every call twice, and error messages for near misses."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avloc

CALLED = [
    *("bench", "load_results", "evaluate", "load"),
    *("load_suite", "load_protocol", "list_components", "get_component"),
]
EXTENDED = ["Method", "Needs", "Phase", "Context", "Encoder", "EncoderInfo", "Dataset", "Metric", "hookimpl"]
FLOWING = ["Clip", "Truth", "Sample", "Status", "Batch", "Features", "Prediction", "Localization"]
NAMES = [*CALLED, *EXTENDED, *FLOWING, "AvlocError", "DataError", "track", "unknown"]
MODULES = ["data", "functional", "testing", "weights"]
SUITE = """
title: A public table
datasets: [{name: toybox_duet, encoder: tiny, train: 8, val: 4, test: 4, bank: 40}]
protocol: avloc
hints: [oracle]
metrics: [pixel_ap, {name: ciou_success, at: 0.3}]
methods: [ezvsl, tvsl, avgn]
controls: [center]
train: {epochs: 1, batch_size: 4}
"""
KIND = {"encoder": "tiny", "method": "tvsl", "dataset": "toybox_duet", "metric": "cap"}


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media and features that the tests of this file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    """With ``small.yaml`` and what a bench of it left in ``results``."""
    found = tmp_path_factory.mktemp("public")
    (found / "small.yaml").write_text(SUITE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVLOC_CACHE", str(shared_cache))
        avloc.bench(found / "small.yaml", results=found / "results", device="cpu")
    return found


@pytest.fixture
def results(folder: Path) -> Any:
    return avloc.load_results("small", folder / "results")


def twice(call: Callable[..., Any], *args: Any, **options: Any) -> list[Any]:
    return [call(*args, **options) for _ in range(2)]


def example(rng: int = 0) -> tuple[Any, Any, int]:
    """Image, sound and rate of an arbitrary clip."""
    draw = np.random.default_rng(rng)
    return draw.integers(0, 255, (40, 80, 3), np.uint8), draw.normal(0, 0.1, 8000).astype(np.float32), 8000


def test_the_names_are_those_of_the_design_and_these_tests_use_no_others() -> None:
    assert dir(avloc) == sorted([*NAMES, *MODULES])
    for name in twice(lambda: dir(avloc))[1]:
        assert getattr(avloc, name) is getattr(avloc, name)
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    imported = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [line for line in imported if "avloc" in line] == ["import avloc"]


def _members(name: str) -> list[tuple[str, Any]]:
    """A class and its public methods, or a function."""
    thing = getattr(avloc, name)
    found = [(name, thing)]
    if inspect.isclass(thing):
        own = [(key, value) for key, value in vars(thing).items() if inspect.isfunction(value) and key[0] != "_"]
        found += [(f"{name}.{key}", value) for key, value in own]
    return found


def _documented_fields(thing: type) -> set[str]:
    """Fields that the docstring lists or names, and those with their own docstring below them."""
    text = inspect.getdoc(thing) or ""
    listed = re.findall(r"^    (\w[\w, ]*):", text.partition("Attributes:")[2], re.M)
    (defined,) = ast.parse(inspect.getsource(thing)).body
    assert isinstance(defined, ast.ClassDef)
    below = {
        ast.unparse(field.target)
        for field, text in itertools.pairwise(defined.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    return {*below, *re.findall(r"\w+", " ".join(listed)), *re.findall(r"(?<!`)`(\w+)`(?!`)", text)}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_documented(name: str) -> None:
    for path, thing in _members(name):
        text = inspect.getdoc(thing) or ""
        assert (text and text[0].isupper()) or text[0] in "`(", path
        assert text.partition("\n\n")[0].rstrip()[-1] in ".:", f"the first line of {path} is no sentence"
        if dataclasses.is_dataclass(thing):
            said = _documented_fields(thing)
            for field in dataclasses.fields(thing):
                assert field.name in said, f"{path} does not say what {field.name} is"
    if name in CALLED:
        text = inspect.getdoc(getattr(avloc, name)) or ""
        arguments = list(inspect.signature(getattr(avloc, name)).parameters)
        for argument in arguments if len(arguments) > 2 else ():  # of two, names and types say enough
            assert f"    {argument}: " in text, f"{name} does not say what {argument} is"
        for part in ("Raises:", "Example:", ">>> "):
            assert part in text, f"{name} has no {part}"


@pytest.mark.parametrize("module", MODULES)
def test_every_function_of_the_public_modules_is_documented(module: str) -> None:
    found = getattr(avloc, module)
    assert inspect.getdoc(found)
    for name in getattr(found, "__all__", [key for key in vars(found) if key[0] != "_"]):
        thing = getattr(found, name)
        if inspect.isfunction(thing) or (inspect.isclass(thing) and thing.__module__.startswith("avloc")):
            assert inspect.getdoc(thing), f"avloc.{module}.{name}"


@pytest.mark.slow
@pytest.mark.usefixtures("shared_cache")
def test_a_bench_of_a_path_or_a_suite_is_reused_from_the_store(
    folder: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVLOC_CACHE", str(shared_cache))
    runs = sorted((folder / "results" / "runs").iterdir())
    suite = avloc.load_suite(folder / "small.yaml")
    for given in (str(folder / "small.yaml"), folder / "small.yaml", suite):
        for found in twice(avloc.bench, given, methods=["tvsl"], results=folder / "results", device="cpu"):
            assert [(row.method, row.status) for row in found.manifest.rows] == [("tvsl", "done"), ("center", "done")]
    assert sorted((folder / "results" / "runs").iterdir()) == runs
    whole = avloc.bench(suite, results=folder / "results", device="cpu")
    assert {row.status for row in whole.manifest.rows} == {"done"}


def test_results_are_a_table_scores_and_predictions(results: Any, folder: Path) -> None:
    for table in twice(results.table) + twice(results.table, intervals=True, digits=3, reference="center"):
        for text in (table.to_csv(), table.to_latex(), table.to_markdown()):
            assert "T-VSL" in text and "cIoU" in text
        assert len(json.loads(table.to_json())["rows"]) == 4
        frame = table.to_frame()
        assert frame.shape == (4, 2)
    for suffix in (".md", ".csv", ".tex", ".json"):
        twice(table.save, folder / f"table{suffix}")
        assert (folder / f"table{suffix}").stat().st_size > 100
    for scores in twice(results.scores):
        assert set(scores.method) == {"ezvsl", "tvsl", "avgn", "center"} and len(scores) == 4 * 4 * 2
    for found in twice(results.predictions, "tvsl", "toybox_duet", seed=0):
        assert len(found) == 4 and all(isinstance(one, avloc.Prediction) for one in found.values())
        assert {one.maps.shape for one in found.values()} == {(2, 7, 14)}


def test_a_trained_method_localizes_in_any_image(results: Any, folder: Path) -> None:
    rows = {row.method: row for row in results.manifest.rows}
    runs = folder / "results" / "runs"
    for localizer in (
        *twice(avloc.load, runs / rows["tvsl"].run),
        avloc.load(rows["tvsl"].fit, results=folder / "results"),
    ):
        asked = list(localizer.classes[:2])
        for found in twice(localizer.localize, *example(), sources=asked, tiles=2):
            assert found.labels == tuple(asked) and found.maps.shape == (2, 7, 14)
        for found in twice(localizer.localize, *example(), vocabulary=["a blue dog", *asked]):
            assert set(found.labels) <= {"a blue dog", *asked} and found.maps.shape[1:] == (7, 7)
        assert localizer.localize(*example(), sources=["a blue dog"]).labels == ("a blue dog",)
    closed = avloc.load(rows["avgn"].run, results=folder / "results")
    with pytest.raises(avloc.AvlocError, match=r"avgn maps only its own classes\. There is no class 'a blue dog'"):
        closed.localize(*example(), sources=["a blue dog"])
    image, audio, rate = example()
    with pytest.raises(avloc.DataError, match=r"image must be \(H, W, 3\) uint8, but is \(40, 80, 3\) float64"):
        closed.localize(image / 255, audio, rate, sources=[closed.classes[0]])


def test_arrays_are_evaluated_by_the_rules_of_the_tables(results: Any) -> None:
    maps = {id: np.random.default_rng(n).random((7, 7)) for n, id in enumerate("ab")}
    masks = {id: np.eye(224, dtype=np.float32)[None] for id in "ab"}
    truths = {id: avloc.Truth(mask, ("dog",)) for id, mask in masks.items()}
    for scores in [*twice(avloc.evaluate, maps, masks), avloc.evaluate(maps, truths, protocol="avloc")]:
        assert set(scores.values) == {"cap", "ciou_success@0.3", "ciou_mean", "auc"} and len(scores.rows) == 2
    rules = avloc.load_protocol("ezvsl")
    for metrics in (["cap"], ["pixel_ap", "ciou_success@0.5"]):
        one, other = (avloc.evaluate(maps, truths, protocol=p, metrics=metrics) for p in (rules, "ezvsl"))
        assert one.values == other.values
    predictions = results.predictions("tvsl", "toybox_duet")
    data: Any = avloc.get_component("dataset", "toybox_duet")(None, split="test", train=8, val=4, test=4, bank=40)
    data.prepare()
    truth = {id: data.truth(id) for id in data.ids()}
    again = avloc.evaluate(predictions, truth, "avloc", ["pixel_ap", "ciou_success@0.3"], tiles=2)
    stored = results.scores()
    assert again.values["pixel_ap"] == pytest.approx(stored[stored.method == "tvsl"].pixel_ap.mean())


def test_suites_protocols_and_components_are_found_by_name() -> None:
    for suite in twice(avloc.load_suite, "multi_source"):
        assert suite.name == "multi_source" and suite.runs()
    for protocol in twice(avloc.load_protocol, "avloc"):
        assert protocol.preset == "avloc" and protocol.describe()
    for kind, name in KIND.items():
        for known in twice(avloc.list_components, kind):
            assert name in known and known == sorted(known)
        for found in twice(avloc.get_component, kind, name):
            assert issubclass(found, getattr(avloc, kind.capitalize()))


def test_names_that_plugins_need_exist() -> None:
    assert twice(lambda: list(avloc.track(range(3), "count", 3))) == [[0, 1, 2]] * 2
    assert (
        twice(avloc.unknown, "fruit", "aple", ["apple"])[0]
        == "There is no fruit 'aple'. Did you mean 'apple'? Known: apple."
    )
    assert issubclass(avloc.DataError, avloc.AvlocError)

    @avloc.hookimpl
    def avloc_methods() -> dict[str, str]:
        return {"mine": "mine:Mine"}

    assert avloc_methods() == {"mine": "mine:Mine"}


ARRAY, MASK = {"a": np.ones((7, 7))}, {"a": np.ones((28, 28))}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: avloc.lookup, "The package avloc has no 'lookup'. It has: .*get_component"),
        (lambda: avloc.evaluat, "no 'evaluat'. Did you mean 'evaluate'"),
        (lambda: avloc.Localisation, "Did you mean 'Localization'"),
        (lambda: avloc.get_component("metrics", "cap"), "no kind of component 'metrics'. Did you mean 'metric'"),
        (lambda: avloc.get_component("method", "tvls"), "no method 'tvls'. Did you mean 'tvsl'"),
        (lambda: avloc.list_components("datasets"), "Did you mean 'dataset'"),
        (lambda: avloc.load_suite("multi"), "no suite 'multi'. Did you mean 'multi_source'"),
        (lambda: avloc.load_suite("none.yaml"), "Suite file none.yaml does not exist"),
        (lambda: avloc.load_protocol("avlok"), "Did you mean 'avloc'"),
        (lambda: avloc.load_protocol({"preset": "avloc", "sise": 28}), "'sise'.*Did you mean 'size'"),
        (lambda: avloc.load_results("smoke", "nowhere"), "no results of suite 'smoke' in nowhere. Run: avloc bench"),
        (lambda: avloc.load("nonsense"), "There is no run results/runs/nonsense"),
        (lambda: avloc.bench("smok"), "Did you mean 'smoke'"),
        (lambda: avloc.bench("smoke", methods=["tvls"]), "Did you mean 'tvsl'"),
        (lambda: avloc.bench("smoke", methods="tvsl"), r"methods should be a list.*\['tvsl'\]"),
        (lambda: avloc.bench("smoke", datasets="toybox_duet"), "datasets should be a list"),
        (lambda: avloc.bench("smoke", seeds=0), "seeds"),
        (lambda: avloc.bench("smoke", hints=["oracel"]), "oracle.*but is 'oracel'"),
        (lambda: avloc.bench("smoke", limit=0), "limit"),
        (lambda: avloc.bench("smoke", encoder="tinny"), "Did you mean 'tiny'"),
        (lambda: avloc.bench("smoke", settings=["tvsl.gaet=clamp"]), "Did you mean 'gate'"),
        (lambda: avloc.bench("smoke", settings="tvsl.gate=clamp"), "settings should be a list"),
        (lambda: avloc.bench("smoke", device="gpu"), "The device 'gpu' is not auto, cpu"),
        (lambda: avloc.bench("smoke", jobs=0), "jobs should be at least 1"),
        (lambda: avloc.evaluate({"b": ARRAY["a"]}, MASK), "A prediction without a truth.*no clip 'b'"),
        (lambda: avloc.evaluate({"a": np.ones(7)}, MASK), r"Clip 'a': maps should be numbers of shape \(h, w\)"),
        (lambda: avloc.evaluate(ARRAY, {"a": np.full((4, 4), 255)}), r"Clip 'a': masks should be in \[0, 1\]"),
        (lambda: avloc.evaluate(ARRAY, MASK, metrics=["capp"]), "no metric 'capp'. Did you mean 'cap'"),
        (lambda: avloc.evaluate(ARRAY, MASK, metrics="cap"), r"metrics should be a list.*\['cap'\]"),
        (lambda: avloc.evaluate(ARRAY, MASK, protocol="avlok"), "Did you mean 'avloc'"),
        (
            lambda: avloc.evaluate({"a": avloc.Prediction("a", np.ones((1, 7, 7)), ("dog",))}, MASK),
            "Clip 'a': its maps have names but its masks have not",
        ),
    ],
)
def test_near_misses_get_a_sentence(
    call: Callable[[], Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with pytest.raises((avloc.AvlocError, AttributeError), match=words):
            call()
    assert not list(tmp_path.iterdir())


def test_near_misses_in_results_get_a_sentence(results: Any, folder: Path) -> None:
    for call, words in [
        (lambda: results.predictions("tvls", "toybox_duet"), "Did you mean 'tvsl'"),
        (lambda: results.predictions("tvsl", "toybox_dute"), "Did you mean 'toybox_duet'"),
        (lambda: results.predictions("tvsl", "toybox_duet", seed=1), "such run with the seed '1'"),
        (lambda: results.predictions("tvsl", "toybox_duet", hnits="oracle"), "Did you mean 'hints'"),
        (lambda: results.table(reference="tvls"), "Did you mean 'tvsl'"),
        (lambda: results.table().save(folder / "table.xlsx"), "no format of a table with the suffix '.xlsx'"),
    ]:
        with pytest.raises(avloc.AvlocError, match=words):
            call()
