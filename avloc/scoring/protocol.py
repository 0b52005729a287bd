"""A protocol is data: how raw maps become masks, and how maps meet sources.

Presets live in ``benchmarks/protocols.yaml``, each with its source. A number means nothing without its protocol:
published evaluators give one and the same map anything between .04 and .69.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import Field, ValidationError, model_validator

from avloc.scoring.maps import Binarize, Data, Range, Refine, binarized, normalized, resized, top_quarter
from avloc.types import AvlocError, BoolArray, FloatArray, Localization, Maps, Prediction, Truth, unknown

Indices = npt.NDArray[np.intp]
NEARLY = 0.9
"""The overlap of a map of two values with itself from which on a rule reads it as it is meant."""
SCORING_REVISION = 1
"""Raise it when one of the rules makes other numbers of the same maps."""


class Protocol(Data):
    """From a raw prediction to one mask per true source.

    Attributes:
        preset: The preset it comes from.
        canvas: Judge a source on the ``whole`` canvas, or only inside the ``tile`` it lies in.
        size: Side of one frame, in pixels, at which maps and truth meet.
        resize: How maps are brought to that size.
        align_corners: Whether the resize aligns corner pixels rather than pixel edges.
        normalize: ``minmax`` per map (a constant map stays as it is), ``minmax_nan`` (it becomes NaN, as 0 / 0 does in
            released code, and claims no pixel), ``minmax_negated`` (``1 - minmax(-map)``: the same but for its
            rounding, and a constant c becomes 1 + c), ``relu_max`` (nothing below 0, then divided by the map's
            maximum), ``{range: [low, high]}`` from there to [0, 1], the same for every map, or none.
        invert: Invert the normalized map, so that its lowest value becomes its highest. Only after min-max.
        exponent: The power that the normalized map is raised to, values below 0 by their size. It moves what thresholds
            claim and leaves the order of the pixels, and so every average precision, as it is.
        refine: Whether and how the object prior is mixed into every map.
        binarize: Which pixels the method claims.
        strict: Whether a pixel must exceed the value that the rule gives rather than reach it.
        confidence: How sure a localization is: the method's own score, or the raw map's peak where it has none; or
            the mean of the highest quarter of the normalized map.
        match: How maps meet sources, see `apply`.
        truth: The annotated masks, the union of the boxes, a count of boxes per pixel, or their consensus: 0.5 where
            one box lies, 1 where more do. Boxes are rasterized by `rasterize`; a source without boxes keeps its mask.
        empty_truth: What an overlap with an empty true mask is, whatever the map: a ``miss`` (0, and it counts), or
            ``undefined`` (left out and counted below the table). Metrics of negatives read such sources either way.
        source: Where the rules come from.
        note: What a reader should know.
        warning: What a reader must know.
        checked: The recorded outputs of the official evaluator that it was found equal to.
    """

    preset: str
    canvas: Literal["whole", "tile"]
    size: int = Field(ge=1)
    resize: Literal["bilinear", "bilinear_unclamped", "bicubic"]
    align_corners: bool
    normalize: Literal["none", "minmax", "minmax_nan", "minmax_negated", "relu_max"] | Range
    invert: bool
    exponent: float = Field(default=1.0, gt=0)
    refine: Refine | None = None
    binarize: Binarize
    strict: bool
    confidence: Literal["method", "top_quarter"] = "method"
    match: Literal["label", "hungarian", "greedy", "broadcast"]
    truth: Literal["mask", "boxes_union", "boxes_count", "boxes_consensus"]
    empty_truth: Literal["miss", "undefined"]
    # Prose decides no number, so it is in no id.
    source: str = Field(default="", exclude=True)
    note: str = Field(default="", exclude=True)
    warning: str = Field(default="", exclude=True)
    checked: str = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _has_a_range(self) -> Protocol:
        if self.invert and not str(self.normalize).startswith("minmax"):
            raise ValueError("The key 'invert': it should be false unless normalize is minmax.")
        return self

    def apply(
        self, prediction: Prediction, truth: Truth, tiles: int = 1, prior: FloatArray | None = None
    ) -> tuple[Localization, Truth]:
        """Localize every true source of a clip.

        ``match: label`` gives a source the map of its name: sources of one class share it, of several maps with one
        name the surest counts, named maps of no true source are false alarms, and a source without a map is not
        found. Maps without names cannot be told apart: one is given to every source; of several, each source gets
        the one that fits best in total. ``hungarian`` does the latter whatever the names, ``greedy`` pairs the best
        fit first, and ``broadcast`` gives every source the pixel-wise maximum of all maps. Fit is the mean of the
        normalized map inside the true mask: it looks at the truth, as the papers' permutation-invariant metrics do.

        Args:
            prediction: Raw maps; those of a canvas of several tiles are as many times wider.
            truth: Of the same clip, at any resolution; masks are resized by nearest pixel, which keeps their values.
            tiles: Tiles on the canvas.
            prior: ``(h, w)``, the object prior; read where the protocol refines.

        Returns:
            The localization and the truth at its size: ``(S, size, size * tiles)``, or ``(S, size, size)`` where
            tiles are judged alone, or ``(S, n, 1)``, the n pixels that take part where the truth ignores some.

        Raises:
            AvlocError: The maps do not split into the tiles that are to be judged alone, a truth that is judged so
                ignores pixels, or there is no prior to refine them with.
        """
        if self.refine and prior is None:
            raise AvlocError(
                f"Clip {prediction.clip!r} has no object prior to refine its maps with; use an encoder with a backbone "
                "map, or a protocol without refine."
            )
        named = bool(prediction.labels) or not len(prediction.maps)
        if self.match == "broadcast" and len(prediction.maps):
            best = None if prediction.scores is None else prediction.scores.max(keepdims=True)
            prediction = Prediction(prediction.clip, prediction.maps.max(axis=0, keepdims=True), scores=best)
        masks = self._truth(truth, tiles)  # (S, size, size * tiles)
        chosen, false_alarms, by_truth = self._match(prediction, truth.labels, masks, prior)
        found = chosen >= 0
        maps = np.zeros((len(chosen), *prediction.maps.shape[1:]), np.float32)
        maps[found] = prediction.maps[chosen[found]]
        priors = None if prior is None or not self.refine else np.broadcast_to(prior, (len(maps), *prior.shape))
        if self.canvas == "tile" and tiles > 1:
            home = masks.reshape(*masks.shape[:2], tiles, self.size).sum((1, 3)).argmax(1)
            maps, masks = (_own_tiles(stack, home, tiles, prediction.clip) for stack in (maps, masks))
            priors = None if priors is None else _own_tiles(priors, home, tiles, prediction.clip)
        scores, claimed, confidence = np.zeros_like(masks), np.zeros(masks.shape, bool), np.full(len(masks), -np.inf)
        scores[found] = self._scores(maps[found], masks.shape[2], None if priors is None else priors[found])
        if truth.ignore is not None and truth.ignore.any():
            scores, masks, claimed = _kept((scores, masks, claimed), truth.ignore, self, tiles, prediction.clip)
        claimed[found] = binarized(scores[found], masks[found], self.binarize, self.strict)
        own = self.confidence == "method"
        confidence[found] = _confidence(prediction)[chosen[found]] if own else top_quarter(scores[found])
        miss = self.empty_truth == "miss"
        localized = Localization(scores, claimed, confidence, found, false_alarms, named, by_truth, miss)
        return localized, Truth(masks, truth.labels)

    def misread(self, map: FloatArray, tiles: int = 1) -> str:
        """What it claims of a map of two values instead of its higher ones; empty where it claims these.

        Boxes and masks are such maps. Scored against itself, such a map should be perfect; but the median of its pixels
        is one of its two values, so a rule that takes a quantile claims the whole frame or nothing.

        Args:
            map: ``(h, w)``.
            tiles: Tiles on the canvas.
        """
        low, high = map.min(), map.max()
        if low == high or not ((map == low) | (map == high)).all():
            return ""
        plain = resized(map[None], self.size, self.size * tiles, self.resize, self.align_corners) >= (low + high) / 2
        rules = self.model_copy(update={"refine": None})
        found, truth = rules.apply(Prediction("", map[None]), Truth(plain.astype(np.float32), ("",)), tiles)
        claimed, true = found.masks[0], truth.masks[0] > 0
        if np.count_nonzero(claimed & true) >= NEARLY * np.count_nonzero(claimed | true):
            return ""
        if claimed.all():
            return "the whole frame"
        return "other pixels than the higher ones" if claimed.any() else "nothing"

    @property
    def label(self) -> str:
        """The preset, and the exponent where there is one, as columns are called: ``avloc^0.25``."""
        return self.preset if self.exponent == 1 else f"{self.preset}^{self.exponent:g}"

    def describe(self) -> str:
        """One line for the notes under a table."""
        preset = load_protocol(self.preset)
        behaviour = set(type(self).model_fields) - {"source", "note", "warning", "checked"}
        changed = sorted(key for key in behaviour if getattr(self, key) != getattr(preset, key))
        name = self.preset + (f" (changed: {', '.join(changed)})" if changed else "")
        return f"{name}: {self.summary()}. {self.warning}".rstrip()

    def summary(self) -> str:
        """What it does to a map, without its name."""
        corners = " with aligned corners" if self.align_corners else ""
        scale = {"none": "raw values", "relu_max": "cut at 0, divided by the maximum"}.get(str(self.normalize))
        if isinstance(self.normalize, Range):
            scale = "{:g} to {:g} on [0, 1]".format(*self.normalize.range)
        power = f"to the power {self.exponent:g}"
        parts = [
            f"maps {self.resize.partition('_')[0]}{corners} to {self.size} pixels a tile", scale or "min-max per map",
            *["inverted"] * self.invert, *[power] * (self.exponent != 1), self.binarize.in_words(self.strict),
            *([f"refined by the object prior, {1 - self.refine.alpha:.0%} of the sum"] if self.refine else []),
            {"whole": "on the whole canvas", "tile": "each tile alone"}[self.canvas],
            "one map for all sources" if self.match == "broadcast" else f"maps matched by {self.match}",
            {
                "mask": "true masks", "boxes_union": "union of boxes", "boxes_count": "boxes counted",
                "boxes_consensus": "consensus of boxes",
            }[self.truth],
            *["confidence by the highest quarter of the pixels"] * (self.confidence == "top_quarter"),
            {"miss": "an empty truth is a miss", "undefined": "an empty truth is left out"}[self.empty_truth],
        ]  # fmt: skip
        return ", ".join(parts)

    def explain(self) -> list[tuple[str, str, str]]:
        """Every key that decides a number: name, value as in YAML, and what it means, as the class documents it."""
        documented = (inspect.getdoc(type(self)) or "").partition("Attributes:")[2]
        meanings = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", documented, re.MULTILINE))
        rows = []
        for key, value in self.model_dump(exclude={"preset"}).items():
            text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
            rows.append((key, text, " ".join(meanings.get(key, "").replace("``", "").split())))
        return rows

    def _truth(self, truth: Truth, tiles: int) -> Maps:
        from avloc.data import rasterize, resize_mask  # late: loading a protocol needs no decoder

        height, width = self.size, self.size * tiles
        if not len(truth.masks):
            return np.zeros((0, height, width), np.float32)
        masks = np.empty((len(truth.masks), height, width), np.float32)
        for index, mask in enumerate(truth.masks):
            if self.truth != "mask" and truth.boxes and len(truth.boxes[index]):
                counts = rasterize(truth.boxes[index], height, width)
                limit = {"boxes_union": counts > 0, "boxes_consensus": np.minimum(counts / 2, 1)}
                masks[index] = limit.get(self.truth, counts)
            else:
                masks[index] = resize_mask(mask, height, width)
        return masks

    def _match(
        self, prediction: Prediction, labels: Sequence[str], masks: Maps, prior: FloatArray | None
    ) -> tuple[Indices, int, bool]:
        """The index of every source's map, -1 where it has none; the false alarms; and whether the truth chose."""
        if self.match == "label" and prediction.labels:
            order = np.argsort(_confidence(prediction), kind="stable")
            surest = {prediction.labels[index]: int(index) for index in order}
            chosen = np.array([surest.get(label, -1) for label in labels], np.intp)
            return chosen, sum(name not in labels for name in prediction.labels), False
        if self.match in ("label", "broadcast") and len(prediction.maps) == 1:
            return np.zeros(len(labels), np.intp), 0, False
        priors = None if prior is None else np.broadcast_to(prior, (len(prediction.maps), *prior.shape))
        scores = self._scores(prediction.maps, masks.shape[2], priors)
        inside = np.einsum("qhw,shw->qs", scores, masks) / np.maximum(masks.sum((1, 2)), 1e-12)
        chosen = _assigned(np.nan_to_num(inside), self.match == "greedy")
        return chosen, max(0, len(prediction.labels) - len(labels)), inside.size > 1

    def _scores(self, maps: FloatArray, width: int, priors: FloatArray | None) -> Maps:
        """``(N, h, w)`` raw maps at ``(N, size, width)``, normalized, refined, high on the source."""
        scores = normalized(resized(maps, self.size, width, self.resize, self.align_corners), self.normalize)
        if self.invert and len(scores):
            scores = scores.max((1, 2), keepdims=True) - scores
        if self.exponent != 1:
            scores = np.copysign(np.abs(scores) ** self.exponent, scores).astype(np.float32)
        if self.refine is None or priors is None or not len(scores):
            return scores
        return self.refine.mix(scores, resized(priors, self.size, width, self.resize, self.align_corners))


def load_protocol(spec: str | Mapping[str, Any]) -> Protocol:
    """A preset by name, or ``{preset: name, key: value, ...}`` with some of its keys changed.

    Args:
        spec: Such as ``"ezvsl"`` or ``{"preset": "avloc", "binarize": {"top": 0.5}}``.

    Raises:
        AvlocError: An unknown preset or key ("did you mean"), or a value of the wrong kind; names the key and what
            was expected.

    Example:
        >>> print(avloc.load_protocol("ezvsl").describe())
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


_WANTED = {
    "binarize": "{top: share}, {at: value}, {truth_area: true}, {quantile: share or truth} or {of_max: share}",
    "normalize": "none, minmax, minmax_nan, minmax_negated, relu_max or {range: [low, high]}",
    "refine": "null or {alpha: share, control: name of the control that is the prior}, optionally with prior_range",
}
"""What keys should be whose values have several kinds or parts, of which pydantic would report every one."""


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
    if key in _WANTED:
        return f"The key {key!r}: it should be {_WANTED[key]}."
    return f"The key {key!r}: {error['msg'].replace('Input should be', 'it should be')}, but it is {error['input']!r}."


def _confidence(prediction: Prediction) -> FloatArray:
    """``(Q,)``: the method's own, or the peak of its raw map."""
    if prediction.scores is not None:
        return prediction.scores
    return prediction.maps.max(axis=(1, 2)) if len(prediction.maps) else np.zeros(0)


def _own_tiles(stack: Maps, home: Indices, tiles: int, clip: str) -> Maps:
    """Of every source's map or mask ``(S, h, w)`` its `home` tile, the one that holds most of its mask."""
    if stack.shape[2] % tiles:
        raise AvlocError(
            f"Clip {clip!r}: maps {stack.shape[2]} cells wide do not split into {tiles} tiles; use the protocol with "
            "canvas: whole."
        )
    return stack.reshape(*stack.shape[:2], tiles, stack.shape[2] // tiles)[np.arange(len(home)), :, home]


def _kept(
    stacks: tuple[Maps, Maps, BoolArray], ignore: BoolArray, rules: Protocol, tiles: int, clip: str
) -> tuple[Maps, Maps, BoolArray]:
    """Of every stack ``(S, h, w)`` the pixels that take part, in a column ``(S, n, 1)``, for it has no shape left."""
    from avloc.data import resize_mask  # late: loading a protocol needs no decoder

    if tiles > 1 and rules.canvas == "tile":
        raise AvlocError(
            f"Clip {clip!r} ignores pixels, of which its tiles may have unequally many; use a protocol with canvas: "
            "whole."
        )
    keep = resize_mask(ignore, *stacks[0].shape[1:]) == 0
    if not keep.any():
        raise AvlocError(f"Clip {clip!r} ignores all pixels, so it cannot be scored; correct its masks.")
    first, second, third = stacks
    return first[:, keep][..., None], second[:, keep][..., None], third[:, keep][..., None]


def _assigned(fit: FloatArray, greedy: bool) -> Indices:
    """``(Q, S)`` to the row of every column, -1 for none: the greatest sum, or the best pair first, then the next."""
    chosen = np.full(fit.shape[1], -1, np.intp)
    if not greedy:
        from scipy.optimize import linear_sum_assignment  # late: slow to import

        rows, columns = linear_sum_assignment(fit, maximize=True)
        chosen[columns] = rows
        return chosen
    for flat in np.argsort(-fit, axis=None, kind="stable"):
        row, column = divmod(int(flat), fit.shape[1])
        if chosen[column] < 0 and row not in chosen:
            chosen[column] = row
    return chosen
