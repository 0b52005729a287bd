"""Suites: grammar, overrides, products, and errors that name the file, the key and the expected value."""

from __future__ import annotations

from pathlib import Path

import pytest

from avloc import AvlocError
from avloc.store import content_id
from avloc.suite import load_suite, suite_names


def test_shipped_suites_load() -> None:
    assert {"smoke", "single_source", "multi_source"} <= set(suite_names())
    for name in suite_names():
        assert load_suite(name).runs()


def test_runs_are_the_product(suite_file: Path) -> None:
    suite = load_suite(str(suite_file)).override(hints=["none", "oracle"])
    runs = suite.runs()
    assert len(runs) == 1 * 2 * 2 * 2
    assert {run.hints for run in runs} == {"none", "oracle"}


def test_untrained_and_shuffled_apply_to_the_methods(suite_file: Path) -> None:
    text = suite_file.read_text() + "controls: [untrained, {name: shuffled_audio, of: [dot]}]\n"
    suite_file.write_text(text)
    runs = load_suite(str(suite_file)).override(seeds=[0]).runs()
    assert [(run.section, run.method.name, run.train.epochs) for run in runs] == [
        ("methods", "dot", 3), ("methods", "hinted", 3), ("untrained", "dot", 0), ("untrained", "hinted", 0),
        ("shuffled_audio", "dot", 3),
    ]  # fmt: skip


def test_override_keeps_parameters_of_listed_methods(suite_file: Path) -> None:
    suite_file.write_text(suite_file.read_text().replace("[dot, hinted]", "[{name: dot, dropout: 0.5}, hinted]"))
    suite = load_suite(str(suite_file)).override(
        methods=["dot", "other"], settings=["dot.stages=2", "train.epochs=7", "dot.train.lr=0.5"]
    )
    assert [entry.name for entry in suite.methods] == ["dot", "other"]
    assert suite.methods[0].params == {"dropout": 0.5, "stages": 2}
    assert suite.train.epochs == 7
    assert suite.runs()[0].train.lr == 0.5


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title: Blocks", "titel: Blocks", ["'titel'", "Did you mean 'title'", "blocks.yaml"]),
        ("epochs: 3", "epoch: 3", ["'train'", "Did you mean 'epochs'"]),
        ("epochs: 3", "epochs: three", ["'train.epochs'", "integer", "'three'"]),
        ("seeds: [0, 1]", "seeds: some", ["'seeds'", "list", "'some'"]),
        ("hints: oracle", "hints: everything", ["vocabulary", "'everything'"]),
        ("encoder: plain", "encodr: plain", ["'datasets.0.encoder' is missing"]),
        ("[dot, hinted]", "[dot, hinted", ["not valid YAML"]),
    ],
)
def test_a_bad_suite_is_explained(suite_file: Path, old: str, new: str, words: list[str]) -> None:
    suite_file.write_text(suite_file.read_text().replace(old, new))
    with pytest.raises(AvlocError) as error:
        load_suite(str(suite_file))
    for word in words:
        assert word in str(error.value)


def test_unknown_names_get_did_you_mean(suite_file: Path) -> None:
    with pytest.raises(AvlocError, match="Did you mean 'multi_source'"):
        load_suite("multi_sorce")
    with pytest.raises(AvlocError, match="does not exist"):
        load_suite("nowhere.yaml")
    suite = load_suite(str(suite_file))
    with pytest.raises(AvlocError, match="Did you mean 'dot'"):
        suite.override(settings=["dott.tau=1"])
    with pytest.raises(AvlocError, match=r"method\.parameter=value"):
        suite.override(settings=["tau=1"])


def test_ids_depend_on_content_not_on_order() -> None:
    assert content_id({"a": 1, "b": [1, 2]}) == content_id({"b": [1, 2], "a": 1})
    assert content_id({"a": 1}) != content_id({"a": 2})
    assert len(content_id({})) == 12
