"""Writes what a bench would have written, for the tests of tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from avloc.tables import Table, Wishes, build_table, load

METRICS = [
    {"key": "cap", "title": "CAP", "unit": "%", "higher_is_better": True},
    {"key": "distance", "title": "distance", "unit": "px", "higher_is_better": False},
]
COUNTS: dict[str, Any] = {"listed": 10, "scored": 10, "missing": {}, "broken": {}}


class Store:
    """Writes what a bench would have written."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.manifest: dict[str, Any] = {
            "suite": "s", "title": "A 100% test", "paper": "", "command": "avloc bench --suite s", "written": "now",
            "protocol": {"preset": "avloc"}, "protocol_text": "avloc: maps bilinear to 224.",
            "train_text": "epochs 20", "metrics": METRICS, "datasets": [], "rows": [],
        }  # fmt: skip
        self.dataset("duet", "Toybox duet")

    def dataset(self, name: str, title: str, **changes: Any) -> None:
        plain = {"encoder": "small", "status": "ran", "reason": "", "command": "", "notes": []}
        self.manifest["datasets"].append({"name": name, "title": title, **plain, **changes})

    def row(self, method: str, cap: float | None = None, distance: float = 5.0, **changes: Any) -> Path:
        """A row; with `cap` it is done. `counts` and `dropped` go to the score file, the rest to the manifest."""
        number = len(self.manifest["rows"])
        file = {"sources": 20, "counts": changes.pop("counts", COUNTS), "dropped": changes.pop("dropped", {})}
        row = {
            "method": method, "label": method.upper(), "section": "methods", "params": {}, "dataset": "duet",
            "hints": "oracle", "encoder": "small", "weights": "small-1", "seed": 0,
            "status": "skipped" if cap is None else "done", "reason": "", "run": f"run{number}", "fit": "",
            "score": "" if cap is None else f"score{number}", **changes,
        }  # fmt: skip
        self.manifest["rows"].append(row)
        path = self.results / "runs" / row["run"] / "scores" / f"{row['score']}.json"
        if cap is not None:
            file |= {"score": row["score"], "run": row["run"], "values": {"cap": cap, "distance": distance}}
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(file))
        return path

    def rows(self, method: str, caps: Sequence[Sequence[float]], groups: Sequence[str], **changes: Any) -> None:
        """A row per seed that is done, with one stored line per source; ``distance`` is no mean of its lines."""
        for seed, values in enumerate(caps):
            frame = pd.DataFrame({"clip": groups, "group": groups, "label": "dog", "cap": values, "distance": 5.0})
            frame.insert(2, "source", frame.groupby("clip").cumcount())
            path = self.row(method, float(np.nanmean(values)), distance=7.0, **{"seed": seed, **changes})
            frame.to_parquet(path.with_suffix(".parquet"))

    def table(self, **wishes: Any) -> Table:
        self.write()
        return build_table(load(self.results, "s"), Wishes(**wishes))

    def write(self) -> None:
        (self.results / "suites").mkdir(exist_ok=True)
        (self.results / "suites" / "s.json").write_text(json.dumps(self.manifest))
