"""Clips beside the same clips in which nothing that is visible sounds.

A method that listens claims nothing where a bell is shown in silence, in noise, or to the sound of a motor that is not
in the picture. One that only looks cannot tell such a clip from the real one. After the extended test sets of SLAVC (Mo
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
"""Between a clip's id and the kind of negative that was made of it."""
SNR = 60.0
"""The widest signal-to-noise ratio, in dB, either way; beyond it one of the two sounds is gone."""
PEAK = 9.0
"""`Clip` refuses sounds that reach 10 times full scale; a click among silence, made as loud as music, would."""
Wave = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]


class Negatives(Dataset):
    """Every test clip of a data set twice: as it is, and as a negative, whose sources have empty masks.

    A negative keeps image, class names and video; only its sound is another one, as loud as the clip's own. The names
    stay because a method that is told them must be asked for something that can be seen. What a negative sounds like
    depends on the clip's id and the test list alone. Training and validation clips are the data set's.

    Args:
        root: As for the data set.
        split: ``train``, ``val`` or ``test``.
        of: The data set.
        kind: What is heard instead: ``silence``, ``noise`` (white), or ``offscreen`` (another test clip's sound).
        snr: In dB. With it the other sound is mixed into the positives too, that much below their own, so that its
            presence alone does not mark a negative; ``None``: the positives are as they are.

    Raises:
        AvlocError: An unknown data set or kind, or a ratio that is none.
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
        mixed = "" if self._snr is None else f", with that mixed in {self._snr:g} dB below its own sound"
        return (
            f"Every clip has two places in the list: as it is{mixed}; and as a negative, heard with "
            f"{KINDS[self._kind]} instead of its own sound, whose sources have empty masks."
        )

    def prepare(self) -> None:
        self._whole.prepare()

    def ids(self) -> Sequence[str]:
        """The data set's, each with its negative behind it."""
        if not self._doubled:
            return self._whole.ids()
        return [id for own in self._whole.ids() for id in (own, f"{own}{MARK}{self._kind}")]

    def status(self) -> Status:
        """A clip also needs the one whose sound it has."""
        status = self._whole.status()
        usable, unusable = set(status.present), {**status.missing, **status.broken}
        lacking = {id: [clip for clip in self._heard(id) if clip not in usable] for id in self.ids()}
        missing = {id: unusable[clips[0]] for id, clips in lacking.items() if clips and clips[0] in status.missing}
        broken = {id: unusable[clips[0]] for id, clips in lacking.items() if clips and clips[0] in status.broken}
        return Status(tuple(id for id, clips in lacking.items() if not clips), missing, broken)

    def labels(self, id: str) -> tuple[str, ...]:
        """Those of the clip, for its negative too."""
        return self._whole.labels(self._own(id))

    def load(self, id: str) -> Sample:
        """The clip, with the sound that it has in this place of the list."""
        own = self._own(id)
        sample = self._whole.load(own)
        if self._untouched(id):
            return sample
        clip = sample.clip
        audio = self._other(own, clip.audio, clip.rate)
        if not self._replaces(id):
            audio = _as_loud(clip.audio + audio * 10.0 ** (-(self._snr or 0.0) / 20), clip.audio)
        truth = _nowhere(sample.truth) if self._replaces(id) and sample.truth is not None else sample.truth
        return Sample(replace(clip, id=id, audio=audio, group=clip.group or own), truth, sample.labels)

    def truth(self, id: str) -> Truth:
        """The clip's; of a negative, its sources with empty masks."""
        truth = self._whole.truth(self._own(id))
        return _nowhere(truth) if self._replaces(id) else truth

    def content(self, id: str) -> str:
        """Of the clips that it is made of, and how."""
        if self._untouched(id):
            return self._whole.content(id)
        clips = [self._whole.content(clip) for clip in self._heard(id)]
        return digest([clips, self._own(id), self._replaces(id), self._kind, self._snr])

    def fingerprint(self) -> str:
        heard = [self._heard(id) for id in self.ids()] if self._doubled else []
        return digest([self._whole.fingerprint(), self._whole.revision, self._kind, self._snr, heard])[:16]

    def _untouched(self, id: str) -> bool:
        """Whether it is as the data set has it."""
        return not self._doubled or (self._snr is None and not self._replaces(id))

    def _replaces(self, id: str) -> bool:
        """Whether it is a negative."""
        return self._own(id) != id

    def _own(self, id: str) -> str:
        """The clip that a negative was made of; any other clip itself."""
        return id.removesuffix(f"{MARK}{self._kind}") if self._doubled else id

    def _heard(self, id: str) -> tuple[str, ...]:
        """The clips it is made of: itself, and the one that sounds from off-screen."""
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
        """``(T,)``: what is heard instead of a clip's own sound, as long and as loud."""
        if self._kind == "silence":
            return np.zeros_like(audio)
        if self._kind == "noise":
            return _as_loud(_random("noise", own).standard_normal(len(audio)), audio)
        clip = self._whole.load(self._offscreen(own)).clip
        if not clip.audio.any():
            raise DataError(f"Clip {clip.id!r} is silent, so it cannot sound from off-screen for {own!r}.")
        return _as_loud(np.resize(resample(clip.audio, clip.rate, rate), len(audio)), audio)  # a shorter one goes round


def _nowhere(truth: Truth) -> Truth:
    """Without its boxes: protocols would draw masks from them."""
    return Truth(np.zeros_like(truth.masks), truth.labels)


def _as_loud(wave: Floats, model: Wave) -> Wave:
    """At the root mean square of `model`, or less where a peak would exceed what clips may have."""
    peak = float(np.abs(wave).max())
    if not peak:
        return np.zeros(len(wave), np.float32)
    return np.asarray(wave * min(_level(model) / _level(wave), PEAK / peak), np.float32)


def _level(wave: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def _random(use: str, id: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(f"{use} {id}".encode()).digest()))
