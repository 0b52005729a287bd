"""Predictions made outside avloc, scored by the same code and printed in the same tables, marked as external."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from avloc.components import Component, check_parameters, component_id, make_metrics, recorded
from avloc.hints import HINT_LEVELS
from avloc.progress import track
from avloc.registry import registry
from avloc.results.rescoring import find_entry, open_declared, run_data, suite_manifest
from avloc.results.stored import Results, manifest_metrics, metric_entries
from avloc.scoring import Predictions, load_protocol, metric_components, score_run
from avloc.store import ArrayLog, Counts, DatasetEntry, Manifest, Row, RunFolder, content_id, provenance
from avloc.types import AvlocError, DataError, unknown

if TYPE_CHECKING:
    from avloc.interfaces import Dataset

COMMIT_EVERY = 64
EXTERNAL = " (external)"
"""Behind the name of a row."""


def score_external(
    predictions: Path,
    dataset: str,
    *,
    name: str = "",
    suite: str | None = None,
    protocol: str | None = None,
    metrics: Sequence[str] | None = None,
    hints: str | None = None,
    results: Path | str = "results",
    data: Path | None = None,
    command: str = "",
) -> Results:
    """Check, store and score predictions that were made elsewhere.

    Args:
        predictions: A folder of files, see `avloc.scoring.predictions`.
        dataset: Whose test clips they are about: a data set's name or ``{name: ..., parameter: ...}``; with `suite` one
            of its columns.
        name: Of the row; empty: the folder's.
        suite: A suite that was run here: its table gets one more row, by its protocol and metrics.
        protocol: A preset's name; ``None``: ``avloc``.
        metrics: Names, with ``@value`` behind those that have a threshold; ``None``: those of the multi-source suite.
        hints: What the predictions were made with; ``None``: oracle.
        results: The folder with the results.
        data: Where your own data sets are.
        command: What the note below the table says it was made by.

    Returns:
        The results: those of the suite with one more row, or those of this row alone, named ``external.<name>``.

    Raises:
        AvlocError: A file is wrong, or something that was asked for does not exist or does not fit the suite.

    Example:
        >>> score_external(Path("my_maps"), "vggsound_duet", name="My method").table().to_markdown()
    """
    if hints is not None and hints not in HINT_LEVELS:
        raise AvlocError(unknown("level of hints", hints, HINT_LEVELS))
    folder, name = Path(results), name or predictions.resolve().name
    if suite:
        if protocol or metrics:
            raise AvlocError(
                f"A table has one protocol and its metrics: leave out --protocol and --metrics, and score the whole "
                f"table again with avloc score --suite {suite} --protocol ..."
            )
        manifest = suite_manifest(folder, suite)
        entry = find_entry(manifest, dataset)
        done = next((row for row in manifest.rows if row.dataset == entry.name and row.status == "done"), None)
        if done is None:
            raise AvlocError(f"Suite {manifest.suite!r} has no finished run on {entry.name!r} to compare with.")
        declared = run_data(folder, done)
        component = recorded(declared)
        opened = open_declared(declared, data, entry.name)  # what the suite was run on
    else:
        component = _component(dataset)
        from avloc.data import open_dataset  # late: printing a table needs no decoder

        opened = open_dataset(component, "test", data)
        notes = [*opened.notes, *opened.remarks(), *_repeated(component, opened, data)]
        manifest = _alone(name, component, opened, notes, protocol, metrics, command)
        entry = manifest.datasets[0]
    run, counts = _store(predictions, folder, component, opened, manifest.limit, command)
    scored_by = make_metrics(manifest_metrics(manifest))
    score = score_run(run, opened, load_protocol(manifest.protocol), scored_by, counts, f"score {name}")
    row = Row(
        method=f"{name}{EXTERNAL}", label=f"{name}{EXTERNAL}", dataset=entry.name, encoder=entry.encoder,
        hints=hints or HINT_LEVELS[-1], limit=manifest.limit, status="done", run=run.id, score=score.score,
    )  # fmt: skip
    place = attrgetter("method", "dataset", "hints", "encoder")
    others = [other for other in manifest.rows if place(other) != place(row)]
    manifest = manifest.model_copy(update={"rows": [*others, row]})
    manifest.save(Manifest.path(folder, manifest.suite))
    return Results(manifest, folder)


def _repeated(component: Component, test: Dataset, data: Path | None) -> Iterator[str]:
    """That test clips are clips once more, of the test or of the splits to train on that are on this machine."""
    from avloc.data import media_of, open_split, repeated  # late: printing a table needs no decoder

    splits = {"test": test}
    for split in ("train", "val"):
        with suppress(AvlocError):  # made elsewhere, so that nothing is trained here
            splits[split] = open_split(registry().get("dataset", component.name), data, split, component.params)
    return repeated(media_of(splits))


def _alone(
    name: str, component: Component, data: Dataset, notes: Sequence[str], protocol: str | None,
    metrics: Sequence[str] | None, command: str,
) -> Manifest:  # fmt: skip
    """A manifest without rows."""
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.")
    if not stem:
        raise AvlocError(f"--name {name!r} has no letters or digits to name the results by.")
    rules, components = load_protocol(protocol or "avloc"), metric_components(metrics or None)
    title = data.title or component.name
    return Manifest(
        suite=f"external.{stem}", title=f"Predictions of {name}", command=command, protocol=rules.model_dump(),
        protocol_text=rules.describe(), train_text="no training here: made elsewhere",
        metrics=metric_entries(components, make_metrics(components)), rows=[],
        datasets=[DatasetEntry(name=component.name, title=title, encoder="unknown", notes=list(notes))],
    )  # fmt: skip


def _component(text: str) -> Component:
    """``name``, or ``{name: ..., parameter: ...}``."""
    try:
        component = Component.model_validate(yaml.safe_load(text))
    except ValueError as error:
        raise AvlocError(f"--dataset {text!r} cannot be read; write name or {{name: ..., parameter: ...}}.") from error
    except yaml.YAMLError as error:
        raise AvlocError(f"--dataset {text!r} is not YAML: {error}") from error
    check_parameters("dataset", component, registry().get("dataset", component.name))
    return component


def _store(
    predictions: Path, results: Path, component: Component, data: Dataset, limit: int | None, command: str
) -> tuple[RunFolder, Counts]:
    """The predictions as a run, and what became of every clip of the list."""
    ids, status = list(data.ids()), data.status()
    listed, present = ids[:limit], set(status.present)
    files = Predictions(predictions, ids, data.classes)
    identity = {
        "stage": "external", "content": files.content(), "limit": limit,
        "data": {**component_id(component, type(data)), "fingerprints": {"test": data.fingerprint()}},
    }  # fmt: skip
    folder = RunFolder(results, content_id(identity))
    with folder.exclusive(f"the predictions in {predictions}"):
        if not _whole(folder):
            folder.clear()
            started, log = time.time(), ArrayLog(folder.path)
            broken = _append(log, files, data, [id for id in listed if id in files and id in present])
            about = {**provenance(started, "cpu"), "from": str(predictions), "command": command}
            folder.finish(identity, {**about, "clips": len(log.records), "broken": broken})
    broken = {**status.broken, **folder.identity()["provenance"]["broken"]}
    missing = {id: "it has no prediction" for id in listed if id not in files}
    missing |= {id: status.missing[id] for id in listed if id in status.missing}
    broken = {id: broken[id] for id in listed if id in broken}
    return folder, Counts(listed=len(ids), unread=len(ids) - len(listed), missing=missing, broken=broken)


def _whole(folder: RunFolder) -> bool:
    """Whether all predictions that were read are still stored as they were."""
    if not folder.complete:
        return False
    log = ArrayLog(folder.path)
    log.verify()
    return bool(len(log.records) == folder.identity()["provenance"]["clips"])


def _append(log: ArrayLog, files: Predictions, data: Dataset, ids: list[str]) -> dict[str, str]:
    """Store the predictions of these clips; returns those clips that cannot be decoded, with the reason."""
    from avloc.data import load_clip  # late: stored results need no decoder

    broken = {}
    for done, id in enumerate(track(ids, "read predictions", len(ids)), start=1):
        try:
            clip = load_clip(data, id).clip
        except DataError as error:
            broken[id] = str(error)
            continue
        found = files.load(id, clip.image.shape[:2], clip.tiles)
        arrays: dict[str, Any] = {"maps": found.maps} | ({} if found.scores is None else {"scores": found.scores})
        log.append(id, arrays, half=False, labels=list(found.labels), group=clip.group or id, tiles=clip.tiles)
        if done % COMMIT_EVERY == 0:
            log.commit()
    log.commit()
    return broken
