"""``avloc protocols``: what it lists and explains."""

from __future__ import annotations

import pytest

from avloc.scoring import load_protocol, preset_names
from helpers.commands import run


def test_every_protocol_is_listed_with_its_source() -> None:
    shown = run("protocols")
    assert shown.exit_code == 0
    words = shown.output.split()
    for name in preset_names():
        assert name in words
        assert load_protocol(name).source.split()[0] in words


@pytest.mark.parametrize("name", preset_names())
def test_a_protocol_is_explained(name: str) -> None:
    text, protocol = " ".join(run("protocols", name).output.split()), load_protocol(name)
    for prose in (protocol.source, protocol.note, protocol.warning, protocol.checked):
        assert prose in text
    assert ("Warning:" in text) == bool(protocol.warning)
    for key in protocol.model_dump(exclude={"preset"}):
        assert f" {key} " in text


def test_an_unknown_protocol_gets_a_suggestion() -> None:
    result = run("protocols", "ezvls")
    assert result.exit_code == 2
    assert "Did you mean 'ezvsl'" in result.output
