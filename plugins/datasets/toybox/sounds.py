"""The sounds of toybox: a timbre per noun, a pattern in time per adjective, reverberation and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from .kinds import Kind

Wave = npt.NDArray[np.float64]

RATE = 16_000
SECONDS = 3.0
SAMPLES = int(RATE * SECONDS)

VIBRATO_HZ = 5.0


class Onset(NamedTuple):
    """One note of a pattern: when (seconds), how loud, how many semitones above the base pitch."""

    start: float
    gain: float = 1.0
    semitones: float = 0.0


def _steady(rate: float, intervals: tuple[float, ...] = (0.0,)) -> list[Onset]:
    """Notes at an even rate (Hz), cycling through the intervals."""
    return [Onset(n / rate, 1.0, intervals[n % len(intervals)]) for n in range(int(SECONDS * rate))]


def _striped(rng: Generator) -> list[Onset]:
    return _steady(rng.uniform(5.5, 7))


def _spotted(rng: Generator) -> list[Onset]:
    onsets, time = [], rng.uniform(0, 0.3)
    while time < SECONDS - 0.15:
        onsets.append(Onset(time, rng.uniform(0.6, 1)))
        time += rng.uniform(0.25, 0.85)
    return onsets


def _checked(rng: Generator) -> list[Onset]:
    return _steady(rng.uniform(2.4, 3.2), (0.0, 7.0))


def _ringed(rng: Generator) -> list[Onset]:
    """Notes that get faster, each one semitone higher."""
    onsets: list[Onset] = []
    time, step = 0.0, rng.uniform(0.65, 0.8)
    while time < SECONDS - 0.1:
        onsets.append(Onset(time, 1.0, float(len(onsets))))
        time += step
        step = max(0.11, 0.8 * step)
    return onsets


def _zigzag(rng: Generator) -> list[Onset]:
    return _steady(rng.uniform(1.2, 1.6))  # with vibrato, see `voice`


def _plain(rng: Generator) -> list[Onset]:
    return [Onset(0.02), Onset(SECONDS / 2 + rng.uniform(-0.1, 0.1))]


PATTERNS: dict[str, Callable[[Generator], list[Onset]]] = {
    "striped": _striped, "spotted": _spotted, "checked": _checked,
    "ringed": _ringed, "zigzag": _zigzag, "plain": _plain,
}  # fmt: skip


@dataclass(frozen=True)
class Note:
    """What a timbre plays: a pitch (Hz) for some seconds, with a vibrato (relative depth)."""

    pitch: float
    seconds: float
    vibrato: float
    rng: Generator

    @property
    def time(self) -> Wave:
        """``(n,)`` seconds."""
        return np.arange(int(self.seconds * RATE)) / RATE

    def sine(self, multiple: float = 1.0, phase: float = 0.0) -> Wave:
        """A partial at a multiple of the pitch."""
        wobble = self.vibrato * np.sin(2 * np.pi * VIBRATO_HZ * self.time) / (2 * np.pi * VIBRATO_HZ)
        return np.sin(2 * np.pi * self.pitch * multiple * (self.time + wobble) + phase)

    def noise(self) -> Wave:
        """White, as long as the note."""
        return self.rng.standard_normal(len(self.time))

    def struck(self, attack: float, decay: float) -> Wave:
        """An envelope that rises instantly and decays."""
        return np.minimum(1, self.time / attack) * np.exp(-self.time / decay)

    def held(self, attack: float, release: float) -> Wave:
        """An envelope that is sustained until the note ends."""
        return np.minimum(1, self.time / attack) * np.minimum(1, (self.seconds - self.time) / release)


def _bell(note: Note) -> Wave:
    partials = ((1, 1), (2, 0.6), (2.76, 0.5), (5.4, 0.35), (8.9, 0.2))  # inharmonic; high partials decay first
    rung = sum((gain * note.sine(m) * np.exp(-1.8 * m * note.time) for m, gain in partials), np.zeros(1))
    return rung * note.struck(0.003, 0.9)


def _pipe(note: Note) -> Wave:
    return (note.sine() + 0.12 * note.sine(2) + 0.05 * note.noise()) * note.held(0.06, 0.06)


def _drum(note: Note) -> Wave:
    low, time = 2 * np.pi * note.pitch / 4, note.time
    skin = np.sin(low * (time + 0.02 * np.exp(-time / 0.03))) + 0.5 * np.sin(low * 1.59 * time)
    return skin * note.struck(0.002, 0.16) + 0.5 * note.noise() * np.exp(-time / 0.02)


def _horn(note: Note) -> Wave:
    brass = sum((note.sine(m) / m**0.6 for m in range(1, 9)), np.zeros(1))
    return brass * note.held(0.09, 0.08)


def _fiddle(note: Note) -> Wave:
    saw = sum((note.sine(m, phase=m) / m for m in range(1, 14)), np.zeros(1))
    bow = 0.875 + 0.125 * np.sin(2 * np.pi * 6 * note.time)
    return saw * bow * note.held(0.04, 0.05)


def _whistle(note: Note) -> Wave:
    depth = note.rng.uniform(0.3, 0.45)
    sweep = 1 + depth * np.sin(np.pi * note.time / max(note.seconds, 0.15))
    return np.sin(2 * np.pi * np.cumsum(3.2 * note.pitch * sweep) / RATE) * note.struck(0.01, 0.35)


def _motor(note: Note) -> Wave:
    pulses = (np.mod(0.22 * note.pitch * note.time, 1) < 0.25) - 0.25
    return (np.convolve(pulses, np.hanning(24) / 12, "same") + 0.12 * note.noise()) * note.held(0.03, 0.05)


def _rattle(note: Note) -> Wave:
    grains = note.noise() * (note.rng.random(len(note.time)) < 0.03)
    time = np.arange(200) / RATE
    ring = np.exp(-600 * time) * np.sin(2 * np.pi * (2600 + note.pitch) * time)
    return 6 * np.convolve(grains, ring, "same") * note.struck(0.004, 0.25)


TIMBRES: dict[str, Callable[[Note], Wave]] = {
    "bell": _bell, "pipe": _pipe, "drum": _drum, "horn": _horn,
    "fiddle": _fiddle, "whistle": _whistle, "motor": _motor, "rattle": _rattle,
}  # fmt: skip


def voice(kind: Kind, rng: Generator) -> Wave:
    """``(SAMPLES,)`` one object playing for the whole clip, RMS 1."""
    base = 220 * 2 ** (rng.uniform(-5, 5) / 12)
    vibrato = 0.035 if kind.adjective == "zigzag" else 0.0
    wave = np.zeros(SAMPLES + 2 * RATE)  # room for the last note's tail
    onsets = PATTERNS[kind.adjective](rng)
    ends = [onset.start for onset in onsets[1:]] + [onsets[-1].start + 0.6]
    for onset, end in zip(onsets, ends, strict=True):
        seconds = min(end - onset.start, 0.12 if kind.adjective == "striped" else 1.4)
        seconds = max(0.07, 0.92 * min(1.4, seconds * (1.6 if kind.noun == "bell" else 1.0)))
        played = TIMBRES[kind.noun](Note(base * 2 ** (onset.semitones / 12), seconds, vibrato, rng))
        first = int(onset.start * RATE)
        wave[first : first + len(played)] += onset.gain * played
    return _unit(wave[:SAMPLES])


def room(wave: Wave, rng: Generator, *, snr_db: float) -> npt.NDArray[np.float32]:
    """``(SAMPLES,)`` float32 in [-1, 1]: perhaps reverberation, then noise of some color, at a random level."""
    wave = _unit(wave)
    if rng.random() < 0.5:
        wave = _unit(0.8 * wave + 0.35 * _reverberated(wave, rng.uniform(0.15, 0.5), rng))
    wave = _unit(wave + _noise(rng.choice([0.0, 1.0, 2.0]), rng) * 10 ** (-snr_db / 20))
    wave *= 0.12 * 10 ** (rng.uniform(-4, 0) / 20)
    return (wave / max(1.0, float(np.abs(wave).max()) / 0.95)).astype(np.float32)


def _unit(wave: Wave) -> Wave:
    scaled: Wave = wave / (np.sqrt(np.mean(wave**2)) + 1e-9)
    return scaled


def _noise(slope: float, rng: Generator) -> Wave:
    """White (0), pink (1) or brown (2) noise, RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(SAMPLES))
    return _unit(np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** (slope / 2), SAMPLES))


def _reverberated(wave: Wave, seconds: float, rng: Generator) -> Wave:
    """Convolved with noise that falls by 60 dB in `seconds`, RMS 1."""
    length = int(seconds * RATE)
    echo = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    echo[0] = 4
    size = 1 << 16  # no shorter than SAMPLES + length, so nothing wraps round
    return _unit(np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(echo, size), size)[:SAMPLES])
