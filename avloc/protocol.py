"""A protocol is data: what methods are told, how raw maps become masks, and how maps meet sources.

Presets live in ``benchmarks/protocols.yaml``, each with its source. A number in a table means nothing without its
protocol: of one and the same map, published evaluators make anything between .04 and .69.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from avloc.registry import unknown
from avloc.types import AvlocError, BoolArray, FloatArray, Localization, Prediction, Told, Truth

Maps = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Top(_Data):
    """The highest pixels, exactly this share of them (see `top_pixels`)."""

    top: float = Field(gt=0, le=1)


class At(_Data):
    """The pixels that reach this value of the normalized map."""

    at: float


class TruthArea(_Data):
    """As many pixels as the truth has, the highest; the method is given the area for free ("adaptive")."""

    truth_area: Literal[True]


class Refine(_Data):
    """Object-guided localization: the method's map and the object prior, summed (EZ-VSL, ECCV 2022).

    The prior is the strength of the image backbone's response, ``mean_c |backbone_map|``. It hears nothing: with
    ``alpha: 0.4`` the sum scores what the prior scores, so a refined table always shows the prior's own row.

    Attributes:
        alpha: Share of the method's map in the sum.
        prior_range: What the prior is divided by, where maps keep their absolute scale (SLAVC: 2.5); ``None``: both
            are min-maxed per map, and so is their sum.
    """

    alpha: float = Field(ge=0, le=1)
    prior_range: float | None = Field(default=None, gt=0)


class Protocol(_Data):
    """From a raw prediction to one mask per true source.

    Attributes:
        preset: The preset it comes from.
        told: What methods are told (`avloc.types.Told`).
        canvas: Judge a source on the whole canvas, or only inside the frame it lies in.
        size: Side of one frame, in pixels, at which maps and truth meet.
        resize: How maps are brought to that size.
        align_corners: Whether the resize aligns corner pixels rather than pixel edges.
        normalize: ``minmax`` per map (a constant map stays as it is), ``minmax_nan`` (it becomes NaN, as 0 / 0 does in
            released code, and claims no pixel), ``cosine`` from [-1, 1] to [0, 1], or none.
        invert: Turn the normalized map upside down. Only after min-max.
        refine: Whether and how the object prior is mixed into every map.
        binarize: Which pixels the method claims.
        strict: Whether a pixel must exceed the value of ``{at: ...}`` rather than reach it.
        match: How maps meet sources, see `apply`.
        truth: The annotated masks, the union of the boxes, or a count of boxes per pixel. Boxes are rasterized by
            `rasterize`; a source without boxes keeps its mask.
        source: Where the rules come from.
        note: What a reader should know.
        warning: What a reader must know.
    """

    preset: str
    told: Told
    canvas: Literal["canvas", "frames"]
    size: int = Field(ge=1)
    resize: Literal["bilinear", "bicubic"]
    align_corners: bool
    normalize: Literal["none", "minmax", "minmax_nan", "cosine"]
    invert: bool
    refine: Refine | None = None
    binarize: Top | At | TruthArea
    strict: bool
    match: Literal["label", "hungarian", "greedy", "broadcast"]
    truth: Literal["mask", "boxes_union", "boxes_count"]
    # Prose decides no number, so it is in no id.
    source: str = Field(default="", exclude=True)
    note: str = Field(default="", exclude=True)
    warning: str = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _has_a_range(self) -> Protocol:
        if self.invert and not self.normalize.startswith("minmax"):
            raise ValueError("The key 'invert': it should be false unless normalize is minmax.")
        return self

    def apply(
        self, prediction: Prediction, truth: Truth, frames: int = 1, prior: FloatArray | None = None
    ) -> tuple[Localization, Truth]:
        """Localize every true source of a clip.

        ``match: label`` gives a source the map of its name: sources of one class share it, of several maps with one
        name the surest counts, named maps of no true source are false alarms, and a source without a map is not
        found. Maps without names cannot be told apart: one is given to every source; of several, each source gets
        the one that fits best in total. ``hungarian`` does the latter whatever the names, ``greedy`` pairs the best
        fit first, and ``broadcast`` gives every source the pixel-wise maximum of all maps. Fit is the mean of the
        normalized map inside the true mask: it looks at the truth, as the papers' permutation-invariant metrics do.

        Args:
            prediction: Raw maps; those of a canvas of several frames are as many times wider.
            truth: Of the same clip, at any resolution; masks are resized by nearest pixel, which keeps their values.
            frames: Tiles on the canvas.
            prior: ``(h, w)``, the object prior; read where the protocol refines.

        Returns:
            The localization and the truth at its size: ``(S, size, size * frames)``, or ``(S, size, size)`` where
            frames are judged alone.

        Raises:
            AvlocError: The maps do not split into the frames that are to be judged alone, or there is no prior to
                refine them with.
        """
        if self.refine and prior is None:
            raise AvlocError(
                f"Clip {prediction.clip!r} has no object prior to refine its maps with: the encoder has no backbone "
                "map, or the prediction was stored before priors were; take another encoder, or run with --force."
            )
        if self.match == "broadcast" and len(prediction.maps):
            prediction = _merged(prediction)
        masks = self._truth(truth, frames)  # (S, size, size * frames)
        objects = prior if self.refine else None
        chosen, false_alarms = self._match(prediction, truth.labels, masks, objects)
        found = chosen >= 0
        maps = np.zeros((len(chosen), *prediction.maps.shape[1:]), np.float32)
        maps[found] = prediction.maps[chosen[found]]
        priors = np.repeat(objects[None], len(maps), 0) if objects is not None else None
        if self.canvas == "frames" and frames > 1:
            if priors is not None:
                priors, _ = _own_frames(priors, masks, frames, prediction.clip)
            maps, masks = _own_frames(maps, masks, frames, prediction.clip)
        scores, claimed = np.zeros_like(masks), np.zeros(masks.shape, bool)
        scores[found] = self._scores(maps[found], masks.shape[2], priors[found] if priors is not None else None)
        claimed[found] = self._binarized(scores[found], masks[found])
        confidence = np.full(len(chosen), -np.inf)
        confidence[found] = _confidence(prediction)[chosen[found]]
        return Localization(scores, claimed, confidence, found, false_alarms), Truth(masks, truth.labels)

    def describe(self) -> str:
        """One line for the notes under a table; what methods are told is left to the table's rows."""
        preset = load_protocol(self.preset)
        behaviour = set(type(self).model_fields) - {"told", "source", "note", "warning"}
        changed = sorted(key for key in behaviour if getattr(self, key) != getattr(preset, key))
        match self.binarize:
            case Top(top=share):
                rule = f"the top {share:.0%} of the pixels"
            case At(at=value):
                rule = f"pixels {'>' if self.strict else '>='} {value:g}"
            case TruthArea():
                rule = "the truth's number of pixels"
        corners = " with aligned corners" if self.align_corners else ""
        normalized = {"none": "raw values", "cosine": "cosine on [0, 1]"}.get(self.normalize, "min-max per map")
        parts = [
            f"maps {self.resize}{corners} to {self.size} pixels a frame", normalized, *["inverted"] * self.invert, rule,
            *([f"refined by the object prior, {1 - self.refine.alpha:.0%} of the sum"] if self.refine else []),
            {"canvas": "on the whole canvas", "frames": "each frame alone"}[self.canvas],
            {"broadcast": "one map for all sources"}.get(self.match, f"maps matched by {self.match}"),
            {"mask": "true masks", "boxes_union": "union of boxes", "boxes_count": "boxes counted"}[self.truth],
        ]  # fmt: skip
        name = self.preset + (f" (changed: {', '.join(changed)})" if changed else "")
        return f"{name}: {', '.join(parts)}." + (f" {self.warning}" if self.warning else "")

    def _truth(self, truth: Truth, frames: int) -> Maps:
        height, width = self.size, self.size * frames
        if not len(truth.masks):
            return np.zeros((0, height, width), np.float32)
        rows, columns = _nearest(truth.masks.shape[1], height), _nearest(truth.masks.shape[2], width)
        masks = np.array(truth.masks[:, rows[:, None], columns], np.float32)
        if self.truth != "mask":
            for index, boxes in enumerate(truth.boxes):
                if len(boxes):
                    masks[index] = rasterize(boxes, height, width)
                    if self.truth == "boxes_union":
                        masks[index] = masks[index] > 0
        return masks

    def _match(
        self, prediction: Prediction, labels: Sequence[str], masks: Maps, prior: FloatArray | None
    ) -> tuple[Indices, int]:
        """The index of every source's map, -1 where it has none, and the false alarms."""
        if self.match == "label" and prediction.labels:
            order = np.argsort(_confidence(prediction), kind="stable")
            surest = {prediction.labels[index]: int(index) for index in order}
            chosen = np.array([surest.get(label, -1) for label in labels], np.intp)
            return chosen, sum(name not in labels for name in prediction.labels)
        if self.match in ("label", "broadcast") and len(prediction.maps) == 1:
            return np.zeros(len(labels), np.intp), 0
        priors = None if prior is None else np.repeat(prior[None], len(prediction.maps), 0)
        scores = self._scores(prediction.maps, masks.shape[2], priors)
        inside = np.einsum("qhw,shw->qs", scores, masks) / np.maximum(masks.sum((1, 2)), 1e-12)
        fit = np.nan_to_num(inside)
        chosen = _greedy(fit) if self.match == "greedy" else _hungarian(fit)
        return chosen, max(0, len(prediction.labels) - len(labels))

    def _scores(self, maps: FloatArray, width: int, priors: FloatArray | None) -> Maps:
        """``(N, h, w)`` raw maps at ``(N, size, width)``, normalized, refined, high on the source."""
        scores = self._normalized(_resized(maps, self.size, width, self.resize, self.align_corners))
        if self.refine is None or priors is None or not len(scores):
            return scores
        objects = _resized(priors, self.size, width, self.resize, self.align_corners)
        alpha, absolute = self.refine.alpha, self.refine.prior_range
        if absolute is not None:
            return np.asarray(alpha * scores + (1 - alpha) * objects / absolute, np.float32)
        return _minmax(alpha * scores + (1 - alpha) * _minmax(objects))

    def _normalized(self, scores: Maps) -> Maps:
        if self.normalize == "cosine":
            return np.asarray((scores + 1) / 2, np.float32)
        if self.normalize == "none" or not len(scores):
            return scores
        scores = _minmax(scores, constant=np.nan if self.normalize == "minmax_nan" else None)
        return scores.max((1, 2), keepdims=True) - scores if self.invert else scores

    def _binarized(self, scores: Maps, truth: Maps) -> BoolArray:
        match self.binarize:
            case At(at=value):
                return scores > value if self.strict else scores >= value
            case Top(top=share):
                return top_pixels(scores, [round(share * scores.shape[1] * scores.shape[2])] * len(scores))
            case TruthArea():
                return top_pixels(scores, np.count_nonzero(truth, axis=(1, 2)).tolist())


def top_pixels(scores: FloatArray, counts: Sequence[int]) -> BoolArray:
    """The highest pixels of every map, exactly `counts` of them.

    Ties are broken by raster order (row by row, left to right), as a stable sort does. With a rule such as "all
    pixels that reach the median" a map with ties, a constant one for instance, claims the whole image.

    Args:
        scores: ``(N, H, W)``.
        counts: ``(N,)`` pixels per map, from 0 to ``H * W``.

    Returns:
        ``(N, H, W)`` masks.
    """
    masks = np.zeros(scores.shape, bool)
    for score, mask, count in zip(scores, masks, counts, strict=True):
        if count:
            edge = np.partition(score, score.size - count, axis=None)[score.size - count]
            np.greater(score, edge, out=mask)
            ties = np.flatnonzero(score == edge)[: count - np.count_nonzero(mask)]
            mask.flat[ties] = True
    return masks


def rasterize(boxes: FloatArray, height: int, width: int) -> Maps:
    """How many boxes cover each pixel: corners clipped to the canvas and truncated, the far ones exclusive.

    Args:
        boxes: ``(n, 4)`` xyxy, normalized to the canvas.
        height, width: Of the canvas, in pixels.

    Returns:
        ``(height, width)`` counts.
    """
    # A corner that lies on a pixel edge must not fall short of it by rounding, even where boxes are float32.
    corners = np.clip(boxes, 0.0, 1.0).astype(np.float64) * np.array([width, height] * 2) + 1e-4
    counts = np.zeros((height, width), np.float32)
    for left, top, right, bottom in corners.astype(int):
        counts[top:bottom, left:right] += 1
    return counts


def load_protocol(spec: str | Mapping[str, Any]) -> Protocol:
    """A preset by name, or ``{preset: name, key: value, ...}`` with some of its keys changed.

    Raises:
        AvlocError: An unknown preset or key ("did you mean"), or a value of the wrong kind; names the key and what
            was expected.
    """
    data = {"preset": spec} if isinstance(spec, str) else dict(spec)
    if not isinstance(data.get("preset"), str):
        raise AvlocError(f"A protocol must name its preset, one of {', '.join(preset_names())}.")
    name = data["preset"]
    if name not in _presets():
        raise AvlocError(unknown("protocol", name, preset_names()))
    try:
        return Protocol.model_validate({**_presets()[name], **data})
    except ValidationError as error:
        # One sentence per key: a union reports every member that does not fit.
        sentences = {str(e["loc"][0]) if e["loc"] else "": _sentence(e) for e in error.errors()}
        raise AvlocError(f"In protocol {name!r}: " + " ".join(sentences.values())) from error


def preset_names() -> list[str]:
    """The presets, in the order of their file."""
    return list(_presets())


@cache
def _presets() -> dict[str, dict[str, Any]]:
    text = (files("avloc_benchmarks") / "protocols.yaml").read_text(encoding="utf-8")
    presets: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return presets


def _sentence(error: Any) -> str:
    if not error["loc"]:
        return str(error["ctx"]["error"])
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return unknown("key", key, Protocol.model_fields)
    if key == "binarize":
        return "The key 'binarize': it should be {top: share of pixels}, {at: value} or {truth_area: true}."
    return f"The key {key!r}: {error['msg'].replace('Input should be', 'it should be')}, but it is {error['input']!r}."


def _merged(prediction: Prediction) -> Prediction:
    scores = None if prediction.scores is None else prediction.scores.max(keepdims=True)
    return Prediction(prediction.clip, prediction.maps.max(axis=0, keepdims=True), scores=scores)


def _confidence(prediction: Prediction) -> FloatArray:
    """``(Q,)``: the method's own, or the peak of its raw map."""
    if prediction.scores is not None:
        return prediction.scores
    return prediction.maps.max(axis=(1, 2)) if len(prediction.maps) else np.zeros(0)


def _minmax(maps: Maps, constant: float | None = None) -> Maps:
    """Every map to [0, 1]; a constant one becomes `constant`, or stays as it is."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    varies = high > low
    flat = maps if constant is None else constant
    return np.asarray(np.where(varies, (maps - low) / np.where(varies, high - low, 1), flat), np.float32)


def _resized(maps: FloatArray, height: int, width: int, mode: str, align_corners: bool) -> Maps:
    import torch  # late: listing and printing tables never need it

    native = torch.from_numpy(np.array(maps, np.float32))[:, None]
    if not len(native):
        return np.zeros((0, height, width), np.float32)
    resized = torch.nn.functional.interpolate(native, (height, width), mode=mode, align_corners=align_corners)
    if mode == "bilinear":  # stays within the map's range, but for rounding, which min-max would blow up
        resized = resized.clamp(native.amin((2, 3), keepdim=True), native.amax((2, 3), keepdim=True))
    array: Maps = resized[:, 0].numpy()
    return array


def _own_frames(maps: Maps, masks: Maps, frames: int, clip: str) -> tuple[Maps, Maps]:
    """Of every source's map ``(S, h, w)`` and mask ``(S, H, W)`` the frame that holds most of the mask."""
    if maps.shape[2] % frames:
        raise AvlocError(
            f"Clip {clip!r}: maps {maps.shape[2]} cells wide do not split into {frames} frames; use the protocol with "
            "canvas: canvas."
        )
    tiled = [a.reshape(*a.shape[:2], frames, a.shape[2] // frames) for a in (maps, masks)]
    source, home = np.arange(len(masks)), tiled[1].sum((1, 3)).argmax(1)
    return tiled[0][source, :, home], tiled[1][source, :, home]


def _nearest(size: int, wanted: int) -> Indices:
    """For each of `wanted` pixels the index of the one that its centre falls into."""
    return ((np.arange(wanted) + 0.5) * size / wanted).astype(np.intp)


def _hungarian(fit: FloatArray) -> Indices:
    """``(Q, S)`` to the row of every column, -1 for none: the assignment with the greatest sum."""
    from scipy.optimize import linear_sum_assignment  # late: slow to import

    chosen = np.full(fit.shape[1], -1, np.intp)
    rows, columns = linear_sum_assignment(fit, maximize=True)
    chosen[columns] = rows
    return chosen


def _greedy(fit: FloatArray) -> Indices:
    """``(Q, S)`` to the row of every column, -1 for none: the best pair first, then the best of the rest."""
    chosen = np.full(fit.shape[1], -1, np.intp)
    for flat in np.argsort(-fit, axis=None, kind="stable"):
        row, column = divmod(int(flat), fit.shape[1])
        if chosen[column] < 0 and row not in chosen:
            chosen[column] = row
    return chosen
