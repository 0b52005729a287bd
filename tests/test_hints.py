"""What each level of hints discloses, against a reference written clip by clip."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest
import torch

from avloc import Batch, Features
from avloc.hints import HINT_LEVELS, IN_WORDS, Hints, disclose, suffices

CLASSES = ("cat", "dog", "owl", "cow")
SOUNDING = [("owl",), (), ("dog", "cow", "cat"), ("cat", "owl")]
TEXT = torch.arange(8.0).reshape(4, 2)


def inputs(count: int) -> tuple[Features, Batch]:
    ids = tuple(f"clip{n}" for n in range(count))
    features = Features(
        torch.ones(count, 2, 7, 7), torch.ones(count, 2), torch.ones(count, 2, 1, 1), torch.ones(count, 2)
    )
    return features, Batch(ids, torch.ones(count, dtype=torch.int64), ids)


def expected(level: Hints, labels: list[tuple[str, ...]]) -> dict[str, object]:
    """The expected hints of each level, written by hand."""
    hinted: dict[str, object] = {"text": None, "classes": (), "source_counts": None, "sources": None}
    if level in ("vocabulary", "count", "oracle"):
        hinted["text"], hinted["classes"] = TEXT.tolist(), CLASSES
    if level in ("count", "oracle"):
        hinted["source_counts"] = [len(names) for names in labels]
    if level == "oracle":
        longest = max((len(names) for names in labels), default=0)
        rows = []
        for names in labels:
            row = [-1] * longest
            for place, name in enumerate(names):
                row[place] = next(n for n in range(4) if CLASSES[n] == name)
            rows.append(row)
        hinted["sources"] = rows
    return hinted


@pytest.mark.parametrize("level", HINT_LEVELS)
@pytest.mark.parametrize("labels", [SOUNDING, SOUNDING[:1], [()], []], ids=["several", "one", "silent", "none"])
def test_a_level_discloses_this_and_nothing_else(level: Hints, labels: list[tuple[str, ...]]) -> None:
    features, batch = inputs(len(labels))
    seen, hinted = disclose(features, batch, level, classes=CLASSES, text=TEXT, labels=labels)
    found = {
        "text": seen.text,
        "classes": hinted.classes,
        "source_counts": hinted.source_counts,
        "sources": hinted.sources,
    }
    as_lists = {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in found.items()}
    assert as_lists == expected(level, labels)
    for tensor in (hinted.sources, hinted.source_counts):
        assert tensor is None or (tensor.dtype == torch.int64 and len(tensor) == len(labels))
    for before, after, changed in (
        (features, seen, {"text"}),
        (batch, hinted, {"classes", "source_counts", "sources"}),
    ):
        for field in fields(before):
            if field.name not in changed:
                assert getattr(after, field.name) is getattr(before, field.name)


@pytest.mark.parametrize(("given", "hinted"), itertools.product(HINT_LEVELS, repeat=2))
def test_earlier_hints_are_not_passed_on(given: Hints, hinted: Hints) -> None:
    features, batch = disclose(*inputs(4), given, classes=CLASSES, text=TEXT, labels=SOUNDING)
    again = disclose(features, replace(batch), hinted, classes=CLASSES, text=TEXT, labels=SOUNDING)
    fresh = disclose(*inputs(4), hinted, classes=CLASSES, text=TEXT, labels=SOUNDING)
    assert repr(again) == repr(fresh)


def test_an_encoder_without_text_gives_none() -> None:
    features, batch = disclose(*inputs(4), "oracle", classes=CLASSES, text=None, labels=SOUNDING)
    assert features.text is None and batch.classes == CLASSES


def test_each_level_includes_those_before_it() -> None:
    assert HINT_LEVELS == ("none", "vocabulary", "count", "oracle") and set(IN_WORDS) == set(HINT_LEVELS)
    for (place, given), (other, needed) in itertools.product(enumerate(HINT_LEVELS), repeat=2):
        assert suffices(given, needed) == (place >= other)
