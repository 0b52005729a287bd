"""cIoU of groups: the sources of one clip, or the annotations of one image.

Rows hold the clip's value and the source's share of the clip, so that every clip counts once however many sources it
has.
"""

from __future__ import annotations

from abc import abstractmethod
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
        value = self.clip(cious) if len(cious) else 0.0
        return np.tile([value, 1 / max(1, len(cious))], (len(cious), 1))


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
        return float(np.average(rows[:, 0] >= self.at, weights=rows[:, 1])) if len(rows) else float("nan")


class _Area(_OfClip):
    """Area under the success rate of clips."""

    def reduce(self, rows: FloatArray) -> float:
        """See `iou.auc_of`."""
        return auc_of(rows[:, 0], rows[:, 1])


class _Lowest(_OfClip):
    def clip(self, cious: Values) -> float:
        """The lowest cIoU: every source must be localized."""
        return float(cious.min())


class _Average(_OfClip):
    def clip(self, cious: Values) -> float:
        """The mean cIoU: one source can compensate for another."""
        return float(cious.mean())


class InteractiveCIoU(_Lowest, _Success):
    """Share of the clips whose sources all have a cIoU of at least `at`: IIoU (Senocak et al., ICCV 2023).

    An empty true mask has a cIoU of 0, so its clip fails.
    """

    title = "IIoU"
    name = "interactive_ciou"


class InteractiveAUC(_Lowest, _Area):
    """Area under the share of clips whose sources all succeed: IAUC (Senocak et al., ICCV 2023).

    An empty true mask has a cIoU of 0, so its clip fails.
    """

    title = "IAUC"
    key = "interactive_auc"


class ClipCIoUSuccess(_Average, _Success):
    """Share of the clips whose sources have a mean cIoU of at least `at`: CIoU as in DSOL's release.

    An empty true mask has a cIoU of 0, which lowers its clip's mean.
    """

    title = "success of the clip's mean cIoU"
    name = "clip_ciou_success"


class ClipAUC(_Average, _Area):
    """Area under the share of clips whose mean cIoU succeeds: AUC as in DSOL's release.

    An empty true mask has a cIoU of 0, which lowers its clip's mean.
    """

    title = "AUC of clips"
    key = "clip_auc"
