"""Finding the media of clips in any folder layout and naming convention."""

from __future__ import annotations

import errno
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from avloc.data.extract import transient
from avloc.data.prepared.sources import Index, search, unpack
from avloc.types import AvlocError, DataError
from helpers.films import pack, put


def look(root: Path, **options: Any) -> Index:
    return search(root, memory=root.parent / "shards.json", **options)


@pytest.mark.parametrize(
    "file",
    [
        "ab_cd-ef_1_000030.mp4",
        "deep/er/ab_cd-ef_1_30.webm",
        "ab_cd-ef_1_30000_40000.MKV",
        "vggss_ab_cd-ef_1_000030.avi",
        "A title, with words [ab_cd-ef_1_000030].mov",
    ],
)
def test_videos_are_found_by_any_name_they_may_have(tmp_path: Path, file: str) -> None:
    put(tmp_path / "in" / file, b"x")
    names = ("ab_cd-ef_1_000030", "ab_cd-ef_1_30", "ab_cd-ef_1_30000_40000")
    found = look(tmp_path / "in").videos.find(names)
    assert found is not None and found[1].file == file
    assert look(tmp_path / "in").videos.find(["ab_cd-ef_1_000031"]) is None


def test_a_whole_name_comes_before_the_end_of_another(tmp_path: Path) -> None:
    for name in ("a_one.mp4", "one.mp4", "two/one.mp4"):
        put(tmp_path / "in" / name, b"x")
    videos = look(tmp_path / "in").videos
    found = videos.find(["one"])
    assert found is not None and found[1].file == "one.mp4" and "one" in videos.doubles


def test_frames_sounds_and_masks_are_distinguished_by_folder(tmp_path: Path) -> None:
    files = (
        "x/frames/test/a.jpg",
        "x/audio/a.wav",
        "gt/a.full.pkl",
        "gt/b.png",
        "frames/b.png",
        "other/c.wav",
        "c.jpg",
    )
    for file in files:
        put(tmp_path / "in" / file, b"x")
    index = look(tmp_path / "in")
    found = [names.find([stem]) for names, stem in [
        (index.frames, "a"), (index.sounds, "a"), (index.masks, "a"), (index.masks, "b"), (index.frames, "b"),
    ]]  # fmt: skip
    assert [pair and pair[1].file for pair in found] == list(files[:5])
    assert index.sounds.find(["c"]) is None and index.frames.find(["c"]) is None


def test_links_to_folders_are_followed_once_and_the_data_folder_is_left_out(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "one.mp4", b"x")
    put(tmp_path / "in" / "data" / "frames" / "two.jpg", b"x")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    index = look(tmp_path / "in", skip=[tmp_path / "in" / "data"])
    assert len(index.videos) == 1 and len(index.frames) == 0


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(AvlocError, match="not a folder"):
        look(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["00.tar", "00.tar.gz", "00.tgz"])
def test_shards_are_listed_and_unpacked_in_their_order(tmp_path: Path, name: str) -> None:
    members = {f"scratch/video/v{n}_000030.mp4": bytes([n]) * 3000 for n in range(5)} | {"readme.txt": b"hello"}
    pack(tmp_path / "in" / name, members)
    index = look(tmp_path / "in")
    found = index.videos.find(["v3_000030"])
    assert found is not None and found[1].name == f"{name}:scratch/video/v3_000030.mp4" and len(index.videos) == 5
    wanted = [f"scratch/video/v{n}_000030.mp4" for n in (4, 1)]
    got = list(unpack(tmp_path / "in" / name, wanted, tmp_path))
    assert [member for member, _ in got] == sorted(wanted)
    assert all(isinstance(path, Path) and path.read_bytes() == members[member] for member, path in got)


def test_a_shard_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    shard = pack(tmp_path / "in" / "00.tar.gz", {"a.mp4": b"x"})
    look(tmp_path / "in")
    state = shard.stat()
    shard.write_bytes(b"?" * state.st_size)
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert look(tmp_path / "in").videos.find(["a"])
    pack(shard, {"b.mp4": b"x", "c.mp4": b"x"})
    assert not look(tmp_path / "in").videos.find(["a"]) and look(tmp_path / "in").videos.find(["b"])


def test_names_in_shards_are_never_used_as_paths(tmp_path: Path) -> None:
    shard = pack(tmp_path / "in" / "00.tar", {"../../escaped.mp4": b"x", "/absolute.mp4": b"y"})
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/outside"
        archive.addfile(link)
    index, work = look(tmp_path / "in"), tmp_path / "work"
    work.mkdir()
    assert index.videos.find(["link"]) is None and len(index.videos) == 2
    got = dict(unpack(shard, ["../../escaped.mp4", "/absolute.mp4", "link.mp4"], work))
    assert str(got.pop("link.mp4")) == "the shard does not hold it any more"
    assert all(isinstance(path, Path) and path.parent == work for path in got.values())
    assert not (tmp_path / "escaped.mp4").exists() and len(list(work.iterdir())) == 2


@pytest.mark.parametrize("name", ["00.tar", "00.tar.gz"])
def test_a_truncated_shard_gives_what_comes_before_the_damage(tmp_path: Path, name: str) -> None:
    members = {f"v{n}.mp4": os.urandom(20_000) for n in range(5)}
    shard = pack(tmp_path / "in" / name, members)
    shard.write_bytes(shard.read_bytes()[: len(shard.read_bytes()) // 2])
    index = look(tmp_path / "in")
    assert index.videos.find(["v0"]) and "damaged after" in index.damaged[name]
    got = dict(unpack(shard, list(members), tmp_path))
    assert isinstance(got["v0.mp4"], Path) and "truncated or damaged" in str(got["v4.mp4"])


def test_a_picture_is_no_mask_unless_its_folder_says_so(tmp_path: Path) -> None:
    for name in ("images/sample_1.png", "masks/sample_2.png", "truth/sample_1.pickle"):
        put(tmp_path / "in" / name, b"x")
    index = search(tmp_path / "in", memory=tmp_path / "shards.json")
    found = {name: index.masks.find((name,)) for name in ("sample_1", "sample_2")}
    assert {name: pair[1].file for name, pair in found.items() if pair} == {
        "sample_1": "truth/sample_1.pickle", "sample_2": "masks/sample_2.png",
    }  # fmt: skip


def test_the_array_is_preferred_among_duplicate_masks(tmp_path: Path) -> None:
    for name in ("a/masks/one.png", "b/one.jpg.pkl", "c/one.npy", "masks/two.png"):
        put(tmp_path / "in" / name, b"x")
    masks = look(tmp_path / "in").masks
    found = {name: masks.find([name]) for name in ("one", "two")}
    assert {name: pair[1].file for name, pair in found.items() if pair} == {
        "one": "b/one.jpg.pkl", "two": "masks/two.png",
    }  # fmt: skip
    assert masks.doubles == {"one"}


def test_a_shard_that_could_not_be_opened_is_looked_into_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path / "in" / "00.tar", {"a.mp4": b"x"})
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files")))
        assert "Too many open files" in look(tmp_path / "in").damaged["00.tar"]
    index = look(tmp_path / "in")
    assert index.videos.find(["a"]) and not index.damaged


def test_what_says_nothing_about_the_file_is_transient() -> None:
    caused = DataError("unreadable")
    caused.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert all(map(transient, [MemoryError(), OSError(errno.ENOSPC, "full"), caused]))
    assert not any(map(transient, [None, DataError("truncated"), OSError("image file is truncated"), ValueError()]))
