"""From raw maps to masks, pixel by pixel: the rules that a protocol is put together from.

All functions work on stacks of maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from avloc.types import BoolArray, FloatArray, Maps

Resize = Literal["bilinear", "bilinear_unclamped", "bicubic"]
Normalize = Literal["none", "minmax", "minmax_nan", "minmax_negated", "relu_max"]


class Data(BaseModel):
    """What a YAML file may say: unknown keys and infinite numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Range(Data):
    """The values that become 0 and 1, the same for every map; what lies outside stays outside."""

    range: tuple[float, float]

    @model_validator(mode="after")
    def _ascends(self) -> Range:
        if self.range[0] >= self.range[1]:
            raise ValueError("it should be two ascending numbers")
        return self


class Top(Data):
    """The highest pixels, exactly this share of them (see `top_pixels`)."""

    top: float = Field(gt=0, le=1)


class At(Data):
    """The pixels that reach this value of the normalized map."""

    at: float


class TruthArea(Data):
    """As many pixels as the truth has, the highest; the method is given the true area ("adaptive")."""

    truth_area: Literal[True]


class Quantile(Data):
    """The pixels that reach the value at one place of the sorted pixels, all of its ties among them.

    Attributes:
        quantile: The place, as a share of the pixels from the lowest; ``truth``: as many from the top as the truth
            has pixels, half of them where it has none.
        keep_ones: Pixels of 1 or more are claimed whatever the value is.
    """

    quantile: float | Literal["truth"] = Field(union_mode="left_to_right")
    keep_ones: bool = False

    @model_validator(mode="after")
    def _is_a_share(self) -> Quantile:
        if self.quantile != "truth" and not 0 <= self.quantile < 1:
            raise ValueError("it should be in [0, 1) or 'truth'")
        return self


class OfMax(Data):
    """The pixels that reach this share of the map's own maximum."""

    of_max: float = Field(gt=0, le=1)


Binarize = Top | At | TruthArea | Quantile | OfMax


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


def resized(maps: FloatArray, height: int, width: int, mode: Resize, align_corners: bool) -> Maps:
    """``(N, h, w)`` maps at ``(N, height, width)``.

    Args:
        maps: Any scale.
        height, width: Wanted, in pixels.
        mode: ``bilinear`` keeps to the range of the map. ``bilinear_unclamped`` leaves it by a rounding error, as
            released code does, which is nothing unless the map is constant: then min-max makes that error the map.
        align_corners: Whether corner pixels are aligned rather than pixel edges.
    """
    import torch  # late: listing and printing tables never need it

    native = torch.from_numpy(np.array(maps, np.float32))[:, None]
    if not len(native):
        return np.zeros((0, height, width), np.float32)
    kind = "bicubic" if mode == "bicubic" else "bilinear"
    large = torch.nn.functional.interpolate(native, (height, width), mode=kind, align_corners=align_corners)
    if mode == "bilinear":
        large = large.clamp(native.amin((2, 3), keepdim=True), native.amax((2, 3), keepdim=True))
    array: Maps = large[:, 0].numpy()
    return array


def minmax(maps: Maps, constant: float | None = None) -> Maps:
    """Every map to [0, 1]; a constant one becomes `constant`, or stays as it is."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    varies = high > low
    if varies.all():
        return np.asarray((maps - low) / (high - low), np.float32)
    flat = maps if constant is None else constant
    return np.asarray(np.where(varies, (maps - low) / np.where(varies, high - low, 1), flat), np.float32)


def normalized(maps: Maps, how: Normalize | Range) -> Maps:
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
    """Which pixels of the normalized maps are claimed.

    Args:
        scores: ``(N, H, W)``.
        truth: ``(N, H, W)``; read by the rules that are given the true area.
        rule: The rule.
        strict: Whether a pixel must exceed the rule's value rather than reach it.

    Returns:
        ``(N, H, W)`` masks.
    """
    if not len(scores):
        return np.zeros(scores.shape, bool)
    pixels = scores.shape[1] * scores.shape[2]
    match rule:
        case Top(top=share):
            return top_pixels(scores, [round(share * pixels)] * len(scores))
        case TruthArea():
            return top_pixels(scores, np.count_nonzero(truth, axis=(1, 2)).tolist())
        case At(at=value):
            edges: FloatArray | float = value
        case OfMax(of_max=share):
            edges = scores.max((1, 2), keepdims=True) * np.float32(share)
        case Quantile(quantile=place):
            edges = _values_at(scores, truth, place)
    claimed: BoolArray = scores > edges if strict else scores >= edges
    if isinstance(rule, Quantile) and rule.keep_ones:
        claimed |= scores >= 1
    return claimed


def _values_at(scores: Maps, truth: Maps, place: float | Literal["truth"]) -> Maps:
    """``(N, 1, 1)``: of every map the value at a place of its sorted pixels."""
    flat = scores.reshape(len(scores), -1)
    pixels = flat.shape[1]
    if place == "truth":
        areas = np.count_nonzero(truth, axis=(1, 2))
        places = np.where(areas > 0, pixels - areas, pixels // 2).tolist()
    else:
        places = [int(place * pixels)] * len(flat)
    values = [np.partition(row, place)[place] for row, place in zip(flat, places, strict=True)]
    return np.array(values, np.float32)[:, None, None]


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


def top_quarter(scores: Maps) -> npt.NDArray[np.float64]:
    """``(N,)``: the mean of the highest quarter of every map's pixels, how sure SLAVC takes it to be."""
    count = scores.shape[1] * scores.shape[2] // 4
    flat = scores.reshape(len(scores), -1)
    highest = np.partition(flat, flat.shape[1] - count, axis=1)[:, flat.shape[1] - count :]
    return np.asarray(highest.mean(1, dtype=np.float64))
