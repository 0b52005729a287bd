"""Predictions made outside avloc, scored by the same code, and printed in the same tables, marked as external."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from avloc.components import Component, check_parameters, component_id, make_metrics, open_dataset
from avloc.hints import HINT_LEVELS
from avloc.interfaces import Dataset
from avloc.progress import track
from avloc.registry import registry
from avloc.results.manifest import Invocation, Manifest, Options, Row
from avloc.results.rescoring import parse_metric, stored_manifest
from avloc.scoring import Predictions, load_protocol, score_run
from avloc.store import ArrayLog, Counts, RunFolder, content_id, provenance, write_json
from avloc.suite import Suite, Train, load_suite
from avloc.types import AvlocError, DataError, unknown

DEFAULTS = "multi_source"
"""The suite whose metrics are taken where none are asked for."""
COMMIT_EVERY = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to score, and how.

    Attributes:
        predictions: The folder, see `avloc.scoring.predictions`.
        dataset: Whose test clips they are about: a dataset's name or ``{name: ..., parameter: ...}``; with `suite`
            one of its columns.
        name: Of the row; empty: the folder's.
        suite: A suite that was run here: its table gets one more row, by its protocol and metrics.
        protocol: A preset's name; ``None``: ``avloc``.
        metrics: Names, with ``@value`` behind where a metric has a threshold; ``None``: those of `DEFAULTS`.
        hints: What the predictions were made with; ``None``: oracle.
    """

    predictions: Path
    dataset: str
    name: str = ""
    suite: str | None = None
    protocol: str | None = None
    metrics: list[str] | None = None
    hints: str | None = None

    @property
    def label(self) -> str:
        """As the table prints it."""
        return f"{self.name or self.predictions.resolve().name} (external)"


def score_external(wanted: Wanted, options: Options) -> Manifest:
    """Check, store and score predictions made elsewhere; writes the manifest of their table.

    Without a suite the table has this one row and is named ``external.<name>``; more predictions can be added to it as
    to any suite.

    Raises:
        AvlocError: A file is wrong, or something that was asked for does not exist or does not fit the suite.
    """
    if wanted.hints is not None and wanted.hints not in HINT_LEVELS:
        raise AvlocError(unknown("level of hints", wanted.hints, HINT_LEVELS))
    manifest, component, fingerprint = (
        _joined(wanted, wanted.suite, options) if wanted.suite else _alone(wanted, options)
    )
    column = manifest["datasets"][0] if not wanted.suite else _column(manifest, wanted.dataset)
    data = open_dataset(component, "test", options.data)
    if fingerprint and data.fingerprint() != fingerprint:
        raise AvlocError(f"The test data of {wanted.dataset} changed since the suite was run; run avloc bench again.")
    column["title"] = column["title"] or data.title or column["name"]
    column["notes"] = column["notes"] or list(data.notes)
    folder, counts = _stored(wanted, options, component, data, manifest["limit"])
    metrics = make_metrics([Component(name=m["name"], params=m["params"]) for m in manifest["metrics"]])
    protocol = load_protocol(manifest["protocol"])
    hints = wanted.hints or HINT_LEVELS[-1]
    score = score_run(folder, data, protocol, metrics, Counts(**counts), f"score {wanted.label}")
    row: Row = {
        "method": wanted.label, "label": wanted.label, "uses_audio": True, "section": "methods", "params": {},
        "dataset": column["name"], "hints": hints, "encoder": column["encoder"], "train": {},
        "limit": manifest["limit"], "weights": "", "seed": 0,
        "status": "done", "reason": "", "run": folder.id, "fit": "", "score": score,
    }  # fmt: skip
    mine = {key: row[key] for key in ("method", "dataset", "hints", "encoder")}
    others = [other for other in manifest["rows"] if any(other[key] != mine[key] for key in mine)]
    manifest = {**manifest, "rows": [*others, row]}
    write_json(options.results / "suites" / f"{manifest['suite']}.json", manifest)
    return manifest


def _alone(wanted: Wanted, options: Options) -> tuple[Manifest, Component, str]:
    """A manifest without rows, the dataset, and no fingerprint that it must have."""
    component = _component(wanted.dataset)
    metrics = [parse_metric(key) for key in wanted.metrics or ()] or list(load_suite(DEFAULTS).metrics)
    label = wanted.label.removesuffix(" (external)")
    name = re.sub(r"[^\w.-]+", "-", label).strip("-.")
    if not name:
        raise AvlocError(f"--name {label!r} has no letters or digits to name the results by.")
    suite = Suite.model_construct(
        name=f"external.{name}", title=f"Predictions of {label}", paper="", methods=(), train=Train(), limit=None
    )
    protocol = load_protocol(wanted.protocol or "avloc")
    made = Invocation(suite, options, protocol, metrics, make_metrics(metrics)).manifest()
    column = {
        "name": component.name, "title": "", "encoder": "unknown", "status": "ran", "reason": "", "command": "",
        "notes": [], "printed": "",
    }  # fmt: skip
    return {**made, "datasets": [column], "train_text": "no training here: made elsewhere"}, component, ""


def _joined(wanted: Wanted, suite: str, options: Options) -> tuple[Manifest, Component, str]:
    """A suite's manifest, the dataset of the column, and the fingerprint of its test clips."""
    if wanted.protocol or wanted.metrics:
        raise AvlocError(
            f"A table has one protocol and its metrics: leave out --protocol and --metrics, and score the whole table "
            f"again with avloc score --suite {suite} --protocol ..."
        )
    manifest = stored_manifest(suite, options)
    column = _column(manifest, wanted.dataset)
    done = [row for row in manifest["rows"] if row["dataset"] == column["name"] and row["status"] == "done"]
    if not done:
        raise AvlocError(f"Suite {suite!r} has no finished run on {column['name']!r} to stand beside.")
    declared = RunFolder(options.results, done[0]["run"]).identity()["identity"]["data"]
    return manifest, Component(name=declared["name"], params=declared["params"]), declared["fingerprints"]["test"]


def _column(manifest: Manifest, name: str) -> Row:
    columns: dict[str, Row] = {column["name"]: column for column in manifest["datasets"]}
    if name not in columns:
        raise AvlocError(unknown(f"dataset of suite {manifest['suite']!r} named", name, columns))
    return columns[name]


def _component(text: str) -> Component:
    """``name``, or ``{name: ..., parameter: ...}``."""
    try:
        content = yaml.safe_load(text)
        component = Component.model_validate(content)
    except ValueError as error:
        raise AvlocError(f"--dataset {text!r} cannot be read; write name or {{name: ..., parameter: ...}}.") from error
    except yaml.YAMLError as error:
        raise AvlocError(f"--dataset {text!r} is not YAML: {error}") from error
    check_parameters("dataset", component, registry().get("dataset", component.name))
    return component


def _stored(
    wanted: Wanted, options: Options, component: Component, data: Dataset, limit: int | None
) -> tuple[RunFolder, dict[str, Any]]:
    """The predictions as a run, and what became of every clip of the list."""
    ids = list(data.ids())
    files = Predictions(wanted.predictions, ids, data.classes)
    status, listed = data.status(), ids[:limit]
    identity = {
        "stage": "external", "content": files.content(), "limit": limit,
        "data": {**component_id(component, type(data)), "fingerprints": {"test": data.fingerprint()}},
    }  # fmt: skip
    folder = RunFolder(options.results, content_id(identity))
    with folder.exclusive(f"the predictions of {wanted.label}"):
        if options.force or not folder.complete:
            folder.clear()
            started = time.time()
            present = set(status.present)
            broken = _append(ArrayLog(folder.path), files, data, [id for id in listed if id in files and id in present])
            about = {**provenance(started, "cpu"), "from": str(wanted.predictions), "command": options.command}
            folder.finish(identity, {**about, "clips": len(ArrayLog(folder.path).records), "broken": broken})
    broken = {**status.broken, **folder.identity()["provenance"]["broken"]}
    counts = {"listed": len(ids), "unread": len(ids) - len(listed), **_lost(listed, files, status.missing, broken)}
    return folder, counts


def _append(log: ArrayLog, files: Predictions, data: Dataset, ids: list[str]) -> dict[str, str]:
    """Store the predictions of these clips; returns those clips that cannot be decoded, with the reason."""
    broken = {}
    for done, id in enumerate(track(ids, "read predictions", len(ids)), start=1):
        try:
            clip = data.load(id).clip
        except DataError as error:
            broken[id] = str(error)
            continue
        found = files.load(id, clip.tiles)
        arrays = {"maps": found.maps} | ({} if found.scores is None else {"scores": found.scores})
        log.append(id, arrays, labels=list(found.labels), group=clip.group or id, tiles=clip.tiles)
        if done % COMMIT_EVERY == 0:
            log.commit()
    log.commit()
    return broken


def _lost(
    listed: list[str], files: Predictions, missing: Mapping[str, str], broken: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Why clips of the list were not scored."""
    without = {id: "it has no prediction" for id in listed if id not in files}
    absent = {id: missing[id] for id in listed if id in missing}
    return {"missing": {**without, **absent}, "broken": {id: broken[id] for id in listed if id in broken}}
