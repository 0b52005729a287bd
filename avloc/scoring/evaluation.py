"""Predictions and truths in memory to numbers, by the same code that scores runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from avloc.components import Component, make_metrics
from avloc.progress import say
from avloc.scoring.maps import check_aspect, stacked
from avloc.scoring.protocol import Protocol, load_protocol
from avloc.scoring.scores import ClipScores, score_clip, score_clips
from avloc.store import Counts
from avloc.suite import load_suite
from avloc.types import AvlocError, Prediction, Truth, require_list, unknown

if TYPE_CHECKING:
    import pandas as pd

DEFAULTS = "multi_source"
"""The suite whose metrics are used where none are asked for."""
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What `evaluate` returns.

    Attributes:
        values: Metric key -> a fraction; NaN where the metric is undefined or failed.
        rows: One line per true source: ``clip``, ``group``, ``source`` (its index in the clip), ``label``, and one or
            several columns per metric.
        counts: How many clips there are, how many were scored, and why the others were not.
        protocol: How maps became masks; a number means nothing without it.
        failed: Metric key -> how it failed.
        remarks: What must be known about the numbers: maps that were assigned by looking at the truth, and maps of two
            values, as boxes have, under a protocol that is not made for them.

    Example:
        >>> scores = avloc.evaluate(predictions, truths, metrics=["cap"])
        >>> scores.rows.groupby("label").cap.mean()
    """

    values: dict[str, float]
    rows: pd.DataFrame
    counts: Counts
    protocol: Protocol
    failed: dict[str, str]
    remarks: list[str]


def evaluate(
    predictions: Mapping[str, Prediction | Array],
    truths: Mapping[str, Truth | Array],
    protocol: str | Mapping[str, Any] | Protocol = "avloc",
    metrics: Sequence[str] | None = None,
    *,
    tiles: int = 1,
    priors: Mapping[str, Array] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score predictions against truths: arrays in, numbers and rows out.

    Args:
        predictions: Clip id -> an `avloc.Prediction`, or its maps without names, ``(h, w)`` or ``(Q, h, w)``: any size
            and scale, higher where something sounds.
        truths: Clip id -> an `avloc.Truth`, or the masks of its sources without names, ``(H, W)`` or ``(S, H, W)`` in
            [0, 1]. These are the clips of the test: those without a prediction are counted as missing.
        protocol: A preset's name (see ``avloc protocols``), a preset with keys changed such as
            ``{"preset": "avloc", "binarize": {"top": 0.5}}``, or an `avloc.scoring.Protocol`.
        metrics: Names, with ``@value`` behind those that have a threshold; ``None``: those of the multi-source suite.
        tiles: How many clips lie side by side on every canvas.
        priors: Clip id -> the object prior ``(h, w)``, for protocols that refine maps with it.
        groups: Clip id -> the image that it shows, where several clips show one: each with another of its sounds.

    Raises:
        AvlocError: A name that does not exist, a prediction of an unknown clip, or arrays of a wrong shape; names the
            clip. A metric that fails has no value, and `Evaluation.failed` says how.

    Example:
        >>> maps = {"a": np.random.rand(7, 7)}
        >>> masks = {"a": np.eye(224) > 0}
        >>> scores = avloc.evaluate(maps, masks, protocol="ezvsl", metrics=["ciou_success@0.5", "auc"])
        >>> scores.values["auc"]
    """
    require_list("metrics", metrics)
    rules = protocol if isinstance(protocol, Protocol) else load_protocol(protocol)
    chosen = make_metrics(metric_components(metrics))
    groups = groups or {}
    for id in (*predictions, *groups):
        if id not in truths:
            what = "A prediction" if id in predictions else "A group"
            raise AvlocError(f"{what} without a truth: {unknown('clip', id, truths)}")

    def work(id: str) -> ClipScores:
        prediction, truth = predictions[id], truths[id]
        if not isinstance(prediction, Prediction):
            prediction = Prediction(id, stacked(f"Clip {id!r}", np.asarray(prediction), "maps"))
        elif prediction.clip != id:
            raise AvlocError(f"The prediction given for clip {id!r} is of clip {prediction.clip!r}.")
        if not isinstance(truth, Truth):
            masks = stacked(f"Clip {id!r}", np.asarray(truth), "masks")
            if masks.size and not (masks.min() >= 0 and masks.max() <= 1):
                ends = f"[{masks.min():g}, {masks.max():g}]"
                raise AvlocError(f"Clip {id!r}: masks should be in [0, 1], but lie in {ends}.")
            truth = Truth(masks, ("",) * len(masks))
        if rules.match == "label" and prediction.labels and not isinstance(truths[id], Truth):
            raise AvlocError(f"Clip {id!r}: its maps have names but its masks have not; pass them as an avloc.Truth.")
        check_aspect(f"Clip {id!r}", prediction.maps, truth.masks.shape[1:], tiles)
        prior = None if priors is None or id not in priors else np.asarray(priors[id], np.float32)
        return score_clip(prediction, truth, rules, chosen, tiles, prior, groups.get(id, id))

    listed = [id for id in truths if id in predictions]
    found = score_clips(listed, work, chosen, f"evaluate under {rules.preset}", lambda id: groups.get(id, id))
    for key, why in found.failed.items():
        say(f"The metric {key!r} failed: {why}")
    missing = {id: "it has no prediction" for id in truths if id not in predictions}
    counts = Counts(listed=len(truths), scored=len(listed), missing=missing)
    return Evaluation(found.values, found.rows, counts, rules, found.failed, found.remarks)


def metric_components(names: Sequence[str] | None) -> list[Component]:
    """Metrics by ``name`` or ``name@value``; those of the suite `DEFAULTS` for ``None``.

    Raises:
        AvlocError: A value that is no number.
    """
    if names is None:
        return list(load_suite(DEFAULTS).metrics)
    found = []
    for key in names:
        name, at, value = key.partition("@")
        try:
            found.append(Component(name=name, params={"at": float(value)} if at else {}))
        except ValueError as error:
            raise AvlocError(f"The metric {key!r} cannot be read: after @ there should be a number.") from error
    return found
