"""``avloc list``: every kind, one kind, and data of plugins."""

from __future__ import annotations

from typing import Any

from helpers.commands import run


def test_every_kind_and_one_kind() -> None:
    everything = run("list").output
    for word in ("methods", "tvsl", "encoders", "tiny", "datasets", "folder", "cap", "multi_source", "tvsl_released"):
        assert word in everything
    assert "tvsl" not in run("list", "suites").output.replace("T-VSL", "")
    assert run("list", "nonsense").exit_code == 2


def test_components_stand_beside_their_plugin(world: Any) -> None:
    lines = [line.split() for line in run("list", "methods").output.splitlines()]
    assert ["dot", "world"] in lines
    assert ["tvsl", "builtin"] in lines
