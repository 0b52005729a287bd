"""Stored predictions under other protocols or with other metrics: takes seconds, and no method runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avloc.components import Component, make_metrics, open_dataset
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
        metrics: Names, with ``@value`` behind those that have a threshold; ``None``: those of the suite.
        datasets: Only these columns of the suite; ``None``: all.
        results: The folder with the results.
        data: Where your own data sets are.
        command: What the note below the table says it was made by.

    Returns:
        The results under the name ``<suite>.<protocol>`` or ``<suite>.<protocol>+<protocol>``.

    Raises:
        AvlocError: The suite was not run here, a name is unknown, or the only protocol cannot be applied.

    Example:
        >>> rescore("multi_source", protocol="avloc,ezvsl").table().save("protocols.md")
    """
    folder = Path(results)
    manifest = suite_manifest(folder, suite)
    names = protocol.split(",") if protocol else []
    protocols = _protocols(names) or [load_protocol(manifest.protocol)]
    components = metric_components(metrics) if metrics else manifest_metrics(manifest)
    kept = {find_entry(manifest, name).name for name in datasets or [entry.name for entry in manifest.datasets]}
    entries = [entry for entry in manifest.datasets if entry.name in kept]
    rows = [row for row in manifest.rows if row.dataset in kept]
    work = _Scoring(folder, data, make_metrics(components))
    if len(protocols) == 1:
        rows = [work.row(row, protocols[0]) for row in rows]
        text = {"protocol": protocols[0].model_dump(), "protocol_text": protocols[0].describe()}
    else:  # every column has its own
        entries, rows = work.side_by_side(entries, rows, protocols)
        title = f"{manifest.title}: the same predictions under {len(protocols)} protocols"
        text = {"title": title, "protocol": {}, "protocol_text": ""}
    fresh = manifest.changed(
        suite=_name(suite, names), command=command, metrics=metric_entries(components, work.metrics), datasets=entries,
        rows=rows, **text,
    )  # fmt: skip
    fresh.save(Manifest.path(folder, fresh.suite))
    return Results(fresh, folder)


def suite_manifest(results: Path, suite: str) -> Manifest:
    """What was run here under a suite's name, by one protocol.

    Raises:
        AvlocError: Nothing was, or it is a table of several protocols.
    """
    manifest = Manifest.of(results, suite)
    if not manifest.protocol:
        raise AvlocError(
            f"{suite!r} is a table of several protocols, made from the results of a suite; score that suite instead."
        )
    return manifest


def find_entry(manifest: Manifest, name: str) -> DatasetEntry:
    """The data set of this name.

    Raises:
        AvlocError: The manifest has none ("did you mean").
    """
    known = {entry.name: entry for entry in manifest.datasets}
    if name not in known:
        raise AvlocError(unknown(f"dataset of suite {manifest.suite!r} named", name, known))
    return known[name]


def open_declared(declared: Mapping[str, Any], data: Path | None, name: str) -> Dataset:
    """The test split that a run was made on.

    Args:
        declared: The data in the run's identity.
        data: Where the user's data sets are.
        name: Of the column, for the error.

    Raises:
        AvlocError: The data changed since.
    """
    opened = open_dataset(Component(name=declared["name"], params=declared["params"]), "test", data)
    if opened.fingerprint() != declared["fingerprints"]["test"]:
        raise AvlocError(f"The test data of {name} changed since the suite was run; run avloc bench again.")
    return opened


@dataclass(slots=True)
class _Scoring:
    """Scores runs again.

    Attributes:
        results: The folder with the runs.
        data: Where the user's data sets are.
        metrics: By key.
        opened: Test splits by the data in the identity of runs.
    """

    results: Path
    data: Path | None
    metrics: dict[str, Metric]
    opened: dict[str, Dataset] = field(default_factory=dict)

    def row(self, row: Row, protocol: Protocol) -> Row:
        """The row with new scores; one without predictions does not change."""
        if row.status != "done":
            return row
        folder, counts = (
            RunFolder(self.results, row.run),
            Score.load(score_path(self.results, row.run, row.score)).counts,
        )
        score = score_run(folder, self._open(row), protocol, self.metrics, counts, f"score {row.method} again")
        return row.model_copy(update={"score": score})

    def side_by_side(
        self, entries: Sequence[DatasetEntry], rows: Sequence[Row], protocols: Sequence[Protocol]
    ) -> tuple[list[DatasetEntry], list[Row]]:
        """Columns and rows for every protocol; data that are absent keep their one column."""
        absent = {(entry.name, entry.encoder) for entry in entries if entry.status == "absent"}
        new_entries = [part for entry in entries for part in _split(entry, protocols)]
        new_rows = []
        for row in rows:
            if (row.dataset, row.encoder) in absent:
                new_rows.append(row)
                continue
            if row.status == "done":
                self._open(row)  # data that changed are an error whatever the protocol
            new_rows += [self._under(row, protocol) for protocol in protocols]
        return new_entries, new_rows

    def _under(self, row: Row, protocol: Protocol) -> Row:
        """The row in the column of a protocol; it says so where the protocol cannot be applied."""
        update: dict[str, Any] = {"dataset": _column_name(row.dataset, protocol)}
        try:
            update["score"] = self.row(row, protocol).score
        except AvlocError as error:
            reason = f"the protocol {protocol.preset} cannot be applied: {error}"
            update |= {"status": "skipped", "reason": reason, "score": ""}
        return row.model_copy(update=update)

    def _open(self, row: Row) -> Dataset:
        declared = RunFolder(self.results, row.run).identity()["identity"]["data"]
        key = content_id(declared)
        if key not in self.opened:
            self.opened[key] = open_declared(declared, self.data, row.dataset)
        return self.opened[key]


def _split(entry: DatasetEntry, protocols: Sequence[Protocol]) -> list[DatasetEntry]:
    """A column per protocol; an absent one stays one, and printed numbers stand once, behind the last."""
    if entry.status == "absent":
        return [entry]
    return [
        entry.model_copy(update={
            "name": _column_name(entry.name, protocol), "title": f"{entry.title}, {protocol.preset}",
            "data": (entry.name, entry.title), "protocol": protocol.describe(),
            "printed": (entry.printed or entry.name) if protocol is protocols[-1] else None,
        })
        for protocol in protocols
    ]  # fmt: skip


def _column_name(name: str, protocol: Protocol) -> str:
    return f"{name} ({protocol.preset})"


def _name(suite: str, protocols: Sequence[str]) -> str:
    """A file's name: the protocols, or how many there are and which, as a hash."""
    name = f"{suite}.{'+'.join(protocols) or 'rescored'}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{suite}.{len(protocols)}-protocols-{content_id({'protocols': protocols})[:6]}"


def _protocols(names: Sequence[str]) -> list[Protocol]:
    for name in names:
        if names.count(name) > 1:
            raise AvlocError(f"The protocol {name!r} is listed twice.")
    return [load_protocol(name) for name in names]
