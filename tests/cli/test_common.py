"""What all commands share: help, versions, bad usage, errors as sentences, interruptions, quick starts."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import avloc
from helpers.commands import run


def test_version_and_help() -> None:
    assert run("--version").output == f"avloc {avloc.__version__}\n"
    shown = run("--help")
    assert shown.exit_code == 0
    for command in ("bench", "score", "table", "list", "new", "check", "data", "weights", "cache", "protocols"):
        assert f" {command} " in shown.output


@pytest.mark.parametrize(
    "args",
    [["bench", "--seeds", "one"], ["bench", "--device", "gpu"], ["bench", "--limit", "0"], ["table", "--format", "pdf"],
     ["bench", "--sweet", "x"], ["benhc"]],
)  # fmt: skip
def test_bad_usage_is_2(args: list[str]) -> None:
    assert run(*args).exit_code == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["bench", "--suite", "multi_sorce"], "Did you mean 'multi_source'"),
        (["bench", "--suite", "nowhere.yaml"], "does not exist"),
        (["bench", "--suite", "multi_source", "--methods", "tvls"], "Did you mean 'tvsl'"),
        (["bench", "--suite", "multi_source", "--set", "tvsl.gte=clamp"], "Did you mean 'gate'"),
        (["bench", "--suite", "multi_source", "--set", "nonsense"], "method.parameter=value"),
        (["bench", "--plugin", "nowhere.py"], "nowhere.py does not exist"),
        (["table", "--suite", "other"], "avloc bench --suite other"),
        (["score", "--suite", "other"], "avloc bench"),
    ],
)
def test_user_errors_are_one_sentence(tmp_path: Path, args: list[str], words: str) -> None:
    shown = run(*args, env={"AVLOC_RESULTS": str(tmp_path)})
    assert shown.exit_code == 2
    assert shown.stderr.startswith("avloc: ")
    assert words in shown.stderr
    assert "Traceback" not in shown.output
    assert shown.stdout == ""


def raising(error: BaseException) -> Any:
    """A library call that raises."""

    def call(*arguments: Any, **options: Any) -> None:
        raise error

    return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_a_sentence(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr("avloc.runner.bench", raising(OSError(number, os.strerror(number), "results/x/arrays.bin")))
    shown = run("bench", "--suite", "smoke")
    assert shown.exit_code == 2
    assert f"Cannot write results/x/arrays.bin: {os.strerror(number)}." in shown.stderr


def test_an_internal_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avloc.runner.bench", raising(ZeroDivisionError()))
    assert isinstance(run("bench", "--suite", "smoke").exception, ZeroDivisionError)


def test_an_interrupted_command_says_how_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avloc.runner.bench", raising(KeyboardInterrupt()))
    monkeypatch.setattr(sys, "argv", ["avloc", "bench", "--suite", "smoke"])
    shown = run("bench", "--suite", "smoke")
    assert shown.exit_code == 130
    assert shown.stderr == "Interrupted. Resume with: avloc bench --suite smoke\n"


SLOW = """
import signal
from avloc import Dataset, Status, hookimpl
class Slow(Dataset):
    classes = ("a",)
    def __init__(self, root, *, split): pass
    def prepare(self):
        print("ready", flush=True)
        signal.pause()
    def ids(self): return []
    def status(self): return Status(())
    def load(self, id): raise NotImplementedError
    def fingerprint(self): return ""
@hookimpl
def avloc_datasets(): return {"slow": Slow}
"""


@pytest.mark.slow
def test_ctrl_c_stops_a_real_bench(tmp_path: Path) -> None:
    (tmp_path / "slow_plugin.py").write_text(SLOW)
    args = ["--suite", "smoke", "--datasets", "slow", "--plugin", "slow_plugin.py"]
    with subprocess.Popen(
        [sys.executable, "-m", "avloc", "bench", *args], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "Interrupted. Resume with: avloc bench " + " ".join(args)
    assert "Traceback" not in errors


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["list"], ["table", "--suite", "never"]])
def test_listing_commands_import_no_torch(args: list[str], tmp_path: Path) -> None:
    code = f"import sys; sys.argv[1:] = {args}\nfrom avloc.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    check = code + "assert 'torch' not in sys.modules and 'avloc_plugins.methods' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=tmp_path, capture_output=True)


def test_the_module_equals_the_script() -> None:
    module = subprocess.run([sys.executable, "-m", "avloc", "list"], check=True, capture_output=True, text=True)
    script = Path(sys.executable).with_name("avloc")
    if not script.exists():
        pytest.skip("the console script is not installed beside this Python")
    assert subprocess.run([script, "list"], check=True, capture_output=True, text=True).stdout == module.stdout
