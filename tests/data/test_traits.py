"""Odd clips are counted: silent, short, still, of another length than promised, with channels that cancel."""

from __future__ import annotations

import numpy as np
import pytest

from avloc.data import Heard, Traits, remarks

TONE = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000, dtype=np.float32) / 16000)


def heard(*channels: np.ndarray) -> Heard:
    return Heard.of(np.stack(channels), 16000)


def test_nothing_is_said_about_ordinary_clips() -> None:
    one = Traits(heard(TONE, TONE), seconds=10.2, promised=10.0)._replace(heard=Heard(9.8, 0.3, 0.3))
    assert remarks({"a": one, "b": Traits(heard(TONE)), "c": Traits()}) == ()


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (Traits(heard(0 * TONE)), "are silent"),
        (Traits(heard(TONE / 1000, TONE / 1000)), "are silent"),
        (Traits(heard(TONE, -TONE)), "have channels that cancel"),
        (Traits(heard(TONE, -0.99 * TONE)), "have channels that cancel"),
        (Traits(heard(TONE, TONE, -2 * TONE)), "have channels that cancel"),
        (Traits(heard(TONE[:7900])), "have less than 0.5 s of sound"),
        (Traits(heard(TONE), still=True), "show a still picture"),
        (Traits(heard(TONE), seconds=13.0), ""),
        (Traits(Heard(10, 0.3, 0.3), 13.0, promised=10), "do not last 10 s (shortest 13.0 s, longest 13.0 s)"),
        (Traits(Heard(9.4, 0.3, 0.3), 10.0, promised=10), "do not last 10 s (shortest 9.4 s, longest 9.4 s)"),
    ],
)
def test_every_oddity_is_counted_by_itself(odd: Traits, words: str) -> None:
    found = remarks({"a": Traits(heard(TONE)), "b": odd, "c": odd})
    assert [f"2 of 3 clips {words}" in sentence and sentence.endswith("first: b.") for sentence in found] == (
        [True] if words else []
    )


def test_one_loud_channel_of_many_is_heard() -> None:
    assert not heard(TONE, *[0 * TONE] * 15).canceled
