"""Checkpoints: fetched from a faulty server, checked strictly, stored as safetensors; bad files are refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner, Result

from avloc import AvlocError, hookimpl
from avloc.cli import app
from avloc.registry import Registry
from avloc.weights import Checkpoint, HasCheckpoints, load_checkpoint, read_state, require_exact
from helpers.sites import Site, served
from helpers.world import Plain

SHAPES = {"layer.weight": (256, 256), "layer.bias": (256,)}


def state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


PUBLISHED = saved(state())
SHA256 = hashlib.sha256(PUBLISHED).hexdigest()


class Toy(HasCheckpoints, Plain):
    """An encoder with checkpoints."""

    @classmethod
    def accept(cls, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
        require_exact(state, SHAPES, where)
        return dict(state)


class Plugin:
    @hookimpl
    def avloc_encoders(self) -> dict[str, str | type]:
        return {"toy": Toy, "absent": "no_such_module:Encoder"}


@pytest.fixture
def site() -> Iterator[type[Site]]:
    """The server without faults; `Toy` has its file as three checkpoints with more or less of its hash."""
    with served(PUBLISHED) as (server, url):
        publish(url)
        yield server


def publish(url: str) -> None:
    Toy.checkpoints = (
        Checkpoint("toy_full", "Toy.pt", f"{url}/Toy.pt", sha256=SHA256, size=len(PUBLISHED), license="MIT"),
        Checkpoint("toy_ends", "Ends.pt", f"{url}/Ends.pt", sha256=f"{SHA256[:8]}...{SHA256[-6:]}"),
        Checkpoint("toy_open", "Open.pt", f"{url}/Open.pt"),
        Checkpoint("toy_other", "Other.pt", f"{url}/Other.pt", contains="words.weight"),
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights folder, and a registry that knows `Toy` alone."""
    monkeypatch.setenv("AVLOC_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    known = Registry(discover=False)
    known.add_module("toys", Plugin())
    monkeypatch.setattr("avloc.registry.registry", lambda: known)
    publish("http://127.0.0.1:9")
    return tmp_path / "weights"


def weights(*args: str | Path, fails: bool = False) -> Result:
    result = CliRunner().invoke(app, ["weights", *map(str, args)], prog_name="avloc", env={"COLUMNS": "200"})
    assert result.exit_code == (2 if fails else 0), result.output
    return result


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def installed(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.safetensors")}


def same(found: Mapping[str, Tensor]) -> bool:
    return found.keys() == SHAPES.keys() and all(torch.equal(found[name], value) for name, value in state().items())


def test_fetch_verifies_converts_and_notes_where_it_came_from(site: type[Site], folder: Path) -> None:
    output = weights("fetch", "toy_full").output
    assert "it is the published file" in output and SHA256 in output
    assert same(load_file(folder / "toy_full.safetensors"))
    card = json.loads((folder / "toy_full.json").read_text())
    assert (card["source"], card["sha256"], card["size"]) == ("Toy.pt", SHA256, len(PUBLISHED))
    assert card["url"].endswith("/Toy.pt") and card["date"] and card["verified"] == "full"
    assert [path.name for path in (folder / "downloads").iterdir()] == [".lock"]
    assert same(load_checkpoint("toy_full", Toy.checkpoints, Toy.accept))
    assert "is installed" in weights("fetch", "toy_full").output and len(site.ranges) == 1


@pytest.mark.parametrize("name", ["toy_full", "toy_open"])
def test_a_cut_connection_is_resumed(site: type[Site], folder: Path, name: str) -> None:
    site.cut = 150_000
    refused = weights("fetch", name, fails=True).output
    assert "100,000 bytes are kept" in refused and "goes on from there" in refused and "avloc weights add" in refused
    assert not installed(folder)
    site.cut = 1 << 30
    weights("fetch", name)
    assert site.ranges == ["", "bytes=100000-"]
    assert same(load_file(folder / f"{name}.safetensors"))


def test_a_server_that_cannot_resume_starts_from_the_beginning(site: type[Site], folder: Path) -> None:
    site.cut, site.resumes = 150_000, False
    weights("fetch", "toy_full", fails=True)
    site.cut = 1 << 30
    assert "starts from the beginning" in weights("fetch", "toy_full").output
    assert same(load_file(folder / "toy_full.safetensors"))


def test_a_part_of_another_file_is_dropped(site: type[Site], folder: Path) -> None:
    part = put(folder / "downloads", "Toy.pt.part", PUBLISHED + b"more")
    assert "it is deleted" in weights("fetch", "toy_full").output
    assert not part.exists() and same(load_file(folder / "toy_full.safetensors"))


def test_a_download_killed_after_its_last_byte_is_kept(site: type[Site], folder: Path) -> None:
    put(folder / "downloads", "Toy.pt.part", PUBLISHED)
    put(folder / "downloads", "Ends.pt.part", PUBLISHED)
    for name in ("toy_full", "toy_ends"):
        assert name in weights("fetch", name).output
        assert same(load_file(folder / f"{name}.safetensors"))
    assert site.ranges == [f"bytes={len(PUBLISHED)}-"]  # the size of toy_full is published


def test_a_missing_file_keeps_the_part(site: type[Site], folder: Path) -> None:
    part = put(folder / "downloads", "Toy.pt.part", PUBLISHED[:100])
    site.status = 404
    refused = weights("fetch", "toy_full", fails=True).output
    assert "404" in refused and "avloc weights add PATH/Toy.pt" in refused and "http://127.0.0.1" in refused
    assert part.stat().st_size == 100


def test_a_body_of_another_size_than_published_is_not_downloaded(site: type[Site], folder: Path) -> None:
    site.body = PUBLISHED[:-100]
    refused = weights("fetch", "toy_full", fails=True).output
    assert f"{len(PUBLISHED) - 100:,} bytes" in refused and f"{len(PUBLISHED):,}" in refused
    assert not list((folder / "downloads").glob("Toy*"))


def test_a_wrong_hash_is_named_and_the_file_deleted(site: type[Site], folder: Path) -> None:
    site.body = PUBLISHED[:-1] + b"?"
    refused = weights("fetch", "toy_full", fails=True).output
    assert hashlib.sha256(site.body).hexdigest() in refused and SHA256 in refused and "deleted" in refused
    assert not installed(folder) and not list((folder / "downloads").glob("Toy*"))


def test_a_partly_known_hash_is_compared_at_both_ends(site: type[Site], folder: Path) -> None:
    assert f"has the ends of the published {SHA256[:8]}...{SHA256[-6:]}" in weights("fetch", "toy_ends").output
    (folder / "toy_ends.safetensors").unlink()
    site.body = saved(state(1))
    assert "is not the published file" in weights("fetch", "toy_ends", fails=True).output
    assert not installed(folder)


def test_each_end_counts() -> None:
    start, end = (Checkpoint("c", "f", "u", sha256=ends) for ends in (f"{SHA256[:8]}...", f"...{SHA256[-6:]}"))
    assert start.matches(SHA256) and not start.matches("x" + SHA256[1:])
    assert end.matches(SHA256) and not end.matches(SHA256[:-1] + "x")


def test_an_unknown_hash_is_said_to_be_unknown(site: type[Site]) -> None:
    output = weights("fetch", "toy_open").output
    assert SHA256 in output and "nobody published one" in output


def test_no_network_says_what_to_do_by_hand(folder: Path) -> None:
    with socket.socket() as free:  # a port without a server
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    publish(url)
    refused = weights("fetch", "toy_full", fails=True).output
    assert "cannot be reached" in refused and f"download {url}/Toy.pt" in refused
    assert "avloc weights add PATH/Toy.pt" in refused


def test_a_page_instead_of_a_file_is_not_installed(site: type[Site], folder: Path) -> None:
    site.body = b"<html>Log in to this hotel's network</html>"
    assert "is no checkpoint" in weights("fetch", "toy_open", fails=True).output
    assert not installed(folder) and not list((folder / "downloads").glob("Open*"))


def test_add_knows_published_names_and_takes_others_by_as(tmp_path: Path, folder: Path) -> None:
    assert "Installed toy_full" in weights("add", put(tmp_path, "Toy.pt", PUBLISHED)).output
    other = put(tmp_path, "mine.pt", PUBLISHED)
    assert "add --as NAME, one of: toy_full, toy_ends" in weights("add", other, fails=True).output
    weights("add", other, "--as", "toy_open")
    assert installed(folder) == {"toy_full.safetensors", "toy_open.safetensors"}


def test_safetensors_can_be_added_and_another_version_is_called_that(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "toy.safetensors")
    assert "is not the published" in weights("add", tmp_path / "toy.safetensors", "--as", "toy_full").output
    assert "installed, another version" in weights("list").output


def test_an_unknown_name_gets_a_suggestion() -> None:
    assert "Did you mean 'toy_full'?" in weights("fetch", "toy_ful", fails=True).output
    assert "Did you mean 'toy_ends'?" in weights("add", "x.pt", "--as", "toy_end", fails=True).output


def test_list_shows_what_is_known_and_installed_and_who_is_broken(tmp_path: Path, folder: Path) -> None:
    weights("add", put(tmp_path, "Ends.pt", PUBLISHED))
    result = weights("list")
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if "toy_" in line}
    assert "not installed" in rows["toy_full"] and "full" in rows["toy_full"] and "MIT" in rows["toy_full"]
    assert "partial" in rows["toy_ends"] and "not installed" not in rows["toy_ends"]
    assert "unknown" in rows["toy_open"]
    assert "no_such_module" in result.stderr and "left out" in result.stderr
    assert weights("where").output.strip() == str(folder)


def test_the_built_in_encoders_weights_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avloc.registry.registry", Registry)
    listed = weights("list").output
    for name in ("audioclip_full", "audioclip_partial", "wav2clip", "clip_vit_b32"):
        assert name in listed


def test_another_model_s_file_is_refused_and_its_keys_named(tmp_path: Path, folder: Path) -> None:
    other = {"layer.weight": torch.zeros(3, 256), "layer.bias": torch.zeros(256), "extra": torch.zeros(1)}
    refused = weights("add", put(tmp_path, "Toy.pt", saved(other)), fails=True).output
    assert "1 extra (extra)" in refused and "layer.weight is (3, 256), not (256, 256)" in refused
    refused = weights("add", put(tmp_path, "Toy.pt", saved({})), fails=True).output
    assert "2 missing (layer.bias, layer.weight)" in refused
    assert not installed(folder)


def test_a_file_of_the_encoder_s_other_checkpoint_is_refused(tmp_path: Path, folder: Path) -> None:
    refused = weights("add", put(tmp_path, "Other.pt", PUBLISHED), fails=True).output
    assert "is not toy_other" in refused and "words.weight" in refused
    assert not installed(folder)


def test_many_wrong_keys_are_counted() -> None:
    with pytest.raises(AvlocError, match=r"of 9 keys: 9 missing \(k0, k1, k2 and 6 more\)\.$"):
        require_exact({}, {f"k{n}": (1,) for n in range(9)}, "f")


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle2", "pickle4"])
def test_a_malicious_pickle_is_not_executed(tmp_path: Path, folder: Path, form: str) -> None:
    target = tmp_path / "crater"
    bomb = {**state(), "extra": Bomb(target)}
    content = {
        "zip": lambda: saved(bomb),
        "legacy": lambda: saved(bomb, _use_new_zipfile_serialization=False),
        "pickle2": lambda: pickle.dumps(Bomb(target), protocol=2),
        "pickle4": lambda: pickle.dumps(Bomb(target), protocol=4),
    }[form]()
    refused = weights("add", put(tmp_path, "Toy.pt", content), fails=True).output
    assert "could run code" in refused and not target.exists() and not installed(folder)
    if form.startswith("pickle"):
        pickle.loads(content)  # it was a live one
        assert target.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PUBLISHED[:-100], "truncated or damaged"),
        (saved(state(), _use_new_zipfile_serialization=False)[:-9], "truncated, damaged or no checkpoint"),
        (b"\x00" * 7 + b"\x01{", "truncated or no safetensors"),
        (b"Dear reader,\nthese are no weights.\n", "is no checkpoint"),
        (b"", "is no checkpoint"),
        (saved({"state_dict": state()}), "holds a dict under 'state_dict'"),
        (saved([torch.zeros(1)]), "holds a list"),
    ],
    ids=["zip", "legacy", "safetensors", "text", "empty", "nested", "list"],
)
def test_what_is_no_whole_checkpoint_is_refused_with_the_reason(
    tmp_path: Path, folder: Path, content: bytes, reason: str
) -> None:
    refused = weights("add", put(tmp_path, "Toy.pt", content), fails=True).output
    assert reason in refused and "Toy.pt" in refused and not installed(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nofile.pt"
    assert f"The file {path} does not exist." in weights("add", path, fails=True).output
    assert f"{path} cannot be read: No such file" in weights("add", path, "--as", "toy_full", fails=True).output


class Module(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(256, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "Toy.pt"
    module = Module()
    module.load_state_dict(state())
    torch.jit.save(torch.jit.script(module), path)  # type: ignore[no-untyped-call]
    return path


def test_torchscript_is_opened_only_when_its_full_hash_is_the_published_one(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    sha256 = hashlib.sha256(script.read_bytes()).hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(torch.jit, "load", never)
        for known in (SHA256, f"{sha256[:8]}...{sha256[-8:]}", ""):
            Toy.checkpoints = (Checkpoint("toy_full", "Toy.pt", "http://127.0.0.1:9/Toy.pt", sha256=known),)
            assert "TorchScript" in weights("add", script, fails=True).output
    Toy.checkpoints = (Checkpoint("toy_full", "Toy.pt", "http://127.0.0.1:9/Toy.pt", sha256=sha256),)
    weights("add", script)
    assert same(load_checkpoint("toy_full", Toy.checkpoints, Toy.accept))
    assert same(load_checkpoint(str(script), Toy.checkpoints, Toy.accept))


def test_load_checkpoint_takes_files_and_says_how_to_get_what_is_not_installed(tmp_path: Path, folder: Path) -> None:
    path = put(tmp_path, "Toy.pt", PUBLISHED)
    assert same(load_checkpoint(str(path), Toy.checkpoints, Toy.accept))
    assert same(read_state(path))
    with pytest.raises(AvlocError, match=r"not in .*weights.*avloc weights fetch toy_full, or download .*weights add"):
        load_checkpoint("toy_full", Toy.checkpoints, Toy.accept)
    with pytest.raises(AvlocError, match="neither a file of weights nor one of the checkpoints toy_full, toy_ends"):
        load_checkpoint("nonsense", Toy.checkpoints, Toy.accept)
    put(folder, "toy_full.safetensors", b"\x00" * 20)
    with pytest.raises(AvlocError, match=r"toy_full\.safetensors"):
        load_checkpoint("toy_full", Toy.checkpoints, Toy.accept)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "occupied", b"")
    monkeypatch.setenv("AVLOC_WEIGHTS", str(tmp_path / "occupied" / "weights"))
    refused = weights("add", put(tmp_path, "Toy.pt", PUBLISHED), fails=True).output
    assert "Cannot write" in refused and "occupied" in refused
