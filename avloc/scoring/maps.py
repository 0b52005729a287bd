"""From raw maps to masks, pixel by pixel: the rules that a protocol is put together from, all for stacks of maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, model_serializer, model_validator

from avloc.types import AvlocError, BoolArray, FloatArray, Maps, StrictModel


class Data(StrictModel):
    """What a YAML file may say: unknown keys and infinite numbers are errors."""

    model_config = ConfigDict(allow_inf_nan=False)


class Range(Data):
    """The values that become 0 and 1, the same for every map; what lies outside stays outside."""

    range: tuple[float, float]

    @model_validator(mode="after")
    def _ascends(self) -> Range:
        if self.range[0] >= self.range[1]:
            raise ValueError("it should be two ascending numbers")
        return self


class Binarize(Data):
    """Which pixels are claimed: exactly one of the rules, and `keep_ones` only beside `quantile`.

    Attributes:
        top: The highest pixels, exactly this share of them (see `top_pixels`).
        at: The pixels that reach this value of the normalized map.
        truth_area: As many pixels as the truth has, the highest; the method is given the true area ("adaptive").
        quantile: The pixels that reach the value at one place of the sorted pixels, all of its ties among them. The
            place is a share of the pixels from the lowest; ``truth``: as many from the top as the truth has pixels,
            half of them where it has none.
        keep_ones: Pixels of 1 or more are claimed whatever the value is.
        of_max: The pixels that reach this share of the map's own maximum.
    """

    top: float | None = Field(default=None, gt=0, le=1)
    at: float | None = None
    truth_area: Literal[True] | None = None
    quantile: float | Literal["truth"] | None = Field(default=None, union_mode="left_to_right")
    keep_ones: bool = False
    of_max: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _is_one_rule(self) -> Binarize:
        rules = [getattr(self, name) for name in self.model_fields_set - {"keep_ones"}]
        misplaced = "keep_ones" in self.model_fields_set and self.quantile is None
        if len(rules) != 1 or None in rules or misplaced:
            raise ValueError("it should be one rule")
        if isinstance(self.quantile, float) and not 0 <= self.quantile < 1:
            raise ValueError("it should be in [0, 1) or 'truth'")
        return self

    @model_serializer
    def _given(self) -> dict[str, Any]:
        kept = {key: value for key, value in self if value is not None}
        return kept if self.quantile is not None else {key: kept[key] for key in kept if key != "keep_ones"}

    def in_words(self, strict: bool) -> str:
        """Which pixels are claimed, for the notes under a table."""
        sign = ">" if strict else ">="
        if self.top is not None:
            return f"the top {self.top:.0%} of the pixels"
        if self.at is not None:
            return f"pixels {sign} {self.at:g}"
        if self.of_max is not None:
            return f"pixels {sign} {self.of_max:g} of the maximum"
        if self.quantile == "truth":
            return f"pixels {sign} the value that leaves the truth's number of them"
        if self.quantile is not None:
            return f"pixels {sign} the value at {self.quantile:.0%} of the sorted ones"
        return "the truth's number of pixels"


class Refine(Data):
    """Object-guided localization: the method's map and the object prior, summed (EZ-VSL, ECCV 2022).

    The prior is the strength of the image backbone's response, ``mean_c |backbone_map|``. It ignores the audio, and
    with ``alpha: 0.4`` the sum scores what the prior alone scores, so a refined table always has the prior's own row.

    Attributes:
        alpha: Share of the method's map in the sum.
        control: The control whose map is the prior; its row is added to the table. Changes no number of other rows.
        prior_range: What the prior is divided by, where maps keep their absolute scale (SLAVC: 2.5); ``None``: both
            are min-maxed per map, and so is their sum.
    """

    alpha: float = Field(ge=0, le=1)
    control: str
    prior_range: float | None = Field(default=None, gt=0)

    def mix(self, scores: Maps, priors: Maps) -> Maps:
        """The sum of normalized maps and raw priors, ``(N, H, W)`` both."""
        if self.prior_range is not None:
            return np.asarray(self.alpha * scores + (1 - self.alpha) * (priors / self.prior_range), np.float32)
        return minmax(self.alpha * scores + (1 - self.alpha) * minmax(priors))


def stacked(where: str, given: npt.NDArray[Any], what: str) -> Maps:
    """``(n, h, w)`` from that or ``(h, w)``, of any numbers.

    Raises:
        AvlocError: The shape or the type is another; names `where` and `what`.
    """
    if given.ndim not in (2, 3) or given.dtype.kind not in "biuf" or 0 in given.shape[-2:]:
        got = f"{given.shape} {given.dtype}"
        raise AvlocError(f"{where}: {what} should be numbers of shape (h, w) or (n, h, w), but are {got}.")
    return np.asarray(given if given.ndim == 3 else given[None], np.float32)


def check_aspect(where: str, maps: FloatArray, canvas: tuple[int, ...], tiles: int) -> None:
    """Maps must cover the canvas: one of several tiles is wider than a map of a single tile, which would be stretched.

    Maps of one tile may have any aspect, since networks squash images, but not that of several squares side by side
    unless the image has it.

    Args:
        where: For the error.
        maps: ``(Q, h, w)``.
        canvas: Its height and width in pixels.
        tiles: How many lie side by side on it.

    Raises:
        AvlocError: The aspect is neither that of the canvas nor that of so many squares side by side.
    """
    h, w = maps.shape[1:]
    fits = [abs(w * height / width - h) < 1 for height, width in (canvas, (1, tiles)) if height and width]  # in cells
    if not len(maps) or any(fits) or (tiles == 1 and (w % h or w == h)):
        return
    frames = "1 frame" if tiles == 1 else f"{tiles} frames side by side"
    raise AvlocError(
        f"{where}: maps are {h} x {w} but the canvas has {frames} (1 : {tiles}, or {canvas[0]} x {canvas[1]} pixels). "
        f"Maps cover the whole canvas: put those of its frames side by side, {h} x {tiles * h}."
    )


def resized(maps: FloatArray, height: int, width: int, mode: str, align_corners: bool) -> Maps:
    """``(N, h, w)`` maps of any scale at ``(N, height, width)`` pixels.

    ``bilinear`` keeps to the range of the map. ``bilinear_unclamped`` leaves it by a rounding error, as released code
    does, which is nothing unless the map is constant: then min-max makes that error the map. `align_corners` aligns
    corner pixels rather than pixel edges.
    """
    import torch  # late: listing and printing tables never need it

    if not len(maps):
        return np.zeros((0, height, width), np.float32)
    native = torch.from_numpy(np.array(maps, np.float32))[:, None]
    kind = mode.partition("_")[0]
    large = torch.nn.functional.interpolate(native, (height, width), mode=kind, align_corners=align_corners)
    if mode == "bilinear":
        large = large.clamp(native.amin((2, 3), keepdim=True), native.amax((2, 3), keepdim=True))
    return np.asarray(large[:, 0].numpy())


def minmax(maps: Maps, constant: float | None = None) -> Maps:
    """Every map to [0, 1]; a constant one becomes `constant`, or stays as it is."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    varies = high > low
    if varies.all():
        return np.asarray((maps - low) / (high - low), np.float32)
    flat = maps if constant is None else constant
    return np.asarray(np.where(varies, (maps - low) / np.where(varies, high - low, 1), flat), np.float32)


def normalized(maps: Maps, how: str | Range) -> Maps:
    """``(N, H, W)`` maps on the scale that thresholds are meant for, see `avloc.scoring.protocol.Protocol`."""
    if isinstance(how, Range):
        low, high = how.range
        return np.asarray((maps - np.float32(low)) / np.float32(high - low), np.float32)
    if how == "none" or not len(maps):
        return maps
    if how == "relu_max":
        positive = np.maximum(maps, 0)
        peak = positive.max((1, 2), keepdims=True)
        return np.asarray(positive / np.where(peak > 0, peak, 1), np.float32)
    if how == "minmax_negated":
        return np.asarray(1 - minmax(-maps), np.float32)
    return minmax(maps, constant=np.nan if how == "minmax_nan" else None)


def binarized(scores: Maps, truth: Maps, rule: Binarize, strict: bool) -> BoolArray:
    """``(N, H, W)``: which pixels of the normalized maps are claimed.

    `truth`, of the same shape, is read by the rules that are given the true area. With `strict` a pixel must exceed the
    rule's value rather than reach it.
    """
    count, pixels = len(scores), scores.shape[1] * scores.shape[2]
    if not count:
        return np.zeros(scores.shape, bool)
    areas = np.count_nonzero(truth, axis=(1, 2))
    if rule.top is not None:
        return top_pixels(scores, [round(rule.top * pixels)] * count)
    if rule.truth_area:
        return top_pixels(scores, areas.tolist())
    if rule.at is not None:
        edges: FloatArray | float = rule.at
    elif rule.of_max is not None:
        edges = scores.max((1, 2), keepdims=True) * np.float32(rule.of_max)
    else:
        places = np.where(areas > 0, pixels - areas, pixels // 2).tolist()
        if rule.quantile != "truth":
            places = [int((rule.quantile or 0) * pixels)] * count
        values = [np.partition(row, place)[place] for row, place in zip(scores.reshape(count, -1), places, strict=True)]
        edges = np.array(values, np.float32)[:, None, None]
    claimed: BoolArray = scores > edges if strict else scores >= edges
    return claimed | (scores >= 1) if rule.keep_ones else claimed


def top_pixels(scores: FloatArray, counts: Sequence[int]) -> BoolArray:
    """``(N, H, W)``: the highest pixels of maps ``(N, H, W)``, exactly `counts` ``(N,)`` of them, 0 to ``H * W``.

    Ties are broken by raster order (row by row, left to right), as a stable sort does. With a rule such as "all
    pixels that reach the median" a map with ties, a constant one for instance, claims the whole image.
    """
    masks = np.zeros(scores.shape, bool)
    for score, mask, count in zip(scores, masks, counts, strict=True):
        if count:
            edge = np.partition(score, score.size - count, axis=None)[score.size - count]
            np.greater(score, edge, out=mask)
            mask.flat[np.flatnonzero(score == edge)[: count - np.count_nonzero(mask)]] = True
    return masks


def top_quarter(scores: Maps) -> npt.NDArray[np.float64]:
    """``(N,)``: the mean of the highest quarter of every map's pixels, how sure SLAVC takes it to be."""
    pixels = scores.shape[1] * scores.shape[2]
    count = pixels - pixels // 4
    highest = np.partition(scores.reshape(len(scores), pixels), count, axis=1)[:, count:]
    return np.asarray(highest.mean(1, dtype=np.float64))
