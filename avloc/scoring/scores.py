"""Stored predictions to one row per true source."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from avloc.progress import track
from avloc.scoring.protocol import SCORING_REVISION, Protocol
from avloc.store import ArrayLog, Counts, RunFolder, content_id, write_json, writing
from avloc.types import AvlocError, Prediction

if TYPE_CHECKING:
    import pandas as pd

    from avloc.interfaces import Dataset, Metric


def score_identity(run_id: str, protocol: Protocol, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """What a set of scores is. Two presets with the same rules make the same scores."""
    return {
        "stage": "score", "run": run_id, "protocol": protocol.model_dump(exclude={"preset"}),
        "scoring": SCORING_REVISION,
        "metrics": {key: {"revision": metric.revision} for key, metric in metrics.items()},
    }  # fmt: skip


def score_run(
    folder: RunFolder,
    data: Dataset,
    protocol: Protocol,
    metrics: Mapping[str, Metric],
    counts: Counts,
    title: str,
) -> str:
    """Score stored predictions; returns the score id. Rows are per true source."""
    identity = score_identity(folder.id, protocol, metrics)
    id = content_id(identity)
    target = folder.path / "scores" / f"{id}.json"
    if target.is_file():
        return id
    log = ArrayLog(folder.path)
    if len(log.records) != folder.identity()["provenance"]["clips"]:
        raise AvlocError(f"{folder.path} has lost predictions since it was finished; run avloc bench again.")
    work = _scorer(log, data, protocol, metrics)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(track(pool.map(work, log.records), title, len(log.records)))
    import pandas as pd  # late, as torch: listing protocols needs neither

    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    values, dropped = _reduce(frame, metrics)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        frame.to_parquet(temporary)
        temporary.replace(target.with_suffix(".parquet"))
    content = {"score": id, "run": folder.id, "protocol": protocol.model_dump(), "values": values, "dropped": dropped}
    write_json(
        target, {**content, "sources": len(frame), "counts": {**counts.model_dump(), "scored": len(log.records)}}
    )
    return id


def _scorer(
    log: ArrayLog, data: Dataset, protocol: Protocol, metrics: Mapping[str, Metric]
) -> Callable[[str], pd.DataFrame]:
    import pandas as pd

    def work(id: str) -> pd.DataFrame:
        arrays, record = log.read(id), log.records[id]
        prediction = Prediction(id, arrays["maps"], tuple(record["labels"]), arrays.get("scores"))
        truth = data.truth(id)
        found, resized = protocol.apply(prediction, truth, record["tiles"], arrays.get("prior"))
        sources = len(truth.labels)
        columns: dict[str, Any] = {"clip": [id] * sources, "group": [record["group"]] * sources}
        columns["source"] = range(sources)
        columns["label"] = list(truth.labels)
        for key, metric in metrics.items():
            rows = metric.rows(found, resized)
            columns |= {name: rows[:, n] for n, name in enumerate(_columns(key, rows.shape[1]))}
        return pd.DataFrame(columns)

    return work


def _columns(key: str, count: int) -> list[str]:
    return [key] if count == 1 else [f"{key}#{n}" for n in range(count)]


def _reduce(frame: pd.DataFrame, metrics: Mapping[str, Metric]) -> tuple[dict[str, float], dict[str, int]]:
    values, dropped = {}, {}
    for key, metric in metrics.items():
        names = [name for name in frame.columns if name == key or name.startswith(f"{key}#")]
        rows = frame[names].to_numpy(np.float64)
        values[key] = float(metric.reduce(rows)) if len(rows) else float("nan")
        lost = int(np.isnan(rows).any(axis=1).sum())
        if lost:
            dropped[key] = lost
    return values, dropped
