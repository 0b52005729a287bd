"""Clips, and the same clips with the sound replaced so that no visible object sounds.

A method that uses the audio claims nothing if a bell is shown in silence, in noise, or with the sound of a motor that
is not visible. A method that ignores the audio cannot tell such a clip from the original. After the extended test sets
of SLAVC (Mo
and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source Localization", NeurIPS 2022) and the silence, noise
and off-screen sounds of Juanola et al., "A Critical Assessment of Visual Sound Source Localization Models Including
Negative Audio", 2024. In a quarter of the pairs that SLAVC swapped, image and sound have the same class, which is no
negative; here an off-screen sound shares no class with the clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avloc import AvlocError, DataError, Dataset, Sample, Status, Truth, unknown
from avloc.data import digest, resample

from .source import TOYBOX, Named, opened

KINDS = {
    "silence": "silence",
    "noise": "white noise",
    "offscreen": "the sound of a clip that has none of its classes",
}
MARK = "~"
"""Separates a clip's id from the kind of its negative."""
SNR = 60.0
"""The largest signal-to-noise ratio in dB, positive or negative; beyond it, one of the two sounds is lost."""
PEAK = 9.0
"""`Clip` refuses sounds that reach 10 times full scale; a click among silence, made as loud as music, would."""
Wave = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]


class Negatives(Dataset):
    """Every test clip of a data set twice: unchanged, and as a negative, whose sources have empty masks.

    A negative keeps image, class names and video; only its sound is replaced by another one of the same loudness. It
    keeps the names so that a method with hints is still queried for a visible class. The sound of a negative depends
    only on the clip's id and the test list. Training and validation clips are those of the data set.

    Args:
        root: As for the data set.
        split: ``train``, ``val`` or ``test``.
        of: The data set.
        kind: The replacement: ``silence``, ``noise`` (white), or ``offscreen`` (another test clip's sound).
        snr: In dB. If given, the other sound is also mixed into the positives, at this level below their own, so that
            its presence alone does not reveal a negative; ``None``: the positives are unchanged.

    Raises:
        AvlocError: An unknown data set or kind, or an invalid ratio.
    """

    title = "Negatives"
    license = "that of the data set it is made of"
    citation = "Mo and Morgado, A Closer Look at Weakly-Supervised Audio-Visual Source Localization, NeurIPS 2022"

    def __init__(
        self,
        root: Path | None,
        *,
        split: str,
        of: Named = TOYBOX,
        kind: str = "silence",
        snr: float | None = None,
    ) -> None:
        if kind not in KINDS:
            raise AvlocError(unknown("kind of negative", kind, KINDS))
        if snr is not None and (kind == "silence" or not isinstance(snr, float | int) or not -SNR <= snr <= SNR):
            raise AvlocError(f"negatives: snr is between -{SNR:g} and {SNR:g} dB, and silence has none; not {snr!r}.")
        self._whole = opened(of, root, split)
        self.leaks = self._whole.leaks
        self._kind, self._snr, self._doubled = kind, snr, split == "test"
        self._others: dict[str, str] = {}
        self.classes = self._whole.classes
        self.notes = (*self._whole.notes, *([self._about()] if self._doubled else []))

    def _about(self) -> str:
        mixed = "" if self._snr is None else f", with the other sound mixed in {self._snr:g} dB below its own"
        return (
            f"Every clip is listed twice: unchanged{mixed}; and as a negative, with "
            f"{KINDS[self._kind]} instead of its own sound, whose sources have empty masks."
        )

    def prepare(self) -> None:
        self._whole.prepare()

    def ids(self) -> Sequence[str]:
        """The data set's ids, each followed by its negative."""
        if not self._doubled:
            return self._whole.ids()
        return [id for own in self._whole.ids() for id in (own, f"{own}{MARK}{self._kind}")]

    def status(self) -> Status:
        """A clip also needs the clip whose sound it uses."""
        status = self._whole.status()
        usable, unusable = set(status.present), {**status.missing, **status.broken}
        lacking = {id: [clip for clip in self._heard(id) if clip not in usable] for id in self.ids()}
        missing = {id: unusable[clips[0]] for id, clips in lacking.items() if clips and clips[0] in status.missing}
        broken = {id: unusable[clips[0]] for id, clips in lacking.items() if clips and clips[0] in status.broken}
        return Status(tuple(id for id, clips in lacking.items() if not clips), missing, broken)

    def remarks(self) -> tuple[str, ...]:
        return self._whole.remarks()

    def labels(self, id: str) -> tuple[str, ...]:
        """The clip's labels, also for its negative."""
        return self._whole.labels(self._own(id))

    def load(self, id: str) -> Sample:
        """The clip, with the original or replaced sound."""
        own = self._own(id)
        sample = self._whole.load(own)
        if self._untouched(id):
            return sample
        clip = sample.clip
        audio = self._other(own, clip.audio, clip.rate)
        if not self._replaces(id):
            audio = _as_loud(clip.audio + audio * 10.0 ** (-(self._snr or 0.0) / 20), clip.audio)
        truth = _nowhere(sample.truth) if self._replaces(id) and sample.truth is not None else sample.truth
        return Sample(replace(clip, id=id, audio=audio, stereo=None, group=clip.group or own), truth, sample.labels)

    def truth(self, id: str) -> Truth:
        """The clip's truth; for a negative, its sources with empty masks."""
        truth = self._whole.truth(self._own(id))
        return _nowhere(truth) if self._replaces(id) else truth

    def content(self, id: str) -> str:
        """Depends on the clips it is made of, and how."""
        if self._untouched(id):
            return self._whole.content(id)
        clips = [self._whole.content(clip) for clip in self._heard(id)]
        return digest([clips, self._own(id), self._replaces(id), self._kind, self._snr])

    def fingerprint(self) -> str:
        heard = [self._heard(id) for id in self.ids()] if self._doubled else []
        return digest([self._whole.fingerprint(), self._whole.revision, self._kind, self._snr, heard])[:16]

    def _untouched(self, id: str) -> bool:
        """Whether it is unchanged."""
        return not self._doubled or (self._snr is None and not self._replaces(id))

    def _replaces(self, id: str) -> bool:
        """Whether it is a negative."""
        return self._own(id) != id

    def _own(self, id: str) -> str:
        """The clip that a negative was made of; any other clip itself."""
        return id.removesuffix(f"{MARK}{self._kind}") if self._doubled else id

    def _heard(self, id: str) -> tuple[str, ...]:
        """The clips it is made of: itself, and the source of the off-screen sound."""
        own = self._own(id)
        elsewhere = self._kind == "offscreen" and not self._untouched(id)
        return (own, self._offscreen(own)) if elsewhere else (own,)

    def _offscreen(self, own: str) -> str:
        """Another clip of the test list, with none of this one's classes."""
        if not self._others:
            ids = list(self._whole.ids())
            names = {id: set(self._whole.labels(id)) for id in ids}
            for id in ids:
                order = _random("offscreen", id).permutation(len(ids))
                found = next((ids[n] for n in order if not names[id] & names[ids[n]]), None)
                if found is None:
                    raise DataError(f"Every test clip shares a class with {id!r}, so none can sound from off-screen.")
                self._others[id] = found
        return self._others[own]

    def _other(self, own: str, audio: Wave, rate: int) -> Wave:
        """``(T,)``: the replacement of a clip's sound, with the same length and loudness."""
        if self._kind == "silence":
            return np.zeros_like(audio)
        if self._kind == "noise":
            return _as_loud(_random("noise", own).standard_normal(len(audio)), audio)
        clip = self._whole.load(self._offscreen(own)).clip
        if not clip.audio.any():
            raise DataError(f"Clip {clip.id!r} is silent, so it cannot sound from off-screen for {own!r}.")
        return _as_loud(np.resize(resample(clip.audio, clip.rate, rate), len(audio)), audio)  # repeated if short


def _nowhere(truth: Truth) -> Truth:
    """Without boxes, because protocols would draw masks from them."""
    return Truth(np.zeros_like(truth.masks), truth.labels, ignore=truth.ignore)


def _as_loud(wave: Floats, model: Wave) -> Wave:
    """Scaled to the root mean square of `model`, or less if a peak would exceed the limit for clips."""
    peak = float(np.abs(wave).max())
    if not peak:
        return np.zeros(len(wave), np.float32)
    return np.asarray(wave * min(_level(model) / _level(wave), PEAK / peak), np.float32)


def _level(wave: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def _random(use: str, id: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(f"{use} {id}".encode()).digest()))
