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
    ("tvsl", {"gate": "clamp", "map": "dot", "prompt_length": 4, "projector": "gated_mlp", "cls_temperature": 0.05}),
]
"""Beside the defaults."""
LARGE = {"avgn"}
"""So large that they take most of a minute on one core."""


def cases() -> list[Any]:
    """One case per method and check; the cases of one method share what they build."""
    methods: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in Registry().entries("method")]
    return [
        pytest.param(run, id=f"{name}{params or ''}-{title}", marks=[pytest.mark.slow] if name in LARGE else [])
        for name, params in [*methods, *VARIANTS]
        for title, run in conformance_checks(name, **params)
    ]


@pytest.mark.parametrize("check", cases())
def test_it_holds(check: Callable[[], None]) -> None:
    check()
