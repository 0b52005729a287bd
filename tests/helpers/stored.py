"""Writes the files of a bench, for tests that need a manifest and scores but no run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from avloc.store import Counts, DatasetEntry, Manifest, MetricEntry, Row, Score, file_digest, score_path
from avloc.tables import Table, build_table, load_scores

METRICS = [
    MetricEntry(key="cap", title="CAP", name="cap"),
    MetricEntry(key="distance", title="distance", higher_is_better=False, name="distance"),
]
COUNTS = Counts(listed=10, scored=10)


def small_manifest(**changes: Any) -> Manifest:
    """A manifest of two metrics, without data sets and rows."""
    return Manifest(**{
        "suite": "s", "title": "A 100% test", "command": "avloc bench --suite s", "written": "now",
        "protocol": {"preset": "avloc"}, "protocol_text": "avloc: maps bilinear to 224.", "train_text": "epochs 20",
        "metrics": METRICS, "datasets": [], "rows": [], **changes,
    })  # fmt: skip


class Store:
    """Writes the files of a bench: one data set, and rows as they are added."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.manifest = small_manifest()
        self.dataset("duet", "Toybox duet")

    def dataset(self, name: str, title: str, **changes: Any) -> None:
        entry = DatasetEntry(**{"name": name, "title": title, "encoder": "small", **changes})
        self.manifest.datasets.append(entry)

    def row(self, method: str, cap: float | None = None, distance: float = 0.05, **changes: Any) -> Path:
        """A row; with `cap` it is done. What only scores have goes to the score, the rest to the manifest."""
        number = len(self.manifest.rows)
        scored = {"counts": COUNTS}
        scored |= {name: changes.pop(name) for name in ("counts", "dropped", "failed", "remarks") if name in changes}
        row = Row(**{
            "method": method, "label": method.upper(), "dataset": "duet", "hints": "oracle", "encoder": "small",
            "weights": "small-1", "uses_audio": changes.get("section") != "controls",
            "status": "skipped" if cap is None else "done", "run": f"run{number}",
            "score": "" if cap is None else f"score{number}", **changes,
        })  # fmt: skip
        self.manifest.rows.append(row)
        path = score_path(self.results, row.run, row.score)
        if cap is not None:
            values = {"cap": cap, "distance": distance}
            Score(
                score=row.score, run=row.run, rows="", protocol=self.manifest.protocol, values=values, sources=20,
                **scored,
            ).save(path)  # fmt: skip
        return path

    def rows(self, method: str, caps: Sequence[Sequence[float]], groups: Sequence[str], **changes: Any) -> None:
        """A row per seed that is done, with one stored line per source; ``distance`` is no mean of its lines."""
        for seed, values in enumerate(caps):
            frame = pd.DataFrame({"clip": groups, "group": groups, "label": "dog", "cap": values, "distance": 0.05})
            frame.insert(2, "source", frame.groupby("clip").cumcount())
            path = self.row(method, float(np.nanmean(values)), distance=0.07, **{"seed": seed, **changes})
            frame.to_parquet(path.with_suffix(".parquet"))
            Score.load(path).model_copy(update={"rows": file_digest(path.with_suffix(".parquet"))}).save(path)

    def table(self, **options: Any) -> Table:
        self.write()
        return build_table(load_scores(Manifest.of(self.results, self.manifest.suite), self.results), **options)

    def write(self) -> None:
        self.manifest.save(Manifest.path(self.results, self.manifest.suite))
