"""Stored predictions under another protocol or with other metrics: seconds, and no method runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avloc import stages
from avloc.columns import open_dataset
from avloc.disk import read_json, write_json
from avloc.lookups import make_metrics
from avloc.manifest import Invocation, Manifest, Options
from avloc.protocol import load_protocol
from avloc.store import RunFolder
from avloc.suite import Component, Suite, Train
from avloc.types import AvlocError


def rescore(
    suite_name: str,
    options: Options,
    *,
    protocol: str | None = None,
    metrics: list[str] | None = None,
) -> Manifest:
    """Score a suite's stored predictions under another protocol or with other metrics; runs no method.

    The new manifest is named ``<suite>.<protocol>``.

    Raises:
        AvlocError: The suite was never run here, or a name is unknown.
    """
    path = options.results / "suites" / f"{suite_name}.json"
    if not path.is_file():
        raise AvlocError(f"There are no results of suite {suite_name!r} in {options.results}. Run avloc bench first.")
    manifest = read_json(path)
    chosen = load_protocol(protocol) if protocol else load_protocol(_without_told(manifest["protocol"]))
    before = [Component(name=metric["name"], params=metric["params"]) for metric in manifest["metrics"]]
    components = [parse_metric(key) for key in metrics] if metrics else before
    ready = make_metrics(components)
    for row in manifest["rows"]:
        if row["status"] == "done":
            folder = RunFolder(options.results, row["run"])
            identity = folder.identity()["identity"]
            data = open_dataset(Component(**_named(identity["data"])), "test", options.data)
            if data.fingerprint() != identity["data"]["fingerprints"]["test"]:
                raise AvlocError(
                    f"The test data of {row['dataset']} changed since run {row['run']} was made; run avloc bench again."
                )
            counts = read_json(folder.path / "scores" / f"{row['score']}.json")["counts"]
            told = chosen.model_copy(update={"told": row["told"]})
            row["score"] = stages.score(folder, data, told, ready, counts, f"score {row['method']} again")
    name = f"{suite_name}.{protocol or 'rescored'}"
    named = Suite.model_construct(
        name=name, title=manifest["title"], paper=manifest["paper"], methods=(), train=Train(), limit=None
    )
    fresh = Invocation(named, options, chosen, components, ready)
    fresh.rows, fresh.columns = manifest["rows"], manifest["datasets"]
    kept = {key: manifest.get(key, "") for key in ("train_text", "limit", "reference")}
    result = {**fresh.manifest(), **kept}
    write_json(options.results / "suites" / f"{name}.json", result)
    return result


def _without_told(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in protocol.items() if key != "told"}


def _named(declared_data: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": declared_data["name"], "params": declared_data["params"]}


def parse_metric(key: str) -> Component:
    """``name`` or ``name@value``, as table headers print them."""
    name, at, value = key.partition("@")
    try:
        return Component(name=name, params={"at": float(value)} if at else {})
    except ValueError as error:
        raise AvlocError(f"The metric {key!r} cannot be read: after @ there should be a number.") from error
