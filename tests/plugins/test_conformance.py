"""Every registered method and metric passes the conformance checks, and each encoder and data set that is built in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from avloc.registry import Registry
from avloc.testing import conformance_checks
from helpers.folders import PICTURED, photograph, table

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("audioclip", {"trained": False}),
    ("tvsl", {"variant": "released"}),
    ("tvsl", {"variant": "printed"}),
    ("tvsl", {"variant": "printed", "gate": "clamp", "map": "dot", "projector": "gated_mlp", "cls_temperature": 0.05}),
    ("tvsl", {"length": False, "prompt_length": 4}),
]
"""Beside the defaults."""
LARGE = {"avgn": {"dim": 64, "depth": 1, "heads": 4, "tau": 0.1}}
"""So many weights that a core needs minutes to train them, and parameters with which it needs seconds."""
LONG = {
    "one seed, one result",
    "loss and gradients are finite on degenerate features",
    "a planted source lights up",
    "another sound gives another map",
}
"""Checks that large methods pass with those parameters only."""


SINGLES = {"name": "toybox_single", "train": 10, "val": 6, "test": 10}
DATASETS: list[tuple[str, dict[str, Any]]] = [
    ("toybox_single", {"train": 10, "val": 6, "test": 10}),
    ("toybox_scene", {"train": 10, "val": 6, "test": 10}),
    ("toybox_duet", {"train": 10, "val": 8, "test": 10, "bank": 10}),
    ("zero_shot", {"of": {"name": "toybox_single", "train": 30, "val": 12, "test": 24}}),
    ("negatives", {"of": SINGLES}),
    ("side_by_side", {"of": SINGLES}),
    ("validation_clips", {"of": SINGLES}),
]
"""With parameters that leave few clips."""


def cases() -> list[Any]:
    """One case per method and check; the cases of one method share what they build."""
    methods: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in Registry().entries("method")]
    return [
        pytest.param(run, id=f"{name}{params or ''}-{title}", marks=[pytest.mark.slow] if name in LARGE else [])
        for name, params in [*methods, *VARIANTS, *LARGE.items()]
        for title, run in conformance_checks(name, "method", **params)
        if params or name not in LARGE or title not in LONG
    ]


@pytest.mark.parametrize("check", cases())
def test_it_holds(check: Callable[[], None]) -> None:
    check()


@contextmanager
def named(title: str) -> Iterator[None]:
    """Say which check failed."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{title}: {error}") from error


@pytest.mark.parametrize("name", Registry().entries("metric"))
def test_a_metric_passes(name: str) -> None:
    for title, run in conformance_checks(name, "metric"):
        with named(title):
            run()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("tiny", {}),
        pytest.param("timm_resnet", {}, marks=pytest.mark.slow),
        pytest.param("conse", {"weights": "random"}, marks=pytest.mark.slow),
    ],
)
def test_an_encoder_passes(name: str, parameters: dict[str, Any]) -> None:
    for title, run in conformance_checks(name, "encoder", **parameters):
        with named(title):
            run()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), DATASETS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_data_set_passes(name: str, parameters: dict[str, Any]) -> None:
    for title, run in conformance_checks(name, "dataset", **parameters):
        with named(title):
            run()


def test_a_users_folder_passes(tmp_path: Path) -> None:
    rows = [photograph(tmp_path, f"{split}{n}", split=split) for split in ("train", "val", "test") for n in range(3)]
    for title, run in conformance_checks("folder", "dataset", csv=str(table(tmp_path, rows, PICTURED))):
        with named(title):
            run()
