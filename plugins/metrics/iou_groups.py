"""cIoU of groups: the sources of one clip, or all sounds of one image.

Rows hold the group's value and the source's share of the group, so that every group counts once however many sources it
has. Rows of sources whose overlap is undefined (see the protocol's ``empty_truth``) are NaN, and belong to no group.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from avloc import AvlocError, Localization, Metric, Truth

from .iou import FloatArray, Values, auc_of, own_cious


def lowest_of_group(cious: FloatArray, groups: Sequence[Hashable]) -> Values:
    """The lowest cIoU of every group, in the order in which groups first appear (IIoU, Senocak et al., ICCV 2023).

    Args:
        cious: ``(n,)``.
        groups: ``(n,)`` the group of each, such as the image's name.
    """
    lowest: dict[Hashable, float] = {}
    for value, group in zip(cious.tolist(), groups, strict=True):
        lowest[group] = min(value, lowest.get(group, np.inf))
    return np.array(list(lowest.values()), np.float64)


class _OfClip(Metric):
    """A value per clip, stored in the row of each of its sources."""

    @abstractmethod
    def clip(self, cious: Values) -> float:
        """Reduce the cIoUs ``(S,)`` of a clip's sources, at least one, to one number."""

    def rows(self, found: Localization, truth: Truth) -> Values:
        """``(S, 2)``: the clip's cIoU, and the source's share of the clip."""
        cious = own_cious(found, truth)
        counted = ~np.isnan(cious)
        rows = np.full((len(cious), 2), np.nan)
        if counted.any():
            rows[counted] = self.clip(cious[counted]), 1 / np.count_nonzero(counted)
        return rows


class _Success(_OfClip):
    """Share of the clips that succeed.

    Args:
        at: Threshold on the clip's cIoU, in (0, 1].

    Raises:
        AvlocError: The threshold is not in (0, 1].
    """

    name = ""

    def __init__(self, *, at: float = 0.5) -> None:
        if not 0 < at <= 1:
            raise AvlocError(f"{self.name}: 'at' must be in (0, 1], but is {at!r}.")
        self.at = at
        self.title = f"{self.title}@{at:.12g}"

    @property
    def key(self) -> str:
        return f"{self.name}@{self.at:.12g}"

    def reduce(self, rows: FloatArray) -> float:
        """The share; NaN for no sources."""
        rows = rows[~np.isnan(rows[:, 0])]
        return float(np.average(rows[:, 0] >= self.at, weights=rows[:, 1])) if len(rows) else float("nan")


class _Area(_OfClip):
    """Area under the success rate of clips."""

    revision = 2

    def reduce(self, rows: FloatArray) -> float:
        """See `iou.auc_of`."""
        rows = rows[~np.isnan(rows[:, 0])]
        return auc_of(rows[:, 0], rows[:, 1])


class _Lowest(_OfClip):
    """The lowest cIoU of an image, over all clips that show it: every one of its sounds must be localized.

    An image with one sound counts as well, as in the release, but where no image has two the metric is undefined.
    """

    revision = 2
    undefined = "no image has two sounds, which it compares"

    def clip(self, cious: Values) -> float:
        """The lowest cIoU."""
        return float(cious.min())

    def by_image(self, rows: FloatArray, images: Sequence[str]) -> FloatArray:
        """The image's lowest cIoU, and the source's share of the image."""
        counted = ~np.isnan(rows[:, 0])
        names = [image for image, counts in zip(images, counted, strict=True) if counts]
        sounds = Counter(names)
        merged = np.full_like(rows, np.nan)
        if max(sounds.values(), default=0) > 1:
            lowest = dict(zip(sounds, lowest_of_group(rows[counted, 0], names), strict=True))
            merged[counted] = [(lowest[name], 1 / sounds[name]) for name in names]
        return merged


class _Average(_OfClip):
    def clip(self, cious: Values) -> float:
        """The mean cIoU: one source can compensate for another."""
        return float(cious.mean())


class InteractiveCIoU(_Lowest, _Success):
    """Share of the images whose sounds all have a cIoU of at least `at`: IIoU (Senocak et al., ICCV 2023).

    An empty true mask counts as the protocol's `empty_truth` says: its image fails, or does without it.
    """

    title = "IIoU"
    name = "interactive_ciou"


class InteractiveAUC(_Lowest, _Area):
    """Area under the share of images whose sounds all succeed: IAUC (Senocak et al., ICCV 2023).

    An empty true mask counts as the protocol's `empty_truth` says: its image fails, or does without it.
    """

    title = "IAUC"
    key = "interactive_auc"


class ClipCIoUSuccess(_Average, _Success):
    """Share of the clips whose sources have a mean cIoU of at least `at`: CIoU as in DSOL's release.

    An empty true mask counts as the protocol's `empty_truth` says: 0, or left out.
    """

    title = "success of the clip's mean cIoU"
    name = "clip_ciou_success"


class ClipAUC(_Average, _Area):
    """Area under the share of clips whose mean cIoU succeeds: AUC as in DSOL's release.

    An empty true mask counts as the protocol's `empty_truth` says: 0, or left out.
    """

    title = "AUC of clips"
    key = "clip_auc"
