"""What was run under a suite's name, as one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avloc.components import Component, make_metrics
from avloc.scoring import stored_prediction
from avloc.store import ArrayLog, Manifest, MetricEntry, Row, RunFolder
from avloc.types import AvlocError, Prediction, unknown

if TYPE_CHECKING:
    import pandas as pd

    from avloc.interfaces import Metric
    from avloc.tables import Table

RUN = ("dataset", "encoder", "method", "section", "hints", "seed")
"""Columns of `Results.scores` that say which run a line is from, besides its parameters."""


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What was run under a suite's name: its table, its rows and its predictions.

    Attributes:
        manifest: The table's columns and rows.
        folder: The folder with all results.

    Example:
        >>> results = avloc.load_results("multi_source")
        >>> results.table().save("table.md")
        >>> results.scores().groupby(["method", "label"]).cap.mean()
        >>> results.predictions("tvsl", "toybox_duet", hints="oracle")
    """

    manifest: Manifest
    folder: Path

    def table(
        self,
        *,
        published: bool = False,
        intervals: bool = False,
        reference: str | None = None,
        digits: int | None = None,
    ) -> Table:
        """The table: methods by data sets, in percent, with everything a reader must know below.

        Args:
            published: Add the numbers that the suite's paper printed, in columns of their own.
            intervals: Add a 95 % interval to every number.
            reference: The method, by name or label, that all others are tested against; ``None``: the suite's own,
                ``""``: no tests.
            digits: Significant digits of every mean, at least 1; the numbers behind a mean have as many decimals as
                it. ``None``: one decimal.

        Raises:
            AvlocError: A score is gone or damaged, or what is asked for does not exist.
        """
        from avloc.tables import build_table, load_scores  # late: pandas is slow to import

        return build_table(
            load_scores(self.manifest, self.folder), published=published, intervals=intervals, reference=reference,
            digits=digits, reducer=lambda entry: make_metrics([_component(entry)])[entry.key].reduce,
        )  # fmt: skip

    def scores(self) -> pd.DataFrame:
        """The rows that every number and every statistic is made of, from all finished runs.

        Returns:
            One line per run and true source: the run (``dataset``, ``encoder``, ``method``, ``section``, ``hints``,
            ``seed``, ``params``), the source (``clip``, ``group``, ``source``, ``label``), and one or several columns
            per metric, as fractions.

        Raises:
            AvlocError: The rows of a score are gone or damaged.
        """
        import pandas as pd

        from avloc.tables import read_rows

        parts = []
        for row in self.manifest.rows:
            if row.status == "done":
                rows = read_rows(self.folder, row.run, row.score)
                about = {name: getattr(row, name) for name in RUN} | {"params": [row.params] * len(rows)}
                parts.append(rows.assign(**about)[[*about, *rows.columns]])
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def predictions(
        self, method: str, dataset: str, *, seed: int = 0, section: str = "methods", **others: object
    ) -> dict[str, Prediction]:
        """The stored predictions of one run.

        Args:
            method: The method's name.
            dataset: The data set's name in the table.
            seed: The run's seed.
            section: ``methods``, ``controls``, ``untrained`` or ``shuffled_audio``.
            **others: Other fields of a row, such as ``hints="oracle"``, where the table has several such runs.

        Returns:
            Clip id -> its raw maps.

        Raises:
            AvlocError: There is no such run, or more than one, or it has not finished.
        """
        row = self._row({"method": method, "dataset": dataset, "section": section, "seed": seed, **others})
        if row.status != "done":
            raise AvlocError(f"{method} on {dataset} has no predictions: {row.reason or 'it has not run yet'}.")
        log = ArrayLog(RunFolder(self.folder, row.run).path)
        return {id: stored_prediction(log.records[id], log.read(id)) for id in log.records}

    def _row(self, wanted: dict[str, object]) -> Row:
        rows = self.manifest.rows
        for name, value in wanted.items():
            if name not in Row.model_fields:
                raise AvlocError(unknown("field of a row", name, Row.model_fields))
            known = {str(getattr(row, name)) for row in rows}
            rows = [row for row in rows if getattr(row, name) == value]
            if not rows:
                raise AvlocError(f"{self.manifest.suite}: {unknown(f'such run with the {name}', str(value), known)}")
        if len(rows) > 1:
            first, second = (row.model_dump(exclude={"run", "fit", "score", "label"}) for row in rows[:2])
            name = next((name for name in first if first[name] != second[name]), "run")
            raise AvlocError(f"Several runs fit; say which with {name}={first[name]!r} or {name}={second[name]!r}.")
        return rows[0]


def load_results(suite: str, results: Path | str = "results") -> Results:
    """What was run under a suite's name by an earlier ``avloc bench`` or ``avloc score``.

    Args:
        suite: The suite's name or, after ``avloc score``, ``<suite>.<protocol>``.
        results: The folder with the results.

    Raises:
        AvlocError: Nothing was run under this name here, or its file is damaged.

    Example:
        >>> avloc.load_results("multi_source").table().to_frame()
    """
    return Results(Manifest.of(Path(results), suite), Path(results))


def metric_entries(components: Sequence[Component], metrics: Mapping[str, Metric]) -> list[MetricEntry]:
    """Metrics as a manifest keeps them."""
    return [
        MetricEntry(
            key=key, title=m.title, higher_is_better=m.higher_is_better, undefined=m.undefined, name=c.name,
            params=c.params,
        )
        for c, (key, m) in zip(components, metrics.items(), strict=True)
    ]  # fmt: skip


def manifest_metrics(manifest: Manifest) -> list[Component]:
    """The metrics of a manifest as components."""
    return [_component(entry) for entry in manifest.metrics]


def _component(entry: MetricEntry) -> Component:
    return Component(name=entry.name, params=entry.params)
