"""Run folders: one finished, half-finished or failed piece of work each."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from avloc.progress import say
from avloc.store.disk import exclusive, read_json, write_json, writing
from avloc.types import AvlocError


class RunFolder:
    """``results/runs/<id>``: one finished, half-finished or failed piece of work."""

    def __init__(self, results: Path, id: str) -> None:
        self.id = id
        self.path = results / "runs" / id

    @property
    def complete(self) -> bool:
        """Whether ``run.json``, which is written last, is there and whole; one that is not is named."""
        if not (self.path / "run.json").is_file():
            return False
        try:
            self.identity()
        except AvlocError as error:
            say(str(error))
            return False
        return True

    def identity(self) -> dict[str, Any]:
        """What ``run.json`` says the run is."""
        return read_json(self.path / "run.json")

    def finish(self, identity: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Mark the run complete."""
        (self.path / "error.txt").unlink(missing_ok=True)
        write_json(self.path / "run.json", {"id": self.id, "identity": identity, "provenance": provenance})

    def fail(self, error: BaseException) -> str:
        """Leave ``error.txt``; returns the error in one line."""
        text = "".join(traceback.format_exception(error))
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "error.txt").write_text(text, encoding="utf-8")
        first = next(iter(str(error).strip().splitlines()), "")
        return first if isinstance(error, AvlocError) else f"{type(error).__name__}: {first}".removesuffix(": ")

    def clear(self) -> None:
        """Forget everything but the lock (``--force``); first of all that the run was complete."""
        with writing(self.path):
            (self.path / "run.json").unlink(missing_ok=True)
            for item in self.path.glob("[!.]*"):
                shutil.rmtree(item) if item.is_dir() else item.unlink()

    def exclusive(self, what: str) -> Any:
        """Hold the run; see `exclusive`."""
        return exclusive(self.path, what)


def provenance(started: float, device: str) -> dict[str, Any]:
    """Where, when and by which code something ran."""
    return {
        "avloc": version("avloc"), "commit": _commit(), "torch": version("torch"), "device": device,
        "machine": platform.machine(), "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(time.time() - started, 3),
    }  # fmt: skip


def _commit() -> str:
    """The git state of avloc's own checkout: a hash, ``+`` when files differ from it; empty when not a checkout."""
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return ""
    git = ["git", "-C", str(home)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip()[:12] + ("+" if changed.stdout.strip() else "")
