"""Stored predictions under other protocols or with other metrics: seconds, and no method runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from avloc.components import Component, make_metrics, open_dataset
from avloc.interfaces import Dataset, Metric
from avloc.results.manifest import Invocation, Manifest, Options, Row
from avloc.scoring import Protocol, load_protocol, score_run
from avloc.store import Counts, RunFolder, content_id, read_json, write_json
from avloc.suite import Suite, Train
from avloc.types import AvlocError, unknown

LONGEST_NAME = 100
"""Characters of a manifest's name; longer ones abbreviate their protocols."""


def rescore(
    suite_name: str,
    options: Options,
    *,
    protocol: str | None = None,
    metrics: list[str] | None = None,
    datasets: list[str] | None = None,
) -> Manifest:
    """Score a suite's stored predictions under other protocols or with other metrics; runs no method.

    Several protocols stand side by side: every data set has one column group for each, and where one cannot be
    applied, its cells say why.

    Args:
        suite_name: A suite that was run here.
        options: Where its results and the data are.
        protocol: A preset, or several with commas between; ``None``: that of the suite.
        metrics: Names, with ``@value`` behind where a metric has a threshold; ``None``: those of the suite.
        datasets: Only these columns of the suite; ``None``: all.

    Returns:
        The new manifest, named ``<suite>.<protocol>`` or ``<suite>.<protocol>+<protocol>``.

    Raises:
        AvlocError: The suite was never run here, a name is unknown, or the only protocol cannot be applied.
    """
    manifest = stored_manifest(suite_name, options)
    names = protocol.split(",") if protocol else []
    protocols = _protocols(names) or [load_protocol(manifest["protocol"])]
    before = [Component(name=metric["name"], params=metric["params"]) for metric in manifest["metrics"]]
    components = [parse_metric(key) for key in metrics] if metrics else before
    columns = _chosen(manifest, datasets)
    work = _Scoring(options, make_metrics(components))
    kept = {column["name"] for column in columns}
    rows = [row for row in manifest["rows"] if row["dataset"] in kept]
    named = Suite.model_construct(
        name=_name(suite_name, names), title=manifest["title"], paper=manifest["paper"], methods=(), train=Train(),
        limit=None,
    )  # fmt: skip
    fresh = Invocation(named, options, protocols[0], components, work.metrics)
    fresh.columns, fresh.rows = work.table(columns, rows, protocols)
    result = fresh.manifest() | {key: manifest.get(key, "") for key in ("train_text", "limit", "reference")}
    if len(protocols) > 1:  # every column has its own
        title = f"{manifest['title']}: the same predictions under {len(protocols)} protocols"
        result |= {"title": title, "protocol": {}, "protocol_text": ""}
    write_json(options.results / "suites" / f"{result['suite']}.json", result)
    return result


def stored_manifest(suite: str, options: Options) -> Manifest:
    """What was run here under a suite's name, by one protocol.

    Raises:
        AvlocError: Nothing was, or it is a table of several protocols.
    """
    path = options.results / "suites" / f"{suite}.json"
    if not path.is_file():
        raise AvlocError(f"There are no results of suite {suite!r} in {options.results}. Run avloc bench first.")
    manifest: Manifest = read_json(path)
    if not manifest["protocol"]:
        raise AvlocError(
            f"{suite!r} is a table of several protocols, made from the results of a suite; score that suite instead."
        )
    return manifest


@dataclass(slots=True)
class _Scoring:
    """Runs of the store, scored again.

    Attributes:
        opened: Test splits by what the runs declare of them.
    """

    options: Options
    metrics: dict[str, Metric]
    opened: dict[str, Dataset] = field(default_factory=dict)

    def table(
        self, columns: list[Row], rows: Sequence[Row], protocols: Sequence[Protocol]
    ) -> tuple[list[Row], list[Row]]:
        """Columns and rows; those of several protocols side by side, but for data that are absent."""
        if len(protocols) == 1:
            return columns, [self.row(row, protocols[0]) for row in rows]
        absent = {(column["name"], column["encoder"]) for column in columns if column["status"] == "absent"}
        gone = [(row["dataset"], row["encoder"]) in absent for row in rows]
        parts = [[row] if lost else self.side_by_side(row, protocols) for row, lost in zip(rows, gone, strict=True)]
        split = [_side_by_side(column, protocols) for column in columns]
        return [column for part in split for column in part], [row for part in parts for row in part]

    def row(self, row: Row, protocol: Protocol) -> Row:
        """The row with new scores; one without predictions as it is."""
        if row["status"] != "done":
            return row
        folder = RunFolder(self.options.results, row["run"])
        data = self._data(folder, row)
        counts = read_json(folder.path / "scores" / f"{row['score']}.json")["counts"]
        title = f"score {row['method']} again"
        return {
            **row,
            "score": score_run(
                folder,
                data,
                protocol,
                self.metrics,
                Counts(**{k: v for k, v in counts.items() if k != "scored"}),
                title,
            ),
        }

    def side_by_side(self, row: Row, protocols: Sequence[Protocol]) -> list[Row]:
        """The row in every column that its own was split into; it says so where a protocol cannot be applied."""
        if row["status"] == "done":
            self._data(RunFolder(self.options.results, row["run"]), row)  # other data are no matter of the protocol
        found = []
        for protocol in protocols:
            here = {**row, "dataset": _column_name(row["dataset"], protocol)}
            try:
                found.append({**here, "score": self.row(row, protocol)["score"]})
            except AvlocError as error:
                reason = f"the protocol {protocol.preset} cannot be applied: {error}"
                found.append({**here, "status": "skipped", "reason": reason, "score": ""})
        return found

    def _data(self, folder: RunFolder, row: Row) -> Dataset:
        declared = folder.identity()["identity"]["data"]
        key = content_id(declared)
        if key not in self.opened:
            component = Component(name=declared["name"], params=declared["params"])
            data = open_dataset(component, "test", self.options.data)
            if data.fingerprint() != declared["fingerprints"]["test"]:
                raise AvlocError(
                    f"The test data of {row['dataset']} changed since run {row['run']} was made; run avloc bench again."
                )
            self.opened[key] = data
        return self.opened[key]


def _side_by_side(column: Row, protocols: Sequence[Protocol]) -> list[Row]:
    """A column per protocol; an absent one stays one, and printed numbers stand once, behind the last."""
    if column["status"] == "absent":
        return [column]
    parts = [
        {
            **column, "name": _column_name(column["name"], protocol), "title": f"{column['title']}, {protocol.preset}",
            "data": {"name": column["name"], "title": column["title"]}, "protocol_text": protocol.describe(),
            "printed": "",
        }
        for protocol in protocols
    ]  # fmt: skip
    parts[-1]["printed"] = column.get("printed") or column["name"]
    return parts


def _column_name(name: str, protocol: Protocol) -> str:
    return f"{name} ({protocol.preset})"


def _chosen(manifest: Manifest, names: list[str] | None) -> list[Row]:
    columns: list[Row] = manifest["datasets"]
    known = {column["name"] for column in columns}
    for name in names or ():
        if name not in known:
            raise AvlocError(unknown(f"dataset of suite {manifest['suite']!r} named", name, sorted(known)))
    return [column for column in columns if not names or column["name"] in names]


def _name(suite: str, protocols: Sequence[str]) -> str:
    """A file's name: the protocols, or how many there are and which, as a hash."""
    name = f"{suite}.{'+'.join(protocols) or 'rescored'}"
    return (
        name
        if len(name) <= LONGEST_NAME
        else f"{suite}.{len(protocols)}-protocols-{content_id({'protocols': protocols})[:6]}"
    )


def _protocols(names: Sequence[str]) -> list[Protocol]:
    for name in names:
        if names.count(name) > 1:
            raise AvlocError(f"The protocol {name!r} is listed twice.")
    return [load_protocol(name) for name in names]


def parse_metric(key: str) -> Component:
    """``name`` or ``name@value``, as table headers print them."""
    name, at, value = key.partition("@")
    try:
        return Component(name=name, params={"at": float(value)} if at else {})
    except ValueError as error:
        raise AvlocError(f"The metric {key!r} cannot be read: after @ there should be a number.") from error
