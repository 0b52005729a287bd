"""``avloc table``: formats, files, and options that do not fit together. What tables hold is tested in tests/tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.commands import run
from helpers.stored import Store

FORMATS = {
    "terminal": "A 100% test", "csv": "suite,section,method", "sheet": "DOT", "latex": r"\toprule",
    "markdown": "| DOT | ", "json": '"DOT"',
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """The options that name a suite that was run."""
    store = Store(tmp_path)
    store.row("dot", 0.5)
    store.write()
    return ["--suite", "s", "--results", str(tmp_path)]


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_on_screen_and_in_a_file(place: list[str], tmp_path: Path, format: str) -> None:
    printed = run("table", *place, "--format", format)
    assert printed.exit_code == 0, printed.output
    assert FORMATS[format] in printed.stdout
    file = tmp_path / "table"
    written = run("table", *place, "--format", format, "--output", file)
    assert (written.exit_code, written.stdout) == (0, "")
    assert file.read_text(encoding="utf-8-sig" if format == "sheet" else "utf-8") == printed.stdout
    nowhere = run("table", *place, "--format", format, "--output", file / "below")
    assert nowhere.exit_code == 2
    assert "Cannot write" in nowhere.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "csv", "--published"], "our own numbers only"),
        (["--format", "csv", "--transpose"], "our own numbers only"),
        (["--published-only", "T-VSL, Table 1", "--intervals"], "--intervals is about a suite's numbers"),
        (["--label", "tab:duets"], "--label is for --format latex or json"),
        (["--columns", "dute"], "Did you mean 'duet'"),
    ],
)
def test_options_that_do_not_fit_together(place: list[str], options: list[str], words: str) -> None:
    shown = run("table", *place, *options)
    assert shown.exit_code == 2
    assert words in shown.stderr


def test_a_label_is_checked(place: list[str]) -> None:
    assert run("table", *place, "--format", "latex", "--label", "tab duets").exit_code == 2
