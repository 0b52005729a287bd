"""Progress: bars in terminals, lines in logs, nothing in libraries; interrupted loops; several processes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import textwrap
from types import SimpleNamespace

import pytest

from avloc.progress import forward, receiving, say, shown, track


def test_nothing_is_shown_by_a_library(capfd: pytest.CaptureFixture[str]) -> None:
    say("waiting")
    assert list(track(range(3), "loop", 3)) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_lines_at_the_start_every_ten_seconds_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("tqdm.std.time", lambda: clock.now)
    with shown():
        for _ in track(range(30), "encode toybox", 30):
            clock.now += 1
        say("waiting")
        with pytest.raises(ValueError):
            for _ in track(range(9), "score", 9):
                raise ValueError
        assert not list(track([], "nothing", 0))
    shows = capsys.readouterr()
    assert shows.out == ""
    assert shows.err.splitlines() == [
        "encode toybox: 30 to do",
        "encode toybox: 10/30, 00:20 left",
        "encode toybox: 20/30, 00:10 left",
        "encode toybox: 30/30 in 00:30",
        "waiting",
        "score: 9 to do",
        "score: 0/9 in 00:00",
        "nothing: 0 to do",
        "nothing: 0/0 in 00:00",
    ]


def test_loops_are_distinguished_and_belong_to_their_thread() -> None:
    outer, inner = [], []
    with receiving(outer.append):
        first, second = track("ab", "same", 2), track("ab", "same", 2)
        assert next(first) == next(second) == "a"
        with receiving(inner.append):
            assert list(first) == ["b"]
            forward(("say", "from elsewhere"))
    loops = [event[1] for event in outer if event[0] == "start"]
    assert len(set(loops)) == 2
    assert [event for event in outer if event[1] == loops[0]][1:] == [
        ("advance", loops[0], 1), ("advance", loops[0], 2), ("stop", loops[0]),
    ]  # fmt: skip
    assert inner == [("say", "from elsewhere")]


NOTEBOOK = """
    import sys
    from types import SimpleNamespace
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    sys.modules["IPython"] = SimpleNamespace(get_ipython=lambda: shell)
    from avloc import track
    assert list(track("ab", "in a notebook", 2)) == ["a", "b"]
"""


def test_a_notebook_shows_bars_by_default() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(NOTEBOOK)], capture_output=True, text=True, check=True
    )
    assert "in a notebook:   0%|" in done.stderr


def in_terminal(code: str, columns: int = 80) -> list[str]:
    """What a terminal shows on stderr while and after `code` runs: every state of its screen."""
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    if columns:
        termios.tcsetwinsize(theirs, (24, columns))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stderr=theirs, stdout=theirs, env=environment) as process:
        os.close(theirs)
        text = ""
        while True:
            try:
                text += os.read(ours, 65536).decode()
            except OSError:  # the process closed its end
                break
    os.close(ours)
    process.wait()
    return screens(text)


def screens(text: str) -> list[str]:
    """A screen after every line feed, carriage return or move of a small terminal."""
    lines: list[list[str]] = [[]]
    found, row, column = [], 0, 0
    for character in text.replace("\x1b[A", "\x00"):
        if character in "\r\n\x00":
            found.append("\n".join("".join(line).rstrip() for line in lines).strip())
        if character == "\r":
            column = 0
        elif character == "\x00":
            row = max(0, row - 1)
        elif character == "\n":
            row += 1
            lines += [[]] * (row == len(lines))
            lines[row] = list(lines[row])
        else:
            lines[row] += " " * (column + 1 - len(lines[row]))
            lines[row][column] = character
            column += 1
    return found


NESTED = """
    from avloc.progress import say, shown, track
    with shown():
        for _ in track(range(2), "outer", 2):
            for step in track(range(3), "inner", 3):
                if step == 1:
                    say("a message")
                {body}
    print("a table")
"""


def test_every_open_loop_has_a_bar_and_nothing_stays() -> None:
    found = in_terminal(NESTED.format(body="pass"))
    assert any("outer:   0%|" in screen and "inner:   0%|" in screen for screen in found)
    assert any("a message\nouter: " in screen and "inner: " in screen for screen in found)
    assert found[-1] == "a message\na message\na table"


def test_an_interrupted_loop_leaves_a_clean_terminal() -> None:
    found = in_terminal(NESTED.format(body="if step: import os, signal; os.kill(os.getpid(), signal.SIGINT)"))
    assert any("inner:" in screen for screen in found)
    assert found[-1].startswith("a message\nTraceback") and found[-1].endswith("KeyboardInterrupt")


def test_a_terminal_without_lines_gets_plain_lines() -> None:
    assert (
        "outer: 2 to do\ninner: 3 to do\na message\ninner: 3/3 in 00:00"
        in in_terminal(NESTED.format(body="pass"), 0)[-1]
    )


def test_bars_of_several_processes_at_once() -> None:
    found = in_terminal("""
        from avloc.progress import forward, shown
        with shown():
            forward(("start", (1, 0), "runs on one", 2))
            forward(("start", (2, 0), "runs on two", 2))
            forward(("stop", (1, 0)))
            forward(("say", "one is done"))
            forward(("start", (3, 0), "runs on three", 2))
    """)
    assert any("runs on one:" in screen and "runs on two:" in screen for screen in found)
    assert any("one is done\nruns on three:" in screen and "runs on two:" in screen for screen in found)
    assert found[-1] == "one is done"
