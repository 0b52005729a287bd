"""Stored predictions under other protocols or with other metrics: takes seconds, and no method runs."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avloc.components import make_metrics, recorded
from avloc.results.stored import Results, manifest_metrics, metric_entries
from avloc.scoring import Protocol, load_protocol, metric_components, score_run
from avloc.store import DatasetEntry, Manifest, Row, RunFolder, Score, content_id, score_path
from avloc.types import AvlocError, unknown

if TYPE_CHECKING:
    from avloc.interfaces import Dataset, Metric

LONGEST_NAME = 100
"""Characters of a manifest's name; longer ones abbreviate their protocols."""


def rescore(
    suite: str,
    *,
    protocol: str | None = None,
    exponents: Sequence[float] = (),
    metrics: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    results: Path | str = "results",
    data: Path | None = None,
    command: str = "",
) -> Results:
    """Score a suite's stored predictions under other protocols or with other metrics; runs no method.

    Several protocols stand side by side: every data set has a group of columns for each, and where one cannot be
    applied, its cells say why.

    Args:
        suite: A suite that was run here.
        protocol: A preset, or several with commas between; ``None``: that of the suite.
        exponents: Raise the maps to these powers, each beside the others, see `Protocol`; empty: as the protocols say.
        metrics: Names, with ``@value`` behind those that have a threshold; ``None``: those of the suite.
        datasets: Only these columns of the suite; ``None``: all.
        results: The folder with the results.
        data: Where your own data sets are.
        command: What the note below the table says it was made by.

    Returns:
        The results under the name ``<suite>.<protocol>`` or ``<suite>.<protocol>+<protocol>``, and ``^<exponent>``
        behind the protocols that have one.

    Raises:
        AvlocError: The suite was not run here, a name is unknown, or the only protocol cannot be applied.

    Example:
        >>> rescore("multi_source", protocol="avloc,ezvsl").table().save("protocols.md")
    """
    folder = Path(results)
    manifest = suite_manifest(folder, suite)
    names = protocol.split(",") if protocol else []
    for name in names:
        if names.count(name) > 1:
            raise AvlocError(f"The protocol {name!r} is listed twice.")
    protocols = [load_protocol(name) for name in names] or [load_protocol(manifest.protocol)]
    if exponents:
        powers = [{"exponent": exponent} for exponent in dict.fromkeys(exponents)]
        protocols = [load_protocol({**one.model_dump(), **power}) for one in protocols for power in powers]
        names = [one.label for one in protocols]
    components = metric_components(metrics) if metrics else manifest_metrics(manifest)
    kept = {find_entry(manifest, name).name for name in datasets or [entry.name for entry in manifest.datasets]}
    entries = [entry for entry in manifest.datasets if entry.name in kept]
    made = make_metrics(components)
    rows = [row for row in manifest.rows if row.dataset in kept]
    absent = {(entry.name, entry.encoder) for entry in entries if entry.status == "absent"}
    rows = _scored(rows, absent, protocols, made, folder, data)
    if len(protocols) == 1:
        text = {"protocol": protocols[0].model_dump(), "protocol_text": protocols[0].describe()}
    else:  # every column has its own
        entries = [part for entry in entries for part in _split(entry, protocols)]
        title = f"{manifest.title}: the same predictions under {len(protocols)} protocols"
        text = {"title": title, "protocol": {}, "protocol_text": ""}
    fresh = manifest.changed(
        suite=_name(suite, names), command=command, metrics=metric_entries(components, made), datasets=entries,
        rows=rows, **text,
    )  # fmt: skip
    fresh.save(Manifest.path(folder, fresh.suite))
    return Results(fresh, folder)


def suite_manifest(results: Path, suite: str) -> Manifest:
    """What was run here under a suite's name, by one protocol."""
    manifest = Manifest.of(results, suite)
    if not manifest.protocol:
        raise AvlocError(
            f"{suite!r} is a table of several protocols, made from the results of a suite; score that suite instead."
        )
    return manifest


def find_entry(manifest: Manifest, name: str) -> DatasetEntry:
    """The data set of this name, or an error that says which there are."""
    known = {entry.name: entry for entry in manifest.datasets}
    if name not in known:
        raise AvlocError(unknown(f"dataset of suite {manifest.suite!r} named", name, known))
    return known[name]


def run_data(results: Path, row: Row) -> dict[str, Any]:
    """The data in the identity of a row's run."""
    declared: dict[str, Any] = RunFolder(results, row.run).identity()["identity"]["data"]
    return declared


def open_declared(declared: Mapping[str, Any], data: Path | None, name: str) -> Dataset:
    """The test split of `run_data`, which must not have changed since; `name` is its column's, for the error."""
    from avloc.data import open_dataset  # late: printing a table needs no decoder

    opened = open_dataset(recorded(declared), "test", data)
    if opened.fingerprint() != declared["fingerprints"]["test"]:
        raise AvlocError(f"The test data of {name} changed since the suite was run; run avloc bench again.")
    return opened


def _scored(
    rows: Sequence[Row],
    absent: Container[tuple[str, str]],
    protocols: Sequence[Protocol],
    metrics: Mapping[str, Metric],
    results: Path,
    data: Path | None,
) -> list[Row]:
    """Rows with new scores; of several protocols each has its own rows, which say so where it cannot be applied."""
    opened: dict[str, Dataset] = {}
    fresh = []
    for row in rows:
        if (row.dataset, row.encoder) in absent:
            fresh.append(row)
            continue
        if row.status == "done":  # data that changed are an error whatever the protocol
            declared = run_data(results, row)
            key = content_id(declared)
            opened[key] = opened[key] if key in opened else open_declared(declared, data, row.dataset)
        for protocol in protocols:
            update: dict[str, Any] = {} if len(protocols) == 1 else {"dataset": _column_name(row.dataset, protocol)}
            if row.status == "done":
                title = f"score {row.method} again"
                try:
                    counts = Score.load(score_path(results, row.run, row.score)).counts
                    run = RunFolder(results, row.run)
                    update["score"] = score_run(run, opened[key], protocol, metrics, counts, title).score
                except AvlocError as error:
                    if len(protocols) == 1:
                        raise
                    reason = f"the protocol {protocol.label} cannot be applied: {error}"
                    update |= {"status": "skipped", "reason": reason, "score": ""}
            fresh.append(row.model_copy(update=update))
    return fresh


def _split(entry: DatasetEntry, protocols: Sequence[Protocol]) -> list[DatasetEntry]:
    """A column per protocol; an absent one stays one, and printed numbers stand once, behind the last."""
    if entry.status == "absent":
        return [entry]
    return [
        entry.model_copy(update={
            "name": _column_name(entry.name, protocol), "title": f"{entry.title}, {protocol.label}",
            "data": (entry.name, entry.title), "protocol": protocol.describe(),
            "printed": (entry.printed or entry.name) if protocol is protocols[-1] else None,
        })
        for protocol in protocols
    ]  # fmt: skip


def _column_name(name: str, protocol: Protocol) -> str:
    return f"{name} ({protocol.label})"


def _name(suite: str, protocols: Sequence[str]) -> str:
    """A file's name: the protocols, or how many there are and which, as a hash."""
    name = f"{suite}.{'+'.join(protocols) or 'rescored'}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{suite}.{len(protocols)}-protocols-{content_id({'protocols': protocols})[:6]}"
