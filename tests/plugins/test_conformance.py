"""Every registered method passes the conformance checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from avloc.registry import Registry
from avloc.testing import conformance_checks

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
