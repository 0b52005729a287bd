"""Predictions to one row per true source, and rows to one number per metric."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from avloc.components import ABOUT_ROWS, mention_edits, source_digest
from avloc.progress import say, track
from avloc.scoring.protocol import SCORING_REVISION, Protocol
from avloc.store import ArrayLog, Counts, RunFolder, Score, content_id, file_digest, replacing, score_path
from avloc.types import AvlocError, FloatArray, Prediction, Truth

if TYPE_CHECKING:
    import pandas as pd

    from avloc.interfaces import Dataset, Metric
    from avloc.types import Localization

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ClipScores:
    """What one clip scored.

    Attributes:
        rows: One line per true source: clip, group, source, label and the columns of every metric that did not fail.
        failed: Metric key -> how it failed.
        maps: How many maps were predicted.
        by_truth: Whether sources were given their maps by looking at the truth.
        misread: What the protocol claims of each map of two values that it does not read as it is meant.
    """

    rows: pd.DataFrame
    failed: Mapping[str, str]
    maps: int
    by_truth: bool
    misread: tuple[str, ...]


@dataclass(slots=True)
class Scored:
    """What all clips scored.

    Attributes:
        rows: Those of all clips.
        values: Metric key -> a fraction; NaN where the metric is undefined or failed.
        dropped: Metric key -> how many sources it is not defined for.
        failed: Metric key -> how it failed; it costs its own columns.
        remarks: What must be known about these numbers.
    """

    rows: pd.DataFrame
    values: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


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
        protocol, metrics: How maps become masks, and masks numbers. A metric that fails has no value; it is tried again
            the next time.
        counts: Which clips could not be predicted, and why.
        title: For the progress bar.

    Raises:
        AvlocError: Predictions are gone, a stored score is damaged, or the protocol cannot be applied; names the file
            or the clip.
    """
    from avloc.data import load_clip, load_truth  # late: reading scores needs no decoder

    id = content_id(score_identity(folder.id, protocol, metrics))
    target = score_path(folder.path.parents[1], folder.id, id)
    code = {f"metric {key!r}": source_digest(type(metric)) for key, metric in metrics.items()}
    code[f"data set {folder.identity()['identity']['data']['name']!r}"] = source_digest(type(data))
    if (stored := _stored(target)) is not None:
        mention_edits(stored.code, code)
        if not stored.failed:
            return stored
    log = ArrayLog(folder.path)
    if len(log.records) != folder.identity()["provenance"]["clips"]:
        raise AvlocError(f"{folder.path} has lost predictions since it was finished; run avloc bench again.")

    def work(clip: str) -> ClipScores:
        record, arrays = log.records[clip], log.read(clip)
        prediction, truth, prior = stored_prediction(record, arrays), load_truth(data, clip), arrays.get("prior")
        return score_clip(prediction, truth, protocol, metrics, record["tiles"], prior, record["group"])

    def image(clip: str) -> str:
        pixels = load_clip(data, clip).clip.image
        return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()

    found = score_clips(log.records, work, metrics, title, image)
    beside = target.with_suffix(".parquet")
    with replacing(beside) as temporary:
        found.rows.to_parquet(temporary)
    score = Score(
        score=id, run=folder.id, rows=file_digest(beside), protocol=protocol.model_dump(), values=found.values,
        dropped=found.dropped, sources=len(found.rows), failed=found.failed, remarks=found.remarks, code=code,
        counts=counts.model_copy(update={"scored": len(log.records)}),
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
    clips: Collection[str],
    work: Callable[[str], ClipScores],
    metrics: Mapping[str, Metric],
    title: str,
    image: Callable[[str], str],
) -> Scored:
    """Score clips in several threads, each by `work`; `image` is asked which image a clip shows, where it matters."""
    import pandas as pd  # late: listing protocols does not need it

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(track(pool.map(work, clips), title, len(clips)))
        images = cache(lambda: dict(zip(clips, pool.map(image, clips), strict=True)))
        found = Scored(pd.concat([part.rows for part in parts], ignore_index=True) if parts else pd.DataFrame())
        for clip, part in zip(clips, parts, strict=True):
            found.failed |= {key: why for key, why in part.failed.items() if key not in found.failed}
            for key in metrics:
                lacking = sorted({*_columns(found.rows, key)} - {*part.rows.columns})
                if lacking and key not in found.failed:
                    found.failed[key] = f"clip {clip!r} has no column {lacking[0]}, but every clip should have as many"
        for key, metric in metrics.items():
            try:
                found.values[key] = _value(key, metric, found, images)
            except (Exception, SystemExit) as error:  # a plugin may raise anything; other metrics must lack nothing
                found.failed.setdefault(key, _sentence(error))
                found.values[key] = float("nan")
                found.rows = found.rows.drop(columns=_columns(found.rows, key))
    found.remarks += _remarks(parts)
    return found


def _value(key: str, metric: Metric, found: Scored, images: Callable[[], Mapping[str, str]]) -> float:
    """What a metric makes of its rows, which may be other ones when they are seen by image."""
    if key in found.failed:
        raise AvlocError(found.failed[key])
    names = _columns(found.rows, key)
    mine = found.rows[names].to_numpy(np.float64, copy=True)
    if not len(mine):
        return float("nan")
    if _by_image(metric):
        mine = _checked(metric.by_image(mine, same_images(found.rows, images())), mine.shape)
        found.rows[names] = mine
    if lost := int(np.isnan(mine).any(axis=1).sum()):
        found.dropped[key] = lost
    mine.flags.writeable = False
    return _fraction(metric.reduce(mine))


def score_clip(
    prediction: Prediction,
    truth: Truth,
    protocol: Protocol,
    metrics: Mapping[str, Metric],
    tiles: int,
    prior: FloatArray | None,
    group: str,
) -> ClipScores:
    """What a clip scores: its rows, and what must be known about them."""
    import pandas as pd

    found, resized = protocol.apply(prediction, truth, tiles, prior)
    found = replace(  # the next metric reads the same arrays
        found, scores=_locked(found.scores), masks=_locked(found.masks), confidence=_locked(found.confidence),
        found=_locked(found.found),
    )  # fmt: skip
    resized = replace(resized, masks=_locked(resized.masks))
    clip, sources = prediction.clip, len(truth.labels)
    about = ([clip] * sources, [group] * sources, range(sources), list(truth.labels))
    columns: dict[str, Any] = dict(zip(ABOUT_ROWS, about, strict=True))
    failed = {}
    for key, metric in metrics.items():
        try:
            rows = _metric_rows(metric, found, resized)
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            failed[key] = f"on clip {clip!r}: {_sentence(error)}"
            continue
        names = [key] if rows.shape[1] == 1 else [f"{key}#{n}" for n in range(rows.shape[1])]
        columns |= dict(zip(names, rows.T, strict=True))
    misread = tuple(filter(None, (protocol.misread(map, tiles) for map in prediction.maps)))
    return ClipScores(pd.DataFrame(columns), failed, len(prediction.maps), found.by_truth, misread)


def same_images(rows: pd.DataFrame, images: Mapping[str, str]) -> list[str]:
    """Per row which image its clip shows.

    Clips show one image if `images` has the same name for both, or if they are of one group and of different classes:
    clips of one group and one class are rather other moments of one video.
    """
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while name in above:
            name = above[name]
        return name

    for _, members in rows.drop_duplicates(["clip", "label"]).groupby("group", sort=False):
        if members.label.is_unique:
            first, *others = (top(images[clip]) for clip in members["clip"].unique())
            above |= {other: first for other in others if other != first}
    return [top(images[clip]) for clip in rows["clip"]]


def _locked(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that is read-only for good: of an array that owns its memory, anybody can take that back."""
    return np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) if array.size else array


def _metric_rows(metric: Metric, found: Localization, truth: Truth) -> Rows:
    """``(S, k)``."""
    rows = np.asarray(metric.rows(found, truth), np.float64)
    if rows.ndim != 2 or len(rows) != len(truth.labels) or not rows.shape[1]:
        raise AvlocError(
            f"rows should return an array of shape ({len(truth.labels)}, k), one row per true source, but returned "
            f"{rows.shape}"
        )
    return rows


def _columns(rows: pd.DataFrame, key: str) -> list[str]:
    return [name for name in rows.columns if name == key or name.startswith(f"{key}#")]


def _by_image(metric: Metric) -> bool:
    from avloc.interfaces import Metric as Base  # late: it loads torch

    return type(metric).by_image is not Base.by_image


def _checked(rows: Rows, shape: tuple[int, ...]) -> Rows:
    rows = np.array(rows, np.float64)
    if rows.shape != shape:
        raise AvlocError(f"by_image should return an array of shape {shape}, but returned {rows.shape}")
    return rows


def _fraction(value: float) -> float:
    value = float(value)
    if abs(value) > 1 + 1e-9:
        raise AvlocError(f"reduce should return a fraction, from -1 to 1, but returned {value:g}")
    return value


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, AvlocError) else f"{type(error).__name__}: {error}"


def _remarks(parts: Collection[ClipScores]) -> Iterator[str]:
    """What must be known about the numbers of these clips."""
    by_truth = sum(part.by_truth for part in parts)
    if by_truth:
        yield (
            f"in {by_truth} of {len(parts)} clips maps do not say which source they show, so each source was given the "
            "map that fits it best, by looking at the truth"
        )
    misread = Counter(what for part in parts for what in part.misread)
    if misread:
        claims = ", ".join(f"{what} for {count}" for what, count in misread.items())
        yield (
            f"{misread.total()} of {sum(part.maps for part in parts)} maps have two values, as boxes and masks have, "
            f"for which this protocol is not made: it claims {claims} (avloc score --help names protocols that fit)"
        )
