"""Predictions to one row per true source, and rows to one number per metric."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from avloc.progress import say, track
from avloc.scoring.protocol import SCORING_REVISION, Protocol
from avloc.store import ArrayLog, Counts, RunFolder, Score, content_id, file_digest, replacing, score_path
from avloc.types import AvlocError, FloatArray, Prediction, Truth

if TYPE_CHECKING:
    import pandas as pd

    from avloc.interfaces import Dataset, Metric
    from avloc.types import Localization


def score_identity(run_id: str, protocol: Protocol, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """What a set of scores is. Two presets with the same rules make the same scores."""
    rules = protocol.model_dump(exclude={"preset": True, "refine": {"control"}})
    return {
        "stage": "score", "run": run_id, "protocol": rules, "scoring": SCORING_REVISION,
        "metrics": {key: {"revision": metric.revision} for key, metric in metrics.items()},
    }  # fmt: skip


def score_run(
    folder: RunFolder, data: Dataset, protocol: Protocol, metrics: Mapping[str, Metric], counts: Counts, title: str
) -> Score:
    """Score the predictions of a run and store the numbers; what is scored already is not scored again.

    Args:
        folder: The run.
        data: Its test split, with the truth.
        protocol, metrics: How maps become masks, and masks numbers.
        counts: Which clips could not be predicted, and why.
        title: For the progress bar.

    Raises:
        AvlocError: Predictions are gone, a stored score is damaged, or the protocol or a metric cannot be applied;
            names the file or the clip.
    """
    from avloc.data import load_truth  # late: reading scores needs no decoder

    id = content_id(score_identity(folder.id, protocol, metrics))
    target = score_path(folder.path.parents[1], folder.id, id)
    if (stored := _stored(target)) is not None:
        return stored
    log = ArrayLog(folder.path)
    if len(log.records) != folder.identity()["provenance"]["clips"]:
        raise AvlocError(f"{folder.path} has lost predictions since it was finished; run avloc bench again.")

    def work(clip: str) -> pd.DataFrame:
        record, arrays = log.records[clip], log.read(clip)
        prediction, truth, prior = stored_prediction(record, arrays), load_truth(data, clip), arrays.get("prior")
        return clip_rows(prediction, truth, protocol, metrics, record["tiles"], prior, record["group"])

    rows, values, dropped = score_clips(log.records, work, metrics, title)
    beside = target.with_suffix(".parquet")
    with replacing(beside) as temporary:
        rows.to_parquet(temporary)
    score = Score(
        score=id, run=folder.id, rows=file_digest(beside), protocol=protocol.model_dump(), values=values,
        dropped=dropped, sources=len(rows), counts=counts.model_copy(update={"scored": len(log.records)}),
    )  # fmt: skip
    score.save(target)
    return score


def _stored(target: Path) -> Score | None:
    """A score that is on the disk; what is damaged is named, and scored again."""
    if not target.is_file():
        return None
    try:
        score = Score.load(target)
        score.require_rows(target.with_suffix(".parquet"))
    except AvlocError:
        say(f"{target} or its rows are damaged; the run is scored again.")
        return None
    return score


def stored_prediction(record: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> Prediction:
    """A clip's prediction out of a run's log."""
    return Prediction(record["id"], arrays["maps"], tuple(record["labels"]), arrays.get("scores"))


def score_clips(
    clips: Collection[str], work: Callable[[str], pd.DataFrame], metrics: Mapping[str, Metric], title: str
) -> tuple[pd.DataFrame, dict[str, float], dict[str, int]]:
    """Score clips in several threads, each by `work`, which returns its `clip_rows`.

    Returns:
        The rows of all clips; metric key -> a fraction, NaN where no source could be scored; and metric key -> how
        many sources it is not defined for.
    """
    import pandas as pd  # late: listing protocols does not need it

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(track(pool.map(work, clips), title, len(clips)))
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    for clip, part in zip(clips, parts, strict=True):
        if lacking := sorted({*rows.columns} - {*part.columns}):
            raise AvlocError(
                f"Clip {clip!r} has no column {lacking[0]}: a metric should return as many columns for every clip."
            )
    values, dropped = {}, {}
    for key, metric in metrics.items():
        names = [name for name in rows.columns if name == key or name.startswith(f"{key}#")]
        mine = rows[names].to_numpy(np.float64)
        values[key] = _reduced(key, metric, mine) if len(mine) else float("nan")
        if lost := int(np.isnan(mine).any(axis=1).sum()):
            dropped[key] = lost
    return rows, values, dropped


def clip_rows(
    prediction: Prediction,
    truth: Truth,
    protocol: Protocol,
    metrics: Mapping[str, Metric],
    tiles: int,
    prior: FloatArray | None,
    group: str,
) -> pd.DataFrame:
    """One line per true source of a clip: clip, group, source, label and the columns of every metric."""
    import pandas as pd

    found, resized = protocol.apply(prediction, truth, tiles, prior)
    for array in (found.scores, found.masks, found.confidence, found.found, resized.masks):
        array.flags.writeable = False  # the next metric reads the same ones
    clip, sources = prediction.clip, len(truth.labels)
    columns: dict[str, Any] = {"clip": [clip] * sources, "group": [group] * sources, "source": range(sources)}
    columns["label"] = list(truth.labels)
    for key, metric in metrics.items():
        rows = _metric_rows(key, metric, found, resized, clip)
        names = [key] if rows.shape[1] == 1 else [f"{key}#{n}" for n in range(rows.shape[1])]
        columns |= dict(zip(names, rows.T, strict=True))
    return pd.DataFrame(columns)


def _metric_rows(key: str, metric: Metric, found: Localization, truth: Truth, clip: str) -> npt.NDArray[np.float64]:
    """``(S, k)``."""
    try:
        rows = np.asarray(metric.rows(found, truth), np.float64)
    except Exception as error:  # a plugin may raise anything
        raise AvlocError(f"The metric {key!r} failed on clip {clip!r}: {type(error).__name__}: {error}") from error
    if rows.ndim != 2 or len(rows) != len(truth.labels) or not rows.shape[1]:
        raise AvlocError(
            f"The metric {key!r} should return an array of shape ({len(truth.labels)}, k), one row per true source, "
            f"for clip {clip!r}, but returned {rows.shape}."
        )
    return rows


def _reduced(key: str, metric: Metric, rows: npt.NDArray[np.float64]) -> float:
    try:
        return float(metric.reduce(rows))
    except Exception as error:  # a plugin may raise anything
        raise AvlocError(
            f"The metric {key!r} cannot reduce its {len(rows)} rows to one number: {type(error).__name__}: {error}"
        ) from error
